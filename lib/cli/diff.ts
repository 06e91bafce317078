/** `kith diff SNAPSHOT [SNAPSHOT] [DIR] [--content]` */
import { optionalDir, type Context } from './context.js'
import { differenceLine } from './output.js'

export async function run(
  context: Context,
  [before = '', second, third]: (string | undefined)[],
  { content }: { content?: true },
) {
  // No name of a snapshot has a slash or begins with a dot, and a path of a directory can be written so.
  const [after, dir] = second !== undefined && /^[./]|\//.test(second) ? [undefined, second] : [second, third]
  const params = {
    ...optionalDir(dir),
    before,
    ...(after !== undefined && { after }),
    ...(content && { content }),
  }
  const result = await context.list('diff', params, differenceLine)
  if (result.changes > 0) return
  context.note(
    result.after === null
      ? `nothing has changed since ${result.before}`
      : `${result.before} and ${result.after} have the same files`,
  )
}
