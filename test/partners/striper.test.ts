import t from 'tap'
import { seeded } from '../../lib/base/random.js'
import { blockName } from '../../lib/format/seal.js'
import { Keepers } from '../../lib/partners/keepers.js'
import { folder, head } from '../helpers/backup.js'
import { openPlacing, owner, partnerKey, type PlacingTest } from '../helpers/placing.js'

t.setTimeout(120_000)

const seen = ({ placing }: PlacingTest, partner = 0) =>
  placing.placement
    .view(partnerKey(partner))
    .since(0, 1000)
    .map(({ name }) => name)
const strings = (names: readonly Buffer[]) => names.map((name) => name.toString('hex')).sort()

t.test('chunks go in stripes, nodes to each; a head waits until its chunks could be read', async (t) => {
  const at = await openPlacing(t)
  await at.settle() // the policy holds for what comes from here on
  const random = seeded(1)
  const names = await at.chunks(random, 400_000, 400_000, 400_000)
  const node = await at.node(random)
  at.store.newest.push(head(owner, 1))
  await at.settle()
  t.same(strings(seen(at)), strings([node]), 'no partner gets a chunk itself')
  t.equal(at.placing.stripes.count, 1)
  const [shards] = [0, 1, 2, 3, 4].map((i) => at.placing.placement.view(partnerKey(i)).pending(9))
  t.ok(shards && shards.length > 0, 'a shard, and pages')
  t.same(at.placing.striper.heads(), [], 'nothing is acknowledged')
  await at.acknowledge(4, 2)
  t.same(at.placing.striper.heads(), [], 'two shards are too few')
  await at.acknowledge(0)
  const heads = at.placing.striper.heads()
  t.equal(heads.length, 2)
  t.same(heads[0], at.placing.pages.head, 'the account of what is where goes first')
  t.same(heads[1], at.store.newest[0])
  t.equal(at.placing.placement.isSettled(partnerKey(0)), true)
  t.equal(at.placing.placement.isSettled(partnerKey(1)), false)
  for (const name of names) t.equal(at.placing.stripes.numberOf(name), 1)
})

t.test(
  'a large backup becomes stripes as long as they may be; without a head, a part waits a while',
  async (t) => {
    const at = await openPlacing(t)
    await at.settle()
    await at.chunks(seeded(2), ...Array.from({ length: 9 }, () => 1_000_000))
    await at.settle()
    t.equal(at.placing.stripes.count, 2, 'the rest is gathered')
    at.clock.pass(5_000)
    await at.placing.striper.settled()
    t.equal(at.placing.stripes.count, 3)
    for (const { elementBytes } of at.placing.stripes.since(0, 9)) t.ok(elementBytes >= 1_000_000)
  },
)

t.test('with too few partners, each of them gets all', async (t) => {
  const at = await openPlacing(t, { partners: 4 })
  await at.settle()
  const whole = await at.chunks(seeded(3), 10_000, 10_000)
  at.store.newest.push(head(owner, 1))
  await at.settle()
  t.same(strings(seen(at)), strings(whole))
  t.equal(at.placing.stripes.count, 0)
  at.now.partners.push(partnerKey(9))
  await at.chunks(seeded(4), 10_000)
  at.store.newest.splice(0, 1, head(owner, 2))
  await at.settle()
  t.equal(at.placing.stripes.count, 1, 'what comes then is striped')
  t.same(strings(seen(at)), strings(whole))
})

t.test('a shard made again is the same block; any three give all back', async (t) => {
  const dir = folder(t)
  const at = await openPlacing(t, { dir })
  await at.settle()
  const names = await at.chunks(seeded(5), 500_000, 700_000, 90_000)
  at.store.newest.push(head(owner, 1))
  await at.settle()
  const before = [0, 1, 2, 3, 4].map((i) => at.placing.stripes.pending(partnerKey(i), 9))
  await at.close()
  const again = await openPlacing(t, { dir, store: at.store })
  for (const [i, [shard]] of before.entries()) {
    if (!shard) return t.fail('each has a shard')
    t.same(again.placing.stripes.pending(partnerKey(i), 9), [shard], 'pending after a restart, too')
    const bytes = await again.placing.placement.view(partnerKey(i)).get(shard)
    t.ok(bytes && blockName(bytes).equals(shard))
  }
  t.same(strings(again.placing.stripes.since(0, 1)[0]?.blocks.map(({ name }) => name) ?? []), strings(names))
})

t.test('what no longer lives is released, once everybody knows; what lives on moves first', async (t) => {
  const at = await openPlacing(t)
  await at.settle()
  const all = [0, 1, 2, 3, 4]
  const names = await at.chunks(seeded(6), 100_000, 500_000, 500_000)
  at.store.newest.push(head(owner, 1))
  await at.settle()
  await at.acknowledge(...all)
  const view = at.placing.placement.view(partnerKey(0))
  const [shard] = at.placing.stripes.heldWithin(partnerKey(0), { start: Buffer.alloc(32) }, 9)
  await at.store.take(names.slice(1))
  await at.settle()
  t.equal(at.placing.stripes.numberOf(names[0] ?? Buffer.alloc(32)), 2, 'a tenth is left: it is striped anew')
  t.ok(at.placing.stripes.get(1), 'and the old stripe stays until that is placed')
  await at.acknowledge(...all)
  await at.settle()
  t.equal(at.placing.stripes.get(1), undefined)
  t.same(view.drops(9), [], 'not before it has the new account')
  await at.acknowledge(...all)
  await at.book.headStored(partnerKey(0), at.placing.pages.volume, at.placing.pages.sequence)
  t.ok(view.drops(9).some((name) => shard && name.equals(shard)))
  await at.store.take(names.slice(0, 1))
  await at.settle()
  t.equal(at.placing.stripes.count, 0)
})

t.test('a stripe that lost a block before its shards arrived is made anew of the others', async (t) => {
  const at = await openPlacing(t)
  await at.settle()
  const names = await at.chunks(seeded(7), 300_000, 300_000, 300_000)
  at.store.newest.push(head(owner, 1))
  await at.settle()
  await at.store.take(names.slice(0, 1))
  await at.settle()
  t.equal(at.placing.stripes.numberOf(names[1] ?? Buffer.alloc(32)), 2)
  const view = at.placing.placement.view(partnerKey(3))
  const [shard] = at.placing.stripes.pending(partnerKey(3), 9)
  t.ok(shard && (await view.get(shard)), 'its shards can be made')
  // The same block comes back, under another number.
  await at.chunks(seeded(7), 300_000)
  await at.settle()
  at.clock.pass(5_000)
  await at.placing.striper.settled()
  t.equal(at.placing.stripes.numberOf(names[0] ?? Buffer.alloc(32)), 3, 'it is not taken for placed')
})

t.test(
  'partners that go before the shards arrive: others get them, or all of those that are left',
  async (t) => {
    const at = await openPlacing(t, { partners: 5 })
    await at.settle()
    const names = await at.chunks(seeded(8), 300_000, 300_000)
    at.store.newest.push(head(owner, 1))
    await at.settle()
    at.now.partners = [0, 1].map(partnerKey)
    await at.settle()
    t.equal(at.placing.stripes.numberOf(names[0] ?? Buffer.alloc(32)), undefined)
    for (const name of names)
      t.ok(at.book.lacksBlock(partnerKey(0), name), 'it is on the list of what is owed')
    t.equal(at.placing.stripes.unreadable(), 0)
  },
)

t.test('copies: as many shards as could be lost, and one more', async (t) => {
  const at = await openPlacing(t)
  await at.settle()
  const [name = Buffer.alloc(32)] = await at.chunks(seeded(9), 300_000)
  at.store.newest.push(head(owner, 1))
  await at.settle()
  const keys = [0, 1, 2, 3, 4].map(partnerKey)
  const now = at.clock.now()
  for (const key of keys) {
    await at.book.advance(key, 1)
    await at.book.audited(key, { clean: true, whole: true }, now)
  }
  const standings = () =>
    keys.map((key) => ({ key, isPartner: true, isLeaving: false, online: true, lastSeen: now }))
  const keepers = new Keepers(at.book, standings, at.clock, at.placing.placement)
  const counts = [keepers.of(1, name)]
  for (const i of [0, 1, 2, 3, 4]) {
    await at.acknowledge(i)
    counts.push(keepers.of(1, name))
  }
  t.same(counts, [0, 0, 0, 1, 2, 3])
  t.same(strings(await keepers.thin(4)), strings([name]))
  t.same(await keepers.thin(3), [])
  const [lost] = at.placing.stripes.heldWithin(partnerKey(2), { start: Buffer.alloc(32) }, 9)
  await at.book.found(partnerKey(2), 'missing', lost ? [lost] : [], now)
  t.equal(keepers.of(1, name), 2, 'neither a lost shard nor who lost it counts')
  keys.splice(0, 2)
  t.equal(keepers.of(1, name), 0)
})

t.test('the account comes back from its pages alone, and is kept up to date', async (t) => {
  const at = await openPlacing(t)
  await at.settle()
  const random = seeded(10)
  const all = [0, 1, 2, 3, 4]
  const names: Buffer[] = []
  for (let i = 0; i < 12; i++) {
    names.push(...(await at.chunks(random, ...Array.from({ length: 40 }, () => 500 + (random() % 1000)))))
    at.store.newest.splice(0, 1, head(owner, i + 1))
    await at.settle()
    await at.acknowledge(...all)
  }
  await at.store.take(names.slice(0, 80))
  await at.settle()
  await at.acknowledge(...all)
  await at.settle()
  t.equal(at.placing.stripes.count, 10)
  const { head: account, sequence } = at.placing.pages
  if (!account) return t.fail('there is a head')
  const there = new Map<string, Buffer>()
  for (const name of at.placing.pages.pending(Buffer.alloc(32), 1000)) {
    const page = at.placing.pages.get(name)
    if (page) there.set(name.toString('hex'), page)
  }
  const fresh = await openPlacing(t)
  const read = { get: async (name: Buffer) => there.get(name.toString('hex')) }
  t.equal(await fresh.placing.pages.adopt(account, read), 'erasure:3+2')
  t.same(fresh.placing.stripes.since(0, 99), at.placing.stripes.since(0, 99))
  t.equal(
    fresh.placing.stripes.of(names[100] ?? Buffer.alloc(32))?.number,
    at.placing.stripes.of(names[100] ?? Buffer.alloc(32))?.number,
  )
  await fresh.settle()
  t.ok(fresh.placing.pages.sequence >= sequence, 'later accounts have higher numbers')
  t.rejects((await openPlacing(t)).placing.pages.adopt(account, { get: async () => undefined }), {
    code: 'damaged',
  })
})
