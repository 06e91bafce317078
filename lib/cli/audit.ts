/** `kith audit [--full]`: exit 9 (damaged) when a partner fails to prove what it claims to hold. */
import { KithError } from '../base/errors.js'
import type { Context } from './context.js'
import { printable, table } from './output.js'

export async function run(context: Context, _args: string[], options: { full?: true }) {
  const result = await context.call('audit', { full: options.full ?? false })
  context.print(result, () => {
    if (result.partners.length === 0) return 'No partner holds anything yet'
    const rows = result.partners.map((p) => [
      p.name,
      p.online ? `${p.proven} of ${p.asked} blocks proven` : 'off line',
      p.faults.join('; '),
    ])
    return table(['PARTNER', 'RESULT', ''], rows)
  })
  const bad = result.partners.filter(({ failed }) => failed)
  if (bad.length > 0) {
    const names = bad.map((p) => printable(p.name)).join(', ')
    throw new KithError('damaged', `not to be relied on: ${names}`)
  }
}
