/** `kith diff SNAPSHOT SNAPSHOT [DIR]` */
import { optionalDir, type Context } from './context.js'
import { shownPath } from './output.js'

export async function run(context: Context, [before = '', after = '', dir]: (string | undefined)[]) {
  const result = await context.list('diff', { ...optionalDir(dir), before, after }, (item) => {
    const isDirectory = (item.after ?? item.before)?.type === 'directory'
    const busy = item.after?.busy ? ' (busy)' : ''
    return `${item.change} ${shownPath(item)}${isDirectory ? '/' : ''}${busy}`
  })
  if (result.changes === 0) context.note(`${result.before} and ${result.after} have the same files`)
}
