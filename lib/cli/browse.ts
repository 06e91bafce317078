/** `kith browse MOUNTPOINT` and `kith browse --stop [MOUNTPOINT]` */
import { resolve } from 'node:path'
import { asKithError, KithError } from '../base/errors.js'
import { optionalDir, type Context } from './context.js'
import { printable } from './output.js'

export async function run(
  context: Context,
  [given]: (string | undefined)[],
  { dir, stop }: { dir?: string; stop?: true },
) {
  const mountpoint = given === undefined ? undefined : resolve(given)
  if (stop) {
    const result = await context.call('browseStop', mountpoint === undefined ? {} : { mountpoint })
    context.print(result, () =>
      result.stopped.map((place) => `${printable(place)} is empty again.`).join('\n'),
    )
    return
  }
  if (mountpoint === undefined)
    throw new KithError('usage', 'give an empty directory to show the snapshots at, or --stop')
  try {
    const result = await context.stream('browse', { ...optionalDir(dir), mountpoint }, async (items) => {
      for (const item of items)
        context.print(
          item,
          () => `The snapshots of ${printable(item.dir)} are at ${printable(item.mountpoint)} until Ctrl-C.`,
        )
    })
    if (result.ended === 'died')
      throw new KithError(
        'internal',
        `what showed ${result.mountpoint} died; show it again by the same command`,
      )
  } catch (error) {
    if (asKithError(error).code !== 'cancelled') throw error
    // Ctrl-C: it is off when this ends.
    await context.call('browseStop', { mountpoint }).catch(() => undefined)
  }
}
