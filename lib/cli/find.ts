/** `kith find PATTERN [DIR]` */
import { KithError } from '../base/errors.js'
import { resolve } from 'node:path'
import type { EntryType, Item } from '../daemon/api.js'
import type { Context } from './context.js'
import { localTime, plural, shownPath, size, typeLetters } from './output.js'

export async function run(
  context: Context,
  [pattern = '', dir]: (string | undefined)[],
  { type: letter }: { type?: string },
) {
  const type = (Object.keys(typeLetters) as EntryType[]).find(
    (name) => typeLetters[name] === (letter === 'f' ? '-' : letter),
  )
  const params = { pattern, ...(dir !== undefined && { dir: resolve(dir) }), ...(type && { type }) }
  const { snapshots, found } = await context.list('find', params, line)
  if (found === 0)
    throw new KithError('notFound', `no name like ${pattern} in ${plural(snapshots, 'snapshot')}`)
}

function line(item: Item<'find'>): string {
  const runs = item.snapshots.map(({ first, last, count }) =>
    count === 1 ? first : `${first} to ${last} (${count})`,
  )
  const amount = item.type === 'file' ? size(item.size) : item.type
  return `${shownPath(item)}  ${amount}, ${localTime(item.mtime)}  in ${runs.join(', ')}`
}
