import t, { type Test } from 'tap'
import { systemClock } from '../../lib/base/clock.js'
import { silentLog } from '../../lib/base/log.js'
import { seeded } from '../../lib/base/random.js'
import type { Book } from '../../lib/partners/book.js'
import type { Session } from '../../lib/partners/session.js'
import { Uploader } from '../../lib/partners/upload.js'
import { encodeRelease } from '../../lib/format/wire-release.js'
import { until } from '../helpers/dht.js'
import {
  block,
  connect,
  head,
  identity,
  openBook,
  openVault,
  TestClock,
  TestPeers,
  TestStore,
  unbounded,
} from '../helpers/backup.js'

const ann = identity(1)
const holder = identity(2)
const delay = 3 * 86_400_000

function upload(t: Test, store: TestStore, peers: TestPeers, book: Book): Uploader {
  const shared = { peers, blocks: store, book, owner: ann.keyPair, pace: unbounded() }
  const options = { ...shared, clock: systemClock, log: silentLog() }
  const uploader = new Uploader(options)
  t.teardown(async () => {
    for (const peer of peers.online()) (peer as Session).close('the test is over')
    await uploader.stop()
  })
  return uploader
}

async function backedUp(t: Test, seed: number) {
  const random = seeded(seed)
  const store = await TestStore.open(t)
  const blocks = Array.from({ length: 40 }, () => block(random, 1000))
  await store.add(blocks)
  store.newest.push(head(ann, 1))
  const book = openBook(t)
  const peers = new TestPeers()
  const clock = new TestClock()
  const vault = await openVault(t, holder, { clock, dropDelayMs: delay })
  const uploader = upload(t, store, peers, book)
  const session = (await connect(t, ann, holder, vault)).owner
  peers.add(session)
  await until(() => book.head(holder.id, Buffer.alloc(16, 1)) === 1)
  return {
    store,
    blocks,
    names: blocks.map(({ name }) => name),
    book,
    peers,
    clock,
    vault,
    uploader,
    session,
  }
}

const told = (book: Book, store: TestStore) => (book.dropped(holder.id) ?? 0) === store.lastRemoved()

t.test('what the store removed is dropped, after a head that does not need it', async (t) => {
  const { store, names, book, vault, clock, uploader } = await backedUp(t, 1)
  await store.take(names.slice(0, 30))
  store.newest[0] = head(ann, 2)
  uploader.wake()
  await until(() => told(book, store))
  t.same(vault.heads(ann.id), [head(ann, 2)])
  t.match(vault.held(ann.id), { blocks: 10 })
  t.match(book.progress(holder.id), { blocksHeld: 10, verdict: { found: [] } })
  t.equal(store.removed(0, 100).length, 1, 'nobody needs the list any more')
  clock.pass(delay + 1)
  t.match(await vault.carryOutDrops(), { blocks: 30 })
  t.match(vault.held(ann.id), { blocks: 10 })
})

t.test('a block that comes back stays, whatever the order', async (t) => {
  const { store, blocks, names, book, vault, clock, uploader, peers, session } = await backedUp(t, 2)
  await store.take(names.slice(0, 20))
  uploader.wake()
  await until(() => told(book, store))
  t.match(vault.held(ann.id), { blocks: 20 })
  // After the drop was told of.
  await store.add(blocks.slice(0, 5))
  uploader.wake()
  await until(() => vault.held(ann.id).blocks === 25)
  // Removed and back before anybody is told, beside one that stays away.
  await store.take(names.slice(20, 26))
  await store.add(blocks.slice(20, 25))
  uploader.wake()
  await until(() => told(book, store) && book.holds(holder.id, store.store.lastSequence))
  t.match(vault.held(ann.id), { blocks: 24 })
  // While the partner is away.
  session.close('away')
  await until(() => peers.online().length === 0)
  await store.take(names.slice(5, 9))
  await store.take(names.slice(30, 40))
  await store.add(blocks.slice(30, 40))
  peers.add((await connect(t, ann, holder, vault)).owner)
  await until(() => told(book, store) && book.holds(holder.id, store.store.lastSequence))
  clock.pass(delay + 1)
  await vault.carryOutDrops()
  const wrong = []
  for (const [i, { name, bytes }] of blocks.entries()) {
    const wanted = store.has(name)
    const is = await vault.get(ann.id, name)
    if (wanted ? !is?.equals(bytes) : is) wrong.push(i)
  }
  t.same(wrong, [], 'the partner holds what the store has, and nothing else')
  t.equal(book.progress(holder.id).verdict.state, 'unknown', 'nothing was taken for damage')
})

t.test('a drop that is late from a broken session is refused', async (t) => {
  const { store, blocks, names, book, vault, clock, peers, session } = await backedUp(t, 3)
  session.close('broken')
  await until(() => peers.online().length === 0)
  // Made and sent, but still on its way.
  const number = await book.nextRelease(holder.id, 0)
  const late = encodeRelease(
    { kind: 'drop', partner: holder.id, volume: Buffer.alloc(16), number, names: names.slice(0, 3) },
    ann.keyPair,
  )
  await store.take(names.slice(0, 3))
  await store.add(blocks.slice(0, 3))
  peers.add((await connect(t, ann, holder, vault)).owner)
  await until(() => told(book, store) && book.holds(holder.id, store.store.lastSequence))
  t.ok(vault.held(ann.id).releaseNumber > number)
  await t.rejects(vault.release(ann.id, late), { code: 'denied' })
  clock.pass(delay + 1)
  t.match(await vault.carryOutDrops(), { blocks: 0 })
  t.match(vault.held(ann.id), { blocks: 40 })
})

t.test('a new partner is not told of what it never had', async (t) => {
  const store = await TestStore.open(t)
  const blocks = Array.from({ length: 5 }, () => block(seeded(9), 500))
  await store.add(blocks)
  await store.take(blocks.map(({ name }) => name))
  const book = openBook(t)
  const peers = new TestPeers()
  upload(t, store, peers, book)
  const vault = await openVault(t, holder)
  peers.add((await connect(t, ann, holder, vault)).owner)
  await until(() => told(book, store))
  t.equal(vault.held(ann.id).releaseNumber, 0)
})
