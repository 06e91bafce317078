/** `kith offer [SIZE] [--each SIZE] [--want SIZE]`: the space that this node lends, and wants. */
import type { Context } from './context.js'
import { parseSize, size } from './output.js'

export interface OfferOptions {
  each?: string
  want?: string
}

export async function run(context: Context, [bytes]: (string | undefined)[], { each, want }: OfferOptions) {
  const result = await context.call('offer', {
    ...(bytes !== undefined && { bytes: parseSize(bytes) }),
    ...(each !== undefined && { each: bound(each) }),
    ...(want !== undefined && { want: bound(want) }),
  })
  context.print(result, () => {
    const most =
      result.each === null ? 'each partner may fill all of it' : `each partner at most ${size(result.each)}`
    const wanted = result.want === null ? 'as much as it offers' : `at most ${size(result.want)}`
    return [
      `Lent to partners:       ${size(result.bytes)} (${size(result.held)} in use); ${most}`,
      `Wanted of each partner: ${wanted}`,
    ].join('\n')
  })
}

/** `all` takes the bound away. */
function bound(text: string): number | null {
  return text === 'all' ? null : parseSize(text)
}
