/** `kith policy [DIR] [--keep-... | --none]` */
import { KithError } from '../base/errors.js'
import { optionalDir, type Context } from './context.js'
import { rulesFrom, rulesInWords, type KeepOptions } from './keep-options.js'

export async function run(
  context: Context,
  [dir]: (string | undefined)[],
  options: KeepOptions & { none?: true },
) {
  const rules = rulesFrom(options)
  if (rules && options.none) throw new KithError('usage', 'give rules or --none, not both')
  const policy = options.none ? null : rules
  const result = await context.call('policy', {
    ...optionalDir(dir),
    ...(policy !== undefined && { policy }),
  })
  context.print(result, () =>
    result.policy
      ? `${result.dir} keeps: ${rulesInWords(result.policy)}; see kith forget --dry-run`
      : `${result.dir} keeps every snapshot.`,
  )
}
