/** `kith partners find [COUNT]`: how many partners are wanted, and how the search for them stands. */
import { KithError } from '../base/errors.js'
import type { Context } from './context.js'
import { plural } from './output.js'

const most = 64

export async function run(context: Context, [count]: (string | undefined)[]) {
  const result = await context.call('seek', count === undefined ? {} : { partners: parsed(count) })
  context.print(result, () => {
    const { wanted, have, found, met } = result
    if (wanted === 0) return `${plural(have, 'partner')}; none are sought (kith partners find COUNT)`
    if (have >= wanted) return `${plural(have, 'partner')} of ${wanted} wanted: none are sought now`
    return `${plural(have, 'partner')} of ${wanted} wanted; looking in the open pool (last round: ${met} met of ${found} found)`
  })
}

function parsed(text: string): number {
  if (!/^\d{1,2}$/.test(text) || Number(text) > most)
    throw new KithError('usage', `'${text}' is no number of partners; give 0 to ${most}`)
  return Number(text)
}
