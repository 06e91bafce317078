/** How our blocks are laid out over partners: the setting, and how it stands; lib/partners/placing.ts carries it out. */
import { codeFor } from '../codes/codes.js'
import { parsePlacement, placementText } from '../planning/placement.js'
import type { PlacementState } from '../partners/placing.js'
import { KithError } from '../base/errors.js'
import type { Params, Result } from './api.js'
import type { Services } from './services.js'

/** The policy as it is kept. @throws KithError usage */
export function checkedPlacement(text: string): string {
  const placement = parsePlacement(text)
  if (placement.kind === 'erasure') codeFor('reed-solomon', placement.shape.data, placement.shape.parity)
  if (placement.kind === 'replica' && placement.copies === 1)
    throw new KithError('usage', 'replica:1 keeps nothing when one partner is lost; say replica:2 or more')
  return placementText(placement)
}

/** Sets and tells it. It holds for what comes from then on. */
export async function placement(
  services: Services,
  { policy }: Params<'placement'>,
): Promise<Result<'placement'>> {
  if (policy !== undefined) {
    services.config.set({ placement: checkedPlacement(policy) })
    await services.partners.placementSet()
    services.partners.wake()
  }
  return services.partners.placement()
}

/** What is wrong, each one line. */
export function placementProblems(state: PlacementState): string[] {
  const { policy, shape, needs, have, unreadable, repair, isPartial } = state
  const problems = []
  if (isPartial)
    problems.push(
      'what lies in which stripe was not taken over whole when the backups were recovered: run kith recover again',
    )
  if (shape !== null && have < needs)
    problems.push(
      `placement ${policy} takes ${needs} partners that were on line within a day and take blocks, and there are ${have}: ` +
        'until there are more, new data goes to each of them whole',
    )
  if (unreadable > 0)
    problems.push(
      `${unreadable} stripes cannot be read from partners yet, as too few of them have acknowledged their parts`,
    )
  if (repair && repair.gone > 0)
    problems.push(
      `${repair.gone} stripes cannot be read any more: too many of the partners with their parts are lost, and what is in them ` +
        'is not here',
    )
  if (repair && repair.noRoom > 0)
    problems.push(
      `${repair.noRoom} parts of stripes were at partners that are lost, and no other partner on line has room for them: ` +
        'all can be read, but less may be lost; another partner helps',
    )
  return problems
}
