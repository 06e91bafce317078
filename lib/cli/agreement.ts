/** `kith agreement show|renew|resize|end PARTNER`: what this node and a partner promised each other. */
import { KithError } from '../base/errors.js'
import type { AgreementInfo, PartnerInfo } from '../daemon/api.js'
import type { Context } from './context.js'
import { age, localTime, parseSize, plural, printable, size } from './output.js'
import { ask } from './prompt.js'

const dayMs = 86_400_000

export async function show(context: Context, [partner = '']: string[]) {
  const result = await context.call('agreement', { partner })
  context.print(result, () => text(result, context.clock.now()))
}

export async function renew(context: Context, [partner = '']: string[]) {
  await change(context, { partner })
}

export async function resize(
  context: Context,
  [partner = '']: string[],
  options: { hold?: string; want?: string },
) {
  const { hold, want } = options
  if (hold === undefined && want === undefined)
    throw new KithError('usage', 'say how much: --hold SIZE for it, --want SIZE of it')
  await change(context, {
    partner,
    ...(hold !== undefined && { holds: parseSize(hold) }),
    ...(want !== undefined && { wants: parseSize(want) }),
  })
}

export async function end(context: Context, [partner = '']: string[], { yes }: { yes?: true }) {
  const before = await context.call('agreement', { partner })
  if (!before.agreement)
    throw new KithError('notFound', `there is no agreement with ${printable(before.name)}`)
  if (!yes) {
    const { ours, theirs } = before.agreement
    context.note(
      `${printable(before.name)} (${before.id.slice(0, 12)}) holds ${size(before.bytesHeld)} for you, and you hold ${size(before.bytesHeldForIt)} for it.\n` +
        `When the agreement ends, nothing new is sent either way; it keeps yours for ${plural(theirs.noticeDays, 'day')} more, you keep its for ${plural(ours.noticeDays, 'day')}.`,
    )
    const answer = await ask('Type yes to go on: ')
    if (answer !== 'yes') throw new KithError('cancelled', 'nothing was changed')
  }
  const result = await context.call('agreementEnd', { partner })
  context.print(result, () => {
    const told = result.told
      ? ''
      : `\n${printable(result.partner.name)} is off line, and hears of it when it is back`
    return `${text(result.partner, context.clock.now())}${told}`
  })
}

async function change(
  context: Context,
  params: { partner: string; holds?: number; wants?: number },
): Promise<void> {
  const result = await context.call('agreementRenew', params)
  context.print(result, () => {
    const told = result.told
      ? ''
      : `\n${printable(result.partner.name)} is off line: a new agreement is proposed when it is back`
    return `${text(result.partner, context.clock.now())}${told}`
  })
}

function text(partner: PartnerInfo, now: number): string {
  const { agreement } = partner
  const head = `${printable(partner.name)} (${partner.id.slice(0, 12)})`
  const faults = partner.faults.map((fault) => `\n! ${printable(fault)}`).join('')
  if (!agreement) return `${head}: no agreement yet${faults}`
  const { ours, theirs } = agreement
  const lines = [
    `${head}: agreement ${agreement.number}, ${stateText(agreement, now)}`,
    `  made:          ${localTime(agreement.made)}`,
    `  until:         ${agreement.until === null ? 'one of you ends it' : localTime(agreement.until)}`,
    `  it holds:      ${size(partner.bytesHeld)} of ${size(theirs.holds)} for you`,
    `  you hold:      ${size(partner.bytesHeldForIt)} of ${size(ours.holds)} for it`,
    `  it promises:   ${promises(theirs)}`,
    `  you promise:   ${promises(ours)}`,
  ]
  return `${lines.join('\n')}${faults}`
}

function promises({
  hours,
  auditHours,
  graceDays,
  commitmentDays,
  noticeDays,
}: AgreementInfo['ours']): string {
  return [
    hours === '' ? 'no hours' : `on line ${hours} (UTC)`,
    `away ${plural(graceDays, 'day')} at most`,
    `an audit every ${plural(auditHours, 'hour')}`,
    ...(commitmentDays > 0 ? [`no restores in the first ${plural(commitmentDays, 'day')}`] : []),
    `${plural(noticeDays, 'day')} of notice`,
  ].join(', ')
}

/** In a few words: `active`, `ended by you 3 days ago; its data goes after 27 days`. */
export function stateText({ state, ended, noticeLeftMs }: AgreementInfo, now: number): string {
  if (state === 'active') return 'active'
  const how = ended ? `ended by ${ended.byUs ? 'you' : 'it'} ${age(ended.time, now)}` : 'run out'
  if (noticeLeftMs === null) return how
  const left = Math.ceil(noticeLeftMs / dayMs)
  return left === 0
    ? `${how}; its data is gone here`
    : `${how}; its data here goes after ${plural(left, 'day')}`
}
