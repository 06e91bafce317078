/**
 * `npm run bench -- network`: how fast an owner's blocks reach its partners, each in a process of its own on a private
 * DHT on loopback, until they are durable in the partners' vaults; against bare hyperdht streams between the same processes,
 * over which the same blocks are read, sent and thrown away.
 *
 * Both ways are taken in turn by the same processes, first the one and then the other in every second round, with new blocks each
 * time. What is measured is the rate of a process that runs: before the first round both ways send 32 MiB, so that V8 has seen the
 * code of both, and each partner is audited, which for the first time happens within 15 s and would fall into one of the rounds.
 * The second line of each pair is the processor time of all processes together, kernel included.
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
/** Sent both ways before anything is measured. */
const warmUpBlocks = 64
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

type Way = 'bare' | 'kith'
const ways: readonly Way[] = ['bare', 'kith']
type Cost = Record<Way, { seconds: number; processor: number }>

/** An owner and so many holders. */
class Nodes {
  private constructor(
    private readonly dir: string,
    private readonly owner: NodeProcess,
    private readonly holders: readonly NodeProcess[],
  ) {}

  static async start(bootstrap: string, count: number): Promise<Nodes> {
    const dir = mkdtempSync(join(tmpdir(), 'kith-bench-'))
    const circle = randomBytes(32).toString('hex')
    const owner = new NodeProcess()
    const nodes = new Nodes(
      dir,
      owner,
      Array.from({ length: count }, () => new NodeProcess()),
    )
    for (const [i, node] of nodes.all.entries())
      await node.order({ order: 'open', dir: join(dir, String(i)), bootstrap, circle })
    return nodes
  }

  private get all(): NodeProcess[] {
    return [this.owner, ...this.holders]
  }

  /** Sends the same new blocks both ways, in this order. */
  async round(blocks: number, order: readonly Way[]): Promise<Cost> {
    await this.owner.order({ order: 'fill', blocks, blockBytes })
    const cost = { bare: { seconds: 0, processor: 0 }, kith: { seconds: 0, processor: 0 } }
    for (const way of order) {
      const taking = { order: 'take', bytes: blocks * blockBytes } as const
      const to = way === 'bare' ? await Promise.all(this.holders.map((holder) => holder.order(taking))) : []
      const before = await this.usage()
      const sent: Order =
        way === 'bare'
          ? { order: 'stream', to: to.map(String) }
          : { order: 'send', partners: this.holders.length }
      cost[way].seconds = Number(await this.owner.order(sent))
      cost[way].processor = (await this.usage()) - before
    }
    return cost
  }

  /** Seconds of processor time that all of them have taken so far. */
  private async usage(): Promise<number> {
    const each = await Promise.all(this.all.map((node) => node.order({ order: 'usage' })))
    return each.reduce<number>((sum, seconds) => sum + Number(seconds), 0)
  }

  async audit(): Promise<void> {
    await this.owner.order({ order: 'audit' })
  }

  async end(): Promise<void> {
    await Promise.all(this.all.map((node) => node.end()))
    rmSync(this.dir, { recursive: true, force: true })
  }
}

async function compare(
  bootstrap: string,
  count: number,
  { megabytes, rounds }: NetworkScale,
): Promise<Cost[]> {
  const nodes = await Nodes.start(bootstrap, count)
  try {
    await nodes.round(warmUpBlocks, ways)
    await nodes.audit()
    const costs: Cost[] = []
    for (let i = 0; i < rounds; i++)
      costs.push(
        await nodes.round((megabytes * 1024 * 1024) / blockBytes, i % 2 === 0 ? ways : [...ways].reverse()),
      )
    return costs
  } finally {
    await nodes.end()
  }
}

export async function benchNetwork(scale: NetworkScale, say: (line: string) => void): Promise<void> {
  say(`network ${scale.megabytes} MB in blocks of ${blockBytes / 1024} KiB, against bare hyperdht streams`)
  say(heading(ways))
  const dht = await runDhtNode({ host: '127.0.0.1', port: 0 })
  try {
    for (const count of [1, 4]) {
      const costs = await compare(dht.address, count, scale)
      const taken = (what: 'seconds' | 'processor') =>
        new Map<string, number[]>(ways.map((way) => [way, costs.map((cost) => cost[way][what])]))
      say(row(`to ${count} partner${count > 1 ? 's' : ''}`, ways, figures(taken('seconds'))))
      say(row('  by processor time', ways, figures(taken('processor'))))
    }
  } finally {
    await dht.close()
  }
  say('')
}
