/**
 * How an owner's blocks are laid out over partners: the policy as people write it, a code chosen for the partners there are, and
 * which partner gets which element of a stripe. Pure; `replica:3` is planned as 1+2, since any one of three copies suffices.
 *
 *     replica           every partner holds everything
 *     replica:3         three partners hold each block
 *     erasure:6+3       stripes of six data and three parity elements, each at another partner: any six suffice
 *     auto              a code is chosen by the partners there are, so that any two of them may be lost
 *     auto:survive=3    any three may be lost        auto:nines=6    out of reach less than one in 10^6 of the time; also both
 *
 * The chance that fewer than m of n elements are within reach is that of a Poisson binomial distribution: each partner counts with
 * its own availability. Partners are taken as independent there, so that what they have in common (a site) is handled apart: by a
 * bound on the elements at one site.
 */
import { KithError } from '../base/errors.js'

export interface Shape {
  /** m: elements that suffice */
  readonly data: number
  /** k: elements beside them */
  readonly parity: number
}

/** What `auto` is to reach. */
export interface Target {
  /** partners that may be lost at once without a loss of data; not given: as few as a code has */
  readonly survive?: number
  /** x: the data is out of reach for less than 10^-x of the time; not given: 2, as far as threefold space reaches */
  readonly nines?: number
}

export type Placement =
  | { readonly kind: 'replica'; /** null: every partner */ readonly copies: number | null }
  | { readonly kind: 'erasure'; readonly shape: Shape }
  | { readonly kind: 'auto'; readonly target: Target }

/** A partner as placement sees it. */
export interface PlacePartner {
  readonly id: string
  /** what is lost together, most likely first: one house or rack, one address prefix, one region; null: not known */
  readonly site: string | null
  readonly prefix: string | null
  readonly region: string | null
  /** bytes that it has room for */
  readonly space: number
  /** 0..1: the part of the time that it is within reach */
  readonly availability: number
}

/** One byte numbers the elements of a stripe (format/shard.ts). */
export const mostElements = 255
/** Of `auto`: more elements save little, and each stripe would need that many partners at once. */
const mostChosen = 24
/** So many partners and more: one is left out of each stripe, so that a lost element has where to go before a new partner is found. */
const spareFrom = 5
export const defaultTarget: Target = { survive: 2 }
const leastNines = 2
/** More than so many times its size is taken only where it was asked for. */
const mostTimes = 3
/** A choice stands until another takes so much less space. */
const worthChange = 0.15

/** @throws KithError usage, saying what is wrong */
export function parsePlacement(text: string): Placement {
  const [kind = '', ...rest] = text.trim().toLowerCase().split(':')
  const detail = rest.join(':')
  if (kind === 'replica') {
    if (detail === '' && rest.length === 0) return { kind, copies: null }
    if (/^\d{1,3}$/.test(detail)) return { kind, copies: counted(Number(detail), 1, mostElements, text) }
  }
  if (kind === 'erasure') {
    const [, data, parity] = /^(\d{1,3})\+(\d{1,3})$/.exec(detail) ?? []
    if (data !== undefined && parity !== undefined) {
      const shape = { data: counted(Number(data), 1, mostElements, text), parity: Number(parity) }
      counted(shape.parity, 1, mostElements - shape.data, text)
      return { kind, shape }
    }
  }
  if (kind === 'auto') {
    if (rest.length === 0) return { kind, target: defaultTarget }
    const target: { survive?: number; nines?: number } = {}
    const isTarget = detail.split(',').every((part) => {
      const [, name, number] = /^(survive|nines)=(\d{1,2}(?:\.\d)?)$/.exec(part) ?? []
      if (name === 'survive') target.survive = counted(Number(number), 1, mostChosen - 1, text)
      if (name === 'nines') target.nines = within(Number(number), 1, 12, text)
      return name !== undefined
    })
    if (isTarget) return { kind, target }
  }
  throw badPlacement(text)
}

/** `parsePlacement` reads it. */
export function placementText(placement: Placement): string {
  if (placement.kind === 'erasure') return `erasure:${shapeText(placement.shape)}`
  if (placement.kind === 'replica')
    return placement.copies === null ? 'replica' : `replica:${placement.copies}`
  const { survive, nines } = placement.target
  const parts = [
    ...(survive === undefined ? [] : [`survive=${survive}`]),
    ...(nines === undefined ? [] : [`nines=${nines}`]),
  ]
  return parts.length === 0 ? 'auto' : `auto:${parts.join(',')}`
}

export function shapeText({ data, parity }: Shape): string {
  return `${data}+${parity}`
}

/**
 * The chance that fewer than `needed` of these are within reach at one instant, if they do not depend on each other:
 * P(fail) = sum over i > k of C(n,i) p^i (1-p)^(n-i) where all have the same.
 */
export function unreachable(availabilities: readonly number[], needed: number): number {
  let chances = new Float64Array([1])
  for (const availability of availabilities) chances = withOneMore(chances, availability)
  return tail(chances, needed)
}

export interface Chosen {
  readonly shape: Shape
  /** the target is met */
  readonly meets: boolean
  /** one line, for people */
  readonly why: string
}

/**
 * The code that takes the least space of those that meet the target with these partners; where none does, the one that comes
 * closest. Of a stripe's possible holders those least within reach are reckoned with. What is chosen `now` stays until it
 * fails the target or another saves much.
 */
export function chooseShape(
  partners: readonly PlacePartner[],
  target: Target = defaultTarget,
  now?: Shape,
): Chosen {
  const count = partners.length
  const most = Math.min(mostChosen, count >= spareFrom ? count - 1 : count)
  if (most <= 1) return { shape: { data: 1, parity: 0 }, meets: false, why: fewWhy(count) }
  const sites = sizesOf(partners.map(({ site, id }) => site ?? `one ${id}`))
  const chances = worstFirst(partners, Math.min(count, mostElements))
  const fits = ({ data, parity }: Shape): Fit | undefined => {
    const elements = data + parity
    const chance = chances[elements]
    if (!chance || parity < 1) return undefined
    const isDear = elements > mostTimes * data && parity > Math.max(1, target.survive ?? 0)
    if (target.nines === undefined && isDear) return undefined
    const atSite = sites.length > 1 ? atOneSite(sites, elements) : 1
    const out = tail(chance, data)
    const lacks =
      Math.max(0, (target.survive ?? 0) - parity) + Math.max(0, atSite - parity) + ninesLacking(out, target)
    return { shape: { data, parity }, out, lacks, size: elements / data }
  }
  let best: Fit | undefined
  for (let elements = 2; elements <= most; elements++)
    for (let data = 1; data < elements; data++) {
      const found = fits({ data, parity: elements - data })
      if (!found) continue
      if (!best || isBetter(found, best)) best = found
    }
  if (!best) return { shape: { data: 1, parity: 0 }, meets: false, why: fewWhy(count) }
  const today = now && now.data + now.parity <= count ? fits(now) : undefined
  if (today && today.lacks === 0 && today.size <= best.size * (1 + worthChange)) best = today
  const meets = best.lacks === 0
  return { shape: best.shape, meets, why: chosenWhy(best, count, target, meets) }
}

/**
 * Which partner gets which element: the partners' ids, null where there is none left. Each has at most one. First those at whose
 * site the stripe has the fewest elements, so that the loss of one site takes as few as possible; then by prefix and by
 * region in the same way. Among equals the stripe's name decides, so that over many stripes partners are filled by their
 * room, and each pair of partners is used.
 * @param holders of elements that are in place, which are not chosen again and whose sites count
 * @param bytes that an element takes
 */
export function placeElements(
  count: number,
  partners: readonly PlacePartner[],
  { stripe, bytes, holders = [] }: { stripe: string; bytes: number; holders?: readonly PlacePartner[] },
): (string | null)[] {
  if (count === 0) return []
  const used = new Set(holders.map(({ id }) => id))
  const crowds = traits.map((trait) => counts(holders, trait))
  const named = hashed(fnvBasis, stripe)
  const left = partners
    .filter(({ id, space }) => space >= bytes && !used.has(id))
    .map((partner): Place => {
      const order = -Math.log(mixed(named, partner.id)) / Math.max(1, partner.space)
      const crowd = traits.map((trait, i) => crowds[i]?.get(trait(partner)) ?? 0)
      return { partner, crowd, order }
    })
  return Array.from({ length: count }, () => {
    let best = left[0]
    for (const place of left) if (best && isBefore(place, best)) best = place
    if (!best) return null
    left.splice(left.indexOf(best), 1)
    for (const [i, trait] of traits.entries()) {
      const at = trait(best.partner)
      if (at === null) continue
      for (const { partner, crowd } of left) if (trait(partner) === at) crowd[i] = (crowd[i] ?? 0) + 1
    }
    return best.partner.id
  })
}

/** Where an element may go. */
interface Place {
  readonly partner: PlacePartner
  /** by trait: elements of the stripe that are at this one's site, prefix, region */
  readonly crowd: number[]
  /** by the stripe's name and the room */
  readonly order: number
}

function isBefore(one: Place, other: Place): boolean {
  for (let i = 0; i < one.crowd.length; i++) {
    const more = (one.crowd[i] ?? 0) - (other.crowd[i] ?? 0)
    if (more !== 0) return more < 0
  }
  return one.order < other.order || (one.order === other.order && one.partner.id < other.partner.id)
}

type Trait = (partner: PlacePartner) => string | null
const traits: readonly Trait[] = [({ site }) => site, ({ prefix }) => prefix, ({ region }) => region]

function counts(partners: readonly PlacePartner[], trait: Trait): Map<string | null, number> {
  const found = new Map<string | null, number>()
  for (const partner of partners) {
    const at = trait(partner)
    if (at !== null) found.set(at, (found.get(at) ?? 0) + 1)
  }
  return found
}

const fnvBasis = 0x811c9dc5

/** FNV-1a of one more name. */
function hashed(before: number, text: string): number {
  let hash = before
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193)
  return Math.imul(hash ^ 0xff, 0x01000193)
}

/** Over 0, up to 1: the same for the same two names, and as good as by chance over many (FNV-1a, then a mixer of MurmurHash3). */
function mixed(one: number, other: string): number {
  let hash = hashed(one, other)
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b)
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35)
  return (((hash ^ (hash >>> 16)) >>> 0) + 1) / 2 ** 32
}

/** From the chances of 0, 1, .. n within reach to those with one more. */
function withOneMore(chances: Float64Array<ArrayBuffer>, availability: number): Float64Array<ArrayBuffer> {
  const next = new Float64Array(chances.length + 1)
  for (const [reached, chance] of chances.entries()) {
    next[reached] = (next[reached] ?? 0) + chance * (1 - availability)
    next[reached + 1] = (next[reached + 1] ?? 0) + chance * availability
  }
  return next
}

function tail(chances: Float64Array, needed: number): number {
  let sum = 0
  for (let reached = 0; reached < Math.min(needed, chances.length); reached++) sum += chances[reached] ?? 0
  return sum
}

/** By the number of elements: the chances of 0, 1, .. of them within reach, for the partners least within reach. */
function worstFirst(partners: readonly PlacePartner[], most: number): Float64Array[] {
  const sorted = partners.map(({ availability }) => availability).sort((a, b) => a - b)
  const found = [new Float64Array([1])]
  for (const availability of sorted.slice(0, most))
    found.push(withOneMore(found.at(-1) ?? new Float64Array([1]), availability))
  return found
}

function sizesOf(sites: readonly string[]): number[] {
  const sizes = new Map<string, number>()
  for (const site of sites) sizes.set(site, (sizes.get(site) ?? 0) + 1)
  return [...sizes.values()]
}

/** The most elements at one site, when they are spread as well as they can be. */
function atOneSite(sites: readonly number[], elements: number): number {
  for (let bound = 1; ; bound++)
    if (bound >= elements || sites.reduce((sum, size) => sum + Math.min(size, bound), 0) >= elements)
      return bound
}

interface Fit {
  shape: Shape
  /** the part of the time that it is out of reach */
  out: number
  /** what is missing to the target: partners to survive and nines */
  lacks: number
  /** of its data, what it takes */
  size: number
}

/** What comes closer to the target; then what takes less, then what is within reach more of the time. */
function isBetter(one: Fit, other: Fit): boolean {
  const sooner = [one.lacks - other.lacks, one.size - other.size, one.out - other.out]
  return (sooner.find((less) => Math.abs(less) > 1e-12) ?? 0) < 0
}

function ninesLacking(out: number, { nines = leastNines }: Target): number {
  // Rounding does not count: 0.1 ** 3 is more than 1e-3.
  const lacking = Math.log10(Math.max(out, 1e-300)) + nines
  return lacking > 1e-9 ? lacking : 0
}

function chosenWhy({ shape, out, size }: Fit, count: number, target: Target, meets: boolean): string {
  const { data, parity } = shape
  const layout = data === 1 ? `${parity + 1} copies` : shapeText(shape)
  const reach = out < 1e-12 ? 'always within reach' : `out of reach ${shareText(out)} of the time`
  const cost = `takes ${Number(size.toFixed(2))} times its size`
  const asked = [
    ...(target.survive !== undefined && parity < target.survive
      ? [`the loss of ${target.survive} partners`]
      : []),
    ...(ninesLacking(out, target) > 0 ? [`so much absence`] : []),
  ]
  const short = asked.length > 0 ? asked.join(' or ') : 'the loss of a whole site'
  const lack = meets ? '' : `; more partners are needed to withstand ${short}`
  return `${layout} over ${count} partners: any ${parity} may be lost, ${reach}, ${cost}${lack}`
}

function fewWhy(count: number): string {
  return count === 0 ? 'there is no partner yet' : 'one copy: there is only one partner'
}

function shareText(share: number): string {
  return share >= 0.001 ? `${Number((100 * share).toPrecision(2))} %` : `1 / ${Math.round(1 / share)}`
}

function counted(count: number, least: number, most: number, text: string): number {
  if (!Number.isInteger(count)) throw badPlacement(text)
  return within(count, least, most, text)
}

function within(number: number, least: number, most: number, text: string): number {
  if (number >= least && number <= most) return number
  throw badPlacement(text)
}

function badPlacement(text: string): KithError {
  return new KithError(
    'usage',
    `bad placement '${text}'; it is replica, replica:COPIES, erasure:M+K (at most ${mostElements} together), ` +
      'or auto, auto:survive=N, auto:nines=X',
  )
}
