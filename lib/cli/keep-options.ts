/** `--keep-...`: rules for what is kept, as options and in words. */
import { KithError } from '../base/errors.js'
import type { RetentionRules } from '../daemon/api.js'

export interface KeepOptions {
  keepLast?: string
  keepHourly?: string
  keepDaily?: string
  keepWeekly?: string
  keepMonthly?: string
  keepYearly?: string
  keepWithin?: string
  keepTag?: string[]
}

const hourMs = 3_600_000
const dayMs = 24 * hourMs
/** A month has 30 days here, and a year 365. */
const units: Record<string, number> = { h: hourMs, d: dayMs, w: 7 * dayMs, m: 30 * dayMs, y: 365 * dayMs }

/** Undefined when no rule is given. @throws KithError usage */
export function rulesFrom(options: KeepOptions): RetentionRules | undefined {
  const rules: RetentionRules = {}
  const counts = [
    ['last', options.keepLast],
    ['hourly', options.keepHourly],
    ['daily', options.keepDaily],
    ['weekly', options.keepWeekly],
    ['monthly', options.keepMonthly],
    ['yearly', options.keepYearly],
  ] as const
  for (const [rule, value] of counts) if (value !== undefined) rules[rule] = countOf(`--keep-${rule}`, value)
  if (options.keepWithin !== undefined) rules.withinMs = spanOf(options.keepWithin)
  if (options.keepTag) rules.tags = options.keepTag
  return Object.keys(rules).length > 0 ? rules : undefined
}

/** `daily 7, within 30 days` */
export function rulesInWords({ withinMs, tags, ...counts }: RetentionRules): string {
  const words = Object.entries(counts).map(([rule, count]) => `${rule} ${count}`)
  if (withinMs !== undefined) words.push(`within ${spanInWords(withinMs)}`)
  for (const tag of tags ?? []) words.push(`tag ${tag}`)
  return words.join(', ')
}

function spanInWords(ms: number): string {
  return ms % dayMs === 0 ? `${ms / dayMs} days` : `${ms / hourMs} hours`
}

function countOf(option: string, value: string): number {
  if (/^\d{1,9}$/.test(value)) return Number(value)
  throw new KithError('usage', `${option} wants a number, not '${value}'`)
}

/** @throws KithError usage, naming the option and how it is written */
export function spanOf(value: string, option = '--keep-within', like = '36h, 30d, 8w, 6m or 1y6m'): number {
  const parts = [...value.matchAll(/(\d{1,6})([hdwmy])/g)]
  if (parts.length > 0 && parts.map(([part]) => part).join('') === value) {
    return parts.reduce((sum, [, count, unit]) => sum + Number(count) * (units[unit ?? ''] ?? 0), 0)
  }
  throw new KithError('usage', `${option} wants a time like ${like}, not '${value}'`)
}
