/** What a partner is by now, in words: `on line`, `seen 3 days ago; in grace, 4 days are left`. */
import type { PartnerStateInfo } from '../daemon/api-state.js'
import { age, localTime, plural } from './output.js'

const hourMs = 3_600_000
const dayMs = 24 * hourMs

export function presenceText(
  { online, lastSeen, state }: { online: boolean; lastSeen: number | null; state: PartnerStateInfo },
  now: number,
): string {
  const seen = online ? 'on line' : lastSeen === null ? 'off line' : `seen ${age(lastSeen, now)}`
  const { committedUntil } = state
  const later = committedUntil === null ? [] : [`gives nothing back before ${localTime(committedUntil)}`]
  return [seen, ...stateLines(state), ...later].join('; ')
}

/** Nothing for one that is good and here, or may be elsewhere. */
function stateLines({ name, since, graceLeftMs, awayUntil }: PartnerStateInfo): string[] {
  const away = awayUntil === null ? [] : [`away until ${localTime(awayUntil)}`]
  switch (name) {
    case 'good':
      return away
    case 'late':
      return [...away, `late since ${localTime(since)}`]
    case 'grace':
      return [...away, `in grace, ${duration(graceLeftMs ?? 0)} left`]
    case 'reneged':
      return [`reneged ${localTime(since)}, its copy does not count`]
    case 'leaving':
      return ['leaving, its copy does not count']
    case 'gone':
      return [`gone since ${localTime(since)}`]
  }
}

/** `3 days`, `5 hours`: rounded up */
export function duration(ms: number): string {
  return ms >= 2 * dayMs ? plural(Math.ceil(ms / dayMs), 'day') : plural(Math.ceil(ms / hourMs), 'hour')
}
