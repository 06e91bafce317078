/**
 * When snapshots are due: every so often, once all has been quiet for a while, at fixed times of the day. Pure: from the
 * rules, what is known of the volume, and the time. Nothing changed: nothing is due. What was missed, by a machine that
 * slept or was off, is made up by one snapshot at the first chance.
 *
 * Two clocks, since neither is enough: the wall clock may jump either way, the monotonic one stands still while the machine
 * sleeps and begins anew with each daemon. So the time since the last snapshot is what either of them says, whichever is
 * more; a wall clock that lies before the last snapshot says nothing. A jump forward costs one snapshot too many, and a
 * jump back starves nothing.
 */
import * as z from 'zod'

const timeOfDay = z.string().regex(/^([01]\d|2[0-3]):[0-5]\d$/, 'must be HH:MM, from 00:00 to 23:59')
const minutes = z.number().positive().max(527_040)

export const schedule = z
  .object({
    /** every so many minutes; null: not by interval */
    everyMinutes: minutes.nullable().optional(),
    /** when nothing changed for so many minutes */
    quietMinutes: minutes.optional(),
    /** each day at these times, local */
    at: z.array(timeOfDay).max(96).optional(),
    /** before the daemon ends in order, also with the machine */
    beforeStop: z.boolean().optional(),
  })
  .strict()

export type Schedule = z.infer<typeof schedule>

export interface Known {
  /** anything, since the last snapshot */
  changed: boolean
  /** by the wall clock, ms since 1970 */
  now: number
  lastSnapshot: number | undefined
  /** by the monotonic clock: now; when the mount was seen first; a snapshot since; the newest change, if it is known */
  monotonic: number
  mounted: number
  taken: number | undefined
  quietSince: number
}

const minuteMs = 60_000
/** After mounting, the first one is not taken before this: programs start, and much is written. */
const settleMs = 60_000

/** @param everyMs the interval where the schedule names none */
export function isDue(rules: Schedule, everyMs: number, known: Known): boolean {
  if (!known.changed) return false
  const settled = known.taken !== undefined || known.monotonic - known.mounted >= settleMs
  if (!settled) return false
  if (known.lastSnapshot === undefined) return true
  const since = elapsed(known)
  const every = rules.everyMinutes === undefined ? everyMs : (rules.everyMinutes ?? Infinity) * minuteMs
  if (since >= every) return true
  const { quietMinutes, at = [] } = rules
  if (quietMinutes !== undefined && known.monotonic - known.quietSince >= quietMinutes * minuteMs) return true
  const last = latestTime(at, known.now)
  return last !== undefined && last > known.now - since
}

/** Time since the last snapshot, ms: not less than what is certain. */
function elapsed({ now, lastSnapshot = now, monotonic, taken }: Known): number {
  const byWall = now - lastSnapshot
  if (taken !== undefined) return Math.max(monotonic - taken, byWall)
  // Of an earlier daemon; when the clock has gone back behind it, nobody knows how long ago it was.
  return byWall >= 0 ? byWall : Infinity
}

/** The last of these times of the day that has come, yesterday's among them. */
function latestTime(at: readonly string[], now: number): number | undefined {
  let latest: number | undefined
  for (const time of at) {
    const [hour = 0, minute = 0] = time.split(':').map(Number)
    for (const daysAgo of [0, 1]) {
      const date = new Date(now)
      // By the calendar: a day with a change of the clocks has another length.
      date.setDate(date.getDate() - daysAgo)
      date.setHours(hour, minute, 0, 0)
      const found = date.getTime()
      if (found <= now && (latest === undefined || found > latest)) latest = found
    }
  }
  return latest
}
