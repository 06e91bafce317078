/** `kith offer [SIZE] [--each SIZE] [--want SIZE] [--open|--closed]`: the space that this node lends, and wants. */
import { KithError } from '../base/errors.js'
import type { Context } from './context.js'
import { parseSize, size } from './output.js'

export interface OfferOptions {
  each?: string
  want?: string
  open?: true
  closed?: true
}

export async function run(context: Context, [bytes]: (string | undefined)[], options: OfferOptions) {
  const { each, want, open, closed } = options
  if (open && closed) throw new KithError('usage', 'either --open or --closed, not both')
  const result = await context.call('offer', {
    ...(bytes !== undefined && { bytes: parseSize(bytes) }),
    ...(each !== undefined && { each: bound(each) }),
    ...(want !== undefined && { want: bound(want) }),
    ...((open ?? closed) && { open: open === true }),
  })
  context.print(result, () => {
    const most =
      result.each === null ? 'each partner may fill all of it' : `each partner at most ${size(result.each)}`
    const wanted = result.want === null ? 'as much as it offers' : `at most ${size(result.want)}`
    return [
      `Lent to partners:       ${size(result.bytes)} (${size(result.held)} in use); ${most}`,
      `Wanted of each partner: ${wanted}`,
      `Open pool:              ${result.open ? 'strangers may borrow, too, each as much as it lends to you' : 'closed; only members of your circles borrow'}`,
    ].join('\n')
  })
}

/** `all` takes the bound away. */
function bound(text: string): number | null {
  return text === 'all' ? null : parseSize(text)
}
