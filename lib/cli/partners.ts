/** `kith partners` */
import type { PartnerInfo } from '../daemon/api.js'
import { stateText } from './agreement.js'
import type { Context } from './context.js'
import { age, localTime, size, table } from './output.js'
import { presenceText } from './partner-state.js'

export async function run(context: Context) {
  const result = await context.call('partners', {})
  context.print(result, () => {
    if (result.partners.length === 0)
      return 'No partner yet; form a circle and invite somebody, join one, or look in the open pool: kith partners find 3'
    const now = context.clock.now()
    const rows = result.partners.map((p) => [
      p.name,
      p.id.slice(0, 12),
      p.circles.join(', ') || 'open pool',
      distance(p),
      presenceText(p, now),
      age(p.since, now),
      filled(p.bytesHeld, p.agreement?.theirs.holds),
      filled(p.bytesHeldForIt, p.agreement?.ours.holds),
      age(p.lastProof, now),
      agreementText(p, now),
      p.faults.join('; '),
    ])
    const head = [
      'PARTNER',
      'ID',
      'CIRCLES',
      'DISTANCE',
      '',
      'SINCE',
      'HOLDS FOR YOU',
      'YOU HOLD',
      'PROVEN',
      'AGREEMENT',
      '',
    ]
    return table(head, rows, [6, 7])
  })
}

/** `near, 3 ms` */
function distance({ distance, roundTrip }: PartnerInfo): string {
  const time = roundTrip === null ? [] : [`${roundTrip} ms`]
  return [...(distance ? [distance] : []), ...time].join(', ')
}

/** `1.2 GiB of 100.0 GiB` */
function filled(bytes: number, most: number | undefined): string {
  return most === undefined ? size(bytes) : `${size(bytes)} of ${size(most)}`
}

function agreementText({ agreement }: PartnerInfo, now: number): string {
  if (!agreement) return 'none'
  if (agreement.state !== 'active') return stateText(agreement, now)
  const until = agreement.until === null ? '' : `, until ${localTime(agreement.until).slice(0, 10)}`
  return `since ${localTime(agreement.made).slice(0, 10)}${until}`
}
