/**
 * Which candidates become partners (P1 to P5, L2, L3): from what is known of each to a set, with the reasons.
 *
 * 1. Those who cannot serve are left out: too little space or bandwidth, agreements broken, claims that were false.
 * 2. Bounds hold for every set: of one address prefix, one circle, and nodes without a record only so many, so that many names
 *    of one person do not become many partners. The bounds on circles and newcomers give way when the set would else stay too
 *    small; that on prefixes never. Who was invited by a person is always in the set.
 * 3. At least one near and one far, where there are such.
 * 4. Among what is left: coverage, then shares and quality (score.ts). Greedy from the best near and far ones, then exchanges of one
 *    member as long as that gains; from several beginnings, since such a search can get stuck.
 * 5. Today's partners stay unless an exchange gains more than `churn` for each one changed.
 *
 * Nothing here depends on the order of the candidates or on chance: candidates are taken by their ids.
 */
import { coverageBy, entryShares, qualityBy, type Scored, scored, valueBy, type Worth } from './score.js'
import { isNewcomer } from './trust.js'
import { choiceOf, passedOverWhy, unfitWhy } from './reasons.js'
import type { Candidate, Distance, Selection, SelectionInput, SelectionPolicy } from './types.js'

const gib = 2 ** 30

export const defaultPolicy: SelectionPolicy = {
  count: 5,
  needs: 0,
  leastBandwidth: 0,
  perPrefix: 1,
  perCircle: 3,
  newcomers: 1,
  newcomerBytes: gib,
  churn: 0.03,
}

/** A gain below this is rounding. */
const epsilon = 1e-9
/** Of the beginnings: those with the most coverage by themselves. */
const beginnings = 2

type Bounds = Pick<SelectionPolicy, 'perPrefix' | 'perCircle' | 'newcomers'>

/** One search: who may be taken, by which bounds, and what counts. */
interface Search {
  readonly pool: readonly Scored[]
  readonly bounds: Bounds
  readonly count: number
  /** of near and far, those that there are and for which there is a place */
  readonly kinds: readonly Distance[]
}

export function select({ sketch, candidates, current, policy }: SelectionInput): Selection {
  const shares = entryShares(sketch)
  const sorted = [...candidates].sort((a, b) => (a.id < b.id ? -1 : a.id > b.id ? 1 : 0))
  const fit = sorted.filter((candidate) => candidate.invited || unfitWhy(candidate, policy) === undefined)
  const pool = fit.map((candidate) => scored(candidate, shares))
  const count = Math.max(policy.count, pool.filter(({ candidate }) => candidate.invited).length)
  const here = pool.filter(({ candidate }) => candidate.invited || current.includes(candidate.id))
  const kinds = (['near', 'far'] as const)
    .slice(0, count)
    .filter((distance) => pool.some(({ candidate }) => candidate.distance === distance))
  const covers = coverageBy(shares)

  const highest = Math.max(0, ...pool.map(({ share }) => share))

  let set: readonly Scored[] = []
  let relaxed = false
  for (const bounds of boundsInTurn(policy)) {
    const search = { pool, bounds, count, kinds }
    const widest = searched(search, covers)
    const best = { coverage: covers(widest)(), share: highest }
    const worth = valueBy(shares, best, count)
    const found =
      here.length > 0 ? kept(search, here, widest, worth, policy.churn) : improved(search, widest, worth, 0)
    if (set.length === 0 || found.length > set.length) {
      relaxed = bounds !== policy
      set = found
    }
    if (set.length >= Math.min(count, pool.length)) break
  }
  const context = { set, sketch, shares, policy, current, isRelaxed: relaxed }
  const chosen = new Set(set.map(({ candidate }) => candidate.id))
  return {
    chosen: set.map((member) => choiceOf(member, context)),
    passedOver: sorted
      .filter(({ id }) => !chosen.has(id))
      .map((candidate) => ({ id: candidate.id, why: passedOverWhy(candidate, context) })),
    coverage: covers(set)(),
  }
}

function boundsInTurn(policy: SelectionPolicy): Bounds[] {
  const { perPrefix, perCircle } = policy
  return [
    policy,
    { perPrefix, perCircle, newcomers: Infinity },
    { perPrefix, perCircle: Infinity, newcomers: Infinity },
  ]
}

/** The best set that is found from several beginnings. */
function searched(search: Search, worth: Worth): readonly Scored[] {
  const invited = search.pool.filter(({ candidate }) => candidate.invited)
  const single = worth([])
  const alone = [...search.pool].sort((a, b) => single(b) - single(a)).slice(0, beginnings)
  let best: readonly Scored[] = []
  let most = -Infinity
  for (const first of alone) {
    const hasPlace = invited.length < search.count && !invited.includes(first)
    const begun = hasPlace && mayJoin(search, invited, first) ? [...invited, first] : invited
    const found = improved(search, filled(search, begun, worth), worth, 0)
    const reached = worth(found)() - lacks(search, found)
    if (found.length > best.length || (found.length === best.length && reached > most + epsilon)) {
      best = found
      most = reached
    }
  }
  return best
}

/** Today's partners, filled up, and changed only where it pays. */
function kept(
  search: Search,
  here: readonly Scored[],
  other: readonly Scored[],
  worth: Worth,
  churn: number,
): readonly Scored[] {
  const invited = here.filter(({ candidate }) => candidate.invited)
  let staying: readonly Scored[] = invited
  // Should they be more than the bounds allow, the most valuable stay.
  const rest = here.filter((member) => !invited.includes(member))
  while (staying.length < search.count) {
    const next = bestNext(search, staying, worth, rest)
    if (!next) break
    staying = [...staying, next]
  }
  const stable = improved(search, filled(search, staying, worth), worth, churn)
  const fresh = improved(search, other, worth, 0)
  const changes = stable.filter((member) => !fresh.includes(member)).length
  const gain = worth(fresh)() - lacks(search, fresh) - worth(stable)() + lacks(search, stable)
  return fresh.length > stable.length || gain > churn * changes + epsilon ? fresh : stable
}

/** Adds the best, one after another; the first two places are for one near and one far. */
function filled(search: Search, begun: readonly Scored[], worth: Worth): readonly Scored[] {
  let set = begun
  for (const distance of ['near', 'far'] as const) {
    if (set.length >= search.count || set.some(({ candidate }) => candidate.distance === distance)) continue
    const those = search.pool.filter(({ candidate }) => candidate.distance === distance)
    const next = bestNext(search, set, worth, those)
    if (next) set = [...set, next]
  }
  while (set.length < search.count) {
    const next = bestNext(search, set, worth, search.pool)
    if (!next) break
    set = [...set, next]
  }
  return set
}

function bestNext(
  search: Search,
  set: readonly Scored[],
  worth: Worth,
  from: readonly Scored[],
): Scored | undefined {
  let [best, most] = [undefined as Scored | undefined, -Infinity]
  const [worthWith, qualityWith] = [worth(set), qualityBy(search.count)(set)]
  for (const one of from) {
    if (set.includes(one) || !mayJoin(search, set, one)) continue
    // Where coverage says nothing any more, the quality decides.
    const reached = worthWith(one) + epsilon * qualityWith(one)
    if (reached > most) [best, most] = [one, reached]
  }
  return best
}

/** Exchanges one member at a time, the best exchange first, while each gains more than `least`. */
function improved(search: Search, begun: readonly Scored[], worth: Worth, least: number): readonly Scored[] {
  let set = begun
  // Each exchange gains, so that it ends; the bound is for what rounding might do.
  for (let round = 0; round < 100; round++) {
    const before = worth(set)() - lacks(search, set)
    let [best, most] = [undefined as readonly Scored[] | undefined, before + least + epsilon]
    for (const member of set) {
      if (member.candidate.invited) continue
      const without = set.filter((other) => other !== member)
      const worthWith = worth(without)
      for (const one of search.pool) {
        if (set.includes(one) || !mayJoin(search, without, one)) continue
        const reached = worthWith(one) - lacks(search, without, one)
        if (reached > most) [best, most] = [[...without, one], reached]
      }
    }
    if (!best) return set
    set = best
  }
  return set
}

/** 10 for each of near and far that the set (with `one`) lacks though there are such: more than any other gain. */
function lacks({ kinds }: Search, set: readonly Scored[], one?: Scored): number {
  const isThere = (distance: Distance) =>
    one?.candidate.distance === distance || set.some(({ candidate }) => candidate.distance === distance)
  return 10 * kinds.filter((distance) => !isThere(distance)).length
}

function mayJoin({ bounds }: Search, set: readonly Scored[], { candidate }: Scored): boolean {
  return fitsBeside(
    bounds,
    set.map((member) => member.candidate),
    candidate,
  )
}

/** Rule 2: whether the bounds allow it beside these. */
export function fitsBeside(bounds: Bounds, set: readonly Candidate[], candidate: Candidate): boolean {
  if (candidate.invited) return true
  const those = (is: (other: Candidate) => boolean) => set.filter(is).length
  const { prefix, circles } = candidate
  if (prefix !== null && those((other) => other.prefix === prefix) >= bounds.perPrefix) return false
  if (isNewcomer(candidate) && those(isNewcomer) >= bounds.newcomers) return false
  return circles.every((circle) => those((other) => other.circles.includes(circle)) < bounds.perCircle)
}
