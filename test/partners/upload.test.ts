import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createRequire } from 'node:module'
import { connect as connectSocket } from 'node:net'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { NoiseStream } from 'hyperdht'
import t, { type Test } from 'tap'
import { systemClock } from '../../lib/base/clock.js'
import { KithError } from '../../lib/base/errors.js'
import { silentLog } from '../../lib/base/log.js'
import { seeded } from '../../lib/base/random.js'
import type { Book } from '../../lib/partners/book.js'
import { Pace } from '../../lib/partners/pace.js'
import { requestRelease } from '../../lib/partners/release.js'
import type { Session } from '../../lib/partners/session.js'
import { Uploader } from '../../lib/partners/upload.js'
import { until } from '../helpers/dht.js'
import {
  block,
  connect,
  folder,
  head,
  identity,
  open,
  openBook,
  openVault,
  refusing,
  TestClock,
  TestPeers,
  TestStore,
  unbounded,
} from '../helpers/backup.js'
import { Hand } from '../helpers/hand-clock.js'

const ann = identity(1)
const holders = [identity(2), identity(3), identity(4)]
const first = holders[0] ?? ann

function upload(
  t: Test,
  store: TestStore,
  peers: TestPeers,
  book: Book,
  clock = systemClock,
  pace = unbounded(),
): Uploader {
  const shared = { peers, blocks: store, book, owner: ann.keyPair }
  const uploader = new Uploader({ ...shared, pace, clock, log: silentLog() })
  t.teardown(async () => {
    for (const peer of peers.online()) (peer as Session).close('the test is over')
    await uploader.stop()
  })
  return uploader
}

const isSent = (book: Book, store: TestStore, partner = first) =>
  book.holds(partner.id, store.store.lastSequence) && book.head(partner.id, Buffer.alloc(16, 1)) > 0

t.test('every partner on line gets everything, and what comes later', async (t) => {
  const random = seeded(1)
  const store = await TestStore.open(t)
  const blocks = Array.from({ length: 1500 }, () => block(random))
  await store.add(blocks)
  store.newest.push(head(ann, 1))
  const book = openBook(t)
  const peers = new TestPeers()
  const uploader = upload(t, store, peers, book)
  const bytes = blocks.reduce((sum, one) => sum + one.bytes.length, 0)
  t.equal(uploader.pendingBytes(first.id), bytes)
  const vaults = await Promise.all(holders.map((holder) => openVault(t, holder)))
  for (const [i, holder] of holders.entries()) {
    const vault = vaults[i]
    if (vault) peers.add((await connect(t, ann, holder, vault)).owner)
  }
  await until(() => holders.every((holder) => isSent(book, store, holder)))
  t.equal(uploader.pendingBytes(first.id), 0)
  for (const vault of vaults) {
    for (const one of blocks)
      if (!(await vault.get(ann.id, one.name))?.equals(one.bytes)) t.fail('a block is lacking')
    t.same(vault.heads(ann.id), [head(ann, 1)])
    t.match(vault.held(ann.id), { blocks: 1500, bytes })
  }
  t.match(book.progress(first.id), { bytesHeld: bytes, blocksHeld: 1500 })

  const more = block(random)
  await store.add([more])
  store.newest[0] = head(ann, 2)
  t.equal(uploader.pendingBytes(first.id), more.bytes.length)
  uploader.wake()
  await until(() => book.head(first.id, Buffer.alloc(16, 1)) === 2)
  t.same(await vaults[0]?.get(ann.id, more.name), more.bytes)
})

t.test('what several partners get is read once, as long as they are near each other', async (t) => {
  const store = await TestStore.open(t)
  const peers = new TestPeers()
  const book = openBook(t)
  let reads = 0
  const { get } = store
  store.get = (name) => {
    reads++
    return get.call(store, name)
  }
  const vaults = await Promise.all(holders.map((holder) => openVault(t, holder)))
  const uploader = upload(t, store, peers, book)
  for (const [i, holder] of holders.entries()) {
    const vault = vaults[i]
    if (vault) peers.add((await connect(t, ann, holder, vault)).owner)
  }
  const random = seeded(32)
  const blocks = Array.from({ length: 60 }, () => block(random, 100_000))
  await store.add(blocks)
  store.newest.push(head(ann, 1))
  uploader.wake()
  await until(() => holders.every((holder) => isSent(book, store, holder)))
  t.ok(reads >= 60 && reads < 120, `${reads} reads of 60 blocks for three partners`)
  for (const vault of vaults)
    for (const one of blocks)
      if (!(await vault.get(ann.id, one.name))?.equals(one.bytes)) t.fail('a block is lacking')
})

t.test('a block that was let go of is not sent because another partner got it just before', async (t) => {
  const store = await TestStore.open(t)
  const peers = new TestPeers()
  const book = openBook(t)
  const uploader = upload(t, store, peers, book)
  const waiting: (() => void)[] = []
  /** Commits when it is told to: until then its flow has something to send. */
  const slow = (owner: Session) =>
    new Proxy(owner, {
      get(target, property) {
        const value: unknown = Reflect.get(target, property, target)
        if (typeof value !== 'function') return value
        const method = value.bind(target) as (...given: unknown[]) => unknown
        if (property !== 'request') return method
        return async (...given: unknown[]) => {
          if (given[0] === 'commit') await new Promise<void>((resolve) => waiting.push(resolve))
          return method(...given)
        }
      },
    })
  const vault = await openVault(t, first)
  peers.add((await connect(t, ann, first, vault)).owner)
  for (const holder of holders.slice(1))
    peers.add(slow((await connect(t, ann, holder, await openVault(t, holder))).owner))
  const [kept, gone] = [block(seeded(33)), block(seeded(34))]
  await store.add([kept, gone])
  store.newest.push(head(ann, 1))
  uploader.wake()
  await until(() => isSent(book, store) && waiting.length === 2)
  await store.take([gone.name])
  await vault.evict(ann.id)
  await book.found(first.id, 'missing', [kept.name, gone.name], 1)
  uploader.wake()
  await until(() => book.resend(first.id, 2).length === 0)
  t.same(await vault.get(ann.id, kept.name), kept.bytes)
  t.equal(await vault.get(ann.id, gone.name), undefined)
  for (const resolve of waiting) resolve()
})

t.test('a bound: no faster than it; what is stopped in the middle is not taken for sent', async (t) => {
  const store = await TestStore.open(t)
  const random = seeded(31)
  const blocks = Array.from({ length: 60 }, () => block(random, 20_000))
  await store.add(blocks)
  store.newest.push(head(ann, 1))
  const book = openBook(t)
  const vaults = await Promise.all(holders.map((holder) => openVault(t, holder)))
  let put = 0
  const link = async () => {
    const peers = new TestPeers()
    for (const [i, holder] of holders.entries()) {
      const vault = vaults[i]
      if (!vault) continue
      const { owner } = await connect(t, ann, holder, vault)
      const counted = new Proxy(owner, {
        get(target, property) {
          const value: unknown = Reflect.get(target, property, target)
          if (property === 'put')
            return (group: { bytes: Buffer }[]) => {
              put += group.reduce((sum, { bytes }) => sum + bytes.length, 0)
              return target.put(group as never)
            }
          return typeof value === 'function' ? (value as () => unknown).bind(target) : value
        },
      })
      peers.add(counted)
    }
    return peers
  }
  const hand = new Hand()
  const rate = 256 * 1024
  const uploader = upload(t, store, await link(), book, systemClock, new Pace(hand, () => rate))
  await until(() => put > 0)
  for (let second = 1; second <= 3; second++) {
    const before = put
    await hand.pass(1000)
    await until(() => put > before)
    t.ok(put <= (second + 0.5) * rate, `${put} bytes to three partners after ${second} s`)
  }
  await uploader.stop()
  t.notOk(isSent(book, store))
  upload(t, store, await link(), book)
  await until(() => holders.every((holder) => isSent(book, store, holder)))
  for (const vault of vaults) t.equal(vault.held(ann.id).blocks, 60, 'everything is there in the end')
})

t.test('the next batch is offered before the blocks of this one are sent', async (t) => {
  const store = await TestStore.open(t)
  const random = seeded(12)
  await store.add(Array.from({ length: 1400 }, () => block(random, 500)))
  const vault = await openVault(t, first)
  const asked: string[] = []
  const watched = new Proxy(vault, {
    get(target, property) {
      const name = String(property)
      if (['missing', 'putAll', 'commit'].includes(name) && asked.at(-1) !== name) asked.push(name)
      const value: unknown = Reflect.get(target, property)
      return typeof value === 'function' ? value.bind(target) : value
    },
  })
  const book = openBook(t)
  const peers = new TestPeers()
  upload(t, store, peers, book)
  peers.add((await connect(t, ann, first, watched)).owner)
  await until(() => book.holds(first.id, store.store.lastSequence))
  const batch = ['putAll', 'commit']
  t.same(asked, ['missing', ...batch, 'missing', ...batch, ...batch], 'of three batches')
})

t.test('a batch that was refused is sent again, though the next one was taken', async (t) => {
  const store = await TestStore.open(t)
  const random = seeded(13)
  await store.add(Array.from({ length: 1400 }, () => block(random, 500)))
  const vault = await openVault(t, first)
  let commits = 0
  const full = new Proxy(vault, {
    get(target, property) {
      if (property === 'put' && commits === 0) return () => Promise.resolve()
      if (property === 'commit' && commits++ === 0)
        return () => Promise.reject(new KithError('noSpace', 'the disk is full just now'))
      const value: unknown = Reflect.get(target, property)
      return typeof value === 'function' ? value.bind(target) : value
    },
  })
  const book = openBook(t)
  const peers = new TestPeers()
  const clock = new TestClock()
  const uploader = upload(t, store, peers, book, clock)
  const { owner } = await connect(t, ann, first, full)
  peers.add(owner)
  await until(() => uploader.trouble(first.id) !== undefined && vault.held(ann.id).blocks > 0)
  // Comes after the answer to the second commit, and is written after what follows from that.
  await book.counted(first.id, await owner.request('held', {}))
  t.equal(book.progress(first.id).cursor, 0)
  clock.pass(10_000)
  await until(() => book.holds(first.id, store.store.lastSequence))
  t.equal(vault.held(ann.id).blocks, 1400)
})

t.test('goes on where it was after a break; what arrived is not sent twice', async (t) => {
  const random = seeded(2)
  const store = await TestStore.open(t)
  await store.add(Array.from({ length: 3000 }, () => block(random, 3000)))
  store.newest.push(head(ann, 1))
  const dir = folder(t)
  const book = openBook(t, dir)
  const peers = new TestPeers()
  const vault = await openVault(t, first)
  let puts = 0
  const counting = new Proxy(vault, {
    get(target, property) {
      if (property === 'put') puts++
      const value: unknown = Reflect.get(target, property)
      return typeof value === 'function' ? value.bind(target) : value
    },
  })
  upload(t, store, peers, book)
  let breaks = 0
  while (!isSent(book, store)) {
    const { owner } = await connect(t, ann, first, counting)
    const before = book.progress(first.id).cursor
    peers.add(owner)
    await until(() => book.progress(first.id).cursor > before + 100 || isSent(book, store))
    if (isSent(book, store)) break
    owner.close('a break')
    breaks++
  }
  t.ok(breaks >= 2, `${breaks} breaks`)
  t.equal(vault.held(ann.id).blocks, 3000)
  t.ok(puts < 3000 + (breaks + 1) * 1024, 'at most the batches under way were sent again')
})

async function startHolder(t: Test, dir: string, path: string) {
  const child = spawn(
    process.execPath,
    [fileURLToPath(new URL('../helpers/holder-node.js', import.meta.url)), dir, path, '2'],
    {
      stdio: ['ignore', 'pipe', 'inherit'],
    },
  )
  t.teardown(() => child.kill('SIGKILL'))
  await once(child.stdout, 'data')
  return child
}

async function dial(t: Test, path: string): Promise<Session> {
  const SecretStream = createRequire(createRequire(import.meta.url).resolve('hyperdht'))(
    '@hyperswarm/secret-stream',
  )
  const stream: NoiseStream = new SecretStream(true, connectSocket(path), { keyPair: ann.keyPair })
  stream.on('error', () => undefined)
  await stream.opened
  t.teardown(() => stream.destroy())
  const session = open(stream, refusing)
  await session.ready
  return session
}

t.test('kill -9 of the holder, again and again: what it acknowledged is there', async (t) => {
  const random = seeded(3)
  const dir = folder(t)
  const store = await TestStore.open(t)
  await store.add(Array.from({ length: 6000 }, () => block(random, 2000)))
  store.newest.push(head(ann, 1))
  const book = openBook(t)
  const peers = new TestPeers()
  upload(t, store, peers, book)
  for (let kills = 0; kills < 4; kills++) {
    const path = join(folder(t), 'socket')
    const child = await startHolder(t, dir, path)
    const session = await dial(t, path)
    const acknowledged = book.progress(first.id).cursor
    const rows = store.since(0, acknowledged)
    for (let i = 0; i < rows.length; i += 64) {
      const { blocks } = await session.request('get', {
        names: rows.slice(i, i + 64).map(({ name }) => name),
      })
      if (!blocks.every(Buffer.isBuffer)) t.fail('an acknowledged block is gone')
    }
    peers.add(session)
    await until(() => book.progress(first.id).cursor > acknowledged + 500 || isSent(book, store))
    child.kill('SIGKILL')
    await session.ended
  }
  const path = join(folder(t), 'socket')
  await startHolder(t, dir, path)
  peers.add(await dial(t, path))
  await until(() => isSent(book, store))
  t.equal(book.progress(first.id).blocksHeld, 6000)
})

t.test('a full partner is named and asked again after a while', async (t) => {
  const random = seeded(4)
  const store = await TestStore.open(t)
  const blocks = Array.from({ length: 10 }, () => block(random, 100_000))
  await store.add(blocks)
  const clock = new TestClock()
  const book = openBook(t)
  const peers = new TestPeers()
  const uploader = upload(t, store, peers, book, clock)
  const vault = await openVault(t, first, { quotaBytes: 550_000 })
  const { owner } = await connect(t, ann, first, vault)
  peers.add(owner)
  await until(() => uploader.trouble(first.id) !== undefined)
  t.match(uploader.trouble(first.id), /space set aside/)
  t.equal(vault.held(ann.id).blocks, 5, 'what fits is kept')
  t.notOk(owner.closed)
  const [a, ...rest] = blocks
  await store.store.remove(rest.map(({ name }) => name))
  clock.pass(10_000)
  await until(() => uploader.trouble(first.id) === undefined)
  t.ok(book.holds(first.id, 1) && a)
})

t.test('a partner that says it holds less than it acknowledged is offered all again', async (t) => {
  const random = seeded(5)
  const store = await TestStore.open(t)
  const blocks = Array.from({ length: 20 }, () => block(random))
  await store.add(blocks)
  store.newest.push(head(ann, 1))
  const book = openBook(t)
  const peers = new TestPeers()
  upload(t, store, peers, book)
  const vault = await openVault(t, first)
  const before = await connect(t, ann, first, vault)
  peers.add(before.owner)
  await until(() => isSent(book, store) && book.progress(first.id).blocksHeld === 20)
  before.owner.close('gone')
  const other = await openVault(t, first)
  const after = await connect(t, ann, first, other)
  peers.add(after.owner)
  await until(() => other.held(ann.id).blocks === 20)
  t.match(book.progress(first.id).verdict, { state: 'damaged', found: ['missing'] })
  await until(() => other.heads(ann.id).length === 1)
})

t.test('a partner that lost its disk gets all anew when it comes back, before any audit', async (t) => {
  const random = seeded(51)
  const store = await TestStore.open(t)
  await store.add(Array.from({ length: 1200 }, () => block(random, 200)))
  store.newest.push(head(ann, 1))
  const book = openBook(t)
  const peers = new TestPeers()
  upload(t, store, peers, book)
  const vault = await openVault(t, first)
  // It breaks off after the first of three batches, when what the partner holds was not counted yet.
  const before = await connect(t, ann, first, vault)
  const breaking = new Proxy(before.owner, {
    get(target, property) {
      const value: unknown = Reflect.get(target, property, target)
      if (property === 'request')
        return async (...asked: Parameters<Session['request']>) => {
          if (asked[0] === 'commit' && book.progress(first.id).cursor > 0) target.close('gone')
          return target.request(...asked)
        }
      return typeof value === 'function' ? (value as () => unknown).bind(target) : value
    },
  })
  peers.add(breaking)
  await before.owner.ended
  await until(() => peers.online().length === 0)
  t.match(book.progress(first.id), { bytesHeld: 0, verdict: { state: 'unknown' } })
  t.ok(book.progress(first.id).cursor > 0)

  const other = await openVault(t, first)
  peers.add((await connect(t, ann, first, other)).owner)
  await until(() => isSent(book, store) && book.progress(first.id).blocksHeld === 1200)
  t.equal(other.held(ann.id).blocks, 1200)
  t.same(other.heads(ann.id), [head(ann, 1)])
  t.match(book.progress(first.id).verdict, { state: 'damaged', found: ['missing'] })
})

t.test('a partner of an older kith is not asked which vault it has', async (t) => {
  const store = await TestStore.open(t)
  await store.add([block(seeded(52))])
  store.newest.push(head(ann, 1))
  const book = openBook(t)
  const peers = new TestPeers()
  upload(t, store, peers, book)
  const { owner } = await connect(t, ann, first, await openVault(t, first))
  const older = new Proxy(owner, {
    get(target, property) {
      if (property === 'tellsGeneration') return false
      const value: unknown = Reflect.get(target, property, target)
      if (property === 'request')
        return (...asked: Parameters<Session['request']>) => {
          t.not(asked[0], 'generation')
          return target.request(...asked)
        }
      return typeof value === 'function' ? (value as () => unknown).bind(target) : value
    },
  })
  peers.add(older)
  await until(() => isSent(book, store))
})

t.test('a release empties vault and book, and is no damage', async (t) => {
  const random = seeded(6)
  const store = await TestStore.open(t)
  const blocks = Array.from({ length: 20 }, () => block(random))
  await store.add(blocks)
  store.newest.push(head(ann, 1))
  const book = openBook(t)
  const peers = new TestPeers()
  const uploader = upload(t, store, peers, book)
  const vault = await openVault(t, first, { dropDelayMs: 0 })
  const { owner } = await connect(t, ann, first, vault)
  peers.add(owner)
  await until(() => isSent(book, store))
  await store.store.remove(blocks.map(({ name }) => name))
  store.newest.length = 0
  t.match(await requestRelease(owner, ann.keyPair, book, { volume: Buffer.alloc(16, 1) }), { blocks: 20 })
  await vault.carryOutDrops()
  t.notOk(vault.knows(ann.id))
  t.equal(vault.bytes, 0)
  t.match(book.progress(first.id), { cursor: 0, bytesHeld: 0, verdict: { state: 'unknown' } })
  const one = block(random)
  await store.add([one])
  uploader.wake()
  await until(() => vault.held(ann.id).blocks === 1)
  t.match(await requestRelease(owner, ann.keyPair, book, 'everything'), { blocks: 1 })
})

t.test('what is not kept here comes from another partner, or waits for one that has it', async (t) => {
  const random = seeded(8)
  const store = await TestStore.open(t)
  const blocks = Array.from({ length: 40 }, () => block(random))
  await store.add(blocks)
  store.newest.push(head(ann, 1))
  const book = openBook(t)
  const peers = new TestPeers()
  const clock = new TestClock()
  upload(t, store, peers, book, clock)
  const [one, two] = holders.slice(0, 2) as [typeof first, typeof first]
  const vaults = [await openVault(t, one), await openVault(t, two)] as const
  const session = (await connect(t, ann, one, vaults[0])).owner
  peers.add(session)
  await until(() => isSent(book, store, one))

  // Half of it goes from here, and of that a part is not to be had: it belongs to somebody who is away.
  const gone = blocks.slice(0, 20)
  const away = gone.slice(0, 5)
  await store.store.evict(
    gone.map(({ name }) => name),
    () => true,
  )
  const isAway = (name: Buffer) => away.some((one) => one.name.equals(name))
  store.elsewhere = async (name) => (isAway(name) ? undefined : await vaults[0].get(ann.id, name))
  peers.add((await connect(t, ann, two, vaults[1])).owner)
  await until(() => book.progress(two.id).cursor === store.store.lastSequence)
  t.equal(vaults[1].held(ann.id).blocks, 35, 'all but those that are away')
  t.same(book.lacking(two.id, 100).map(String).sort(), away.map(({ name }) => String(name)).sort())
  t.notOk(book.holds(two.id, store.store.lastSequence), 'the cursor does not say that it has them')
  for (const { name } of away) t.notOk(book.holdsBlock(two.id, 1, name))
  t.ok(book.holdsBlock(two.id, 1, gone.at(-1)?.name ?? away[0]?.name ?? Buffer.alloc(32)))

  // One of them is pruned meanwhile; the rest can be had once somebody comes.
  await store.take(away.slice(0, 1).map(({ name }) => name))
  store.elsewhere = (name) => vaults[0].get(ann.id, name)
  peers.add((await connect(t, ann, holders[2] ?? two, await openVault(t, holders[2] ?? two))).owner)
  await until(() => isSent(book, store, two))
  t.same(book.lacking(two.id, 100), [])
  for (const { name, bytes } of blocks.slice(1)) t.ok((await vaults[1].get(ann.id, name))?.equals(bytes))
})

t.test(
  'what is damaged here comes from another partner, and is not passed over when it cannot',
  async (t) => {
    const random = seeded(9)
    const store = await TestStore.open(t)
    const blocks = Array.from({ length: 3 }, () => block(random))
    await store.add(blocks)
    const bad = blocks[1]?.name ?? Buffer.alloc(32)
    const whole = store.get.bind(store)
    store.get = (name) =>
      name.equals(bad) ? Promise.reject(new KithError('damaged', 'it differs from its name')) : whole(name)
    const book = openBook(t)
    const peers = new TestPeers()
    upload(t, store, peers, book)
    const vault = await openVault(t, first)
    peers.add((await connect(t, ann, first, vault)).owner)
    await until(() => book.progress(first.id).cursor === 3)
    t.equal(vault.held(ann.id).blocks, 2)
    t.ok(book.lacksBlock(first.id, bad))
    store.elsewhere = (name) => whole(name)
    const other = holders[1] ?? first
    peers.add((await connect(t, ann, other, await openVault(t, other))).owner)
    await until(() => book.holds(first.id, 3) && book.holds(other.id, 3))
    t.equal(vault.held(ann.id).blocks, 3)
  },
)
