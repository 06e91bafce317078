/**
 * When a partner is on line, as it was seen: for each hour of the week (UTC, from Monday 0 h) how long this node looked, and how
 * long the partner was there. Pure: what was seen is folded in, and what is known so far comes out. Old weeks fade, since
 * habits change: of an hour at most `mostMs` are remembered, half of which is new after so much more time.
 *
 * What was not looked at says nothing: a node that is off line at night itself learns nothing about the nights of others.
 */
import type { Hours } from './types.js'
import { weekHours } from './types.js'

const hourMs = 3_600_000
const dayMs = 24 * hourMs
/** 1 January 1970 was a Thursday. */
const firstMonday = 3
/** Of one hour of the week: twelve weeks. */
const mostMs = 12 * hourMs
/** Before so much was seen, nothing is said. */
const leastSeenMs = 2 * dayMs
/** An hour that was hardly looked at counts like the others: so much of it is assumed to have gone as all of them did. */
const assumedMs = hourMs

export interface Presence {
  /** ms, by the hour of the week: looked at, and seen there */
  readonly looked: readonly number[]
  readonly there: readonly number[]
}

export const unseen: Presence = {
  looked: Array<number>(weekHours).fill(0),
  there: Array<number>(weekHours).fill(0),
}

/** For the time up to `now`, of which a part may have been in the hour before. @param ms at most a day counts */
export function seen(before: Presence, now: number, ms: number, isThere: boolean): Presence {
  const looked = [...before.looked]
  const there = [...before.there]
  const from = now - Math.min(Math.max(0, ms), dayMs)
  for (let at = from; at < now;) {
    const end = Math.min(now, (Math.floor(at / hourMs) + 1) * hourMs)
    const hour = hourOf(at)
    const [all, part] = [(looked[hour] ?? 0) + end - at, (there[hour] ?? 0) + (isThere ? end - at : 0)]
    const fades = all > mostMs ? mostMs / 2 / all : 1
    looked[hour] = Math.round(all * fades)
    there[hour] = Math.round(part * fades)
    at = end
  }
  return { looked, there }
}

/** 0..1 for each hour of the week; null: too little was seen. */
export function hoursSeen({ looked, there }: Presence): Hours | null {
  const [all, part] = [sum(looked), sum(there)]
  if (all < leastSeenMs) return null
  const usual = part / all
  return looked.map((ms, hour) => ((there[hour] ?? 0) + usual * assumedMs) / (ms + assumedMs))
}

/** 0..1 of the week: in which it was there; null: too little was seen. */
export function availabilitySeen(presence: Presence): number | null {
  const hours = hoursSeen(presence)
  return hours && sum(hours) / weekHours
}

/** 0..1 of the promised hours that were looked at: in which it was there; null: nothing was promised, or too little looked at. */
export function promiseKept({ looked, there }: Presence, promised: Hours | null): number | null {
  if (!promised) return null
  const within = (ms: readonly number[]) => sum(ms.map((one, hour) => one * (promised[hour] ?? 0)))
  const all = within(looked)
  return all < dayMs ? null : within(there) / all
}

/** What to reckon with: what was seen, else what was promised. */
export function expectedHours(presence: Presence, promised: Hours | null): Hours | null {
  return hoursSeen(presence) ?? promised
}

function hourOf(at: number): number {
  const hour = Math.floor(at / hourMs) + firstMonday * 24
  return ((hour % weekHours) + weekHours) % weekHours
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((all, one) => all + one, 0)
}
