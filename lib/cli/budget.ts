/** `kith budget [SIZE|none] [--copies N]` */
import { KithError } from '../base/errors.js'
import type { Params, Result } from '../daemon/api.js'
import type { Context } from './context.js'
import { parseSize, plural, size } from './output.js'

export async function run(
  context: Context,
  [limit]: (string | undefined)[],
  { copies }: { copies?: string },
): Promise<void> {
  const params: Params<'budget'> = {
    ...(limit !== undefined && { bytes: limit === 'none' ? null : parseSize(limit) }),
    ...(copies !== undefined && { copies: countOf(copies) }),
  }
  const result = await context.call('budget', params)
  context.print(result, () => text(result))
}

function countOf(text: string): number {
  if (/^[1-9]\d{0,2}$/.test(text)) return Number(text)
  throw new KithError('usage', `--copies wants a number of partners, 1 or more, not '${text}'`)
}

function text(space: Result<'budget'>): string {
  const rule = `what ${plural(space.copies, 'partner')} hold may go when room is needed`
  return space.bytesBudget === null
    ? `No budget: all blocks are kept here. ${spaceText(space)}`
    : `${spaceText(space)}; ${rule}, the least recently used first.`
}

/** `1.2 GB of 20 GB kept here, 3 GB with partners only` */
export function spaceText({ bytesHere, bytesBudget, bytesEvicted }: Result<'budget'>): string {
  const here = bytesBudget === null ? size(bytesHere) : `${size(bytesHere)} of ${size(bytesBudget)}`
  return `${here} kept here${bytesEvicted > 0 ? `, ${size(bytesEvicted)} with partners only` : ''}`
}
