/**
 * Retention: which snapshots the rules of a volume keep, and why. Pure: from the list, the rules, the time and a time zone
 * to a decision for each snapshot.
 *
 * A snapshot stays when any rule wants it, when it is pinned, when it has a tag to be kept, and when it is the newest. The
 * rules count what there is, as restic's and borg's do: `daily: 7` keeps the last snapshot of each of the 7 newest days
 * that have one. Nothing falls out of a counting rule merely because time passes, so a clock that is wrong cannot empty a
 * list.
 *
 * Time zones: days, ISO weeks, months and years are those of the machine's time zone at the time of planning. Hours are those
 * of the wall clock, too, but the hour that is repeated when summer time ends is two hours.
 *
 * Clocks that jump: a list ascends in time whatever the clock did (volume.ts). `withinMs` counts back from the newest
 * snapshot, not from the clock, and a stretch of more than a week without a snapshot counts as a week: a machine that was
 * off for a year, or whose clock once jumped ahead by ten, does not lose its history by that.
 */

/** Counts are of hours, days, ... that have a snapshot. A rule that is absent keeps nothing by itself. */
export interface RetentionPolicy {
  last?: number | undefined
  hourly?: number | undefined
  daily?: number | undefined
  weekly?: number | undefined
  monthly?: number | undefined
  yearly?: number | undefined
  withinMs?: number | undefined
  /** snapshots with any of these stay */
  tags?: readonly string[] | undefined
}

/** What the rules look at. */
export interface Retained {
  /** ms since 1970 */
  time: number
  pinned: boolean
  tags: readonly string[]
}

export interface Decision<S extends Retained> {
  snapshot: S
  keep: boolean
  /** which rules keep it; empty when none does */
  reasons: string[]
}

/** A moment on the wall clock. */
export interface WallTime {
  year: number
  month: number
  day: number
  hour: number
  /** of the wall clock from UTC */
  offsetMinutes: number
}

/** A stretch without snapshots counts as this much at most. */
const longestGapMs = 7 * 86_400_000

const periods: readonly [keyof RetentionPolicy & ('hourly' | Period), (at: WallTime) => string][] = [
  ['hourly', (at) => `${dayOf(at)} ${two(at.hour)}:00${zoneOf(at)}`],
  ['daily', dayOf],
  ['weekly', weekOf],
  ['monthly', (at) => `${at.year}-${two(at.month)}`],
  ['yearly', (at) => String(at.year)],
]
type Period = 'daily' | 'weekly' | 'monthly' | 'yearly'

/** Whether the policy has a rule at all. One that has none keeps everything. */
export function hasRules(policy: RetentionPolicy): boolean {
  const { last, hourly, daily, weekly, monthly, yearly, withinMs, tags } = policy
  const counts = [last, hourly, daily, weekly, monthly, yearly, withinMs]
  return counts.some((count) => count !== undefined && count > 0) || (tags?.length ?? 0) > 0
}

/**
 * @param snapshots oldest first
 * @param wallTime of the time zone in question
 * @returns a decision for each, in the same order
 */
export function planRetention<S extends Retained>(
  snapshots: readonly S[],
  policy: RetentionPolicy,
  wallTime: (time: number) => WallTime,
): Decision<S>[] {
  const decisions = snapshots.map((snapshot): Decision<S> => ({ snapshot, keep: false, reasons: [] }))
  const newestFirst = [...decisions].reverse()
  if (!hasRules(policy)) for (const { reasons } of decisions) reasons.push('no rule is set')
  newestFirst[0]?.reasons.push('newest')
  for (const { reasons } of newestFirst.slice(0, policy.last ?? 0)) reasons.push('last')
  for (const [rule, nameOf] of periods) keepPeriods(newestFirst, policy[rule] ?? 0, rule, nameOf, wallTime)
  keepWithin(newestFirst, policy.withinMs ?? 0)
  const wanted = new Set(policy.tags)
  for (const { snapshot, reasons } of decisions) {
    if (snapshot.pinned) reasons.push('pinned')
    for (const tag of snapshot.tags) if (wanted.has(tag)) reasons.push(`tag ${tag}`)
  }
  for (const decision of decisions) decision.keep = decision.reasons.length > 0
  return decisions
}

/** The newest snapshot of each of the newest `count` periods. */
function keepPeriods<S extends Retained>(
  newestFirst: readonly Decision<S>[],
  count: number,
  rule: string,
  nameOf: (at: WallTime) => string,
  wallTime: (time: number) => WallTime,
): void {
  const seen = new Set<string>()
  for (const { snapshot, reasons } of newestFirst) {
    if (seen.size >= count) return
    const period = nameOf(wallTime(snapshot.time))
    if (seen.has(period)) continue
    seen.add(period)
    reasons.push(`${rule} ${period}`)
  }
}

function keepWithin<S extends Retained>(newestFirst: readonly Decision<S>[], withinMs: number): void {
  if (withinMs <= 0) return
  let age = 0
  let later: number | undefined
  for (const { snapshot, reasons } of newestFirst) {
    if (later !== undefined) age += Math.min(later - snapshot.time, longestGapMs)
    later = snapshot.time
    if (age > withinMs) return
    reasons.push('within')
  }
}

function two(value: number): string {
  return String(value).padStart(2, '0')
}

function dayOf({ year, month, day }: WallTime): string {
  return `${year}-${two(month)}-${two(day)}`
}

function zoneOf({ offsetMinutes }: WallTime): string {
  const minutes = Math.abs(offsetMinutes)
  return `${offsetMinutes < 0 ? '-' : '+'}${two(Math.floor(minutes / 60))}${two(minutes % 60)}`
}

/** ISO 8601: a week belongs to the year of its Thursday. */
function weekOf({ year, month, day }: WallTime): string {
  const date = new Date(Date.UTC(year, month - 1, day))
  const weekday = date.getUTCDay() || 7
  date.setUTCDate(date.getUTCDate() + 4 - weekday)
  const thursdaysYear = date.getUTCFullYear()
  const week = Math.ceil((date.getTime() - Date.UTC(thursdaysYear, 0, 1) + 1) / (7 * 86_400_000))
  return `${thursdaysYear}-W${two(week)}`
}

/** The wall clock of a time zone like `Europe/Berlin`; of the machine's when none is given. */
export function wallClock(timeZone?: string): (time: number) => WallTime {
  if (timeZone === undefined) {
    return (time) => {
      const date = new Date(time)
      return {
        year: date.getFullYear(),
        month: date.getMonth() + 1,
        day: date.getDate(),
        hour: date.getHours(),
        offsetMinutes: -date.getTimezoneOffset(),
      }
    }
  }
  const format = new Intl.DateTimeFormat('en-US', {
    timeZone,
    hourCycle: 'h23',
    ...{ year: 'numeric', month: 'numeric', day: 'numeric', hour: 'numeric', minute: 'numeric' },
  })
  return (time) => {
    const parts = new Map(format.formatToParts(time).map(({ type, value }) => [type, Number(value)]))
    const at = (part: Intl.DateTimeFormatPartTypes) => parts.get(part) ?? 0
    const [year, month, day, hour] = [at('year'), at('month'), at('day'), at('hour')]
    const wall = Date.UTC(year, month - 1, day, hour, at('minute'))
    return { year, month, day, hour, offsetMinutes: Math.round((wall - time) / 60_000) }
  }
}
