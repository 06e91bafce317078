/** `kith forget [SNAPSHOT...] [--keep-...] [--dry-run]` */
import { optionalDir, type Context } from './context.js'
import { rulesFrom, type KeepOptions } from './keep-options.js'
import { age, plural, table } from './output.js'

export async function run(
  context: Context,
  [given]: unknown[],
  options: KeepOptions & { dir?: string; dryRun?: true },
) {
  const snapshots = given as string[]
  const policy = rulesFrom(options)
  const result = await context.call('forget', {
    ...optionalDir(options.dir),
    ...(snapshots.length > 0 && { snapshots }),
    ...(policy && { policy }),
    ...(options.dryRun && { dryRun: true }),
  })
  context.print(result, () => {
    const now = context.clock.now()
    const named = snapshots.length > 0
    const rows = result.snapshots
      .filter(({ kept }) => !named || !kept)
      .map(({ name, time, kept, reasons }) => [
        kept ? 'keep' : 'forget',
        name,
        age(time, now),
        reasons.join(', '),
      ])
    const done = result.dryRun ? 'would be forgotten' : 'forgotten'
    const total = `${plural(result.forgotten, 'snapshot')} of ${result.snapshots.length} ${done}.`
    return `${table(['', 'SNAPSHOT', 'TAKEN', 'KEPT BY'], rows)}\n${total}`
  })
}
