/** `kith circle create NAME` */
import type { Context } from './context.js'

export async function run(context: Context, [name = '']: string[]) {
  const result = await context.call('circleCreate', { name })
  context.print(result, () => `Circle ${result.name} is formed. Get a code for a friend by: kith invite`)
}
