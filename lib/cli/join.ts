/** `kith join CODE` */
import type { Context } from './context.js'
import { printable } from './output.js'

export async function run(context: Context, [code = '']: string[]) {
  const result = await context.call('join', { code: code.trim() })
  context.print(result, () => `Joined circle ${printable(result.circle)}.`)
}
