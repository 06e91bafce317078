/** `kith placement [POLICY]` */
import type { Result } from '../daemon/api.js'
import type { Context } from './context.js'
import { plural } from './output.js'

export async function run(context: Context, [policy]: (string | undefined)[]): Promise<void> {
  const result = await context.call('placement', policy === undefined ? {} : { policy })
  context.print(result, () => `Placement ${result.policy}: ${placementText(result)}.`)
}

/** `3+2: any 3 of 5 partners give all back; 12 stripes` */
export function placementText({ shape, needs, stripes }: Result<'placement'>): string {
  const placed = stripes > 0 ? `; ${plural(stripes, 'stripe')}` : ''
  if (shape === null) return `each partner gets everything${placed}`
  return `${shape}: any ${shape.split('+')[0] ?? ''} of ${needs} partners give all back${placed}`
}
