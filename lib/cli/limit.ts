/** `kith limit [--up RATE] [--hours HOURS]`: how fast this node sends to its partners. */
import type { Context } from './context.js'
import { parseSize, printable, size } from './output.js'

export interface LimitOptions {
  up?: string
  hours?: string
}

export async function run(context: Context, _args: string[], { up, hours }: LimitOptions) {
  const result = await context.call('limit', {
    ...(up !== undefined && { up: up === 'none' ? null : parseSize(up) }),
    ...(hours !== undefined && { hours: hours === 'all' ? null : hours }),
  })
  context.print(result, () => {
    if (result.up === null) return 'Sent to partners: as fast as the line takes it'
    const when = result.hours === null ? 'at all hours' : `${printable(result.hours)} (this machine's time)`
    const now = result.upNow === null ? '; no bound at this hour' : ''
    return `Sent to partners: at most ${size(result.up)} a second in all, ${when}${now}`
  })
}
