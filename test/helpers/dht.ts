/** A private DHT on loopback and nodes on it, all gone when the test ends. */
import type { Test } from 'tap'
import { systemClock } from '../../lib/base/clock.js'
import { silentLog } from '../../lib/base/log.js'
import { randomBytes } from '../../lib/base/random.js'
import { keyPair } from '../../lib/format/hash.js'
import { freePort, runDhtNode, type DhtNode } from '../../lib/partners/dht-node.js'
import { Network, type NetworkOptions } from '../../lib/partners/network.js'

export async function privateDht(t: Test): Promise<DhtNode> {
  const dht = await runDhtNode({ host: '127.0.0.1', port: 0 })
  t.teardown(() => dht.close())
  return dht
}

export async function openNetwork(
  t: Test,
  bootstrap: string,
  options: Partial<NetworkOptions> = {},
): Promise<Network> {
  const network = await Network.open({
    keyPair: keyPair(randomBytes(32)),
    bootstrap: [bootstrap],
    port: freePort(),
    clock: systemClock,
    log: silentLog(),
    ...options,
  })
  t.teardown(() => network.close())
  return network
}

/** Waits until `what` holds; fails after `seconds`. */
export async function until(what: () => boolean, seconds = 60): Promise<void> {
  const end = performance.now() + seconds * 1000
  while (!what()) {
    if (performance.now() > end) throw new Error(`waited ${seconds} s in vain: ${what.toString()}`)
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
}
