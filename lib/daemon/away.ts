/** `kith away`: announces that this machine is out of reach for a while, so that no partner takes it to be lost. */
import { KithError } from '../base/errors.js'
import { awayMostMs, dayMs } from '../planning/partner-state.js'
import type { Params, Result } from './api.js'
import type { Services } from './services.js'

/** @throws KithError usage */
export async function away(
  { partners, clock }: Services,
  { until }: Params<'away'>,
): Promise<Result<'away'>> {
  if (until === undefined) return { until: partners.awayUntil, partners: [] }
  const now = clock.now()
  if (until !== null && until <= now)
    throw new KithError('usage', 'that is in the past: say until when from now on')
  if (until !== null && until > now + awayMostMs)
    throw new KithError(
      'usage',
      `partners take at most ${awayMostMs / dayMs} days of announced absence a year`,
    )
  const told = await partners.away(until === null ? 0 : Math.round(until))
  return {
    until: partners.awayUntil,
    partners: told.map(({ id, name, until }) => ({ id, name, until: until ?? null })),
  }
}
