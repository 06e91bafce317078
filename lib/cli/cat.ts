/** `kith cat SNAPSHOT:PATH` */
import { KithError } from '../base/errors.js'
import { optionalDir, snapshotPart, type Context } from './context.js'

/** Holes are written as zeros, so many at a time. */
const zeros = Buffer.alloc(256 * 1024)

export async function run(context: Context, [what = '']: string[], { dir }: { dir?: string }) {
  const part = snapshotPart(what)
  if (!part.path) throw new KithError('usage', 'which file? say e.g. kith cat latest:letter.txt')
  await context.stream('cat', { ...optionalDir(dir), ...part }, async (items) => {
    for (const item of items) {
      if ('data' in item) await context.write(Buffer.from(item.data, 'base64'))
      else
        for (let left = item.zeros; left > 0; left -= zeros.length)
          await context.write(zeros.subarray(0, Math.min(left, zeros.length)))
    }
  })
}
