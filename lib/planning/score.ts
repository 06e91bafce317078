/**
 * What a set of partners is worth: first the part of the owner's bytes that they have together already (P1), then what each of
 * them has by itself, since that much less is sent to it; and to a lesser degree all else that makes partners good (P3, L2, L3).
 * Sets are scored as a whole, since most of it is about how the members complete each other.
 *
 *     value = 0.65 * min(coverage, 0.98 best) / best + 0.25 * mean share / highest share + 0.1 * quality
 *
 * `best` is the highest coverage that was found for any allowed set. So the rest decides among sets that cover about the same,
 * and buys no more than a few percent of the coverage; where nobody has anything in common, quality decides alone.
 */
import { entryRank, type Sketch } from '../format/sketch.js'
import { isHeld, standing } from './sketch.js'
import { reliability } from './trust.js'
import { type Candidate, weekHours } from './types.js'

/** How much coverage may be given up for the rest. */
const enoughOfBest = 0.98
const parts = { coverage: 0.65, share: 0.25, quality: 0.1 }
/** Below this nobody has much in common, and differences are noise. */
const leastBest = 0.1

/** Parts of the quality; they sum up to 1. */
const weights = { hours: 0.3, record: 0.25, difference: 0.2, distance: 0.15, bandwidth: 0.1 }
/** What is not known counts as if it were poor, so that telling the truth is worth it. */
const unknown = 0.3
/** ms, bytes a second: where these count half */
const halfWay = { roundTrip: 60, bandwidth: 1_000_000 }

/** A candidate with what the search asks for again and again. */
export interface Scored {
  readonly candidate: Candidate
  /** per entry of the sketch, 0..1: how surely it has that */
  readonly has: Float64Array
  /** 0..1 of the owner's bytes */
  readonly share: number
  /** parts of the quality that it has by itself, weighted */
  readonly merit: number
  readonly hours: Float64Array
  /** system and architecture */
  readonly machine: string | null
}

/** Of the entries below the bound, which part of the owner's bytes each stands for. Sum 1, or nothing. */
export function entryShares(sketch: Sketch): Float64Array {
  const below = sketch.entries.filter((entry) => entryRank(entry) < sketch.bound)
  const stands = Float64Array.from(below, (entry) => standing(entry, sketch.bound).stands)
  const all = stands.reduce((sum, bytes) => sum + bytes, 0)
  return stands.map((bytes) => bytes / all)
}

export function scored(candidate: Candidate, shares: Float64Array): Scored {
  const { holds, belief, hours, roundTrip, bandwidth, record } = candidate
  const has = shares.map((_, i) => (holds && isHeld(holds, i) ? clamped(belief) : 0))
  const share = has.reduce((sum, held, i) => sum + held * (shares[i] ?? 0), 0)
  const merit =
    weights.record * reliability(record) +
    weights.distance * (roundTrip === null ? unknown : halfWay.roundTrip / (halfWay.roundTrip + roundTrip)) +
    weights.bandwidth * (bandwidth === null ? unknown : bandwidth / (bandwidth + halfWay.bandwidth))
  const known = Float64Array.from({ length: weekHours }, (_, hour) => clamped(hours?.[hour] ?? unknown))
  return { candidate, has, share, merit, hours: known, machine: systemOf(candidate) }
}

/**
 * Scores a set with each of many others added to it in turn: what a search does. The set's part is worked out once.
 * @returns the score of the set with `one`, or of the set alone
 */
export type Worth = (set: readonly Scored[]) => (one?: Scored) => number

/** 0..1 of the owner's bytes that at least one of the set has. */
export function coverageBy(shares: Float64Array): Worth {
  return (set) => {
    // what of each entry's bytes the set lacks
    const lacking = Float64Array.from(shares)
    for (const { has } of set)
      for (let i = 0; i < lacking.length; i++) lacking[i] = (lacking[i] ?? 0) * (1 - (has[i] ?? 0))
    const covered = 1 - lacking.reduce((sum, bytes) => sum + bytes, 0)
    const before = shares.length === 0 ? 0 : covered
    return (one) => {
      if (!one) return before
      let gained = 0
      for (let i = 0; i < lacking.length; i++) gained += (lacking[i] ?? 0) * (one.has[i] ?? 0)
      return before + gained
    }
  }
}

/** 0..1: over the hours of the week, how surely at least one of the set is on line. */
export const hoursCovered: Worth = (set) => {
  const away = new Float64Array(weekHours).fill(1 / weekHours)
  for (const { hours } of set)
    for (let hour = 0; hour < weekHours; hour++) away[hour] = (away[hour] ?? 0) * (1 - (hours[hour] ?? 0))
  const before = 1 - away.reduce((sum, hour) => sum + hour, 0)
  return (one) => {
    if (!one) return before
    let gained = 0
    for (let hour = 0; hour < weekHours; hour++) gained += (away[hour] ?? 0) * (one.hours[hour] ?? 0)
    return before + gained
  }
}

/** 0..1: all that is good about the set but coverage. @param count partners wanted */
export function qualityBy(count: number): Worth {
  return (set) => {
    const hours = hoursCovered(set)
    const merit = set.reduce((sum, { merit }) => sum + merit, 0)
    const traits = traitsOf.map((trait) => new Set(set.map((member) => trait(member)).filter(isTold)))
    const different = traits.reduce((sum, seen) => sum + seen.size, 0)
    return (one) => {
      const wanted = Math.max(count, set.length + (one ? 1 : 0))
      let more = 0
      if (one)
        for (const [i, trait] of traitsOf.entries()) {
          const told = trait(one)
          if (told !== null && !traits[i]?.has(told)) more++
        }
      const own = merit + (one?.merit ?? 0) + (weights.difference * (different + more)) / traitsOf.length
      return own / wanted + weights.hours * hours(one)
    }
  }
}

/** What the best allowed sets reach. */
export interface Reach {
  coverage: number
  /** the highest of one candidate */
  share: number
}

export function valueBy(shares: Float64Array, best: Reach, count: number): Worth {
  const covers = coverageBy(shares)
  const quality = qualityBy(count)
  return (set) => {
    const [covered, good] = [covers(set), quality(set)]
    const sum = set.reduce((all, { share }) => all + share, 0)
    return (one) => {
      const wanted = Math.max(count, set.length + (one ? 1 : 0))
      const mean = (sum + (one?.share ?? 0)) / wanted
      return (
        (parts.coverage * Math.min(covered(one), enoughOfBest * best.coverage)) /
          Math.max(best.coverage, leastBest) +
        (parts.share * mean) / Math.max(best.share, leastBest) +
        parts.quality * good(one)
      )
    }
  }
}

const traitsOf: readonly ((member: Scored) => string | null)[] = [
  ({ candidate }) => candidate.prefix,
  ({ candidate }) => candidate.region,
  ({ machine }) => machine,
]
const isTold = (text: string | null) => text !== null

/** `linux arm64`; null when neither is told */
export function systemOf({ system, architecture }: Candidate): string | null {
  return system === null && architecture === null ? null : [system, architecture].filter(Boolean).join(' ')
}

function clamped(value: number): number {
  return value > 0 ? Math.min(1, value) : 0
}
