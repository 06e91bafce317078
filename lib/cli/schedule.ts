/** `kith schedule [DIR] [--every T | --no-every] [--quiet T] [--at HH:MM,...] [--before-stop] [--default]` */
import { KithError } from '../base/errors.js'
import type { Params, Result } from '../daemon/api.js'
import { optionalDir, type Context } from './context.js'
import { printable } from './output.js'

type Rules = NonNullable<Params<'schedule'>['schedule']>

interface Options {
  every?: string | false
  quiet?: string
  at?: string
  beforeStop?: true
  default?: true
}

export async function run(context: Context, [dir]: (string | undefined)[], options: Options) {
  const rules = rulesFrom(options)
  if (rules && options.default) throw new KithError('usage', 'give rules or --default, not both')
  const schedule = options.default ? null : rules
  const result = await context.call('schedule', {
    ...optionalDir(dir),
    ...(schedule !== undefined && { schedule }),
  })
  context.print(
    result,
    () => `${printable(result.dir)}: snapshots ${inWords(result)}, when something changed`,
  )
}

/** Undefined without any rule: the schedule is only told. What is given replaces all that was. */
function rulesFrom({ every, quiet, at, beforeStop }: Options): Rules | undefined {
  const rules: Rules = {}
  if (every === false) rules.everyMinutes = null
  else if (every !== undefined) rules.everyMinutes = minutes('--every', every)
  if (quiet !== undefined) rules.quietMinutes = minutes('--quiet', quiet)
  if (at !== undefined) rules.at = at.split(',').map((time) => timeOfDay(time.trim()))
  if (beforeStop) rules.beforeStop = true
  if (Object.keys(rules).length === 0) return undefined
  // Who names times of the day, or quiet, means these and no others.
  if (rules.everyMinutes === undefined && (rules.at || rules.quietMinutes !== undefined))
    rules.everyMinutes = null
  return rules
}

function inWords({ schedule, everyMinutes }: Result<'schedule'>): string {
  const parts: string[] = []
  if (everyMinutes !== null) parts.push(`every ${span(everyMinutes)}`)
  if (schedule.quietMinutes !== undefined) parts.push(`after ${span(schedule.quietMinutes)} of quiet`)
  if (schedule.at && schedule.at.length > 0) parts.push(`daily at ${schedule.at.join(', ')}`)
  if (schedule.beforeStop) parts.push('before the daemon ends')
  return parts.length > 0 ? parts.join(', ') : 'only by command'
}

function span(minutes: number): string {
  return minutes % 60 === 0 ? `${minutes / 60} h` : `${minutes} min`
}

const units: Record<string, number> = { m: 1, min: 1, h: 60, d: 1440 }

function minutes(option: string, value: string): number {
  const [, digits = '', unit = ''] = /^(\d{1,6})(m|min|h|d)$/.exec(value) ?? []
  const found = Number(digits) * (units[unit] ?? NaN)
  if (!(found >= 1 && found <= 527_040)) {
    throw new KithError('usage', `${option} wants minutes, hours or days, like 10m, 2h or 1d, not '${value}'`)
  }
  return found
}

function timeOfDay(value: string): string {
  if (/^([01]\d|2[0-3]):[0-5]\d$/.test(value)) return value
  throw new KithError('usage', `--at wants times of the day, like 03:00,12:30, not '${value}'`)
}
