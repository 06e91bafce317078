/** `kith repair [--dry-run]`: exit 9 (damaged) when something is left that could not be healed. */
import { KithError } from '../base/errors.js'
import type { Result } from '../daemon/api.js'
import { badness, text } from './check.js'
import type { Context } from './context.js'
import { plural } from './output.js'

export async function run(context: Context, _args: string[], options: { dryRun?: true }) {
  const result = await context.call('repair', { dryRun: options.dryRun ?? false })
  context.print(result, () => [...lines(result), text(result.after)].join('\n'))
  const bad = badness(result.after)
  if (bad.length === 0) return
  const next = result.dryRun ? 'heal it by: kith repair' : hint(result)
  throw new KithError('damaged', `${bad.join(', ')}; ${next}`)
}

function lines({ dryRun, healed, rows, heads, marked, dropped, before }: Result<'repair'>): string[] {
  const { record, partner, live, copy } = healed
  const all = record + partner + live + copy
  if (badness(before).length === 0) return ['Nothing is damaged']
  const from = [
    partner > 0 ? `${partner} from partners` : '',
    live > 0 ? `${live} from live files` : '',
    record + copy > 0 ? `${record + copy} from what lies in the segments` : '',
  ].filter(Boolean)
  const which = from.length > 0 ? `: ${from.join(', ')}` : ''
  const told = [`${plural(all, 'block')} ${dryRun ? 'can be healed' : 'healed'}${which}`]
  if (rows > 0) told.push(`${plural(rows, 'row')} of the index written anew`)
  if (heads > 0) told.push(`${plural(heads, 'head')} signed anew`)
  if (dropped > 0)
    told.push(`${plural(dropped, 'block')} held for others dropped: their owners send them again`)
  if (marked > 0) told.push(`${plural(marked, 'file')} or directories will be read anew by the next snapshot`)
  return told
}

function hint({ marked, after }: Result<'repair'>): string {
  if (marked > 0) return 'now take a snapshot, which stores again what is still there; then: kith check'
  return after.missing > 0 ? 'bring partners on line and try again' : 'see kith check'
}
