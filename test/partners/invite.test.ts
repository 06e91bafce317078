import t, { type Test } from 'tap'
import type { Clock } from '../../lib/base/clock.js'
import { randomBytes, seeded } from '../../lib/base/random.js'
import { Database } from '../../lib/blocks/database.js'
import { Circles } from '../../lib/partners/circle.js'
import {
  inviteCode,
  inviteLifetimeMs,
  Invites,
  inviteToken,
  inviteTopic,
  joinProof,
  openGrant,
  wrongProofsAllowed,
  type InviteAnswer,
} from '../../lib/partners/invite.js'

function setUp(t: Test) {
  let now = 1_700_000_000_000
  const clock: Clock = {
    now: () => now,
    monotonic: () => now,
    after: () => ({ cancel: () => undefined }),
  }
  const dir = t.testdir()
  const db = Database.open(dir)
  t.teardown(() => db.close())
  const circles = new Circles(db, clock)
  const invites = new Invites(db, clock)
  return { db, dir, clock, circles, invites, pass: (ms: number) => (now += ms) }
}

function session(joiner = randomBytes(32), inviter = randomBytes(32)) {
  return { handshakeHash: randomBytes(64), joiner, inviter }
}

type SetUp = ReturnType<typeof setUp>
function tryWith(
  s: SetUp,
  token: Buffer,
  with_ = session(),
  proof = joinProof(token, with_),
): Promise<InviteAnswer> {
  return s.invites.answer(inviteTopic(token), proof, with_, 'ada', (id) => s.circles.get(id))
}

t.test('codes survive typing', async (t) => {
  const token = randomBytes(16)
  const code = inviteCode(token)
  t.match(code, /^([0-9A-HJKMNP-TV-Z]{5}-){5}[0-9A-HJKMNP-TV-Z]{5}$/)
  t.same(inviteToken(code), token)
  t.same(inviteToken(` ${code.toLowerCase().replaceAll('-', ' ')}\n`), token)
  t.same(inviteToken(code.replaceAll('0', 'o').replaceAll('1', 'l')), token)
  t.equal(inviteCode(Buffer.alloc(16)).length, 35)
  t.same(inviteToken(inviteCode(Buffer.alloc(16))), Buffer.alloc(16))
})

t.test('a mistyped code is told apart from a wrong one', async (t) => {
  const code = inviteCode(randomBytes(16))
  const bad = (text: string, match: RegExp) =>
    t.throws(() => inviteToken(text), { code: 'usage', message: match })
  bad('', /0 characters/)
  bad(code.slice(1), /29 characters/)
  bad(`${code}0`, /31 characters/)
  bad(code.replace(/^./, '!'), /'!' cannot/)
  bad(code.replace(/^./, 'U'), /'U' cannot/)
  const random = seeded(3)
  for (let i = 0; i < 300; i++) {
    const at = random() % code.length
    const other = '0123456789ABCDEFGHJKMNPQRSTVWXYZ'.charAt(random() % 32)
    if (code[at] === '-' || code[at] === other) continue
    bad(code.slice(0, at) + other + code.slice(at + 1), /mistyped/)
  }
})

t.test('the secret reaches who has the code', async (t) => {
  const s = setUp(t)
  const circle = await s.circles.create('friends')
  const { code, expires } = await s.invites.create(circle)
  t.equal(expires, s.clock.now() + inviteLifetimeMs)
  const token = inviteToken(code)
  const between = session()
  const answer = await tryWith(s, token, between)
  if (!answer.granted) return t.fail('granted')
  t.same(openGrant(token, between, answer.proof, answer.sealed), {
    secret: circle.secret,
    name: 'friends',
    inviterName: 'ada',
  })
  t.throws(
    () => openGrant(token, session(), answer.proof, answer.sealed),
    { code: 'denied' },
    'in this session only',
  )
  t.throws(() => openGrant(randomBytes(16), between, answer.proof, answer.sealed), { code: 'denied' })
  const sealed = Buffer.from(answer.sealed)
  sealed[30] = (sealed[30] ?? 0) ^ 1
  t.throws(() => openGrant(token, between, answer.proof, sealed), { code: 'damaged' })
})

t.test('one use: the same key may ask again until it has confirmed, others may not', async (t) => {
  const s = setUp(t)
  const token = inviteToken((await s.invites.create(await s.circles.create('friends'))).code)
  const joiner = randomBytes(32)
  t.ok((await tryWith(s, token, session(joiner))).granted)
  t.same(await tryWith(s, token), { granted: false, why: 'used' })
  t.ok((await tryWith(s, token, session(joiner))).granted, 'its connection may have broken')
  await s.invites.confirm(inviteTopic(token), randomBytes(32))
  t.ok((await tryWith(s, token, session(joiner))).granted, 'nobody else can confirm')
  await s.invites.confirm(inviteTopic(token), joiner)
  t.same(await tryWith(s, token, session(joiner)), { granted: false, why: 'used' })
})

t.test('expired by the clock, and said so for a day', async (t) => {
  const s = setUp(t)
  const circle = await s.circles.create('friends')
  const token = inviteToken((await s.invites.create(circle)).code)
  s.pass(inviteLifetimeMs - 1)
  t.equal(s.invites.topics().length, 1)
  s.pass(1)
  t.same(await tryWith(s, token), { granted: false, why: 'expired' })
  s.pass(inviteLifetimeMs)
  await s.invites.create(circle)
  t.equal(s.invites.topics().length, 1, 'the old one is forgotten')
  t.same(await tryWith(s, token), { granted: false, why: 'unknown' })
})

t.test('guessing burns the invite', async (t) => {
  const s = setUp(t)
  const token = inviteToken((await s.invites.create(await s.circles.create('friends'))).code)
  for (let i = 0; i < wrongProofsAllowed; i++)
    t.same(await tryWith(s, token, session(), randomBytes(32)), { granted: false, why: 'wrong' })
  t.same(await tryWith(s, token), { granted: false, why: 'burnt' })
  t.same(await tryWith(s, randomBytes(16)), { granted: false, why: 'unknown' }, 'an invite of nobody')
})

t.test('a proof of one session fits no other', async (t) => {
  const s = setUp(t)
  const token = inviteToken((await s.invites.create(await s.circles.create('friends'))).code)
  const overheard = joinProof(token, session())
  t.same(await tryWith(s, token, session(), overheard), { granted: false, why: 'wrong' })
})

t.test('state is durable', async (t) => {
  const s = setUp(t)
  const circle = await s.circles.create('friends')
  const token = inviteToken((await s.invites.create(circle)).code)
  t.ok((await tryWith(s, token)).granted)
  await s.db.close()
  const db = Database.open(s.dir)
  t.teardown(() => db.close())
  const circles = new Circles(db, s.clock)
  t.same(circles.list(), [circle])
  const invites = new Invites(db, s.clock)
  const again = session()
  const answer = await invites.answer(inviteTopic(token), joinProof(token, again), again, '', (id) =>
    circles.get(id),
  )
  t.same(answer, { granted: false, why: 'used' })
})
