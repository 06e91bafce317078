/** How fast this node sends to its partners: `kith limit`. lib/partners/pace.ts holds to it. */
import { isHourIn, parseWeek } from '../format/week.js'
import type { Params, Result } from './api.js'
import type { Settings } from './config.js'
import type { Services } from './services.js'

/** Bytes a second that may go out now; undefined: as fast as it goes. Hours are those of this machine's zone. */
export function limitUpAt(settings: Readonly<Settings>, now: number): number | undefined {
  const { limitUpBytes, limitUpHours } = settings
  if (limitUpBytes === undefined || limitUpHours === undefined) return limitUpBytes
  const date = new Date(now)
  const isNow = isHourIn(parseWeek(limitUpHours), (date.getDay() + 6) % 7, date.getHours())
  return isNow ? limitUpBytes : undefined
}

/** Takes effect within a second. @throws KithError usage for hours that are none */
export function limit({ config, clock }: Services, { up, hours }: Params<'limit'>): Result<'limit'> {
  if (typeof hours === 'string') parseWeek(hours)
  config.set({
    ...(up !== undefined && { limitUpBytes: up ?? undefined }),
    ...(hours !== undefined && { limitUpHours: hours ?? undefined }),
  })
  const { limitUpBytes, limitUpHours } = config.settings
  return {
    up: limitUpBytes ?? null,
    hours: limitUpHours ?? null,
    upNow: limitUpAt(config.settings, clock.now()) ?? null,
  }
}
