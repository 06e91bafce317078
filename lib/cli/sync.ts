/** `kith sync [DIR] [--timeout S]`: exit 0 only when every partner holds the newest snapshot. */
import { KithError } from '../base/errors.js'
import { optionalDir, type Context } from './context.js'
import { plural } from './output.js'

export async function run(context: Context, [dir]: (string | undefined)[], options: { timeout?: string }) {
  const params = options.timeout === undefined ? {} : { timeoutMs: seconds(options.timeout) * 1000 }
  const result = await context.call('sync', { ...optionalDir(dir), ...params })
  context.print(result, () =>
    result.volumes
      .map((v) => `${v.dir}: ${v.snapshot} is held by ${plural(v.partners.length, 'partner')}`)
      .join('\n'),
  )
}

function seconds(value: string): number {
  const number = Number(value)
  if (!/^\d+(\.\d+)?$/.test(value) || number <= 0 || number > 31_536_000) {
    throw new KithError('usage', `--timeout wants seconds (up to a year), not '${value}'`)
  }
  return number
}
