/** `kith snapshots [DIR]` */
import { optionalDir, type Context } from './context.js'
import { age, size, table } from './output.js'

export async function run(context: Context, [dir]: (string | undefined)[]) {
  const snapshots = await context.call('snapshots', optionalDir(dir))
  context.print(snapshots, () => {
    if (snapshots.length === 0) return 'No snapshot yet; take one by: kith snapshot'
    const now = context.clock.now()
    const rows = snapshots.map((s) => [
      s.name,
      age(s.time, now),
      String(s.files),
      size(s.bytes),
      size(s.bytesNew),
    ])
    return table(['SNAPSHOT', 'TAKEN', 'FILES', 'SIZE', 'NEW'], rows, [2, 3, 4])
  })
}
