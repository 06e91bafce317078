/** `kith mount DIR [--engine fuse|watch] [--share CIRCLE] [--exclude PATTERN] [--exclude-caches] [--exclude-larger-than SIZE]` */
import { resolve } from 'node:path'
import type { EngineName } from '../daemon/api.js'
import type { Context } from './context.js'
import { changeOf, type ExcludeOptions } from './exclude.js'
import { printable } from './output.js'

export async function run(
  context: Context,
  [dir = '']: string[],
  options: ExcludeOptions & { engine: EngineName; share?: string },
) {
  const absolute = resolve(dir)
  const excludes = changeOf(options)
  process.chdir('/') // or this process would be found standing in the directory
  const { engine, share } = options
  const result = await context.call('mount', {
    dir: absolute,
    engine,
    ...(excludes && { excludes }),
    ...(share !== undefined && { share }),
  })
  context.print(result, () => {
    const how = result.recovered ? ' (a dead mount was cleared away)' : ''
    const what = result.continued ? 'is protected again' : 'is protected'
    const dir = printable(result.dir)
    const where =
      result.engine === 'fuse'
        ? `Snapshots appear in ${dir}/.snapshots`
        : 'It is watched, not mounted: see its snapshots by kith browse or kith ls'
    const lines = [`${dir} ${what}${how}. ${where}`]
    if (result.sharedWith !== undefined)
      lines.push(
        `What members of ${printable(result.sharedWith)} have, too, is not sent to them. In return each of them can find out whether a file that it has is here as well`,
      )
    if (result.leftOut.length > 0) {
      const points = result.leftOut.map(printable).join(', ')
      lines.push(`Not backed up, as other file systems are mounted there: ${points}`)
    }
    if (result.outsiders.length > 0) {
      const list = result.outsiders.map(({ name, pid, path }) => `${name} (process ${pid}): ${path}`)
      lines.push(
        `These had it open before, and work past the mount until they open or enter it again: ${list.map(printable).join(', ')}`,
      )
    }
    return lines.join('\n')
  })
}
