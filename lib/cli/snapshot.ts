/** `kith snapshot [DIR]` */
import type { Context } from './context.js'
import { optionalDir } from './context.js'
import { plural, size } from './output.js'

export async function run(context: Context, [dir]: (string | undefined)[]) {
  const result = await context.call('snapshot', optionalDir(dir))
  context.print(result, () => {
    const { name, files, bytes, bytesNew } = result
    return `${name}: ${plural(files, 'file')}, ${size(bytes)}; ${size(bytesNew)} new`
  })
}
