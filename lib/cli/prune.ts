/** `kith prune [--dry-run]` */
import type { Context } from './context.js'
import { plural, size } from './output.js'

export async function run(context: Context, _args: unknown, options: { dryRun?: true }) {
  const result = await context.call('prune', options.dryRun ? { dryRun: true } : {})
  context.print(result, () => {
    const { blocks, bytes, blocksKept, bytesKept, bytesFreed } = result
    const kept = `${plural(blocksKept, 'block')}, ${size(bytesKept)}`
    if (result.dryRun) return `${plural(blocks, 'block')}, ${size(bytes)} would go; ${kept} would stay.`
    return `${plural(blocks, 'block')}, ${size(bytes)} removed; ${kept} stay; ${size(bytesFreed)} given back to the disk.`
  })
}
