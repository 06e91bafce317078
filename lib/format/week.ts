/**
 * The hours of a week, as a bit each, and as people write them: `mon-fri 8-18, sat-sun 0-24`. What is promised to partners
 * is UTC, since they live in different zones and clocks that are put forward would move a promise.
 *
 *     [0..21)  3 bytes a day, Monday first; hour h is bit h % 8 of byte h / 8 of its day
 */
import { KithError } from '../base/errors.js'

export const weekBytes = 21

const days = ['mon', 'tue', 'wed', 'thu', 'fri', 'sat', 'sun'] as const
const dayHours = 24

/** @throws KithError usage, saying what is wrong */
export function parseWeek(text: string): Buffer {
  const week = Buffer.alloc(weekBytes)
  for (const part of text.toLowerCase().split(',')) {
    const match = /^\s*([a-z]{3})(?:-([a-z]{3}))?\s+(\d{1,2})-(\d{1,2})\s*$/.exec(part)
    const from = days.indexOf((match?.[1] ?? '') as never)
    const to = match?.[2] === undefined ? from : days.indexOf(match[2] as never)
    const [start, end] = [Number(match?.[3]), Number(match?.[4])]
    if (!match || from < 0 || to < from || start >= end || end > dayHours) throw badHours(part.trim())
    for (let day = from; day <= to; day++) for (let hour = start; hour < end; hour++) setHour(week, day, hour)
  }
  return week
}

/** Days with the same hours stand together. Empty when no hour is set. */
export function weekText(week: Buffer): string {
  const ofDay = days.map((_, day) => runs(week, day))
  const parts: string[] = []
  for (let from = 0; from < days.length;) {
    let to = from
    while (to + 1 < days.length && ofDay[to + 1] === ofDay[from]) to++
    const name = from === to ? days[from] : `${days[from] ?? ''}-${days[to] ?? ''}`
    for (const run of (ofDay[from] ?? '').split(' ').filter(Boolean)) parts.push(`${name ?? ''} ${run}`)
    from = to + 1
  }
  return parts.join(', ')
}

/** Whether every hour of `part` is also in `whole`. */
export function withinWeek(part: Buffer, whole: Buffer): boolean {
  return part.every((bits, i) => (bits & ~(whole[i] ?? 0)) === 0)
}

/** Whether this hour (0 to 23) of the day (0: Monday) is in it. */
export function isHourIn(week: Buffer, day: number, hour: number): boolean {
  return (((week[3 * day + (hour >> 3)] ?? 0) >> (hour & 7)) & 1) === 1
}

function setHour(week: Buffer, day: number, hour: number): void {
  const at = 3 * day + (hour >> 3)
  week[at] = (week[at] ?? 0) | (1 << (hour & 7))
}

function runs(week: Buffer, day: number): string {
  const found: string[] = []
  const isSet = (hour: number) => hour < dayHours && isHourIn(week, day, hour)
  for (let hour = 0; hour < dayHours; hour++) {
    if (!isSet(hour)) continue
    const start = hour
    while (isSet(hour)) hour++
    found.push(`${start}-${hour}`)
  }
  return found.join(' ')
}

function badHours(part: string): KithError {
  return new KithError('usage', `bad hours '${part}'; write them like: mon-fri 8-18, sat-sun 0-24`)
}
