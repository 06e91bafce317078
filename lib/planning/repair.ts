/**
 * What is made again of elements that partners lost, where, and in what order; the daemon (partners/mender.ts) and the simulation
 * of years run the same. Pure: the state of stripes and partners goes in, a
 * plan comes out; the same for the same input, in whatever order it is given. A replicated block is a stripe of 1+(copies-1).
 *
 * 1. Off line is not lost. An element counts as *standing* while its holder is bound to keep it: good, late, in grace or leaving.
 *    It is *sure* while its holder is good. Lost is what was at one that reneged, is gone, or was never acknowledged by one.
 * 2. What is lost is made again: that is at the end of its holder's grace, when the holder becomes reneged. So is what is
 *    held by one that is leaving, and what a good holder was found to lack (that goes to the same one).
 * 3. When fewer than m + `atOnce` of a stripe's elements are sure, elements of late holders are made again at once,
 *    those in grace first, until so many are sure. For all else a holder that comes back in time costs nothing.
 * 4. The stripes with the fewest standing elements come first, then those with the fewest sure ones. Each run costs at most
 *    `bytes`; the rest comes with the next.
 * 5. Nothing is moved twice: what is on its way to a partner that is bound to take it is left alone, elements are never moved
 *    for a better spread, and the old holder, should it come back, finds its element replaced and is told to let go of it.
 *
 * Bytes of a plan are what travels: an element sent, and where the blocks are not here, what is fetched first: the element
 * itself of a holder that is on line, else m others, once per stripe.
 */
import type { StateName } from './partner-state.js'
import { placeElements, type PlacePartner } from './placement.js'

export interface RepairPartner extends PlacePartner {
  readonly state: StateName
  readonly online: boolean
  /** it gives back what it holds; not given: yes */
  readonly gives?: boolean
}

export interface RepairElement {
  /** id of the partner; null: none yet */
  readonly holder: string | null
  /** `held`: acknowledged. `sending`: on its way to the holder. `lacking`: the holder was found to have lost it. */
  readonly state: 'held' | 'sending' | 'lacking'
}

export interface RepairStripe {
  readonly id: string
  /** m: elements that suffice */
  readonly data: number
  /** bytes of an element */
  readonly bytes: number
  /** all of its blocks are here: nothing needs to be fetched */
  readonly isHere: boolean
  readonly elements: readonly RepairElement[]
}

export interface RepairPolicy {
  /** Sure elements over m below which late holders are not waited for. */
  readonly atOnce: (parity: number) => number
  /** of one run */
  readonly bytes: number
}

export type RepairReason = 'lost' | 'leaving' | 'lacking' | 'too few'

export interface Remake {
  readonly stripe: string
  readonly element: number
  /** id of the partner that gets it */
  readonly to: string
  /** id of the partner that had it, and is to let go of it when it comes back; null: none, or the same */
  readonly instead: string | null
  /** where the element comes from: blocks that are here, the holder, or m others */
  readonly source: 'here' | 'holder' | 'others'
  readonly why: RepairReason
}

export interface RepairPlan {
  readonly remakes: readonly Remake[]
  /** that travel for them */
  readonly bytes: number
  /** elements that wait for the next run, since this one has its bytes */
  readonly later: number
  /** Elements that cannot be made again now: nobody on line has room and none of the stripe yet, or too few holders are on line. */
  readonly noRoom: number
  readonly noSource: number
  /** stripes of which fewer than m elements stand, and whose blocks are not here */
  readonly gone: readonly string[]
}

/**
 * A third of the parity must be sure, and one element beside those that suffice in any case: docs/simulations.md has what that
 * costs and saves. Bytes are those of one run of the daemon.
 */
export const repairDefaults: RepairPolicy = {
  atOnce: (parity) => Math.max(1, Math.floor(parity / 3)),
  bytes: 2 ** 30,
}

/** What a stripe is to have made again, with what decides the order. */
export interface RepairNeed {
  readonly stripe: RepairStripe
  readonly wanted: readonly { element: number; why: RepairReason }[]
  /** elements over m */
  readonly standing: number
  readonly sure: number
}

export function planRepair(
  stripes: readonly RepairStripe[],
  partners: readonly RepairPartner[],
  policy: RepairPolicy = repairDefaults,
): RepairPlan {
  const known = new Map(partners.map((partner) => [partner.id, partner]))
  const needs: RepairNeed[] = []
  const gone: string[] = []
  for (const stripe of stripes) {
    const need = repairNeed(stripe, known, policy)
    if (need.standing < 0 && !stripe.isHere) gone.push(stripe.id)
    else if (need.wanted.length > 0) needs.push(need)
  }
  needs.sort(byUrgency)
  const taken = new Map<string, number>()
  const plan = { remakes: [] as Remake[], bytes: 0, later: 0, noRoom: 0, noSource: 0, gone: gone.sort() }
  for (const need of needs) {
    // At least one stripe in each run, however large it is.
    if (plan.bytes >= policy.bytes && plan.remakes.length > 0) plan.later += need.wanted.length
    else remake(need, known, taken, plan)
  }
  return plan
}

/** Rule 4. */
export function byUrgency(a: RepairNeed, b: RepairNeed): number {
  return a.standing - b.standing || a.sure - b.sure || (a.stripe.id < b.stripe.id ? -1 : 1)
}

/** Rules 1 to 3, for one stripe. */
export function repairNeed(
  stripe: RepairStripe,
  known: ReadonlyMap<string, RepairPartner>,
  policy: RepairPolicy = repairDefaults,
): RepairNeed {
  const wanted: { element: number; why: RepairReason }[] = []
  const waiting: { element: number; isGrace: boolean }[] = []
  let [standing, sure, underWay] = [0, 0, 0]
  for (const [element, { holder, state }] of stripe.elements.entries()) {
    const partner = holder === null ? undefined : known.get(holder)
    const isBound = partner !== undefined && keeps.has(partner.state)
    if (!isBound) {
      wanted.push({ element, why: 'lost' })
      continue
    }
    if (state === 'sending') {
      if (partner.state === 'good' || partner.state === 'late') underWay++
      else wanted.push({ element, why: 'lost' })
      continue
    }
    if (state === 'lacking') {
      wanted.push({ element, why: partner.state === 'good' ? 'lacking' : 'lost' })
      continue
    }
    standing++
    if (partner.state === 'good') sure++
    else if (partner.state === 'leaving') wanted.push({ element, why: 'leaving' })
    else waiting.push({ element, isGrace: partner.state === 'grace' })
  }
  const { data, elements } = stripe
  // What is on its way, or will be made again in any case, counts as sure soon.
  const soon = sure + underWay + wanted.length
  const short = data + policy.atOnce(elements.length - data) - soon
  waiting.sort((a, b) => Number(b.isGrace) - Number(a.isGrace) || a.element - b.element)
  for (const { element } of waiting.slice(0, Math.max(0, short))) wanted.push({ element, why: 'too few' })
  return { stripe, wanted, standing: standing - data, sure: sure - data }
}

/** States in which a partner is bound to keep what it took. */
const keeps: ReadonlySet<StateName> = new Set(['good', 'late', 'grace', 'leaving'])

function remake(
  { stripe, wanted }: RepairNeed,
  known: ReadonlyMap<string, RepairPartner>,
  /** bytes of each partner's room that other stripes of the plan take */
  taken: Map<string, number>,
  plan: { remakes: Remake[]; bytes: number; noRoom: number; noSource: number },
): void {
  const isReadable = (element: number) => {
    const { holder, state } = stripe.elements[element] ?? { holder: null, state: 'held' }
    const partner = holder === null ? undefined : known.get(holder)
    if (state !== 'held' || partner === undefined || !keeps.has(partner.state)) return false
    return partner.online && partner.gives !== false
  }
  const readable = stripe.elements.filter((_, element) => isReadable(element)).length
  const able: { element: number; why: RepairReason; source: Remake['source'] }[] = []
  for (const { element, why } of wanted) {
    const source = stripe.isHere ? 'here' : isReadable(element) ? 'holder' : 'others'
    if (source === 'others' && readable < stripe.data) plan.noSource++
    else able.push({ element, why, source })
  }
  if (able.length === 0) return
  const fit: RepairPartner[] = []
  for (const partner of known.values())
    if (partner.state === 'good' && partner.online)
      fit.push({ ...partner, space: partner.space - (taken.get(partner.id) ?? 0) })
  const moved = able.filter(({ why }) => why !== 'lacking')
  const holders = new Set(stripe.elements.map(({ holder }) => holder))
  // An old holder that is no longer bound does not count for the spread, but is not chosen either.
  const bound: RepairPartner[] = []
  for (const { holder } of stripe.elements) {
    const partner = holder === null ? undefined : known.get(holder)
    if (partner && keeps.has(partner.state)) bound.push(partner)
  }
  const places = placeElements(
    moved.length,
    fit.filter(({ id }) => !holders.has(id)),
    { stripe: stripe.id, bytes: stripe.bytes, holders: bound },
  )
  let isFetched = false
  for (const one of able) {
    const old = stripe.elements[one.element]?.holder ?? null
    const again = fit.some(({ id, space }) => id === old && space >= stripe.bytes) ? old : null
    const to = one.why === 'lacking' ? again : (places[moved.indexOf(one)] ?? null)
    if (to === null) {
      plan.noRoom++
      continue
    }
    const { source, why, element } = one
    const isFirst: boolean = source === 'others' && !isFetched
    if (isFirst) isFetched = true
    const fetched = isFirst ? stripe.data : source === 'holder' ? 1 : 0
    plan.bytes += (1 + fetched) * stripe.bytes
    taken.set(to, (taken.get(to) ?? 0) + stripe.bytes)
    plan.remakes.push({ stripe: stripe.id, element, to, instead: old === to ? null : old, source, why })
  }
}
