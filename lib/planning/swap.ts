/**
 * When a full set of partners is improved (L2, L3): which of today's partners gives way to which candidate, and what is to be
 * true at each step until it has. Pure; partners/swaps.ts keeps the step on disk and carries it out, pool.ts brings the candidates.
 *
 * 1. *Begin* only where it pays: to send somebody a whole backup is dear, so the exchange must gain `gain`, and `bytes` more for
 *    what the candidate lacks of our data. One exchange at a time, `restMs` between two, whatever became of the first. Who gives
 *    way was a partner for `leastAgeMs`; who was invited never does. No bound of selection.ts is broken, and the only near, or the
 *    only far partner goes for another such one only.
 * 2. *Fill*: the new partner is bound beside the old one, and gets everything.
 * 3. *Try*: for `trialMs`, and for as long as its commitment runs (in which it gives nothing back), both are partners. By then
 *    the hours, the delay and the audits of both were seen from here, and what the candidate said counts no more: where less than
 *    `stays` is gained by what was seen, the new one goes. The two thresholds lie apart, so that noise moves nobody back and forth.
 * 4. *Move*: elements of stripes at the old one are made again at others (repair.ts takes it for leaving).
 * 5. *Part*: the old agreement is ended, with its notice, once the new partner holds all that the old one holds, proven by an
 *    audit, and no element is left at the old one. Until then nothing was taken from it: at each step there are as many good
 *    copies as before the first.
 *
 * What a set is worth here is not the value of score.ts: partners of today hold everything, so coverage says nothing about them.
 */
import { hoursCovered, type Scored, scored } from './score.js'
import { fitsBeside } from './selection.js'
import { unfitWhy } from './reasons.js'
import { type Candidate, type SelectionPolicy, weekHours } from './types.js'
import type { StateName } from './partner-state.js'

const dayMs = 86_400_000

export const swapRules = {
  gain: 0.15,
  bytes: 0.1,
  stays: 0.08,
  leastAgeMs: 30 * dayMs,
  restMs: 7 * dayMs,
  trialMs: 14 * dayMs,
  /** After the commitment: who is not full, or not emptied, by then never is. */
  patienceMs: 60 * dayMs,
  /** An offer to the candidate may be signed for an hour. */
  offerMs: 2 * 3_600_000,
}

/** What counts how much; a partner that is always on line instead of never gains 0.5. Record, distance and bandwidth as in score.ts. */
const weights = { online: 0.5, hours: 0.4, difference: 0.2, distance: 0.4 }

export interface SwapMember {
  readonly candidate: Candidate
  readonly state: StateName
  /** for which it has been a partner, ms */
  readonly ageMs: number
}

export interface SwapInput {
  readonly members: readonly SwapMember[]
  readonly candidates: readonly Candidate[]
  readonly policy: SelectionPolicy
  /** bytes that a candidate must have room for, to take this member's place */
  needs(id: string): number
  /** 0..1 of our bytes that the candidate has proven to hold */
  share(candidate: Candidate): number
}

export interface SwapPlan {
  /** ids */
  readonly from: string
  readonly to: string
  readonly gain: number
  /** one line each, in words */
  readonly why: readonly string[]
}

/** The exchange that gains the most beyond what it costs; undefined: none is worth it. The same for the same input in any order. */
export function planSwap({ members, candidates, policy, needs, share }: SwapInput): SwapPlan | undefined {
  const sorted = [...members].sort((a, b) => (a.candidate.id < b.candidate.id ? -1 : 1))
  // Who is in grace may be lost next: its place is filled first.
  if (sorted.some(({ state }) => state === 'grace')) return undefined
  const all = sorted.map(({ candidate }) => candidate)
  const others = [...candidates].sort((a, b) => (a.id < b.id ? -1 : 1))
  let best: { plan: SwapPlan; beyond: number } | undefined
  for (const { candidate: from, ageMs } of sorted) {
    if (from.invited || ageMs < swapRules.leastAgeMs) continue
    const rest = all.filter((one) => one !== from)
    const [beside, before] = [rest.map(plain), plain(from)]
    for (const to of others) {
      if (to.space < needs(from.id) || unfitWhy(to, policy) !== undefined) continue
      if (!fitsBeside(policy, rest, to)) continue
      const counted = plain(likeKnown(to, from))
      const gain = gainOf(beside, before, counted)
      const beyond = gain - swapRules.gain - swapRules.bytes * (1 - share(to))
      if (beyond < 0 || beyond <= (best?.beyond ?? -Infinity)) continue
      const why = whyOf(beside, before, counted, share(to))
      best = { plan: { from: from.id, to: to.id, gain, why }, beyond }
    }
  }
  return best?.plan
}

/** Whether the new partner is better by what was seen of both. @param others the set without the two */
export function isBetter(others: readonly Candidate[], from: Candidate, to: Candidate): boolean {
  return gainOf(others.map(plain), plain(from), plain(likeKnown(to, from))) >= swapRules.stays
}

export type SwapStage = 'filling' | 'moving'

/** How an exchange stands, as it is known from what is on disk. */
export interface SwapFacts {
  readonly stage: SwapStage
  /** since it was begun, ms */
  readonly ageMs: number
  /** an agreement stands, and it did not renege */
  readonly isFromPartner: boolean
  readonly isToPartner: boolean
  /** for which the new one has been a partner, ms, and bytes short of what it is to hold, by its agreement */
  readonly boundMs: number
  readonly lacksRoom: boolean
  /** of the new one's commitment, ms that are left */
  readonly committedMs: number
  /** partners without the old one are as many as are wanted */
  readonly isSpare: boolean
  /** the new one holds all that the old one holds, and has proven it; nothing that is read is left at the old one */
  isFilled(): boolean
  isEmptied(): boolean
  /** by what was seen */
  isBetter(): boolean
}

/**
 * What comes next. `forget`: the exchange is over, whoever is bound stays so. `giveUp`: the new one's agreement is ended. `move`:
 * elements begin to move. `part`: the old one's agreement is ended. Said again after any crash, as it follows from facts only.
 */
export type SwapStep = 'wait' | 'forget' | 'giveUp' | 'move' | 'part'

export function nextSwapStep(facts: SwapFacts): SwapStep {
  const { stage, ageMs, boundMs, committedMs } = facts
  if (!facts.isFromPartner) return 'forget'
  if (!facts.isToPartner) return ageMs < swapRules.offerMs && stage === 'filling' ? 'wait' : 'forget'
  // Another was lost, or more are wanted: both stay.
  if (!facts.isSpare) return 'forget'
  if (facts.lacksRoom) return 'giveUp'
  const isTried = boundMs >= swapRules.trialMs && committedMs === 0
  const isReady = isTried && facts.isFilled()
  // Asked once: what has begun to move is not moved back.
  if (isReady && stage === 'filling') return facts.isBetter() ? 'move' : 'giveUp'
  if (isReady && facts.isEmptied()) return 'part'
  return committedMs === 0 && ageMs > swapRules.trialMs + swapRules.patienceMs ? 'giveUp' : 'wait'
}

/** What is not known of the old one counts for neither. */
function likeKnown(to: Candidate, from: Candidate): Candidate {
  return {
    ...to,
    region: from.region === null ? null : to.region,
    system: from.system === null ? null : to.system,
    architecture: from.architecture === null ? null : to.architecture,
    prefix: from.prefix === null ? null : to.prefix,
    bandwidth: from.bandwidth === null ? null : to.bandwidth,
    hours: from.hours === null ? null : to.hours,
  }
}

/** Scored without what it holds of our data: today's partners hold everything. */
function plain(candidate: Candidate): Scored {
  return scored(candidate, noShares)
}

function gainOf(rest: readonly Scored[], from: Scored, to: Scored): number {
  const kind = from.candidate.distance
  const isLost = kind !== null && kind !== to.candidate.distance && !has(rest, kind)
  return isLost ? -1 : worth([...rest, to]) - worth([...rest, from])
}

const noShares = new Float64Array(0)
const kinds = ['near', 'far'] as const
const has = (set: readonly Scored[], kind: Candidate['distance']) =>
  set.some(({ candidate }) => candidate.distance === kind)

function worth(set: readonly Scored[]): number {
  const own = set.reduce((sum, one) => sum + one.merit + weights.online * online(one), 0)
  const different = traits.reduce((sum, trait) => sum + new Set(set.map(trait).filter(isTold)).size, 0)
  return (
    own +
    weights.hours * hoursCovered(set)() +
    (weights.difference * different) / traits.length +
    weights.distance * kinds.filter((kind) => has(set, kind)).length
  )
}

const traits: readonly ((one: Scored) => string | null)[] = [
  ({ candidate }) => candidate.prefix,
  ({ candidate }) => candidate.region,
  ({ machine }) => machine,
]
const isTold = (text: string | null) => text !== null

/** 0..1 of the week */
function online({ hours }: Scored): number {
  return hours.reduce((sum, surely) => sum + surely, 0) / weekHours
}

function whyOf(rest: readonly Scored[], from: Scored, to: Scored, share: number): string[] {
  const lines: string[] = []
  const daily = (one: Scored) => Math.round(24 * online(one))
  const [kind, before] = [to.candidate.distance, from.candidate.distance]
  if (daily(to) > daily(from))
    lines.push(`on line about ${daily(to)} h a day, by its own account, instead of ${daily(from)}`)
  if (kind !== null && kind !== before && !has(rest, kind)) lines.push(`${kind}, as no other is`)
  if (share >= 0.005) lines.push(`has ${Math.round(100 * share)} % of your data already`)
  const apart = traits.flatMap((trait) => {
    const told = trait(to)
    return told !== null && [...rest, from].every((one) => trait(one) !== told) ? [told] : []
  })
  if (apart.length > 0) lines.push(`the only one with ${apart.join(' and ')}`)
  return lines.length > 0 ? lines : ['a little better in much']
}
