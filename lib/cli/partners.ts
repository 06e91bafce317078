/** `kith partners` */
import type { Context } from './context.js'
import { age, size, table } from './output.js'

export async function run(context: Context) {
  const result = await context.call('partners', {})
  context.print(result, () => {
    if (result.partners.length === 0) return 'No partner yet; form a circle and invite somebody, or join one'
    const now = context.clock.now()
    const rows = result.partners.map((p) => [
      p.name,
      p.id.slice(0, 12),
      p.circles.join(', '),
      p.online ? 'on line' : `seen ${age(p.lastSeen, now)}`,
      age(p.since, now),
      size(p.bytesHeld),
      size(p.bytesHeldForIt),
      age(p.lastProof, now),
      p.faults.join('; '),
    ])
    const head = ['PARTNER', 'ID', 'CIRCLES', '', 'SINCE', 'HOLDS FOR YOU', 'YOU HOLD', 'PROVEN', '']
    return table(head, rows, [5, 6])
  })
}
