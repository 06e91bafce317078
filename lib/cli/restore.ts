/** `kith restore SNAPSHOT[:PATH] --to TARGET` */
import { resolve } from 'node:path'
import type { OverwriteMode } from '../daemon/api.js'
import { optionalDir, snapshotPart, type Context } from './context.js'
import { plural, size } from './output.js'

export async function run(
  context: Context,
  [what = '']: string[],
  options: { to: string; dir?: string; overwrite: OverwriteMode; include?: string[]; exclude?: string[] },
) {
  const { to, overwrite, include, exclude } = options
  const result = await context.call('restore', {
    ...optionalDir(options.dir),
    ...snapshotPart(what),
    to: resolve(to),
    overwrite,
    ...(include && { include }),
    ...(exclude && { exclude }),
  })
  context.print(result, () => {
    const skipped = result.skipped > 0 ? `; ${plural(result.skipped, 'file')} left as they were` : ''
    return `${result.to}: ${plural(result.files, 'file')}, ${size(result.bytes)} from ${result.snapshot}${skipped}`
  })
}
