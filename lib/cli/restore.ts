/** `kith restore SNAPSHOT[:PATH] --to TARGET [--overwrite MODE] [--delete [--yes]] [--dry-run]` */
import { resolve } from 'node:path'
import { KithError } from '../base/errors.js'
import type { Item, OverwriteMode, Params, Result } from '../daemon/api.js'
import { optionalDir, snapshotPart, type Context } from './context.js'
import { differenceLine, plural, printable, size } from './output.js'
import { ask } from './prompt.js'

interface Options {
  to: string
  dir?: string
  overwrite: OverwriteMode
  include?: string[]
  exclude?: string[]
  delete?: true
  yes?: true
  dryRun?: true
}

const removalsTold = 20

export async function run(context: Context, [what = '']: string[], options: Options) {
  const { to, overwrite, include, exclude } = options
  if (options.yes && !options.delete) throw new KithError('usage', '--yes goes with --delete')
  const params = {
    ...optionalDir(options.dir),
    ...snapshotPart(what),
    to: resolve(to),
    overwrite,
    ...(include && { include }),
    ...(exclude && { exclude }),
    ...(options.delete && { delete: true }),
  }
  if (options.dryRun) {
    context.note(summary(await context.list('restorePlan', params, plannedLine)))
    return
  }
  if (options.delete && !options.yes) await confirm(context, params)
  const result = await context.call('restore', params)
  context.print(result, () => said(result))
}

function said({ to, files, bytes, snapshot, skipped, removed, stayed }: Result<'restore'>): string {
  const parts = [`${printable(to)}: ${plural(files, 'file')}, ${size(bytes)} from ${snapshot}`]
  if (skipped > 0) parts.push(`${plural(skipped, 'file')} left as they were`)
  if (removed > 0) parts.push(`${plural(removed, 'name')} removed`)
  if (stayed > 0) parts.push(`${plural(stayed, 'name')} that the snapshot has not left where they are`)
  return parts.join('; ')
}

function plannedLine(item: Item<'restorePlan'>): string {
  const bytes = item.after ?? item.before
  const told = bytes?.type === 'file' ? `  ${size(bytes.size)}` : ''
  return `${differenceLine(item)}${told}${item.blocked ? '  (a directory is in its place, and stays)' : ''}`
}

function summary(plan: Result<'restorePlan'>): string {
  const { made, written, updated, replaced, removed, again, blocked } = plan
  const parts = [
    `${made} made, ${written} written anew, ${updated} given other attributes, ${replaced} replaced`,
    `${size(plan.bytes)} written`,
  ]
  if (again > 0) parts.push(`${plural(again, 'file')} that look the same among them`)
  if (removed > 0) parts.push(`${removed} removed (${size(plan.bytesRemoved)})`)
  if (blocked > 0)
    parts.push(`${plural(blocked, 'name')} could not be restored, and so nothing would be removed`)
  return `nothing was changed; it would be: ${parts.join('; ')}`
}

/** Says what would go, and asks. */
async function confirm(context: Context, params: Params<'restorePlan'>): Promise<void> {
  const told: string[] = []
  const plan = await context.stream('restorePlan', params, async (items) => {
    for (const item of items)
      if (item.change === '-' && told.length < removalsTold) told.push(plannedLine(item))
  })
  if (plan.removed === 0) return
  const more = plan.removed - told.length
  context.note(
    `${printable(plan.to)}: ${plural(plan.removed, 'name')}, ${size(plan.bytesRemoved)}, go for good:`,
  )
  for (const line of told) context.note(`  ${line}`)
  if (more > 0) context.note(`  and ${more} more; kith restore --dry-run lists them all`)
  if ((await ask('Type yes to go on: ')) !== 'yes') throw new KithError('cancelled', 'nothing was changed')
}
