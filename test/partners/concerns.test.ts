/** Who asked after an owner is told to it, once a session; what it hears of that, from whom it may. Whole nodes: fellows.test. */
import t from 'tap'
import { silentLog } from '../../lib/base/log.js'
import { Concerns } from '../../lib/partners/concerns.js'
import type { Peer } from '../../lib/partners/types.js'
import { Hand } from '../helpers/hand-clock.js'

const hourMs = 3_600_000
const [ann, bob, eve, tom] = [1, 2, 3, 4].map((n) => Buffer.alloc(32, n)) as [Buffer, Buffer, Buffer, Buffer]

function opened() {
  const clock = new Hand()
  const online = new Map<string, Peer>()
  const partners: { key: Buffer; name: string }[] = []
  let hurried = 0
  const concerns = new Concerns({
    online: () => [...online.values()],
    peer: (key) => online.get(key.toString('hex')),
    partners: () => partners,
    hurry: () => hurried++,
    clock,
    log: silentLog(),
  })
  /** Comes on line, in a session of its own. Gives what it is told. */
  const arrive = (key: Buffer, heeds = true) => {
    const told: Buffer[] = []
    const request = (_: string, { partner }: { partner: Buffer }) => {
      told.push(partner)
      return Promise.resolve({})
    }
    online.set(key.toString('hex'), { key, heeds, request } as unknown as Peer)
    concerns.follow()
    return told
  }
  const leave = (key: Buffer) => online.delete(key.toString('hex'))
  return { concerns, clock, partners, arrive, leave, hurried: () => hurried }
}

t.test('an owner is told who asks after it, now or when it comes', async (t) => {
  const { concerns, clock, arrive, leave } = opened()
  concerns.raise(ann, bob)
  t.same(arrive(eve), [], 'nobody else is')
  const first = arrive(ann)
  t.same(first, [bob])
  concerns.raise(ann, tom)
  concerns.follow()
  t.same(first, [bob, tom], 'each once')
  await clock.pass(30 * hourMs)
  concerns.raise(ann, bob)
  t.same(first, [bob, tom, bob], 'asked again')
  leave(ann)
  await clock.pass(20 * hourMs)
  t.same(arrive(ann), [bob], 'a new session; the other one has not asked for two days')
  leave(ann)
  t.same(arrive(ann, false), [], 'an older kith')
  leave(ann)
  await clock.pass(48 * hourMs)
  t.same(arrive(ann), [])
})

t.test('owners that are asked after are bounded', (t) => {
  const { concerns, arrive } = opened()
  const owner = (n: number) => {
    const key = Buffer.alloc(32)
    key.writeUInt32BE(n)
    return key
  }
  for (let n = 0; n < 20_000; n++) concerns.raise(owner(n), bob)
  t.same(arrive(owner(9_999)), [bob])
  t.same(arrive(owner(10_000)), [])
  t.end()
})

t.test(
  'what partners say of a partner is told until that one is met; of others nothing is heard',
  async (t) => {
    const { concerns, clock, partners, arrive, leave, hurried } = opened()
    partners.push({ key: bob, name: 'bob' }, { key: eve, name: 'eve' })
    const denied = { code: 'denied' }
    t.throws(() => concerns.hear(tom, { partner: bob }), denied, 'from nobody of ours')
    t.throws(() => concerns.hear(eve, { partner: tom }), denied, 'about nobody of ours')
    t.throws(() => concerns.hear(eve, { partner: eve }), denied, 'it could say so itself')
    t.equal(hurried(), 0)
    t.same(concerns.warnings(bob), [])

    concerns.hear(eve, { partner: bob })
    t.equal(hurried(), 1)
    t.match(concerns.warnings(bob), [/has not heard of you for long, and asked eve after you: it lets go/])
    await clock.pass(50 * hourMs)
    t.match(concerns.warnings(bob), [/asked eve after you 2 days ago:/])
    arrive(bob)
    t.same(concerns.warnings(bob), [])
    concerns.hear(eve, { partner: bob })
    leave(bob)
    t.same(concerns.warnings(bob), [], 'that was said while it was here')
    t.equal(hurried(), 1)
  },
)
