/** A whole node without daemon and mount: its own blocks, its vault, its partners, on a private DHT. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Test } from 'tap'
import { systemClock } from '../../lib/base/clock.js'
import { silentLog } from '../../lib/base/log.js'
import { randomBytes } from '../../lib/base/random.js'
import { BlockStore } from '../../lib/blocks/block-store.js'
import { blocksWithin, countTo } from '../../lib/blocks/windows.js'
import { Database } from '../../lib/blocks/database.js'
import { deriveIdentity, type Identity } from '../../lib/format/keys.js'
import { blockName } from '../../lib/format/seal.js'
import { Partners } from '../../lib/partners/partners.js'
import { Vault } from '../../lib/vault/vault.js'
import { someHead } from './partner-node.js'

export interface Node {
  identity: Identity
  id: string
  dir: string
  blocks: BlockStore
  vault: Vault
  partners: Partners
  heads: Buffer[]
  /** Adds so many blocks of its own and a head over them, and wakes the partners. */
  write(count: number): Promise<Buffer[]>
  synced(): boolean
  stop(): Promise<void>
}

export interface NodeOptions {
  identity?: Identity
  name?: string
  dir?: string
  quotaBytes?: number
}

export async function openNode(t: Test, bootstrap: string, options: NodeOptions = {}): Promise<Node> {
  const identity = options.identity ?? deriveIdentity(randomBytes(32))
  const dir = options.dir ?? mkdtempSync(join(tmpdir(), 'kith-node-'))
  const [clock, log] = [systemClock, silentLog()]
  const db = Database.open(join(dir, 'store'))
  const blocks = await BlockStore.open(join(dir, 'store', 'segments'), { db, clock, log })
  const vault = await Vault.open(join(dir, 'vault'), {
    quotaBytes: options.quotaBytes ?? 1_000_000_000,
    partnerKey: identity.id,
    clock,
    log,
  })
  const heads: Buffer[] = []
  const partners = await Partners.start({
    dir: join(dir, 'partners'),
    identity,
    name: options.name ?? 'somebody',
    bootstrap: [bootstrap],
    auditEveryMs: 3_600_000,
    vault,
    owned: {
      since: (sequence, limit) => blocks.since(sequence, limit),
      within: (range, limit) => blocksWithin(blocks, range, limit),
      countTo: (sequence) => countTo(blocks, sequence),
      get: (name) => blocks.get(name),
      heads: () => [...heads],
      has: (name) => blocks.has(name),
      removed: () => [],
      lastRemoved: () => 0,
      removalsTold: () => Promise.resolve(),
    },
    clock,
    log,
  })
  let stopping: Promise<void> | undefined
  const node: Node = {
    identity,
    id: identity.id.toString('hex'),
    dir,
    blocks,
    vault,
    partners,
    heads,
    async write(count) {
      const names: Buffer[] = []
      for (let i = 0; i < count; i++) {
        const bytes = randomBytes(1000 + i)
        names.push(blockName(bytes))
        await blocks.put(blockName(bytes), bytes)
      }
      await blocks.commit()
      heads.splice(0, 1, someHead(identity, sequenceOf(heads) + 1))
      partners.wake()
      return names
    },
    synced: () => heads[0] !== undefined && partners.synced(blocks.lastSequence, heads[0]),
    stop: () =>
      (stopping ??= (async () => {
        await partners.stop()
        await blocks.close()
        await vault.close()
        await db.close()
      })()),
  }
  t.teardown(async () => {
    await node.stop()
    rmSync(dir, { recursive: true, force: true })
  })
  return node
}

function sequenceOf([head]: Buffer[]): number {
  return head ? Number(head.readBigUInt64LE(52)) : 0
}

/** The others become members of a circle of the first one's, by invites. */
export async function befriend(first: Node, ...others: Node[]): Promise<void> {
  if (first.partners.circles().length === 0) await first.partners.createCircle('friends')
  for (const other of others) await other.partners.join((await first.partners.invite()).code)
}
