import t, { type Test } from 'tap'
import { systemClock } from '../../lib/base/clock.js'
import { randomBytes } from '../../lib/base/random.js'
import { Database } from '../../lib/blocks/database.js'
import { Circles } from '../../lib/partners/circle.js'

function setUp(t: Test): Circles {
  const db = Database.open(t.testdir())
  t.teardown(() => db.close())
  return new Circles(db, systemClock)
}

t.test('created, listed by name, found by name or id', async (t) => {
  const circles = setUp(t)
  t.throws(() => circles.find(), { code: 'notFound' })
  const b = await circles.create('book club')
  t.equal(circles.find(), b, 'the only one')
  const a = await circles.create(' aunts ')
  t.equal(a.name, 'aunts')
  t.same(circles.list(), [a, b])
  t.equal(circles.find('book club'), b)
  t.equal(circles.find(a.id), a)
  t.equal(circles.find(a.id.slice(0, 8).toUpperCase()), a)
  t.throws(() => circles.find(), { code: 'usage', message: /'aunts', 'book club'/ })
  t.throws(() => circles.find('nephews'), { code: 'notFound', message: /'aunts'/ })
  t.notOk(a.topic.equals(b.topic))
  t.notOk(a.topic.equals(Buffer.from(a.id, 'hex')), 'the id does not give the topic away')
})

t.test('names', async (t) => {
  const circles = setUp(t)
  await circles.create('Freundschaft 🎈')
  await t.rejects(circles.create('Freundschaft 🎈'), { code: 'exists' })
  for (const bad of ['', '  ', 'a\nb', 'a\u202eb', 'x'.repeat(65), '🎈'.repeat(17)])
    await t.rejects(circles.create(bad), { code: 'usage' }, JSON.stringify(bad))
})

t.test('joined ones: known stays as it is, equal names are told apart by id', async (t) => {
  const circles = setUp(t)
  const events: string[] = []
  circles.on('added', ({ id }) => events.push(id))
  const inviter = randomBytes(32)
  const secret = randomBytes(32)
  const one = await circles.add({ name: 'same', secret }, inviter)
  t.equal(one.invitedBy, inviter.toString('hex'))
  t.equal(await circles.add({ name: 'other', secret }), one)
  const two = await circles.add({ name: 'same', secret: randomBytes(32) })
  t.same(events, [one.id, two.id])
  t.throws(() => circles.find('same'), { code: 'usage', message: /several/ })
  t.equal(circles.find(two.id), two)
})

t.test('no more than a head can carry', async (t) => {
  const circles = setUp(t)
  for (let i = 0; i < 64; i++) await circles.create(`c${i}`)
  await t.rejects(circles.create('one more'), { code: 'usage' })
})
