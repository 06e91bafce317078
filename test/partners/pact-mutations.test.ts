/** Everything that a partner can say of agreements, mutated: refused or answered, and nothing of it binds anybody. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { asKithError } from '../../lib/base/errors.js'
import { silentLog } from '../../lib/base/log.js'
import { seeded } from '../../lib/base/random.js'
import { Database } from '../../lib/blocks/database.js'
import { encodeEnding, isSameBody, type Terms } from '../../lib/format/agreement.js'
import { withinWeek } from '../../lib/format/week.js'
import { decodeFrame, encodeReply, encodeRequest } from '../../lib/format/wire.js'
import type { Wishes } from '../../lib/format/wire-agreement.js'
import { Agreements } from '../../lib/partners/agreements.js'
import { Holder } from '../../lib/partners/holder.js'
import {
  nextOffer,
  noPact,
  onAnswer,
  onNewest,
  onOffer,
  sidesOf,
  wishes,
  type Pact,
  type Policy,
  type Scene,
} from '../../lib/partners/negotiation.js'
import { somePact, someTerms } from '../helpers/agreements.js'
import { identity, member, openVault, TestClock } from '../helpers/backup.js'
import { mutate } from '../helpers/bytes.js'

t.setTimeout(240_000)

const [ann, bob, eve] = [identity(1), identity(2), identity(3)]
const now = 1_700_000_000_000
const times = 10_000
const policy: Policy = { terms: someTerms, wants: Number.MAX_SAFE_INTEGER, needs: 0, periodMs: 0 }
const anns: Scene = { self: ann.keyPair, partner: bob.id, policy, now }
const refusals = ['denied', 'protocol']

/** What came of each mutation; the first few that came to anything but an answer or a refusal. */
function tally() {
  const unexpected: string[] = []
  return {
    unexpected,
    refuse(error: unknown) {
      const { code, message } = asKithError(error)
      if (!refusals.includes(code) && unexpected.length < 10) unexpected.push(`${code}: ${message}`)
    },
  }
}

t.test(`${times} mutations of each request: refused or answered, and bind nobody`, async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'kith-pact-'))
  const db = Database.open(join(dir, 'db'))
  const clock = new TestClock()
  const agreements = new Agreements({
    db,
    self: bob.keyPair,
    policy: () => ({ ...policy, terms: { ...someTerms, holds: 2_000_000 } }),
    members: () => [],
    renewed: () => Promise.resolve(),
    free: () => Promise.resolve(),
    changed: () => undefined,
    clock,
    tickClock: clock,
    log: silentLog(),
  })
  t.teardown(async () => {
    await agreements.stop()
    await db.close()
    rmSync(dir, { recursive: true, force: true })
  })
  const holder = new Holder(await openVault(t, bob), ann.id, member, agreements.answersFor(ann.id))
  const { offer } = somePact(1)
  const ending = encodeEnding({ other: bob.id, number: 1, time: 1 }, ann.keyPair)
  const random = seeded(21)
  const refused = async (name: string, frame: Buffer) => {
    const { unexpected, refuse } = tally()
    for (let i = 0; i < times; i++) {
      const mutated = mutate(random, frame)
      // The number of the request is free.
      if (mutated[0] === frame[0] && mutated.subarray(5).equals(frame.subarray(5))) continue
      try {
        const decoded = decodeFrame(mutated)
        if (decoded.type === 'request' && decoded.kind.startsWith('pact'))
          await holder.answer(decoded.kind, decoded.message)
      } catch (error) {
        refuse(error)
      }
    }
    t.same(unexpected, [], name)
  }
  await refused('pactNewest', encodeRequest('pactNewest', 7, { number: 0 }))
  await refused('pactTerms', encodeRequest('pactTerms', 7, {}))
  await refused('pactOffer', encodeRequest('pactOffer', 7, { offer }))
  t.equal(agreements.info(ann.id), undefined, 'nobody is bound')
  clock.pass(60_000) // the flood of offers has to wait
  t.match(await holder.answer('pactOffer', { offer }), { kind: 'accepted' }, 'as a check: the true one binds')
  await refused('pactEnd', encodeRequest('pactEnd', 7, { ending }))
  t.match(agreements.info(ann.id), { standing: 'active', number: 1 }, 'and nothing ends it')
  await holder.answer('pactEnd', { ending })
  t.match(agreements.info(ann.id), { standing: 'ended' }, 'but the true end')
})

function offered(): Pact & { offer: NonNullable<Pact['offer']> } {
  const next = nextOffer(anns, noPact, wishes(noPact, policy))
  if (!next?.offer) throw new Error('an offer')
  return { ...next, offer: next.offer }
}

t.test(`${times} mutations of each reply: what binds is what was proposed, signed by both`, (t) => {
  const before = offered()
  const bobs: Scene = { self: bob.keyPair, partner: ann.id, policy, now }
  const { pact, answer } = onOffer(bobs, noPact, before.offer.bytes, false)
  const document = pact.document?.bytes ?? Buffer.alloc(0)
  const ending = encodeEnding({ other: ann.id, number: 1, time: 1 }, bob.keyPair)
  const counter = { kind: 'counter', wishes: wishes(noPact, policy) } as const
  const frames = {
    accepted: encodeReply('pactOffer', 7, answer),
    counter: encodeReply('pactOffer', 7, counter),
    declined: encodeReply('pactOffer', 7, { kind: 'declined', reason: 'terms' }),
    newest: encodeReply('pactNewest', 7, { document, ending }),
  }
  const random = seeded(22)
  for (const [name, frame] of Object.entries(frames)) {
    const { unexpected, refuse } = tally()
    let bound = 0
    let forged = 0
    for (let i = 0; i < times; i++) {
      const mutated = mutate(random, frame)
      try {
        const decoded = decodeFrame(mutated)
        if (decoded.type !== 'reply') continue
        let after: Pact = before
        if (decoded.kind === 'pactOffer') after = onAnswer(anns, before, decoded.message)
        if (decoded.kind === 'pactNewest') after = onNewest(anns, before, decoded.message)
        if (!after.document) continue
        bound++
        if (!isSameBody(after.document.bytes, before.offer.bytes)) forged++
        if (after.ending && !after.ending.bytes.equals(ending)) forged++
      } catch (error) {
        refuse(error)
      }
    }
    t.same(unexpected, [], name)
    t.equal(forged, 0, `${name}: nothing that was not proposed (${bound} times bound by what was)`)
  }
  t.end()
})

/** Whether `ours` asks nothing of us beyond what we would promise. */
function isWithin(ours: Terms): boolean {
  const { holds, bandwidth, hours, notice, audit, grace, commitment } = ours
  const { terms: most } = policy
  return (
    holds <= most.holds &&
    bandwidth <= most.bandwidth &&
    withinWeek(hours, most.hours) &&
    notice <= most.notice &&
    audit >= most.audit &&
    grace >= most.grace &&
    commitment === 0
  )
}

t.test(`${times} mutations of what a partner wishes: no more is signed than we would promise`, (t) => {
  const theirs: Wishes = { terms: { ...someTerms, holds: 500 }, wants: 2 ** 30, mark: 3 }
  const frame = encodeReply('pactTerms', 7, theirs)
  const random = seeded(23)
  const { unexpected, refuse } = tally()
  const greedy: string[] = []
  let signed = 0
  for (let i = 0; i < times; i++) {
    const mutated = mutate(random, frame)
    try {
      const decoded = decodeFrame(mutated)
      if (decoded.type !== 'reply' || decoded.kind !== 'pactTerms') continue
      const next = nextOffer(anns, noPact, decoded.message as Wishes)
      if (!next?.offer) continue
      signed++
      const { ours, theirs: other } = sidesOf(next.offer.agreement, ann.id)
      if (!isWithin(ours) || other.commitment !== 0 || other.notice < 86_400)
        greedy.push(mutated.toString('hex'))
    } catch (error) {
      refuse(error)
    }
  }
  t.same(unexpected, [])
  t.same(greedy.slice(0, 3), [])
  t.ok(signed > 100, `${signed} wishes were fit to be signed`)
  t.end()
})

t.test('imposters and replays: what is true of one pair or number says nothing of another', (t) => {
  const pact = somePact(4)
  const mine: Pact = { ...noPact, document: { bytes: pact.document, agreement: pact.agreement } }
  const denied = { code: 'denied' }
  const { document, offer } = somePact(5, eve, bob)
  t.throws(() => onNewest(anns, mine, { document }), denied, 'an agreement of two others')
  t.throws(() => onOffer(anns, mine, offer, false), denied, 'an offer of one to another')
  t.throws(() => onNewest(anns, mine, { document: somePact(3).document }), denied, 'one before the newest')
  t.throws(() => onNewest(anns, mine, { document: pact.document }), denied, 'the newest again')
  const replayed = onNewest(anns, mine, {
    ending: encodeEnding({ other: ann.id, number: 3, time: 1 }, bob.keyPair),
  })
  t.equal(replayed, mine, 'an end of one before')
  const eves = encodeEnding({ other: ann.id, number: 4, time: 1 }, eve.keyPair)
  t.throws(() => onNewest(anns, mine, { ending: eves }), denied, 'an end by who is no side')
  t.end()
})
