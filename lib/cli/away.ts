/** `kith away [--until WHEN | --back]` */
import { KithError } from '../base/errors.js'
import type { Context } from './context.js'
import { spanOf } from './keep-options.js'
import { localTime, printable } from './output.js'

export interface AwayOptions {
  until?: string
  back?: true
}

export async function run(context: Context, _args: string[], { until, back }: AwayOptions) {
  if (until !== undefined && back) throw new KithError('usage', '--until and --back exclude each other')
  const now = context.clock.now()
  const result = await context.call('away', {
    ...(until !== undefined && { until: timeOf(until, now) }),
    ...(back && { until: null }),
  })
  context.print(result, () => {
    const head =
      result.until === null
        ? 'Not announced to be away'
        : `Announced to be away until ${localTime(result.until)}`
    const lines = result.partners.map(({ name, until: taken }) => {
      const who = printable(name)
      if (taken === null) return `${who} hears of it when it is on line`
      if (result.until === null) return `${who} knows that you are back`
      if (taken >= result.until) return `${who} knows`
      return taken === 0
        ? `${who} does not take it: no days are left this year, or it waits for an audit`
        : `${who} takes it until ${localTime(taken)}: more days are not left this year`
    })
    return [head, ...lines].join('\n')
  })
}

/** `2026-12-24`, `2026-12-24 18:00` (this machine's time), or a span from now on: `36h`, `10d`, `2w`. */
function timeOf(text: string, now: number): number {
  const date = /^(\d{4})-(\d{2})-(\d{2})(?:[ T](\d{2}):(\d{2}))?$/.exec(text)
  if (!date) return now + spanOf(text, '--until', '2026-12-24, 36h, 10d or 2w')
  const [year = 0, month = 0, day = 0, hour = 0, minute = 0] = date.slice(1).map((part) => Number(part ?? 0))
  const time = new Date(year, month - 1, day, hour, minute)
  if (time.getMonth() !== month - 1 || time.getDate() !== day || hour > 23 || minute > 59)
    throw new KithError('usage', `there is no ${text}`)
  return time.getTime()
}
