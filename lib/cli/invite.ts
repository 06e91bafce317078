/** `kith invite` */
import type { Context } from './context.js'

export async function run(context: Context, _args: string[], options: { circle?: string }) {
  const result = await context.call('invite', options.circle === undefined ? {} : { circle: options.circle })
  context.print(result, () => `${result.code}`)
  context.note(`Pass this code to your friend, over a channel you trust; there: kith join CODE`)
}
