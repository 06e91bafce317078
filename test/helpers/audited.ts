/** An owner and one holder, honest or not, with uploader and auditor: where cheats are to be caught. */
import type { Test } from 'tap'
import { systemClock } from '../../lib/base/clock.js'
import { silentLog } from '../../lib/base/log.js'
import { seeded } from '../../lib/base/random.js'
import { Auditor } from '../../lib/partners/audit.js'
import type { Book } from '../../lib/partners/book.js'
import type { Session } from '../../lib/partners/session.js'
import type { PeersVault } from '../../lib/partners/types.js'
import { Uploader } from '../../lib/partners/upload.js'
import type { Vault } from '../../lib/vault/vault.js'
import { until } from './dht.js'
import {
  block,
  connect,
  folder,
  head,
  identity,
  openBook,
  openVault,
  TestClock,
  TestPeers,
  TestStore,
  unbounded,
} from './backup.js'

export const ann = identity(1)
export const holder = identity(2)
export const volume = Buffer.alloc(16, 1)

export interface World {
  store: TestStore
  book: Book
  peers: TestPeers
  uploader: Uploader
  auditor: Auditor
  clock: TestClock
  vault: Vault
  dir: string
  blocks: { name: Buffer; bytes: Buffer }[]
}

/** An owner with `count` blocks, all of them at one holder, or so it says: `lies` tells what it does in place of its vault. */
export async function backedUp(
  t: Test,
  count: number,
  lies: (vault: Vault) => Partial<PeersVault> = () => ({}),
): Promise<World> {
  const random = seeded(count)
  const store = await TestStore.open(t)
  const blocks = Array.from({ length: count }, () => block(random, 2000 + (random() % 2000)))
  await store.add(blocks)
  store.newest.push(head(ann, 1))
  const book = openBook(t)
  const peers = new TestPeers()
  const clock = new TestClock()
  const shared = { peers, blocks: store, book, log: silentLog() }
  const uploader = new Uploader({ ...shared, owner: ann.keyPair, pace: unbounded(), clock: systemClock })
  const auditor = new Auditor({
    ...shared,
    clock,
    owner: ann.id,
    intervalMs: 3_600_000,
    onRepair: () => uploader.wake(),
  })
  t.teardown(async () => {
    for (const peer of peers.online()) (peer as Session).close('the test is over')
    await Promise.all([uploader.stop(), auditor.stop()])
  })
  const dir = folder(t)
  const vault = await openVault(t, holder, { dir })
  peers.add((await connect(t, ann, holder, cheating(vault, lies(vault)))).owner)
  await until(() => book.head(holder.id, volume) === 1)
  return { store, book, peers, uploader, auditor, clock, vault, dir, blocks }
}

export function only(world: World): Session {
  return world.peers.online()[0] as Session
}

/** A holder that does not do what it says. */
export function cheating(vault: Vault, lies: Partial<PeersVault>): PeersVault {
  return new Proxy(vault, {
    get(target, property) {
      const lie: unknown = Reflect.get(lies, property)
      const value: unknown = lie ?? Reflect.get(target, property)
      return typeof value === 'function' ? value.bind(target) : value
    },
  })
}

export async function through(t: Test, world: World, lies: Partial<PeersVault>): Promise<Session> {
  for (const peer of world.peers.online()) (peer as Session).close('the holder changes')
  const { owner } = await connect(t, ann, holder, cheating(world.vault, lies))
  world.peers.add(owner)
  return owner
}
