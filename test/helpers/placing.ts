/** An owner's placement on real tables, with partners that are only keys: no network. */
import { join } from 'node:path'
import type { Test } from 'tap'
import { silentLog } from '../../lib/base/log.js'
import { Database } from '../../lib/blocks/database.js'
import { blockName, chunkKey, sealChunk, sealNode } from '../../lib/format/seal.js'
import { Book } from '../../lib/partners/book.js'
import { Fetcher } from '../../lib/partners/fetch.js'
import { Placing } from '../../lib/partners/placing.js'
import type { Session } from '../../lib/partners/session.js'
import type { PlacePartner } from '../../lib/planning/placement.js'
import type { RepairPartner } from '../../lib/planning/repair.js'
import { seededBytes } from './bytes.js'
import { connect, folder, identity, openVault, TestClock, TestPeers, TestStore } from './backup.js'

export const owner = identity(1)
export const partnerKey = (i: number) => identity(100 + i).id

function repairer(facts: Partial<RepairPartner> & PlacePartner): RepairPartner {
  return { state: 'good', online: true, ...facts }
}

export interface PlacingTest {
  placing: Placing
  store: TestStore
  book: Book
  clock: TestClock
  peers: TestPeers
  /** what may change while it runs */
  now: {
    policy: string
    /** good, and on line */
    partners: Buffer[]
    /** by hex, of those that are something else */
    others: Map<string, Partial<RepairPartner>>
  }
  /** until nothing is under way */
  settle(): Promise<void>
  /** chunk blocks of so many bytes */
  chunks(random: () => number, ...bytes: number[]): Promise<Buffer[]>
  node(random: () => number): Promise<Buffer>
  /** the partner acknowledges all that is pending */
  acknowledge(...partners: number[]): Promise<void>
  close(): Promise<void>
}

export async function openPlacing(
  t: Test,
  given: {
    store?: TestStore
    dir?: string
    policy?: string
    partners?: number
    patienceMs?: number
  } = {},
): Promise<PlacingTest> {
  const store = given.store ?? (await TestStore.open(t))
  const db = Database.open(join(given.dir ?? folder(t), 'partners'))
  const clock = new TestClock()
  const book = new Book(db)
  const peers = new TestPeers()
  const log = silentLog()
  const now = {
    policy: given.policy ?? 'erasure:3+2',
    partners: Array.from({ length: given.partners ?? 5 }, (_, i) => partnerKey(i)),
    others: new Map<string, Partial<RepairPartner>>(),
  }
  const placeOf = (id: string) => {
    return { id, site: null, prefix: null, region: null, space: 2 ** 40, availability: 0.9 }
  }
  const placing = new Placing({
    db,
    identity: owner,
    owned: store,
    book,
    fetcher: new Fetcher({ peers, clock, log, patienceMs: given.patienceMs }),
    policy: () => now.policy,
    candidates: () => now.partners.map((key) => placeOf(key.toString('hex'))),
    repairers: () => [
      ...now.partners.map((key) => placeOf(key.toString('hex'))).map((one) => repairer(one)),
      ...[...now.others].map(([id, facts]) => repairer({ ...placeOf(id), ...facts })),
    ],
    graceMs: () => 14 * 86_400_000,
    partners: () => now.partners,
    onFault: () => undefined,
    onPlaced: () => undefined,
    clock,
    log,
  })
  /** One sets the other going. */
  const settled = async () => {
    for (let i = 0; i < 3; i++) {
      await placing.striper.settled()
      await placing.mender.settled()
    }
  }
  let closing: Promise<void> | undefined
  const close = () =>
    (closing ??= (async () => {
      await placing.stop()
      await db.close()
    })())
  t.teardown(close)
  return {
    placing,
    store,
    book,
    clock,
    peers,
    now,
    close,
    async settle() {
      placing.striper.wake()
      await settled()
    },
    async chunks(random, ...bytes) {
      const names: Buffer[] = []
      for (const length of bytes) {
        const plain = seededBytes(random, length)
        const { ref, bytes: sealed } = sealChunk(chunkKey(owner.kek, plain), plain)
        await store.add([{ name: ref.name, bytes: sealed }])
        names.push(ref.name)
      }
      return names
    },
    async node(random) {
      const { ref, bytes } = sealNode(owner.kek, seededBytes(random, 300))
      await store.add([{ name: ref.name, bytes }])
      return ref.name
    },
    async acknowledge(...partners) {
      for (const i of partners) {
        const view = placing.placement.view(partnerKey(i))
        for (let names = view.pending(1000); names.length > 0; names = view.pending(1000))
          await view.acknowledged(names)
      }
      await settled()
    },
  }
}

/**
 * These partners are on line from here on, with what is in `shards` for them, and give what `gives` makes of it.
 * @returns the sessions with them
 */
export async function lend(
  t: Test,
  at: PlacingTest,
  shards: ReadonlyMap<number, readonly Buffer[]>,
  gives: (partner: number, shard: Buffer) => Buffer | undefined = (_, shard) => shard,
): Promise<Session[]> {
  const sessions: Session[] = []
  for (const [i, all] of shards) {
    const vault = await openVault(t, identity(100 + i))
    for (const bytes of all) await vault.put(owner.id, blockName(bytes), bytes)
    await vault.commit(owner.id)
    const { get } = vault
    vault.get = async (of, name) => {
      const bytes = await get.call(vault, of, name)
      return bytes && gives(i, bytes)
    }
    const { owner: session } = await connect(t, owner, identity(100 + i), vault)
    at.peers.add(session)
    sessions.push(session)
  }
  return sessions
}
