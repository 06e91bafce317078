/**
 * How two nodes come to an agreement, and out of it: a state machine. Plain data and the time in, the next state and what
 * to say out; agreements.ts keeps the state on disk and carries the messages.
 *
 *     ask       each side tells what it offers and wants                                       (wishes)
 *     propose   one side signs a document that fits both                                       (nextOffer)
 *     answer    the other signs it too and both are bound, or says what it would sign (counter), or declines  (onOffer)
 *     compare   at each session both give the number of their newest document; who lacks one gets it     (onNewest)
 *
 * Both or neither is bound, whatever dies when:
 * - Who proposes stores its offer before it is sent, and says the very same again until it is answered. It takes any document
 *   that has both signatures, so an answer that was lost comes with the next comparison.
 * - Who is asked stores the document with both signatures before it answers.
 * - An offer is said again until it is answered. One that comes too late is declined, and the number of an offer that was
 *   declined is spent: nothing with it or a lower one is taken any more.
 *
 * Numbers of a pair only grow, so old documents and offers said again are refused. The end of an agreement is signed by one
 * side; no new data is taken from then on, and what is held is kept through the notice. The notice is counted by the time
 * that this node runs, so that a clock that jumps frees nothing.
 */
import {
  countersign,
  decodeAgreement,
  decodeEnding,
  decodeOffer,
  encodeEnding,
  encodeOffer,
  isSameBody,
  pairOf,
  sideOf,
  type Agreement,
  type Ending,
  type Terms,
} from '../format/agreement.js'
import { KithError } from '../base/errors.js'
import type { KeyPair } from '../format/hash.js'
import { withinWeek } from '../format/week.js'
import type { DeclineReason, PactAnswer, Wishes } from '../format/wire-agreement.js'

const dayMs = 86_400_000
const yearMs = 365 * dayMs
/** An offer may be signed for so long. */
const offerMs = 60 * 60_000
const longestMs = 10 * yearMs
/** Nobody's data goes within a day of the end. */
const leastNoticeSeconds = dayMs / 1000
/** A partner that knows a number that much higher than ours is wrong, or wants to use the numbers up. */
const maxNumberStep = 1_000_000

/** What is known of one pair; all of it is stored. */
export interface Pact {
  /** the newest document that both signed */
  document?: { bytes: Buffer; agreement: Agreement }
  /** signed by us, not yet answered */
  offer?: { bytes: Buffer; agreement: Agreement }
  /** of the document, by either side */
  ending?: { bytes: Buffer; ending: Ending }
  /** highest number of ours that was declined */
  spent: number
  /** of the notice, so much has passed, ms */
  noticedMs: number
  /** what was held was let go of after the notice */
  freed: boolean
  /** what the user wants of this partner: bytes, instead of the general settings; `anew`: a new agreement at the next chance */
  asks: { holds?: number; wants?: number; anew?: true }
  /** why the last try came to nothing, and who said so */
  refused?: { reason: DeclineReason; byUs: boolean }
}

/** What this node would sign. */
export interface Policy {
  /** our side; `holds`: the most that we hold for this partner */
  terms: Terms
  /** bytes that we want it to hold, at most */
  wants: number
  /** bytes of quota that it holds of ours now */
  needs: number
  /** of an agreement; 0: until one side ends it */
  periodMs: number
  /** Between strangers: we hold no more than the other holds for us, and less than so many bytes each way is not worth it. */
  matched?: { least: number }
}

export interface Scene {
  self: KeyPair
  partner: Buffer
  policy: Policy
  /** ms since 1970 */
  now: number
}

export type Standing = 'none' | 'active' | 'ended' | 'expired'

export const noPact: Pact = { spent: 0, noticedMs: 0, freed: false, asks: {} }

export function standing({ document, ending }: Pact, now: number): Standing {
  if (!document) return 'none'
  if (ending) return 'ended'
  const { until } = document.agreement
  return until !== 0 && now > until ? 'expired' : 'active'
}

/** Ours and the partner's terms in a document. */
export function sidesOf(agreement: Agreement, self: Buffer): { ours: Terms; theirs: Terms } {
  const [a, b] = agreement.terms
  return sideOf(agreement, self) === 0 ? { ours: a, theirs: b } : { ours: b, theirs: a }
}

/** The highest number that this side has seen or used. */
export function mark({ document, offer, spent }: Pact): number {
  return Math.max(document?.agreement.number ?? 0, offer?.agreement.number ?? 0, spent)
}

export function wishes(pact: Pact, { terms, wants }: Policy): Wishes {
  return { terms, wants, mark: mark(pact) }
}

/**
 * What to propose now, if anything: the offer that was not answered, a first agreement, or one in which something differs.
 * An agreement that was ended is not made anew unless the user wants it.
 */
export function nextOffer(scene: Scene, pact: Pact, theirs: Wishes): Pact | undefined {
  const { self, partner, policy, now } = scene
  const { anew } = pact.asks
  if (pact.offer) return pact
  const state = standing(pact, now)
  if (state === 'ended' && !anew) return undefined
  const known = mark(pact)
  if (theirs.mark > known + maxNumberStep) throw wrongNumber()
  const common = Math.min(policy.terms.commitment, theirs.terms.commitment)
  const ours = committed({ ...policy.terms, holds: Math.min(policy.terms.holds, theirs.wants) }, common)
  const other = committed({ ...theirs.terms, holds: Math.min(theirs.terms.holds, policy.wants) }, common)
  if (!isFair(other, policy)) return refuse(pact, 'terms')
  if (policy.matched) {
    if (!commits(ours, policy)) return refuse(pact, 'terms')
    ours.holds = other.holds = Math.min(ours.holds, other.holds)
    if (ours.holds < policy.matched.least && state !== 'active') return refuse(pact, 'tooLittle')
  }
  if (state === 'active' && !anew && pact.document) {
    const { agreement } = pact.document
    const before = sidesOf(agreement, self.publicKey)
    // It may offer less than it holds of ours by now: what is agreed upon stays.
    if (other.holds < Math.min(policy.needs, before.theirs.holds)) return undefined
    const isDue = agreement.until !== 0 && agreement.until - now < (agreement.until - agreement.made) / 4
    if (!isDue && isSame(before.ours, ours) && isSame(before.theirs, other)) return undefined
  }
  const agreement: Agreement = {
    ...pairOf({ key: self.publicKey, terms: ours }, { key: partner, terms: other }),
    number: Math.max(known, theirs.mark) + 1,
    made: now,
    until: policy.periodMs === 0 ? 0 : now + policy.periodMs,
    signBy: now + offerMs,
  }
  return { ...pact, offer: { bytes: encodeOffer(agreement, self), agreement } }
}

/**
 * The partner proposes.
 * @param isBusy an offer of ours is on its way
 * @returns the answer, and the state to be stored before it is sent
 * @throws KithError denied for an offer that is forged or of another pair
 */
export function onOffer(
  scene: Scene,
  pact: Pact,
  bytes: Buffer,
  isBusy: boolean,
): { pact: Pact; answer: PactAnswer } {
  const { self, partner } = scene
  const { agreement, by } = decodeOffer(bytes)
  if (sideOf(agreement, partner) !== by || sideOf(agreement, self.publicKey) === undefined)
    throw new KithError('denied', 'the offer of an agreement is not from this partner to us')
  // Said again, since our answer was lost.
  if (pact.document && isSameBody(pact.document.bytes, bytes))
    return { pact, answer: { kind: 'accepted', document: pact.document.bytes } }
  const reason = isBusy || pact.offer ? 'busy' : declineReason(scene, pact, agreement)
  if (reason === 'terms' && exceeds(scene.policy.terms, sidesOf(agreement, self.publicKey).ours))
    return { pact, answer: { kind: 'counter', wishes: wishes(pact, scene.policy) } }
  if (reason !== undefined) {
    const refused: Pact = { ...pact, refused: { reason, byUs: true } }
    return { pact: isPassing(reason) ? pact : refused, answer: { kind: 'declined', reason } }
  }
  const document = countersign(bytes, self)
  return { pact: bound(pact, document, agreement), answer: { kind: 'accepted', document } }
}

/** Why the document is not signed, if so. */
function declineReason(scene: Scene, pact: Pact, agreement: Agreement): DeclineReason | undefined {
  const { self, policy, now } = scene
  const { made, until, signBy, number } = agreement
  const known = mark(pact)
  if (pact.ending?.ending.by.equals(self.publicKey) && !pact.asks.anew) return 'ended'
  if (number <= known || number > known + maxNumberStep) return 'number'
  if (now > signBy || signBy > now + dayMs || made > now + dayMs) return 'late'
  const { ours, theirs } = sidesOf(agreement, self.publicKey)
  if (exceeds(policy.terms, ours) || (policy.matched && ours.holds > theirs.holds)) return 'terms'
  if (policy.matched && !commits(ours, policy)) return 'terms'
  if (policy.matched && theirs.holds < policy.matched.least) return 'tooLittle'
  const isLasting = until === 0 || (until > now && until - now <= longestMs)
  if (!isLasting || !isFair(ours, policy) || !isFair(theirs, policy)) return 'terms'
  const before =
    pact.document && standing(pact, now) === 'active'
      ? sidesOf(pact.document.agreement, self.publicKey)
      : undefined
  if (before && theirs.holds < Math.min(policy.needs, before.theirs.holds)) return 'tooLittle'
  return undefined
}

/** The partner's answer to our offer. @throws KithError denied for a document that is not the offer, signed by it */
export function onAnswer({ partner }: Scene, pact: Pact, answer: PactAnswer): Pact {
  const { offer } = pact
  // The comparison of another session was quicker.
  if (!offer) return pact
  if (answer.kind === 'accepted') {
    const agreement = decodeAgreement(answer.document)
    if (!isSameBody(offer.bytes, answer.document) || sideOf(agreement, partner) === undefined)
      throw new KithError('denied', 'the partner signed another agreement than was proposed')
    return bound(pact, answer.document, agreement)
  }
  const after = spend(pact, offer.agreement.number)
  if (answer.kind === 'counter' || isPassing(answer.reason)) return after
  return { ...after, asks: settled(after.asks), refused: { reason: answer.reason, byUs: false } }
}

/** What to give to a partner that knows documents up to this number. */
export function newestAfter(
  { document, ending }: Pact,
  number: number,
): { document?: Buffer; ending?: Buffer } {
  return {
    ...(document && document.agreement.number > number && { document: document.bytes }),
    ...(ending && { ending: ending.bytes }),
  }
}

/**
 * What the partner has that is newer than ours.
 * @throws KithError denied for what is forged, of another pair, or spent
 */
export function onNewest(scene: Scene, pact: Pact, newest: { document?: Buffer; ending?: Buffer }): Pact {
  const { self, partner } = scene
  let next = pact
  if (newest.document) {
    const agreement = decodeAgreement(newest.document)
    const isOurs = sideOf(agreement, self.publicKey) !== undefined && sideOf(agreement, partner) !== undefined
    if (!isOurs) throw new KithError('denied', 'the agreement is not between this partner and us')
    const known = Math.max(pact.document?.agreement.number ?? 0, pact.spent)
    if (agreement.number <= known)
      throw new KithError('denied', `the agreement is out of date: number ${agreement.number} of ${known}`)
    if (agreement.number > known + maxNumberStep) throw wrongNumber()
    next = bound(pact, newest.document, agreement)
  }
  if (newest.ending) next = onEnding(scene, next, newest.ending)
  return next
}

/** One side ends the document with this number; an end of an earlier one changes nothing. @throws KithError denied */
export function onEnding({ self, partner }: Scene, pact: Pact, bytes: Buffer): Pact {
  const ending = decodeEnding(bytes)
  const isOurs =
    (ending.by.equals(partner) && ending.other.equals(self.publicKey)) ||
    (ending.by.equals(self.publicKey) && ending.other.equals(partner))
  if (!isOurs) throw new KithError('denied', 'the end of an agreement is not from this partner to us')
  if (ending.number > (pact.document?.agreement.number ?? 0))
    throw new KithError('denied', 'the end of an agreement that there is not')
  if (ending.number !== pact.document?.agreement.number || pact.ending) return pact
  return { ...pact, ending: { bytes, ending }, noticedMs: 0 }
}

/** We end it. @throws KithError notFound when there is nothing to end */
export function end({ self, partner, now }: Scene, pact: Pact): Pact {
  if (!pact.document) throw new KithError('notFound', 'there is no agreement with this partner')
  if (pact.ending) return pact
  const { number } = pact.document.agreement
  const bytes = encodeEnding({ other: partner, number, time: now }, self)
  return { ...pact, ending: { bytes, ending: decodeEnding(bytes) }, noticedMs: 0 }
}

/** Ms of running time that are left of our notice; undefined: nothing was ended. */
export function noticeLeft(pact: Pact, self: Buffer, now: number): number | undefined {
  const state = standing(pact, now)
  if (!pact.document || state === 'active' || state === 'none') return undefined
  return Math.max(0, sidesOf(pact.document.agreement, self).ours.notice * 1000 - pact.noticedMs)
}

/** So many ms of running time went by. `free`: the notice is over, what is held for the partner may go. */
export function passed(scene: Scene, pact: Pact, ms: number): { pact: Pact; free: boolean } {
  const { self, now } = scene
  if (noticeLeft(pact, self.publicKey, now) === undefined) {
    const isClean = pact.noticedMs === 0 && !pact.freed
    return { pact: isClean ? pact : { ...pact, noticedMs: 0, freed: false }, free: false }
  }
  if (pact.freed) return { pact, free: false }
  const next = { ...pact, noticedMs: pact.noticedMs + ms }
  return { pact: next, free: noticeLeft(next, self.publicKey, now) === 0 }
}

/** Reasons that are over when the next offer comes. */
export function isPassing(reason: DeclineReason): boolean {
  return reason === 'busy' || reason === 'number' || reason === 'late'
}

function bound({ spent, asks, offer }: Pact, bytes: Buffer, agreement: Agreement): Pact {
  // An offer of ours with a higher number is still on its way, and has yet to be answered.
  const isOpen = offer && offer.agreement.number > agreement.number
  return {
    document: { bytes, agreement },
    spent,
    asks: settled(asks),
    noticedMs: 0,
    freed: false,
    ...(isOpen && { offer }),
  }
}

/** Nothing is proposed to a partner whose terms are not worth it. */
function refuse(pact: Pact, reason: DeclineReason): Pact {
  const isKnown = pact.refused?.byUs === true && pact.refused.reason === reason && !pact.asks.anew
  return isKnown ? pact : { ...pact, asks: settled(pact.asks), refused: { reason, byUs: true } }
}

/** The wish for a new one was granted or refused; the sizes stay. */
function settled({ anew: _, ...sizes }: Pact['asks']): Pact['asks'] {
  return sizes
}

function spend({ offer: _, ...rest }: Pact, number: number): Pact {
  return { ...rest, spent: Math.max(rest.spent, number) }
}

/** Both commit for as long as both would, if that is longer than the grace. */
function committed(terms: Terms, seconds: number): Terms {
  return { ...terms, commitment: seconds > terms.grace ? seconds : 0 }
}

/** Who asks a stranger to commit makes no agreement without: going on from partner to partner would gain something otherwise. */
function commits({ commitment }: Terms, { terms }: Policy): boolean {
  return terms.commitment === 0 || commitment > 0
}

/** Whether a side's promise is worth a signature: it commits for no longer than we would, and nothing goes at once. */
function isFair({ commitment, notice }: Terms, { terms }: Policy): boolean {
  return commitment <= terms.commitment && notice >= leastNoticeSeconds
}

/** Whether these terms ask more of a side than it would promise. */
function exceeds(most: Terms, asked: Terms): boolean {
  return (
    asked.holds > most.holds ||
    asked.bandwidth > most.bandwidth ||
    asked.audit < most.audit ||
    asked.grace < most.grace ||
    asked.notice > most.notice ||
    !withinWeek(asked.hours, most.hours)
  )
}

function isSame(a: Terms, b: Terms): boolean {
  const { hours, ...rest } = a
  return (
    hours.equals(b.hours) && Object.entries(rest).every(([name, value]) => b[name as keyof Terms] === value)
  )
}

function wrongNumber(): KithError {
  return new KithError('denied', 'the partner knows of agreements with numbers far beyond ours')
}
