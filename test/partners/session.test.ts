import t from 'tap'
import { KithError } from '../../lib/base/errors.js'
import { seeded } from '../../lib/base/random.js'
import type { Replies, RequestKind } from '../../lib/format/wire.js'
import { Holder } from '../../lib/partners/holder.js'
import { type Answerer, maxOutstanding, windowBytes } from '../../lib/partners/session.js'
import { until } from '../helpers/dht.js'
import {
  block,
  connect,
  head,
  identity,
  member,
  open,
  openVault,
  refusing,
  streams,
  TestClock,
} from '../helpers/backup.js'

const ann = identity(1)
const holder = identity(2)

t.test('every request, over a real Noise stream and a real vault', async (t) => {
  const vault = await openVault(t, holder)
  const { owner: peer } = await connect(t, ann, holder, vault)
  const random = seeded(1)
  const blocks = Array.from({ length: 70 }, () => block(random))
  const names = blocks.map(({ name }) => name)
  t.ok(peer.lends)
  t.equal(peer.key.compare(holder.id), 0)
  t.same((await peer.request('offer', { names })).missing, Array(70).fill(true))
  await peer.put(blocks.slice(0, 40))
  await peer.put(blocks.slice(40))
  const bytes = blocks.reduce((sum, one) => sum + one.bytes.length, 0)
  t.same(await peer.request('commit', {}), { blocks: 70, bytes })
  await peer.request('headPut', { head: head(ann, 3) })
  t.same(await peer.request('headGet', {}), { heads: [head(ann, 3)] })
  t.same(await peer.request('headGet', { volume: Buffer.alloc(16, 9) }), { heads: [] })
  const got = await peer.request('get', { names: [...names.slice(0, 63), Buffer.alloc(32)] })
  t.same(got.blocks, [...blocks.slice(0, 63).map((one) => one.bytes), 'absent'])
  t.same(await peer.request('held', {}), { blocks: 70, bytes, releaseNumber: 0 })
  await t.rejects(peer.request('headPut', { head: head(ann, 2) }), { code: 'exists' })
  await t.rejects(peer.request('release', { request: Buffer.alloc(200) }), { code: 'denied' })
  t.notOk(peer.closed, 'refusals leave the session open')
})

t.test('an answer holds at most a block of the largest size: the rest is left out', async (t) => {
  const vault = await openVault(t, holder)
  const { owner: peer } = await connect(t, ann, holder, vault)
  const blocks = [1, 2, 3].map((seed) => block(seeded(seed), 600_000))
  for (const one of blocks) await peer.put([one])
  await peer.request('commit', {})
  const got = await peer.request('get', { names: blocks.map(({ name }) => name) })
  t.same(got.blocks, [blocks[0]?.bytes, 'later', 'later'])
})

t.test('what strangers, owners and members may', async (t) => {
  const vault = await openVault(t, holder)
  const one = block(seeded(4))
  await vault.put(ann.id, one.name, one.bytes)
  await vault.commit(ann.id)
  const rights = { member: false, owner: false }
  const { owner: peer } = await connect(t, ann, holder, vault, () => rights)
  await t.rejects(peer.request('get', { names: [one.name] }), { code: 'denied' })
  await t.rejects(peer.request('held', {}), { code: 'denied' })
  rights.owner = true
  t.same(await peer.request('get', { names: [one.name] }), { blocks: [one.bytes] })
  const { name, bytes } = one
  const parts = [
    { name, offset: 0, length: 1 },
    { name, offset: bytes.length - 1, length: 1 },
    { name, offset: bytes.length - 1, length: 2 },
    { name: Buffer.alloc(32), offset: 0, length: 1 },
  ]
  const given = [bytes.subarray(0, 1), bytes.subarray(-1), 'absent', 'absent']
  t.same(await peer.request('getParts', { parts }), { blocks: given })
  await t.rejects(peer.request('offer', { names: [one.name] }), { code: 'denied' })
  await t.rejects(peer.request('headPut', { head: head(ann, 1) }), { code: 'denied' })
  rights.member = true
  t.same(await peer.request('offer', { names: [one.name] }), { missing: [false] })
  rights.member = false
  await peer.put([one])
  await until(() => peer.closed)
})

t.test('back-pressure: a holder that does not get on holds the sender back', async (t) => {
  let release = () => undefined as void
  const gate = new Promise<void>((resolve) => (release = resolve))
  let taken = 0
  const slow: Answerer = {
    put: async (blocks) => {
      await gate
      for (const { bytes } of blocks) taken += bytes.length
    },
    answer: () => Promise.resolve({ blocks: 0, bytes: 0 } as Replies[RequestKind] as never),
  }
  const [left, right] = await streams(t, ann, holder)
  const peer = open(left, refusing)
  const there = open(right, slow)
  await Promise.all([peer.ready, there.ready])
  const one = block(seeded(5), 1_000_000)
  let sent = 0
  const sending = Promise.all(
    Array.from({ length: 20 }, async () => {
      await peer.put([one])
      sent += one.bytes.length
    }),
  )
  await until(() => sent > windowBytes - 1_100_000)
  await new Promise((resolve) => setImmediate(resolve))
  t.ok(sent <= windowBytes, 'no more than the window is under way')
  release()
  await sending
  await peer.request('commit', {})
  t.equal(taken, 20_000_000)
})

t.test('a put is over when the stream takes more; a partner that takes nothing is left', async (t) => {
  const clock = new TestClock()
  const [left, right] = await streams(t, ann, holder)
  let drained = 0
  left.on('drain', () => drained++)
  const peer = open(left, refusing, { clock })
  const there = open(right, { put: () => Promise.resolve(), answer: refusing.answer })
  await Promise.all([peer.ready, there.ready])
  const one = block(seeded(6), 1_000_000)
  for (const count of [1, 2]) {
    await peer.put([one])
    t.ok(drained >= count, `${drained} times drained after ${count} blocks`)
  }
  clock.pass(10 * 60_000)
  t.notOk(peer.closed, 'nothing is under way')
  // As a stream whose other end acknowledges nothing any more.
  left.write = () => false
  const failed = t.rejects(peer.put([one]), { code: 'noPartners', message: /does not answer/ })
  await new Promise((resolve) => setImmediate(resolve))
  clock.pass(70_000)
  await failed
})

t.test('a commit that takes long holds up neither offers nor blocks; heads wait for it', async (t) => {
  const begun: string[] = []
  let settle: () => void = () => undefined
  const disk = new Promise<void>((resolve) => (settle = resolve))
  const slow: Answerer = {
    put: async () => void begun.push('put'),
    answer: async <K extends RequestKind>(kind: K) => {
      begun.push(kind)
      if (kind === 'commit') await disk
      const replies: Partial<Replies> = {
        commit: { blocks: 0, bytes: 0 },
        offer: { missing: [true] },
        headPut: {},
      }
      return replies[kind] as Replies[K]
    },
  }
  const [left, right] = await streams(t, ann, holder)
  const peer = open(left, refusing)
  const there = open(right, slow)
  await Promise.all([peer.ready, there.ready])
  const one = block(seeded(3))
  const committed = peer.request('commit', {})
  await peer.put([one])
  await peer.request('offer', { names: [one.name] })
  const headed = peer.request('headPut', { head: head(ann, 1) })
  await peer.request('held', {}).catch(() => undefined)
  t.same(begun.slice(0, 3), ['commit', 'put', 'offer'])
  t.notOk(begun.includes('headPut'), 'nothing says yet that its blocks are there')
  settle()
  await Promise.all([committed, headed])
  t.equal(begun.at(-1), 'headPut')
})

t.test('many requests at once, both ways, with data both ways', async (t) => {
  const vaults = [await openVault(t, ann), await openVault(t, holder)] as const
  const [left, right] = await streams(t, ann, holder)
  const a = open(left, new Holder(vaults[0], holder.id, member))
  const b = open(right, new Holder(vaults[1], ann.id, member))
  await Promise.all([a.ready, b.ready])
  const random = seeded(6)
  const blocks = Array.from({ length: 100 }, () => block(random, 200_000))
  const both = [a, b]
  await Promise.all(
    both.map(async (peer) => {
      await Promise.all(blocks.map((one) => peer.put([one])))
      await peer.request('commit', {})
      const got = await Promise.all(
        blocks.flatMap((one) => [one, one, one]).map((one) => peer.request('get', { names: [one.name] })),
      )
      t.ok(got.every(({ blocks: [found] }, i) => blocks[Math.floor(i / 3)]?.bytes.equals(found as Buffer)))
    }),
  )
})

t.test('a partner that answers nothing: the session ends, the request fails', async (t) => {
  const clock = new TestClock()
  const mute: Answerer = {
    put: () => new Promise(() => undefined),
    answer: () => new Promise(() => undefined),
  }
  const [left, right] = await streams(t, ann, holder)
  const peer = open(left, refusing, { clock })
  const there = open(right, mute)
  await Promise.all([peer.ready, there.ready])
  clock.pass(10 * 60_000)
  t.notOk(peer.closed, 'being idle is no fault')
  const asked = peer.request('held', {})
  clock.pass(55_000)
  t.notOk(peer.closed)
  const failed = t.rejects(asked, { code: 'noPartners', message: /does not answer/ })
  clock.pass(20_000)
  await failed
  t.ok(peer.closed)
  await t.rejects(peer.request('held', {}), { code: 'noPartners' })
})

t.test('a partner that never says hello is left', async (t) => {
  const clock = new TestClock()
  const [left] = await streams(t, ann, holder)
  const peer = open(left, refusing, { clock })
  clock.pass(30_000)
  t.match(await peer.ended, /greeting/)
  await t.rejects(peer.ready)
})

t.test('requests beyond the bound wait for a place and are all answered', async (t) => {
  let atOnce = 0
  let most = 0
  const counting: Answerer = {
    put: () => Promise.resolve(),
    answer: async () => {
      most = Math.max(most, ++atOnce)
      await new Promise((resolve) => setImmediate(resolve))
      atOnce--
      return { blocks: 1, bytes: 2, releaseNumber: 3 } as never
    },
  }
  const [left, right] = await streams(t, ann, holder)
  const peer = open(left, refusing)
  const there = open(right, counting)
  await Promise.all([peer.ready, there.ready])
  const all = await Promise.all(Array.from({ length: 10 * maxOutstanding }, () => peer.request('held', {})))
  t.equal(all.length, 10 * maxOutstanding)
  t.ok(most <= 4, 'few are worked on at a time')
})

t.test('names shown to people hold no control characters', async (t) => {
  const [left, right] = await streams(t, ann, holder)
  const peer = open(left, refusing)
  open(right, refusing, { name: 'eve\u001b[2J\u202etxt' })
  await peer.ready
  t.equal(peer.name, 'eve[2Jtxt')
})

t.test('what failed on our side is not told to the peer', async (t) => {
  const failing: Answerer = {
    put: () => Promise.resolve(),
    answer: () => Promise.reject(new Error('/home/secret')),
  }
  const [left, right] = await streams(t, ann, holder)
  const peer = open(left, refusing)
  open(right, failing)
  await peer.ready
  await t.rejects(peer.request('held', {}), new KithError('internal', 'the partner refused: internal error'))
})
