/**
 * What a partner is to us by now, and when that changes: a state machine. Its state, an event and the agreed terms in, the next
 * state out; the time is told by whoever calls. partners/states.ts keeps the states on disk and feeds them.
 *
 *                    missed, or an audit not passed          `verdictMs` more, or `tries` audits
 *            good ---------------------------------> late ---------------------------------> grace
 *             ^                                       |                                        |
 *             +------ here, and no audit is open -----+------ here, and no audit is open ------+
 *             |                                                                                | all of the grace is used,
 *             +------ an audit is passed ------ gone <------- `forgetMs` more -------- reneged <+ in an hour that it promised
 *
 *     good, late, grace --- the agreement ends ---> leaving --- its notice ---> gone
 *     any               --- a new agreement ------> good
 *
 * - *Missed* is time out of reach in the hours that it promised: `lateMs` of it make it late. Who promised no hours is missed after
 *   a day. Other hours, and an absence that it announced, are not missed.
 * - Only time in which this node itself ran and had a network is counted (`time` events say how much), at most `longestStepMs` for
 *   an event. So neither a clock that jumps nor our own absence costs a partner anything. The wall clock decides no more than
 *   which hour it is and whether an announced absence is over.
 * - *Grace* is a budget: time in grace uses it up, and comes back at `paidBack` times the time that the partner is good and on line.
 *   Who is there for a fifth of the time never uses it up; who shows up for an hour before each end does.
 * - A verdict falls only in an hour that the partner promised and in which it announced no absence, so that it could have been here.
 * - Being here ends what began with being out of reach; what began with audits ends with a passed one. Once it reneged, only a
 *   passed audit (it has the data after all) or a new agreement helps; its record keeps what was.
 * - Announced absences are at most `awayMostMs` a year, what is longer is cut; one is taken from who is good or late only.
 */
import { isHourIn } from '../format/week.js'
import type { TrackRecord } from './types.js'

export const stateNames = ['good', 'late', 'grace', 'reneged', 'leaving', 'gone'] as const
export type StateName = (typeof stateNames)[number]

export interface PartnerTerms {
  /** hours on line that it promises (format/week.ts); none set: no promise */
  readonly hours: Buffer
  /** seconds */
  readonly grace: number
  /** seconds that it keeps what it holds after the end */
  readonly notice: number
}

export interface PartnerState {
  readonly state: StateName
  /** ms since 1970, as all times here; the durations are ms */
  readonly since: number
  /** when this partner was first known, and since when the agreement stands that it keeps */
  readonly known: number
  readonly bound: number
  readonly online: boolean
  readonly lastSeen: number
  /** missed since it was last here */
  readonly missedMs: number
  /** out of reach since it was last here, whatever hours it promised, but for announced absences */
  readonly silentMs: number
  /** audits in a row that were failed or not answered */
  readonly tries: number
  /** used up of the grace */
  readonly graceMs: number
  /** in `reneged` or `leaving`: so much of what leads to `gone` has passed */
  readonly countedMs: number
  /** announced: out of reach until then; 0: not */
  readonly awayUntil: number
  /** of this year's announced absences; the year began at `awayYear` */
  readonly awayMs: number
  readonly awayYear: number
  /** agreements kept to their end, and broken */
  readonly kept: number
  readonly reneged: number
  /** audits that found something lost or wrong, in all */
  readonly faults: number
}

export type PartnerEvent =
  /** So much time passed in which we ran and had a network. */
  | { readonly kind: 'time'; readonly now: number; readonly ms: number }
  | { readonly kind: 'came' | 'went'; readonly now: number }
  | { readonly kind: 'passed' | 'failed' | 'unanswered'; readonly now: number }
  /** It announced to be out of reach until then; a time that has passed: it is back. */
  | { readonly kind: 'away'; readonly now: number; readonly until: number }
  /** By either side, or because it ran out. */
  | { readonly kind: 'ended'; readonly now: number }
  /** A new agreement after one that was over. */
  | { readonly kind: 'agreed'; readonly now: number }

const minuteMs = 60_000
const hourMs = 60 * minuteMs
export const dayMs = 24 * hourMs

/** Of promised time. */
export const lateMs = 15 * minuteMs
/** For who promised no hours. */
export const lateUnpromisedMs = dayMs
export const verdictMs = hourMs
export const triesMost = 3
export const paidBack = 4
/** What lasts longer between two `time` events is not counted. */
export const longestStepMs = hourMs
export const awayMostMs = 90 * dayMs
export const forgetMs = 30 * dayMs
const yearMs = 365 * dayMs
/** A running agreement counts as kept from then on. */
const provenMs = 14 * dayMs

export function newPartner(now: number): PartnerState {
  return {
    state: 'good',
    since: now,
    known: now,
    bound: now,
    online: false,
    lastSeen: now,
    missedMs: 0,
    silentMs: 0,
    tries: 0,
    graceMs: 0,
    countedMs: 0,
    awayUntil: 0,
    awayMs: 0,
    awayYear: now,
    kept: 0,
    reneged: 0,
    faults: 0,
  }
}

export function step(before: PartnerState, event: PartnerEvent, terms: PartnerTerms): PartnerState {
  const { now } = event
  switch (event.kind) {
    case 'time':
      return passed(before, Math.max(0, Math.min(event.ms, longestStepMs)), terms, now)
    case 'came':
      return settled({ ...before, online: true, lastSeen: now, missedMs: 0, silentMs: 0 }, now)
    case 'went':
      return { ...before, online: false, lastSeen: now }
    case 'passed':
      return proven(before, now)
    case 'failed':
    case 'unanswered':
      return accused(before, event.kind, now)
    case 'away':
      return announced(before, event.until, now)
    case 'ended':
      return ended(before, now)
    case 'agreed':
      return { ...before, ...fresh, state: 'good', since: now, bound: now }
  }
}

/** Whether the partner's copy counts: for what is evicted here, for how many partners there are. Late or in grace it does. */
export function counts({ state }: Pick<PartnerState, 'state'>): boolean {
  return state === 'good' || state === 'late' || state === 'grace'
}

/** Whether another is to take its place. */
export function isLost({ state }: Pick<PartnerState, 'state'>): boolean {
  return state === 'reneged' || state === 'gone'
}

export function isAway({ awayUntil }: Pick<PartnerState, 'awayUntil'>, now: number): boolean {
  return now < awayUntil
}

/** Whether it said that it would be here now; who promised nothing is always expected. */
export function isExpected(state: Pick<PartnerState, 'awayUntil'>, hours: Buffer, now: number): boolean {
  if (isAway(state, now)) return false
  return !promises(hours) || isHourIn(hours, Math.floor(now / dayMs + 3) % 7, Math.floor(now / hourMs) % 24)
}

/** Ms of the grace that are left. */
export function graceLeft(
  { graceMs }: Pick<PartnerState, 'graceMs'>,
  { grace }: Pick<PartnerTerms, 'grace'>,
): number {
  return Math.max(0, grace * 1000 - graceMs)
}

/** Ms of absence that it may still announce this year. */
export function awayLeft(state: Pick<PartnerState, 'awayMs' | 'awayYear'>, now: number): number {
  return awayMostMs - yearOf(state, now).awayMs
}

/** What selection.ts is told of it. */
export function recordOf(state: PartnerState, now: number): TrackRecord {
  const { known, bound, kept, reneged } = state
  const isKeeping = counts(state) && state.state !== 'grace' && now - bound >= provenMs
  return { kept: kept + (isKeeping ? 1 : 0), reneged, days: Math.max(0, (now - known) / dayMs) }
}

/**
 * Ms for which a fresh agreement's restores are neither asked nor honoured.
 * @param made when the first of the agreements that stand without a break was made
 * @param commitment seconds, by the terms of the side that holds
 */
export function commitmentLeft(made: number, commitment: number, now: number): number {
  // A clock set back to before the agreement leaves the whole, no more.
  return Math.max(0, Math.min(commitment * 1000, made + commitment * 1000 - now))
}

const fresh = { missedMs: 0, tries: 0, graceMs: 0, countedMs: 0 }

function enter(before: PartnerState, state: StateName, now: number): PartnerState {
  return before.state === state ? before : { ...before, state, since: now, countedMs: 0 }
}

function passed(before: PartnerState, ms: number, terms: PartnerTerms, now: number): PartnerState {
  // Both ends: a step that begins before a promised hour is not missed.
  const isDue = isExpected(before, terms.hours, now) && isExpected(before, terms.hours, now - ms)
  const isMissed = !before.online && isDue
  const lastSeen = before.online ? now : before.lastSeen
  const missedMs = before.missedMs + (isMissed ? ms : 0)
  const silentMs = before.online ? 0 : before.silentMs + (isAway(before, now) ? 0 : ms)
  const next = { ...before, lastSeen, missedMs, silentMs }
  switch (before.state) {
    case 'good': {
      const graceMs = before.online ? Math.max(0, before.graceMs - paidBack * ms) : before.graceMs
      return isLateBy(missedMs, terms) >= 0 ? enter({ ...next, graceMs }, 'late', now) : { ...next, graceMs }
    }
    case 'late': {
      const isOverdue = isLateBy(missedMs, terms) >= verdictMs || before.tries >= triesMost
      return isOverdue ? enter(next, 'grace', now) : next
    }
    case 'grace': {
      const graceMs = before.graceMs + (isAway(before, now) ? 0 : ms)
      const isUp = graceMs >= terms.grace * 1000
      if (!isUp || !isDue) return { ...next, graceMs }
      return enter({ ...next, graceMs, reneged: before.reneged + 1 }, 'reneged', now)
    }
    case 'reneged':
      return until(next, ms, forgetMs, now)
    case 'leaving':
      return until(next, ms, terms.notice * 1000, now)
    case 'gone':
      return next
  }
}

function until(before: PartnerState, ms: number, most: number, now: number): PartnerState {
  const countedMs = before.countedMs + ms
  return countedMs >= most ? enter(before, 'gone', now) : { ...before, countedMs }
}

/** Ms beyond what makes it late; negative: not yet. */
function isLateBy(missedMs: number, { hours }: PartnerTerms): number {
  return missedMs - (promises(hours) ? lateMs : lateUnpromisedMs)
}

/** It is here: what it was late for is over, unless an audit is open. */
function settled(before: PartnerState, now: number): PartnerState {
  const isWaiting = before.state === 'late' || before.state === 'grace'
  return isWaiting && before.online && before.tries === 0 ? enter(before, 'good', now) : before
}

function proven(before: PartnerState, now: number): PartnerState {
  const next = { ...before, tries: 0, missedMs: 0, silentMs: 0, lastSeen: now }
  if (before.state === 'leaving' || before.state === 'good') return next
  return enter(isLost(before) ? { ...next, ...fresh, bound: now } : next, 'good', now)
}

function accused(before: PartnerState, kind: 'failed' | 'unanswered', now: number): PartnerState {
  const faults = before.faults + (kind === 'failed' ? 1 : 0)
  const next = { ...before, faults, tries: Math.min(255, before.tries + 1) }
  if (before.state === 'good') return enter(next, 'late', now)
  return before.state === 'late' && next.tries >= triesMost ? enter(next, 'grace', now) : next
}

function yearOf({ awayMs, awayYear }: Pick<PartnerState, 'awayMs' | 'awayYear'>, now: number) {
  const isOver = now - awayYear >= yearMs || now < awayYear
  return isOver ? { awayMs: 0, awayYear: now } : { awayMs, awayYear }
}

/** What was announced before, and has not passed, is given back first. */
function announced(before: PartnerState, wanted: number, now: number): PartnerState {
  const year = yearOf(before, now)
  const used = Math.max(0, year.awayMs - Math.max(0, before.awayUntil - now))
  const isTaken = wanted > now && (before.state === 'good' || before.state === 'late')
  const ms = isTaken ? Math.min(wanted - now, awayMostMs - used) : 0
  const next = { ...before, ...year, awayMs: used + ms, awayUntil: ms > 0 ? now + ms : 0, missedMs: 0 }
  return isTaken && ms > 0 && before.tries === 0 ? enter(next, 'good', now) : next
}

function ended(before: PartnerState, now: number): PartnerState {
  return before.state === 'leaving' || isLost(before)
    ? before
    : { ...enter(before, 'leaving', now), kept: before.kept + 1 }
}

function promises(hours: Buffer): boolean {
  for (let i = 0; i < hours.length; i++) if (hours[i] !== 0) return true
  return false
}
