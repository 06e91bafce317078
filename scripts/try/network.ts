/** The private network of the try-out: a DHT and three partners with homes and vaults of their own, over loopback. */
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { kith, start } from './processes.js'

export interface Partner {
  name: string
  home: string
  pid: number
}

export interface TryNetwork {
  bootstrap: string
  partners: Partner[]
}

export const partnerCount = 3

/** @param state an empty folder that the caller removes */
export async function startNetwork(state: string): Promise<TryNetwork> {
  const dht = await start<{ address: string }>(['dht'])
  const bootstrap = dht.ready.address
  const partners: Partner[] = []
  for (let i = 1; i <= partnerCount; i++) {
    const name = `partner-${i}`
    const home = join(state, name)
    mkdirSync(home, { mode: 0o700 })
    const { ready } = await start<{ pid: number }>(['daemon', '--home', home, '--bootstrap', bootstrap])
    await kith(['init', '--name', name, '--phrase-out', join(state, `${name}.phrase`)], home)
    partners.push({ name, home, pid: ready.pid })
  }
  return { bootstrap, partners }
}

/** Makes the owner of `home`, a daemon of its own in the background, and one circle of everybody. */
export async function startOwner(home: string, phraseFile: string, network: TryNetwork): Promise<void> {
  await kith(['init', '--name', 'you', '--phrase-out', phraseFile, '--bootstrap', network.bootstrap], home)
  await kith(['circle', 'create', 'try'], home)
  for (const partner of network.partners) {
    const { code } = await kith<{ code: string }>(['invite'], home)
    await kith(['join', code], partner.home)
  }
}
