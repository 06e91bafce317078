import t from 'tap'
import { seeded } from '../../lib/base/random.js'
import { blockName } from '../../lib/format/seal.js'
import { openShard } from '../../lib/format/shard.js'
import { stripeId, elementsOf } from '../../lib/format/stripe.js'
import { codeFor } from '../../lib/codes/codes.js'
import { shardRef } from '../../lib/partners/shards.js'
import { folder, head } from '../helpers/backup.js'
import { lend, openPlacing, owner, partnerKey, type PlacingTest } from '../helpers/placing.js'

t.setTimeout(120_000)

const all = [0, 1, 2, 3, 4]
/** Stripes, in each test. */
const count = 3
const keyOf = (i: number) => partnerKey(i).toString('hex')

/** Three stripes of 3+2 over five partners, all acknowledged; and what the partners hold. */
async function placed(t: Parameters<typeof openPlacing>[0], given: Parameters<typeof openPlacing>[1] = {}) {
  const at = await openPlacing(t, given)
  await at.settle()
  const random = seeded(21)
  const names: Buffer[] = []
  for (let i = 1; i <= count; i++) {
    names.push(...(await at.chunks(random, 300_000, 10, 250_000)))
    at.store.newest.splice(0, 1, head(owner, i))
    await at.settle()
  }
  const there = new Map<string, Buffer>()
  await take(at, there, ...all)
  return { at, names, there }
}

/** These partners get what is pending: @returns the bytes of shards that travelled */
async function take(at: PlacingTest, there: Map<string, Buffer>, ...partners: number[]): Promise<number> {
  let sum = 0
  for (const i of partners) {
    const view = at.placing.placement.view(partnerKey(i))
    for (let names = view.pending(1000); names.length > 0; names = view.pending(1000)) {
      for (const name of names) {
        const bytes = (await view.get(name)) ?? (await view.fetch(name))
        if (!bytes || !blockName(bytes).equals(name)) throw new Error('a shard that is pending can be made')
        there.set(`${keyOf(i)} ${name.toString('hex')}`, bytes)
        if (!at.placing.pages.isPage(name)) sum += bytes.length
      }
      await view.acknowledged(names)
    }
  }
  await at.settle()
  return sum
}

/** Every three of a stripe's five shards, as partners hold them, give its blocks. */
async function readBack(t: Parameters<typeof openPlacing>[0], at: PlacingTest, there: Map<string, Buffer>) {
  for (const stripe of at.placing.stripes.since(0, 99)) {
    const elements = stripe.shards.map(({ partner, name }, index) => {
      const bytes = there.get(`${partner.toString('hex')} ${name.toString('hex')}`)
      return bytes && openShard(shardRef(owner, stripe, stripeId(stripe), partner, index), bytes)
    })
    t.equal(new Set(stripe.shards.map(({ partner }) => partner.toString('hex'))).size, 5)
    const blocks: Buffer[] = []
    for (const { name } of stripe.blocks)
      blocks.push((await at.store.get(name)) ?? (await at.store.fetch(name)) ?? Buffer.alloc(0))
    const data = elementsOf(stripe, blocks)
    for (let out = 0; out < 25; out++) {
      const left = elements.map((element, i) =>
        i === out % 5 || i === Math.floor(out / 5) ? undefined : element,
      )
      const made = await codeFor(stripe.code, stripe.data, stripe.parity).decode(left)
      if (!made.every((element, i) => data[i]?.equals(element))) t.fail('any three give all back')
    }
  }
}

t.test('a partner is lost: one shard of each stripe goes to another, and nothing else', async (t) => {
  const { at, there } = await placed(t)
  const { stripes, pages } = at.placing
  const before = stripes.since(0, 99)
  const elementBytes = before.reduce((sum, stripe) => sum + stripe.elementBytes, 0)
  at.now.partners = [0, 1, 2, 3].map(partnerKey)
  at.now.others.set(keyOf(4), { state: 'reneged', online: false })
  at.clock.pass(10_000)
  await at.settle()
  t.match(at.placing.state(), { repair: { stripes: count, done: 0, bytes: elementBytes, noRoom: count } })
  at.now.partners.push(partnerKey(7))
  at.clock.pass(10_000)
  await at.settle()
  t.match(
    at.placing.state().repair,
    { stripes: count, done: 0, bytes: elementBytes, noRoom: 0 },
    'on their way',
  )
  t.same(stripes.since(0, 99), before, 'what has not arrived counts nowhere')
  for (const i of [0, 1, 2, 3]) t.same(stripes.pending(partnerKey(i), 9), [])
  const sequence = pages.sequence
  const sent = await take(at, there, 7)
  t.ok(sent > elementBytes && sent < elementBytes * 1.01, `one element of each: ${sent} of ${elementBytes}`)
  t.equal(at.placing.state().repair, null)
  t.equal(pages.sequence, sequence + 1, 'the account is renewed once')
  for (const { number, shards } of stripes.since(0, 99))
    shards.forEach(({ partner }, i) => {
      const was = before.find((one) => one.number === number)?.shards[i]?.partner
      t.same(partner, was?.equals(partnerKey(4)) ? partnerKey(7) : was)
    })
  const drops = stripes.drops(partnerKey(4), 99).map((name) => name.toString('hex'))
  const old = before.flatMap(({ shards }) => shards.filter(({ partner }) => partner.equals(partnerKey(4))))
  t.equal(
    old.filter(({ name }) => drops.includes(name.toString('hex'))).length,
    count,
    'the old one is to let go of its own',
  )
  await readBack(t, at, there)
  at.now.others.set(keyOf(4), { state: 'good' })
  at.clock.pass(60_000)
  await at.settle()
  t.equal(at.placing.state().repair, null, 'who comes back changes nothing')
})

t.test(
  'who gives way holds its part until the others acknowledged it, and is read from until then',
  async (t) => {
    const { at, there } = await placed(t)
    const { stripes } = at.placing
    const before = stripes.since(0, 99)
    t.ok(stripes.isReadFrom(partnerKey(4)))
    at.now.partners = [0, 1, 2, 3, 7].map(partnerKey)
    at.now.others.set(keyOf(4), { state: 'leaving' })
    at.clock.pass(10_000)
    await at.settle()
    t.equal(stripes.moves.list().length, count)
    t.same(stripes.since(0, 99), before, 'what is on its way counts nowhere')
    t.ok(stripes.isReadFrom(partnerKey(4)))
    t.same(stripes.drops(partnerKey(4), 9), [], 'nothing is taken from it')
    await take(at, there, 7)
    t.notOk(stripes.isReadFrom(partnerKey(4)))
    t.ok(stripes.isReadFrom(partnerKey(7)))
    await readBack(t, at, there)
  },
)

t.test('how far a repair is: the same after a restart, before anybody is on line', async (t) => {
  const dir = folder(t)
  const { at, there } = await placed(t, { dir })
  const { store } = at
  at.now.partners = [0, 1, 2, 3, 7].map(partnerKey)
  at.now.others.set(keyOf(4), { state: 'reneged', online: false })
  at.clock.pass(10_000)
  await at.settle()
  const [first] = at.placing.placement.view(partnerKey(7)).pending(9)
  const view = at.placing.placement.view(partnerKey(7))
  if (first) there.set(keyOf(7), (await view.get(first)) ?? Buffer.alloc(0))
  await view.acknowledged(first ? [first] : [])
  await at.settle()
  const before = at.placing.state().repair
  t.match(before, { stripes: count, done: 1 })
  await at.close()
  const again = await openPlacing(t, { dir, store })
  t.match(again.placing.state().repair, { stripes: count, done: 1, bytes: before?.bytes })
  again.now.partners = [0, 1, 2, 3, 7].map(partnerKey)
  again.now.others.set(keyOf(4), { state: 'reneged', online: false })
  await take(again, there, 7)
  t.equal(again.placing.state().repair, null)
  await again.close()
  const last = await openPlacing(t, { dir, store })
  t.equal(last.placing.state().repair, null, 'what is over does not begin again')
})

t.test('off line is not lost; when too few are sure one is made again at once', async (t) => {
  const { at, there } = await placed(t)
  at.now.partners = [0, 1, 2, 3, 7].map(partnerKey)
  const state = async (i: number, state: 'late' | 'grace' | 'good') => {
    at.now.partners = at.now.partners.filter((key) => !key.equals(partnerKey(i)))
    at.now.others.set(keyOf(i), { state, online: false })
    at.clock.pass(10_000)
    await at.settle()
  }
  await state(4, 'good')
  await state(4, 'late')
  await state(4, 'grace')
  t.equal(at.placing.state().repair, null)
  await state(3, 'late')
  t.match(at.placing.state().repair, { stripes: count }, 'three of five are sure, and one more is to be')
  await take(at, there, 7)
  const held = at.placing.stripes.since(0, 99).flatMap(({ shards }) => shards.map(({ partner }) => partner))
  t.notOk(
    held.some((key) => key.equals(partnerKey(4))),
    'of those in grace first',
  )
  t.equal(held.filter((key) => key.equals(partnerKey(3))).length, count)
})

t.test('killed at any point of it: it goes on, and each element is at one partner', async (t) => {
  const dir = folder(t)
  const { at, there } = await placed(t, { dir })
  const { store } = at
  await at.close()
  const open = async (partners: number[]) => {
    const next = await openPlacing(t, { dir, store })
    next.now.partners = partners.map(partnerKey)
    next.now.others.set(keyOf(4), { state: 'gone', online: false })
    return next
  }
  const planned = await open([0, 1, 2, 3, 7])
  await planned.settle()
  t.equal(planned.placing.stripes.moves.list().length, count)
  await planned.close()
  const half = await open([0, 1, 2, 3, 7])
  await half.settle()
  const view = half.placing.placement.view(partnerKey(7))
  t.equal(
    view.pending(99).filter((name) => !half.placing.pages.isPage(name)).length,
    count,
    'still to be sent',
  )
  const [first] = half.placing.stripes.pending(partnerKey(7), 1)
  const bytes = first && (await view.get(first))
  if (!first || !bytes) return t.fail('it can be made again')
  there.set(`${keyOf(7)} ${first.toString('hex')}`, bytes)
  await view.acknowledged([first])
  await half.close()
  // The new one is lost, too.
  const other = await open([0, 1, 2, 3, 8])
  other.now.others.set(keyOf(7), { state: 'reneged', online: false })
  await other.settle()
  await take(other, there, 0, 1, 2, 3, 8)
  t.same(other.placing.stripes.moves.list(), [])
  t.equal(other.placing.state().repair, null)
  await readBack(t, other, there)
  const left = other.placing.stripes.drops(partnerKey(7), 99)
  t.equal(left.length, count, 'what it took, or was to take, it is to let go of')
})

t.test('blocks that are not here: the element comes from what partners hold', async (t) => {
  const { at, names, there } = await placed(t, { patienceMs: 0 })
  const blocks = new Map<string, Buffer>()
  for (const name of names) blocks.set(name.toString('hex'), (await at.store.get(name)) ?? Buffer.alloc(0))
  await at.store.store.evict(names, () => true)
  t.notOk(at.store.isHere(names[0] ?? Buffer.alloc(32)))
  at.now.partners = [0, 1, 2, 3, 7].map(partnerKey)
  at.now.others.set(keyOf(4), { state: 'gone', online: false })
  at.clock.pass(10_000)
  await at.settle()
  t.match(at.placing.state().repair, { stripes: count, noSource: count }, 'three of four must be on line')
  const heldBy = (i: number) => [...there].flatMap(([id, bytes]) => (id.startsWith(keyOf(i)) ? [bytes] : []))
  await lend(t, at, new Map([0, 2, 3].map((i) => [i, heldBy(i)])))
  at.clock.pass(600_000)
  await at.settle()
  t.equal(at.placing.stripes.moves.list().length, count)
  await take(at, there, 7)
  at.store.elsewhere = async (name) => blocks.get(name.toString('hex'))
  await readBack(t, at, there)
})

t.test('where new data is laid out over fewer, what no partner can take is striped anew', async (t) => {
  const { at, names } = await placed(t)
  at.now.partners = [0, 1, 2, 3].map(partnerKey)
  at.now.others.set(keyOf(4), { state: 'gone', online: false })
  at.clock.pass(10_000)
  await at.settle()
  t.equal(at.placing.stripes.numberOf(names[0] ?? Buffer.alloc(0)), 1, 'it stays while there are too few')
  at.now.policy = 'erasure:3+1'
  at.clock.pass(10_000)
  await at.settle()
  t.ok((at.placing.stripes.numberOf(names[0] ?? Buffer.alloc(0)) ?? 0) > count)
})

t.test('after a recovery nothing is done before the holders had time to be met', async (t) => {
  const { at } = await placed(t)
  const { head: account, sequence } = at.placing.pages
  const there = new Map<string, Buffer>()
  for (const name of at.placing.pages.pending(Buffer.alloc(32), 99))
    there.set(name.toString('hex'), at.placing.pages.get(name) ?? Buffer.alloc(0))
  if (!account) return t.fail('there is a head')
  const fresh = await openPlacing(t, { policy: 'replica', partners: 0, patienceMs: 0 })
  const { pages, stripes } = fresh.placing
  const slow = {
    get: async (name: Buffer) => {
      await fresh.settle()
      t.same([fresh.placing.striper.heads(), pages.sequence], [[], 0], 'nothing follows from a part of it')
      t.equal(fresh.placing.state().isPartial, true)
      return there.get(name.toString('hex'))
    },
  }
  t.rejects(pages.adopt(account, { get: async () => undefined }), { code: 'damaged' })
  t.equal(await pages.adopt(account, slow), 'erasure:3+2')
  await fresh.settle()
  const { head: next } = pages
  t.ok(next && pages.sequence >= sequence)
  t.match(fresh.placing.state(), { policy: 'erasure:3+2', repair: null, isPartial: false })
  const again = await openPlacing(t, { policy: 'replica' })
  const own = new Map(
    pages.pending(Buffer.alloc(32), 99).map((name) => [name.toString('hex'), pages.get(name)]),
  )
  const read = { get: async (name: Buffer) => own.get(name.toString('hex')) }
  t.equal(
    await again.placing.pages.adopt(next ?? account, read),
    'erasure:3+2',
    'and nobody is told another policy',
  )
  // One after the other they are met; a fifth would do for new stripes.
  fresh.now.partners = [0, 1, 2, 3, 7].map(partnerKey)
  fresh.clock.pass(3_600_000)
  await fresh.settle()
  t.equal(fresh.placing.state().repair, null)
  t.same([stripes.count, stripes.again(1), stripes.moves.list()], [count, [], []])
  await pages.policySet()
  t.match(fresh.placing.state(), { policy: 'replica' }, 'what the owner sets counts')
  fresh.now.policy = 'erasure:3+2'
  fresh.clock.pass(14 * 86_400_000)
  await fresh.settle()
  t.match(fresh.placing.state().repair, { stripes: count }, 'who was not met in all that time is lost')
})
