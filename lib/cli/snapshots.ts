/** `kith snapshots [DIR] [--tag TAG]` */
import { optionalDir, type Context } from './context.js'
import { age, marksOf, size, table } from './output.js'

export async function run(context: Context, [dir]: (string | undefined)[], options: { tag?: string[] }) {
  const all = await context.call('snapshots', optionalDir(dir))
  const wanted = options.tag
  const snapshots = wanted ? all.filter(({ tags }) => tags.some((tag) => wanted.includes(tag))) : all
  context.print(snapshots, () => {
    if (all.length === 0) return 'No snapshot yet; take one by: kith snapshot'
    const now = context.clock.now()
    const rows = snapshots.map((s) => [
      s.name,
      age(s.time, now),
      String(s.files),
      size(s.bytes),
      size(s.bytesNew),
      [marksOf(s), s.busy > 0 ? `${s.busy} busy` : ''].filter(Boolean).join(', '),
    ])
    return table(['SNAPSHOT', 'TAKEN', 'FILES', 'SIZE', 'NEW', ''], rows, [2, 3, 4])
  })
}
