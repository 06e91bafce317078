/** `kith mount DIR` */
import { resolve } from 'node:path'
import type { Context } from './context.js'

export async function run(context: Context, [dir = '']: string[]) {
  const result = await context.call('mount', { dir: resolve(dir) })
  context.print(result, () => {
    const how = result.recovered ? ' (a dead mount was cleared away)' : ''
    const what = result.continued ? 'is protected again' : 'is protected'
    return `${result.dir} ${what}${how}. Snapshots appear in ${result.dir}/.snapshots`
  })
}
