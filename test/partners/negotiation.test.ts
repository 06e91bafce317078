import t from 'tap'
import { seeded } from '../../lib/base/random.js'
import { countersign, encodeEnding, encodeOffer, type Agreement } from '../../lib/format/agreement.js'
import type { Identity } from '../../lib/format/keys.js'
import type { PactAnswer } from '../../lib/format/wire-agreement.js'
import {
  end,
  mark,
  newestAfter,
  nextOffer,
  noPact,
  noticeLeft,
  onAnswer,
  onEnding,
  onNewest,
  onOffer,
  passed,
  sidesOf,
  standing,
  wishes,
  type Pact,
  type Policy,
  type Scene,
} from '../../lib/partners/negotiation.js'
import { somePact, someTerms } from '../helpers/agreements.js'
import { identity } from '../helpers/backup.js'

const [ann, bob, eve] = [identity(1), identity(2), identity(3)]
const day = 86_400_000
const start = 1_700_000_000_000

const usual: Policy = { terms: someTerms, wants: Number.MAX_SAFE_INTEGER, needs: 0, periodMs: 0 }

interface Side {
  self: Identity
  partner: Identity
  pact: Pact
  policy: Policy
}

const side = (self: Identity, partner: Identity, policy: Partial<Policy> = {}): Side => {
  return { self, partner, pact: noPact, policy: { ...usual, ...policy } }
}

const scene = ({ self, partner, policy }: Side, now = start): Scene => {
  return { self: self.keyPair, partner: partner.id, policy, now }
}

/** `from` proposes, as far as it wants to. */
function propose(from: Side, to: Side, now = start): PactAnswer | undefined {
  const next = nextOffer(scene(from, now), from.pact, wishes(to.pact, to.policy))
  if (!next?.offer) return undefined
  from.pact = next
  const { pact, answer } = onOffer(scene(to, now), to.pact, next.offer.bytes, false)
  to.pact = pact
  from.pact = onAnswer(scene(from, now), from.pact, answer)
  return answer
}

function compare(asker: Side, other: Side, now = start): void {
  const newest = newestAfter(other.pact, asker.pact.document?.agreement.number ?? 0)
  asker.pact = onNewest(scene(asker, now), asker.pact, newest)
}

function pair(policy: Partial<Policy> = {}): [Side, Side] {
  return [side(ann, bob, policy), side(bob, ann, policy)]
}

const number = ({ pact }: Side) => pact.document?.agreement.number
const given = ({ pact, self }: Side) => {
  if (!pact.document) throw new Error('no agreement')
  const { ours, theirs } = sidesOf(pact.document.agreement, self.id)
  return [ours.holds, theirs.holds]
}

t.test('two that meet agree on what fits both, and no more often than needed', (t) => {
  const a = side(ann, bob, { terms: { ...someTerms, holds: 100 }, wants: 30 })
  const b = side(bob, ann, { terms: { ...someTerms, holds: 50 }, wants: 70 })
  t.match(propose(a, b), { kind: 'accepted' })
  t.same(a.pact.document, b.pact.document)
  t.same(given(a), [70, 30])
  t.same(given(b), [30, 70])
  t.equal(propose(a, b), undefined, 'nothing differs')
  t.equal(propose(b, a), undefined)
  b.policy = { ...b.policy, wants: 90 }
  t.match(propose(a, b), { kind: 'accepted' }, 'a resize')
  t.same(given(a), [90, 30])
  t.equal(number(a), 2)
  a.pact = { ...a.pact, asks: { anew: true } }
  t.match(propose(a, b), { kind: 'accepted' }, 'asked for: also when nothing differs')
  t.equal(number(b), 3)
  t.equal(propose(a, b), undefined, 'once')
  t.end()
})

t.test('an agreement with a period is renewed in its last quarter, and runs out', (t) => {
  const [a, b] = pair({ periodMs: 100 * day })
  propose(a, b)
  t.equal(propose(a, b, start + 70 * day), undefined)
  t.equal(standing(a.pact, start + 100 * day), 'active')
  t.equal(standing(a.pact, start + 100 * day + 1), 'expired')
  t.match(propose(a, b, start + 80 * day), { kind: 'accepted' })
  t.equal(standing(b.pact, start + 170 * day), 'active')
  t.match(propose(b, a, start + 300 * day), { kind: 'accepted' }, 'and one that ran out is made anew')
  t.end()
})

t.test('who is asked for more than it would sign says what it would sign', (t) => {
  const [a, b] = pair()
  const before = wishes(b.pact, b.policy)
  b.policy = { ...b.policy, terms: { ...someTerms, holds: 10, notice: someTerms.notice - 86_400 } }
  const offered = nextOffer(scene(a), a.pact, before)
  if (!offered?.offer) throw new Error('an offer')
  a.pact = offered
  const { answer } = onOffer(scene(b), b.pact, offered.offer.bytes, false)
  t.match(answer, { kind: 'counter', wishes: { terms: { holds: 10 } } })
  a.pact = onAnswer(scene(a), a.pact, answer)
  t.equal(a.pact.offer, undefined)
  t.equal(a.pact.spent, 1)
  t.match(propose(a, b), { kind: 'accepted' })
  t.equal(number(a), 2, 'the number of the declined offer is not used again')
  t.same(given(a), [someTerms.holds, 10])
  t.end()
})

t.test('space in use is not taken back', (t) => {
  const [a, b] = pair()
  propose(a, b)
  a.policy = { ...a.policy, needs: 500_000 }
  b.policy = { ...b.policy, terms: { ...someTerms, holds: 400_000 } }
  t.equal(propose(a, b), undefined, 'not proposed by who needs it')
  t.match(propose(b, a), { kind: 'declined', reason: 'tooLittle' }, 'nor signed')
  t.match(b.pact.refused, { reason: 'tooLittle', byUs: false })
  t.match(a.pact.refused, { reason: 'tooLittle', byUs: true })
  t.equal(number(a), 1, 'what was agreed upon holds')
  b.policy = { ...b.policy, terms: { ...someTerms, holds: 600_000 } }
  t.match(propose(b, a), { kind: 'accepted' })
  t.equal(a.pact.refused, undefined)
  const [c, d] = [side(ann, bob, { needs: 2_000_000 }), side(bob, ann)]
  t.match(propose(c, d), { kind: 'accepted' }, 'who held more before there was an agreement gets one')
  t.end()
})

t.test('offers that cross are both declined, and the next one is taken', (t) => {
  const [a, b] = pair()
  const [fromA, fromB] = [a, b].map((one, i) =>
    nextOffer(scene(one), one.pact, wishes(i === 0 ? b.pact : a.pact, usual)),
  )
  if (!fromA?.offer || !fromB?.offer) throw new Error('offers')
  a.pact = fromA
  b.pact = fromB
  const toB = onOffer(scene(b), b.pact, fromA.offer.bytes, false).answer
  const toA = onOffer(scene(a), a.pact, fromB.offer.bytes, false).answer
  t.same(
    [toA, toB],
    Array.from({ length: 2 }, () => ({ kind: 'declined', reason: 'busy' })),
  )
  a.pact = onAnswer(scene(a), a.pact, toB)
  b.pact = onAnswer(scene(b), b.pact, toA)
  t.same([a.pact.refused, b.pact.refused], [undefined, undefined])
  t.match(propose(a, b), { kind: 'accepted' })
  t.equal(number(b), 2)
  t.end()
})

t.test('old, late, foreign and greedy offers are not signed', (t) => {
  const [a, b] = pair()
  propose(a, b)
  propose(a, b)
  a.pact = { ...a.pact, asks: { anew: true } }
  propose(a, b)
  const base = a.pact.document?.agreement
  if (!base) throw new Error('an agreement')
  const answerTo = (change: Partial<Agreement>, now = start) =>
    onOffer(scene(b, now), b.pact, encodeOffer({ ...base, number: 3, ...change }, ann.keyPair), false).answer
  t.match(answerTo({}), { kind: 'accepted' }, 'as a check: this one would be')
  t.match(answerTo({ number: 2, made: 1 }), { reason: 'number' }, 'the number of one that is signed')
  t.match(answerTo({ number: 1 }), { reason: 'number' })
  t.match(answerTo({ number: 3_000_000 }), { reason: 'number' }, 'a step that uses numbers up')
  t.match(answerTo({}, start + 2 * 3_600_000), { reason: 'late' })
  t.match(answerTo({ signBy: start + 2 * day }), { reason: 'late' }, 'open for too long')
  t.match(answerTo({ made: start + 2 * day }), { reason: 'late' })
  t.match(answerTo({ until: start - 1 }), { reason: 'terms' }, 'over before it begins')
  t.match(answerTo({ until: start + 5000 * day }), { reason: 'terms' })
  const terms = (change: object): Partial<Agreement> => {
    return {
      terms: [
        { ...base.terms[0], ...change },
        { ...base.terms[1], ...change },
      ],
    }
  }
  t.match(answerTo(terms({ notice: 3600 })), { reason: 'terms' }, 'a notice too short')
  t.match(answerTo(terms({ commitment: someTerms.grace + 1 })), { reason: 'terms' })
  t.match(answerTo(terms({ holds: someTerms.holds + 1 })), { kind: 'counter' })
  t.match(answerTo(terms({ hours: Buffer.alloc(21, 0xff) })), { kind: 'counter' })
  const denied = { code: 'denied' }
  t.throws(() => onOffer(scene(b), b.pact, somePact(9, eve, bob).offer, false), denied, 'of another')
  t.throws(() => onOffer(scene(b), b.pact, somePact(9, ann, eve).offer, false), denied, 'to another')
  t.throws(() => onOffer(scene(a), a.pact, somePact(9, ann, bob).offer, false), denied, 'our own said back')
  t.end()
})

t.test('documents that are spent, old, changed or of another pair are not taken', (t) => {
  const [a, b] = pair()
  const first = nextOffer(scene(a), a.pact, wishes(b.pact, b.policy))
  if (!first?.offer) throw new Error('an offer')
  a.pact = onAnswer(scene(a), first, { kind: 'declined', reason: 'late' })
  const denied = { code: 'denied' }
  const late = countersign(first.offer.bytes, bob.keyPair)
  t.throws(() => onNewest(scene(a), a.pact, { document: late }), denied, 'declined, and signed after all')
  const second = nextOffer(scene(a), a.pact, wishes(b.pact, b.policy))
  if (!second?.offer) throw new Error('an offer')
  const other = encodeOffer({ ...second.offer.agreement, made: 5 }, ann.keyPair)
  t.throws(
    () => onAnswer(scene(a), second, { kind: 'accepted', document: countersign(other, bob.keyPair) }),
    denied,
    'another than was proposed',
  )
  a.pact = onAnswer(scene(a), second, {
    kind: 'accepted',
    document: countersign(second.offer.bytes, bob.keyPair),
  })
  t.throws(() => onNewest(scene(a), a.pact, { document: late }), denied, 'old')
  t.throws(() => onNewest(scene(a), a.pact, { document: somePact(9, ann, eve).document }), denied)
  t.throws(() => onNewest(scene(a), a.pact, { document: somePact(9, eve, bob).document }), denied)
  t.throws(
    () => onNewest(scene(a), a.pact, { document: somePact(2 ** 40).document }),
    denied,
    'numbers used up',
  )
  t.throws(() => nextOffer(scene(a), a.pact, { ...wishes(b.pact, b.policy), mark: 2 ** 50 }), denied)
  const fresh = onNewest(scene(a), noPact, { document: somePact(9).document })
  t.equal(fresh.document?.agreement.number, 9, 'but a home that knows nothing takes what it once signed')
  t.end()
})

t.test('an end stops it for both, is no matter of an older number, and waits for the notice', (t) => {
  const [a, b] = pair()
  t.throws(() => end(scene(a), a.pact), { code: 'notFound' })
  propose(a, b)
  a.pact = end(scene(a), a.pact)
  t.equal(standing(a.pact, start), 'ended')
  t.same(end(scene(a), a.pact), a.pact, 'once')
  compare(b, a)
  t.equal(standing(b.pact, start), 'ended')
  t.equal(propose(a, b), undefined, 'nobody makes a new one by itself')
  t.equal(propose(b, a), undefined)
  b.pact = { ...b.pact, asks: { anew: true } }
  t.match(propose(b, a), { kind: 'declined', reason: 'ended' }, 'not against who ended it')
  t.equal(b.pact.asks.anew, undefined)

  const notice = someTerms.notice * 1000
  t.equal(noticeLeft(b.pact, bob.id, start), notice)
  let step = passed(scene(b, start + 900 * day), b.pact, notice - 1)
  t.notOk(step.free, 'by running time, whatever the clock says')
  step = passed(scene(b, start), step.pact, 1)
  t.ok(step.free)
  t.notOk(passed(scene(b), { ...step.pact, freed: true }, day).free, 'once')

  const old = a.pact.ending?.bytes
  if (!old) throw new Error('an end')
  a.pact = { ...a.pact, asks: { anew: true } }
  t.match(propose(a, b), { kind: 'accepted' }, 'who ended it may want a new one')
  t.equal(standing(b.pact, start), 'active')
  t.equal(b.pact.noticedMs, 0)
  b.pact = onEnding(scene(b), b.pact, old)
  t.equal(standing(b.pact, start), 'active', 'an old end said again ends nothing')
  const denied = { code: 'denied' }
  t.throws(
    () => onEnding(scene(b), b.pact, encodeEnding({ other: bob.id, number: 99, time: 1 }, ann.keyPair)),
    denied,
  )
  const of = (by: Identity, other: Identity) =>
    encodeEnding({ other: other.id, number: number(b) ?? 0, time: 1 }, by.keyPair)
  t.throws(() => onEnding(scene(b), b.pact, of(eve, bob)), denied, 'of a third')
  t.throws(() => onEnding(scene(b), b.pact, of(ann, eve)), denied, 'to a third')
  t.end()
})

t.test('a clock that jumps past the end of the period starts no notice that counts', (t) => {
  const [a, b] = pair({ periodMs: 10 * day })
  propose(a, b)
  const wrong = passed(scene(a, start + 900 * day), a.pact, 60_000)
  t.equal(wrong.pact.noticedMs, 60_000)
  t.equal(
    passed(scene(a, start), wrong.pact, 60_000).pact.noticedMs,
    0,
    'it is set right, and nothing was lost',
  )
  t.end()
})

t.test('what was let go of once is let go of again after the next end', (t) => {
  const [a, b] = pair({ periodMs: 10 * day })
  propose(a, b)
  const over = start + 11 * day
  const gone = { ...passed(scene(a, over), a.pact, someTerms.notice * 1000).pact, freed: true }
  const back = passed(scene(a, start), gone, 60_000).pact
  t.equal(back.freed, false, 'the clock was wrong, and the partner sends again')
  t.ok(passed(scene(a, over), back, someTerms.notice * 1000).free)
  t.end()
})

t.test('nothing is proposed to who would let go at once', (t) => {
  const [a, b] = pair()
  b.policy = { ...b.policy, terms: { ...someTerms, notice: 3600 } }
  const next = nextOffer(scene(a), { ...a.pact, asks: { anew: true } }, wishes(b.pact, b.policy))
  t.match(next, { offer: undefined, refused: { reason: 'terms', byUs: true }, asks: { anew: undefined } })
  t.equal(next && nextOffer(scene(a), next, wishes(b.pact, b.policy)), next, 'and nothing changes again')
  t.end()
})

t.test('500 seeded runs of ten steps with lost messages and crashes: both or neither is bound', (t) => {
  const wrong: string[] = []
  for (let seed = 1; seed <= 500 && wrong.length === 0; seed++) {
    const random = seeded(seed)
    const sides = pair()
    for (let step = 0; step < 10; step++) {
      const i = random() % 2
      const [from, to] = i === 0 ? [sides[0], sides[1]] : [sides[1], sides[0]]
      if (random() % 4 === 0) from.pact = { ...from.pact, asks: { anew: true } }
      if (random() % 6 === 0 && from.pact.document) from.pact = end(scene(from), from.pact)
      const now = start + step * 3 * 3_600_000
      if (random() % 2 === 0) compare(from, to, now)
      const before = wishes(to.pact, to.policy)
      const next = nextOffer(scene(from, now), from.pact, before)
      if (!next?.offer) continue
      from.pact = next
      // What was stored stays; what was said gets lost at any of three places.
      if (random() % 3 === 0) continue
      const { pact, answer } = onOffer(scene(to, now), to.pact, next.offer.bytes, random() % 5 === 0)
      to.pact = pact
      if (random() % 3 === 0) continue
      from.pact = onAnswer(scene(from, now), from.pact, answer)
    }
    // The next whole session, at which nobody wants anything new.
    const [a, b] = sides
    const now = start + 100 * day
    for (const [one, other] of [[a, b] as const, [b, a] as const]) {
      compare(one, other, now)
      if (one.pact.offer) propose(one, other, now)
    }
    compare(a, b, now)
    compare(b, a, now)
    const same = (x: Pact, y: Pact) =>
      x.document?.bytes.equals(y.document?.bytes ?? Buffer.alloc(0)) ?? y.document === undefined
    if (!same(a.pact, b.pact)) wrong.push(`${seed}: ${number(a) ?? 0} and ${number(b) ?? 0}`)
    if (standing(a.pact, now) !== standing(b.pact, now)) wrong.push(`${seed}: one has ended`)
    if (a.pact.offer || b.pact.offer) wrong.push(`${seed}: an offer is open`)
    if (mark(a.pact) < (number(b) ?? 0)) wrong.push(`${seed}: a number goes back`)
  }
  t.same(wrong, [])
  t.end()
})

t.test('no agreement with a stranger that would not commit, where we would', (t) => {
  const least = 1000
  const days = (count: number) => ({
    terms: { ...someTerms, commitment: count * 86_400 },
    matched: { least },
  })
  const [a, b] = [side(ann, bob, days(8)), side(bob, ann, days(0))]
  const next = nextOffer(scene(a), a.pact, wishes(b.pact, b.policy))
  t.match(next, { refused: { reason: 'terms', byUs: true } })
  t.equal(next?.offer, undefined, 'we propose none')
  t.match(propose(b, a), { reason: 'terms' }, 'and sign none')
  t.match(propose(side(ann, bob, days(8)), side(bob, ann, days(7))), { kind: 'accepted' })
  t.end()
})

t.test(
  'a commitment: as long as both would, more than the grace, and no longer than we would ourselves',
  (t) => {
    const days = (count: number) => ({ terms: { ...someTerms, commitment: count * 86_400 } })
    const agreed = (one: number, other: number) => {
      const [a, b] = [side(ann, bob, days(one)), side(bob, ann, days(other))]
      t.match(propose(a, b), { kind: 'accepted' })
      t.equal(propose(a, b), undefined, 'and it is not made anew')
      const { ours, theirs } = sidesOf(a.pact.document?.agreement as Agreement, ann.id)
      t.equal(ours.commitment, theirs.commitment)
      return ours.commitment / 86_400
    }
    t.equal(agreed(8, 8), 8)
    t.equal(agreed(8, 5), 5)
    t.equal(agreed(0, 8), 0, 'none, where one would rather not')
    t.equal(agreed(8, 0), 0)
    t.equal(agreed(8, 2), 0, 'shorter than the grace is none')
    const terms = { ...someTerms, commitment: 9 * 86_400 }
    const b = side(bob, ann, days(8))
    const { offer } = somePact(1, ann, bob, { terms: [terms, terms] })
    t.match(onOffer(scene(b), b.pact, offer, false).answer, { reason: 'terms' })
    t.end()
  },
)
