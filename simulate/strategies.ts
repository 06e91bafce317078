/**
 * What it brings to cheat: space times time that a node gets from a partner, against what it gives. A stranger's record decides what it
 * is entrusted with (planning/trust.ts), audits and the grace whether it is given up (planning/partner-state.ts), and a fresh
 * agreement's *commitment* from when on its restores are honoured. What cannot be restored is worth nothing, so it does not
 * count as got. Who is given up comes back the next day, under another name and without a record.
 */
import { seeded } from '../lib/base/random.js'
import { weekBytes } from '../lib/format/week.js'
import { commitmentLeft, recordOf } from '../lib/planning/partner-state.js'
import { defaultPolicy } from '../lib/planning/selection.js'
import { entrusted } from '../lib/planning/trust.js'
import type { Candidate } from '../lib/planning/types.js'
import { dayMs, Turns } from './lives.js'
import { Courses, Watch } from './watch.js'

const hourMs = 3_600_000
/** that both would lend each other */
const space = 10e9

export interface StrategyOptions {
  readonly forMs: number
  readonly seed: number
  readonly graceDays: number
  readonly commitmentDays: number
  readonly auditHours: number
}

/** What it does so many days after it appeared under this name. */
type Strategy = (days: number, options: StrategyOptions) => { isThere: boolean; keeps: boolean }

/** Of those that go: when the grace, and what comes before it, is used up, they are back under another name. */
export const strategies: Readonly<Record<string, Strategy>> = {
  honest: () => ({ isThere: true, keeps: true }),
  /** says that it took everything, and keeps nothing */
  freeloader: () => ({ isThere: true, keeps: false }),
  /** gone as soon as its own data is placed */
  hopper: () => ({ isThere: false, keeps: false }),
  /** keeps all until its restores are honoured, and goes then */
  'late hopper': (days, { commitmentDays }) => {
    const stays = days <= commitmentDays
    return { isThere: stays, keeps: stays }
  },
  /** the same a year later, when it is entrusted with everything */
  'patient hopper': (days) => ({ isThere: days <= 365, keeps: days <= 365 }),
}

export interface StrategyResult {
  /** byte days that the partner kept for it; of these, while a restore would have been honoured; and what it kept itself */
  held: number
  got: number
  given: number
  names: number
  /** hours from when it keeps nothing until it is given up, on average */
  caughtHours: number
}

export function simulateStrategy(strategy: Strategy, options: StrategyOptions): StrategyResult {
  const { forMs, seed, graceDays, commitmentDays, auditHours } = options
  const terms = { hours: Buffer.alloc(weekBytes), grace: graceDays * 86_400, notice: 14 * 86_400 }
  const courses = Courses.of(terms)
  const result = { held: 0, got: 0, given: 0, names: 0, caughtHours: 0 }
  let caught = 0
  for (let born = 0; born < forMs; born += dayMs) {
    result.names++
    const turns = new Turns(seeded(seed + result.names), 0.9, born)
    const watch = new Watch(courses, born)
    let emptyAt = Infinity
    let now = born
    for (; now < forMs && watch.state !== 'reneged'; now += hourMs) {
      const { isThere, keeps } = strategy((now - born) / dayMs, options)
      if (!keeps) emptyAt = Math.min(emptyAt, now)
      const isOnline = isThere && turns.isOnline(now)
      if (isOnline !== watch.online) watch.tell({ kind: isOnline ? 'came' : 'went', now })
      watch.hour(now)
      const isAudit = Math.floor((now - born) / hourMs) % auditHours === auditHours - 1
      if (isAudit && isOnline) watch.tell({ kind: keeps ? 'passed' : 'failed', now })
      const bytes = entrusted(candidateOf(watch, now), defaultPolicy)
      result.held += bytes / 24
      if (keeps) result.given += bytes / 24
      if (commitmentLeft(born, commitmentDays * 86_400, now) === 0) result.got += bytes / 24
    }
    if (watch.state === 'reneged') {
      result.caughtHours += (now - emptyAt) / hourMs
      caught++
    }
    born = now
  }
  result.caughtHours /= Math.max(1, caught)
  return result
}

/** A stranger who would lend as much as it is lent. */
function candidateOf(watch: Watch, now: number): Candidate {
  const unknown = {
    distance: null,
    roundTrip: null,
    prefix: null,
    region: null,
    system: null,
    architecture: null,
  }
  const record = recordOf(watch.whole(), now)
  const rest = { id: '', invited: false, holds: null, belief: 0, circles: [], hours: null, bandwidth: null }
  return { ...unknown, ...rest, space, record }
}
