/** A whole node without daemon and mount: its own blocks, its vault, its partners, on a private DHT. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Test } from 'tap'
import { systemClock, type Clock } from '../../lib/base/clock.js'
import { asKithError } from '../../lib/base/errors.js'
import { silentLog, type Log } from '../../lib/base/log.js'
import { randomBytes } from '../../lib/base/random.js'
import { BlockStore } from '../../lib/blocks/block-store.js'
import { blocksWithin, countTo } from '../../lib/blocks/windows.js'
import { Database } from '../../lib/blocks/database.js'
import { deriveIdentity, type Identity } from '../../lib/format/keys.js'
import { blockName, chunkKey, sealChunk } from '../../lib/format/seal.js'
import type { Terms } from '../../lib/format/agreement.js'
import { policyOf } from '../../lib/daemon/agreement.js'
import { defaults } from '../../lib/daemon/config.js'
import type { Policy } from '../../lib/partners/negotiation.js'
import type { PoolSettings } from '../../lib/partners/pool.js'
import { Partners } from '../../lib/partners/partners.js'
import { Vault } from '../../lib/vault/vault.js'
import { someHead } from './partner-node.js'

const none: PoolSettings = { open: false, partners: 0, region: '' }

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
  /** The same with chunks of a file, as a snapshot makes them, of up to so many bytes. */
  writeChunks(count: number, mostBytes: number): Promise<Buffer[]>
  synced(): boolean
  stop(): Promise<void>
}

export interface NodeOptions {
  identity?: Identity
  name?: string
  dir?: string
  quotaBytes?: number
  dropDelayMs?: number
  clock?: Clock
  /** counts the time of partners' states; the same clock, when not given */
  stateClock?: Clock
  leastSilenceMs?: number
  log?: Log
  /** ms that a read waits for partners */
  patienceMs?: number
  /** how its blocks are laid out over partners; may change while it runs */
  placement?: string
  /** what it wants of the open pool; may change while it runs */
  pool?: PoolSettings
  /** what differs from the usual in what it offers and wants */
  policy?: Partial<Terms> & { wants?: number; periodMs?: number }
}

/** What a node of these tests offers and wants: like a daemon with its defaults. */
export function usualPolicy({ wants, periodMs, ...terms }: NodeOptions['policy'] = {}): Omit<
  Policy,
  'needs'
> {
  const usual = policyOf(defaults)
  return {
    terms: { ...usual.terms, holds: 1_000_000_000, ...terms },
    wants: wants ?? usual.wants,
    periodMs: periodMs ?? usual.periodMs,
  }
}

export async function openNode(t: Test, bootstrap: string, options: NodeOptions = {}): Promise<Node> {
  const dir = options.dir ?? mkdtempSync(join(tmpdir(), 'kith-node-'))
  const node = await startNode(bootstrap, { ...options, dir })
  t.teardown(async () => {
    await node.stop()
    rmSync(dir, { recursive: true, force: true })
  })
  return node
}

/** The same, to be stopped and removed by the caller. */
export async function startNode(bootstrap: string, options: NodeOptions & { dir: string }): Promise<Node> {
  const identity = options.identity ?? deriveIdentity(randomBytes(32))
  const { dir } = options
  const { clock = systemClock, log = silentLog() } = options
  const db = Database.open(join(dir, 'store'))
  const blocks = await BlockStore.open(join(dir, 'store', 'segments'), { db, clock, log })
  const policy = usualPolicy(options.policy)
  const joined: { partners?: Partners } = {}
  const vault = await Vault.open(join(dir, 'vault'), {
    quotaBytes: options.quotaBytes ?? 1_000_000_000,
    ownerQuotaBytes: (owner) => joined.partners?.room(owner) ?? 0,
    partnerKey: identity.id,
    ...(options.dropDelayMs !== undefined && { dropDelayMs: options.dropDelayMs }),
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
    policy: () => policy,
    ...(options.patienceMs !== undefined && { patienceMs: options.patienceMs }),
    placement: () => options.placement ?? 'replica',
    ...(options.pool && { pool: () => options.pool ?? none }),
    vault,
    owned: {
      since: (sequence, limit) => blocks.since(sequence, limit),
      within: (range, limit) => blocksWithin(blocks, range, limit),
      last: () => blocks.lastSequence,
      countTo: (sequence) => countTo(blocks, sequence),
      get: (name) => blocks.get(name),
      fetch: () => Promise.resolve(undefined),
      heads: () => [...heads],
      has: (name) => blocks.has(name),
      isHere: (name) => blocks.isHere(name),
      removed: () => [],
      lastRemoved: () => 0,
      removalsTold: () => Promise.resolve(),
    },
    clock,
    leastSilenceMs: () => options.leastSilenceMs ?? 365 * 86_400_000,
    ...(options.stateClock && { stateClock: options.stateClock }),
    log,
  })
  joined.partners = partners
  const add = async (all: Buffer[]) => {
    for (const bytes of all) await blocks.put(blockName(bytes), bytes)
    await blocks.commit()
    heads.splice(0, 1, someHead(identity, sequenceOf(heads) + 1))
    partners.wake()
    return all.map((bytes) => blockName(bytes))
  }
  let stopping: Promise<void> | undefined
  const node: Node = {
    identity,
    id: identity.id.toString('hex'),
    dir,
    blocks,
    vault,
    partners,
    heads,
    write: (count) => add(Array.from({ length: count }, (_, i) => randomBytes(1000 + i))),
    writeChunks: (count, mostBytes) =>
      add(
        Array.from({ length: count }, (_, i) => {
          const plain = randomBytes(1 + Math.floor(((i + 1) / count) * (mostBytes - 1)))
          return sealChunk(chunkKey(identity.kek, plain), plain).bytes
        }),
      ),
    synced: () => heads[0] !== undefined && partners.synced(blocks.lastSequence, heads[0]),
    stop: () =>
      (stopping ??= (async () => {
        await partners.stop()
        await blocks.close()
        await vault.close()
        await db.close()
      })()),
  }
  return node
}

function sequenceOf([head]: Buffer[]): number {
  return head ? Number(head.readBigUInt64LE(52)) : 0
}

/** The others become members of a circle of the first one's, by invites. */
export async function befriend(first: Node, ...others: Node[]): Promise<void> {
  if (first.partners.circles().length === 0) await first.partners.createCircle('friends')
  for (const other of others) await joinCircle(first, other)
}

/** On a busy machine half a minute may pass before the other is found: a new invite then, as the message says. */
async function joinCircle(first: Node, other: Node, tries = 3): Promise<void> {
  try {
    await other.partners.join((await first.partners.invite()).code)
  } catch (error) {
    if (asKithError(error).code !== 'noPartners' || tries === 1) throw error
    await joinCircle(first, other, tries - 1)
  }
}
