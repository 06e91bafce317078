/**
 * `npm run bench -- network`: how fast an owner's blocks reach its partners, each in a process of its own on a private
 * DHT on loopback, until they are durable in the partners' vaults; against a bare hyperdht stream between the same processes,
 * over which the same blocks are read, sent and thrown away.
 */
import { type ChildProcess, fork } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { heapFlags } from '../lib/base/heap.js'
import { randomBytes } from '../lib/base/random.js'
import { runDhtNode } from '../lib/partners/dht-node.js'
import { interrupted } from './commands.js'
import { figures, heading, row } from './measure.js'
import type { Order } from './network-node.js'

export interface NetworkScale {
  megabytes: number
  rounds: number
}

const blockBytes = 512 * 1024
const nodeProgram = fileURLToPath(new URL('network-node.js', import.meta.url))

class NodeProcess {
  private readonly child: ChildProcess = fork(nodeProgram, {
    signal: interrupted.signal,
    // As kithd runs.
    execArgv: [...heapFlags],
  })

  order(order: Order): Promise<number | string> {
    return new Promise((resolve, reject) => {
      const ended = () => reject(new Error('a node of the benchmark ended'))
      this.child.once('exit', ended)
      this.child.once('message', (message: { answer?: number | string; error?: string }) => {
        this.child.off('exit', ended)
        if (message.answer === undefined) reject(new Error(message.error))
        else resolve(message.answer)
      })
      this.child.send(order)
    })
  }

  async end(): Promise<void> {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return
    const gone = new Promise((resolve) => this.child.once('exit', resolve))
    this.child.send({ order: 'close' } satisfies Order)
    await gone
  }
}

/** Seconds by a bare stream and by kith, to so many partners at once. */
async function round(bootstrap: string, bytes: number, count: number): Promise<[bare: number, kith: number]> {
  const dir = mkdtempSync(join(tmpdir(), 'kith-bench-'))
  const circle = randomBytes(32).toString('hex')
  const nodes = Array.from({ length: count + 1 }, () => new NodeProcess())
  try {
    for (const [i, node] of nodes.entries()) {
      const own = { dir: join(dir, String(i)), bootstrap, circle, blockBytes, bytes: i === 0 ? bytes : 0 }
      await node.order({ order: 'open', ...own })
    }
    const [owner, ...holders] = nodes
    const to = await Promise.all(holders.map((holder) => holder.order({ order: 'take', bytes })))
    const bare = await owner?.order({ order: 'stream', to: to.map(String) })
    const kith = await owner?.order({ order: 'send', partners: count })
    return [Number(bare), Number(kith)]
  } finally {
    await Promise.all(nodes.map((node) => node.end()))
    rmSync(dir, { recursive: true, force: true })
  }
}

export async function benchNetwork(
  { megabytes, rounds }: NetworkScale,
  say: (line: string) => void,
): Promise<void> {
  say(`network ${megabytes} MB in blocks of ${blockBytes / 1024} KiB, against bare hyperdht streams`)
  const names = ['bare', 'kith']
  say(heading(names))
  const dht = await runDhtNode({ host: '127.0.0.1', port: 0 })
  try {
    for (const count of [1, 4]) {
      const seconds = new Map<string, number[]>(names.map((name) => [name, []]))
      for (let i = 0; i < rounds; i++) {
        const taken = await round(dht.address, megabytes * 1024 * 1024, count)
        names.forEach((name, j) => seconds.get(name)?.push(taken[j] ?? NaN))
      }
      say(row(`to ${count} partner${count > 1 ? 's' : ''}`, names, figures(seconds)))
    }
  } finally {
    await dht.close()
  }
  say('')
}
