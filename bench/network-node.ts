/**
 * A node of `bench -- network` in a process of its own, told what to do by messages: an owner with blocks in a real store,
 * or a holder with a real vault. Beside its partners it can send or take the same bytes over a bare hyperdht stream.
 */
import HyperDHT, { type NoiseStream } from 'hyperdht'
import { join } from 'node:path'
import { performance } from 'node:perf_hooks'
import { systemClock } from '../lib/base/clock.js'
import { silentLog } from '../lib/base/log.js'
import { keepMemory } from '../lib/base/posix.js'
import { randomBytes } from '../lib/base/random.js'
import { BlockStore } from '../lib/blocks/block-store.js'
import { blocksWithin, countTo } from '../lib/blocks/windows.js'
import { Database } from '../lib/blocks/database.js'
import { keyPair } from '../lib/format/hash.js'
import { deriveIdentity } from '../lib/format/keys.js'
import { blockName } from '../lib/format/seal.js'
import { policyOf } from '../lib/daemon/agreement.js'
import { defaults } from '../lib/daemon/config.js'
import { Partners } from '../lib/partners/partners.js'
import { Vault } from '../lib/vault/vault.js'

export interface Opening {
  dir: string
  bootstrap: string
  /** hex of the circle's secret */
  circle: string
}

export type Order =
  | ({ order: 'open' } & Opening)
  /** makes so many new blocks, which partners do not hear of before they are sent */
  | { order: 'fill'; blocks: number; blockBytes: number }
  /** once so many partners are on line: sends them all that was made by kith. Answers with the seconds. */
  | { order: 'send'; partners: number }
  /** audits its partners, as a daemon does by itself 15 s after the first blocks */
  | { order: 'audit' }
  /** takes so many bytes over a bare stream. Answers with the key to connect to. */
  | { order: 'take'; bytes: number }
  /** sends what was made last to those keys over bare streams, at once. Answers with the seconds. */
  | { order: 'stream'; to: string[] }
  /** Answers with the seconds of processor time that this process has taken so far. */
  | { order: 'usage' }
  | { order: 'close' }

// As kithd does.
keepMemory()
const clock = systemClock
const log = silentLog()
const quotaBytes = 2 ** 40

class Node {
  /** The last block that partners may hear of, and the last before those that were made last. */
  private shown = 0
  private before = 0

  private constructor(
    private readonly store: BlockStore,
    private readonly partners: Partners,
    private readonly dht: HyperDHT,
    private readonly closing: (() => Promise<void>)[],
  ) {}

  static async open(opening: Opening): Promise<Node> {
    const { dir, bootstrap, circle } = opening
    const identity = deriveIdentity(randomBytes(32))
    const db = Database.open(join(dir, 'index'))
    const store = await BlockStore.open(join(dir, 'store'), { db, clock, log })
    const vault = await Vault.open(join(dir, 'vault'), { quotaBytes, partnerKey: identity.id, clock, log })
    const shown: { node?: Node } = {}
    const partners = await Partners.start({
      dir: join(dir, 'partners'),
      identity,
      name: 'node',
      bootstrap: [bootstrap],
      auditEveryMs: 2 ** 31,
      policy: () => policyOf({ ...defaults, vaultQuotaBytes: quotaBytes }),
      vault,
      owned: {
        since: (sequence, limit) =>
          store.since(sequence, limit).filter((row) => row.sequence <= (shown.node?.shown ?? 0)),
        within: (range, limit) => blocksWithin(store, range, limit),
        last: () => shown.node?.shown ?? 0,
        countTo: (sequence) => countTo(store, sequence),
        get: (name) => store.get(name),
        fetch: () => Promise.resolve(undefined),
        heads: () => [],
        has: (name) => store.has(name),
        isHere: (name) => store.isHere(name),
        removed: () => [],
        lastRemoved: () => 0,
        removalsTold: () => Promise.resolve(),
      },
      clock,
      log,
    })
    await partners.restoreCircles([{ name: 'bench', secret: Buffer.from(circle, 'hex') }])
    const dht = new HyperDHT({ bootstrap: [bootstrap], host: '127.0.0.1' })
    const closing = [
      () => partners.stop(),
      () => dht.destroy({ force: true }),
      () => vault.close(),
      () => store.close(),
      () => db.close(),
    ]
    const node = new Node(store, partners, dht, closing)
    shown.node = node
    return node
  }

  async fill(blocks: number, blockBytes: number): Promise<void> {
    this.before = this.store.lastSequence
    for (let i = 0; i < blocks; i++) {
      const block = randomBytes(blockBytes)
      await this.store.put(blockName(block), block)
    }
    await this.store.commit()
  }

  async send(count: number): Promise<number> {
    await this.until(() => this.partners.list().filter(({ online }) => online).length >= count)
    const started = performance.now()
    this.shown = this.store.lastSequence
    this.partners.wake()
    await this.until(() => this.partners.list().every(({ bytesHeld }) => bytesHeld >= this.store.bytes))
    return (performance.now() - started) / 1000
  }

  async audit(): Promise<void> {
    await this.partners.audit({ full: false })
  }

  private until(holds: () => boolean): Promise<void> {
    return new Promise((resolve) => {
      const look = () => {
        if (!holds()) return
        this.partners.off('change', look)
        resolve()
      }
      this.partners.on('change', look)
      look()
    })
  }

  async take(bytes: number): Promise<string> {
    const keys = keyPair(randomBytes(32))
    const server = this.dht.createServer({}, (stream) => {
      let left = bytes
      stream.on('data', (piece: Buffer) => {
        left -= piece.length
        if (left <= 0) stream.end(Buffer.from('k'))
      })
      stream.on('error', () => undefined)
    })
    await server.listen(keys)
    return keys.publicKey.toString('hex')
  }

  async stream(to: string[]): Promise<number> {
    const streams = to.map((key) => this.dht.connect(Buffer.from(key, 'hex')))
    await Promise.all(streams.map(({ opened }) => opened))
    const blocks = this.store.since(this.before, Number.MAX_SAFE_INTEGER)
    const started = performance.now()
    await Promise.all(streams.map((stream) => this.pour(stream, blocks)))
    return (performance.now() - started) / 1000
  }

  private async pour(stream: NoiseStream, blocks: { name: Buffer }[]): Promise<void> {
    const taken = new Promise<void>((resolve, reject) => {
      stream.once('data', () => resolve())
      stream.once('error', reject)
    })
    for (const { name } of blocks) {
      const bytes = await this.store.get(name)
      if (bytes && !stream.write(bytes)) await new Promise((resolve) => stream.once('drain', resolve))
    }
    await taken
    stream.destroy()
  }

  async close(): Promise<void> {
    for (const close of this.closing) await close()
  }
}

let node: Node | undefined

async function obey(order: Order): Promise<number | string> {
  if (order.order === 'open') node = await Node.open(order)
  if (!node) throw new Error('open first')
  if (order.order === 'fill') await node.fill(order.blocks, order.blockBytes)
  if (order.order === 'send') return node.send(order.partners)
  if (order.order === 'audit') await node.audit()
  if (order.order === 'take') return node.take(order.bytes)
  if (order.order === 'stream') return node.stream(order.to)
  if (order.order === 'usage') {
    const { user, system } = process.cpuUsage()
    return (user + system) / 1e6
  }
  if (order.order === 'close') {
    await node.close()
    process.disconnect()
  }
  return 0
}

process.on('message', (order: Order) => {
  obey(order).then(
    (answer) => process.connected && process.send?.({ answer }),
    (error: unknown) => process.send?.({ error: String(error) }),
  )
})
