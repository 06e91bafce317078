/** How far a candidate is trusted, by its record: what it kept, broke, and for how long it is known. */
import type { Candidate, Heard, SelectionPolicy, TrackRecord } from './types.js'

/**
 * A record with what others say. What was seen counts for all that it is; of others each counts for one agreement, whatever it says of how
 * many, and for no more days than it is known itself. So one that vouches for its own other names gains them no more than a place.
 */
export function withHeard(seen: TrackRecord, heard: readonly Heard[]): TrackRecord {
  const broken = heard.filter(({ reneged }) => reneged > 0).length
  const keeping = heard.filter(({ kept, reneged }) => kept > 0 && reneged === 0)
  return {
    kept: seen.kept + keeping.length,
    reneged: seen.reneged + broken,
    days: Math.max(seen.days, ...keeping.map(({ days, knownDays }) => Math.min(days, knownDays))),
  }
}

/** 0..1: how surely it keeps an agreement. Somebody unknown has a fourth. */
export function reliability({ kept, reneged, days }: TrackRecord): number {
  const kindness = (kept + 1) / (kept + 3 * reneged + 2)
  return kindness * (1 - 0.5 * Math.exp(-days / 60))
}

/** Bytes to place at a candidate for now. Who has no record starts with little; it doubles as agreements are kept. */
export function entrusted(candidate: Candidate, policy: Pick<SelectionPolicy, 'newcomerBytes'>): number {
  const { invited, circles, record, space } = candidate
  if (invited || circles.length > 0) return space
  const doublings = Math.min(Math.floor(record.days / 14), 4 * record.kept) - 2 * record.reneged
  return Math.min(space, Math.floor(policy.newcomerBytes * 2 ** Math.min(40, doublings)))
}

/** A stranger for whom nobody vouches. */
export function isNewcomer({ invited, circles, record }: Candidate): boolean {
  return !invited && circles.length === 0 && record.kept === 0
}
