/** `kith partners --why`: for each of today's partners what speaks for it. */
import type { Context } from './context.js'

export async function run(context: Context) {
  const result = await context.call('why', {})
  context.print(result, () => {
    if (result.partners.length === 0) return 'No partner yet'
    return result.partners
      .map(({ name, id, kept, why }) => {
        const head = `${name} (${id.slice(0, 12)})${kept ? '' : ': would not be chosen again'}`
        return [head, ...why.map((line) => `  ${line}`)].join('\n')
      })
      .join('\n')
  })
}
