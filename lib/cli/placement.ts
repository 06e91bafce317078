/** `kith placement [POLICY]` */
import type { Result } from '../daemon/api.js'
import type { Context } from './context.js'
import { plural, size } from './output.js'

export async function run(context: Context, [policy]: (string | undefined)[]): Promise<void> {
  const result = await context.call('placement', policy === undefined ? {} : { policy })
  context.print(
    result,
    () =>
      `Placement ${result.policy}: ${placementText(result)}.${repairText(result.repair, '\nRepairing: ')}`,
  )
}

/** `3+2: any 3 of 5 partners give all back; 12 stripes` */
export function placementText({ shape, needs, stripes }: Result<'placement'>): string {
  const placed = stripes > 0 ? `; ${plural(stripes, 'stripe')}` : ''
  if (shape === null) return `each partner gets everything${placed}`
  return `${shape}: any ${shape.split('+')[0] ?? ''} of ${needs} partners give all back${placed}`
}

/** `12 of 40 stripes, 3.1 MB to send`; nothing when nothing is to be done. */
export function repairText(repair: Result<'placement'>['repair'], lead: string): string {
  if (!repair) return ''
  const { stripes, done, bytes, noRoom, noSource } = repair
  const waits =
    noRoom > 0 ? '; waiting for a partner with room' : noSource > 0 ? '; waiting for partners on line' : ''
  return `${lead}${done} of ${plural(stripes, 'stripe')}, ${size(bytes)} to send${waits}`
}
