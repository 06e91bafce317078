/** `kith tag SNAPSHOT...`, `kith pin SNAPSHOT...`, `kith unpin SNAPSHOT...` */
import { KithError } from '../base/errors.js'
import type { SnapshotRow } from '../daemon/api.js'
import { optionalDir, type Context } from './context.js'
import { marksOf } from './output.js'

export async function tag(
  context: Context,
  [snapshots]: unknown[],
  options: { dir?: string; add?: string[]; remove?: string[]; set?: string[] },
) {
  const { add: addTags, remove: removeTags, set: tags } = options
  if (!addTags && !removeTags && !tags) throw new KithError('usage', 'say what: --add, --remove or --set')
  print(
    context,
    await context.call('mark', {
      ...optionalDir(options.dir),
      snapshots: snapshots as string[],
      ...(addTags && { addTags }),
      ...(removeTags && { removeTags }),
      ...(tags && { tags }),
    }),
  )
}

export async function pin(
  context: Context,
  [snapshots]: unknown[],
  options: { dir?: string },
  pinned: boolean,
) {
  const names = snapshots as string[]
  print(context, await context.call('mark', { ...optionalDir(options.dir), snapshots: names, pinned }))
}

function print(context: Context, marked: SnapshotRow[]) {
  context.print(marked, () => marked.map((row) => `${row.name}: ${marksOf(row) || 'no marks'}`).join('\n'))
}
