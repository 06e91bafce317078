/** Who can be given a part of a stripe now, as planning/placement.ts wants to know it; and all partners, as planning/repair.ts does. */
import { availabilitySeen } from '../planning/hours.js'
import { counts } from '../planning/partner-state.js'
import type { PlacePartner } from '../planning/placement.js'
import type { RepairPartner } from '../planning/repair.js'
import type { Agreements } from './agreements.js'
import type { Book } from './book.js'
import { prefixOf } from './distance.js'
import type { Presences } from './presence.js'
import type { KnownPartner, Roster } from './roster.js'
import type { States } from './states.js'

/** So long ago a partner may have been on line, and still be given its part. */
const dayMs = 86_400_000
/** What a partner is taken for until enough of its hours were seen. */
const usualAvailability = 0.9

interface RepairersParts {
  roster: Roster
  states: States
  agreements: Agreements
  /** those of `candidatesOf` */
  candidates: readonly PlacePartner[]
  /** whether our backups are to be at this partner */
  isCounted(partner: KnownPartner): boolean
  /** whether another takes its place, and elements are moved away */
  isLeft(partner: Buffer): boolean
  /** whether it gives back what it holds */
  gives(partner: Buffer): boolean
}

/**
 * What each of these is to a stripe that it has a part of.
 * @param isFresh the roster began anew lately: who is no partner yet may become one again
 */
export function repairersOf(
  known: readonly KnownPartner[],
  { roster, states, agreements, candidates, isCounted, isLeft, gives }: RepairersParts,
  isFresh: boolean,
): RepairPartner[] {
  const able = new Map(candidates.map((one) => [one.id, one]))
  const unable = { site: null, prefix: null, region: null, space: 0, availability: usualAvailability }
  return known.map((partner) => {
    const { key, id } = partner
    const now = states.get(key)
    const parted = agreements.isOver(key) ? 'leaving' : isFresh ? 'good' : 'gone'
    const bound = isLeft(key) ? 'leaving' : now.state
    const state = counts(now) ? (isCounted(partner) ? bound : parted) : now.state
    const one = able.get(id) ?? { id, ...unable, prefix: prefixOf(roster.hostOf(key)) }
    return { ...one, state, online: roster.isOnline(id), gives: gives(key) }
  })
}

interface CandidatesParts {
  roster: Roster
  agreements: Agreements
  book: Book
  presences: Presences
}

/**
 * Of these, those that take blocks, and were on line within the last day.
 * @param refuses it took no blocks when it was sent some last
 */
export function candidatesOf(
  known: readonly KnownPartner[],
  { roster, agreements, book, presences }: CandidatesParts,
  refuses: (partner: Buffer) => boolean,
  now: number,
): PlacePartner[] {
  return known.flatMap(({ key, id, lastSeen }) => {
    const peer = roster.online().find((one) => one.key.equals(key))
    const agreement = agreements.info(key)
    const takes = peer ? peer.lends && agreements.sendsTo(peer) : agreement?.standing === 'active'
    const isThere = peer !== undefined || Math.abs(now - lastSeen) < dayMs
    if (!takes || !isThere || refuses(key)) return []
    const left = (agreement?.theirs.holds ?? Infinity) - book.progress(key).bytesHeld
    const space = Math.min(Math.max(0, left), Number.MAX_SAFE_INTEGER)
    const prefix = prefixOf(roster.hostOf(key))
    const availability = availabilitySeen(presences.of(key)) ?? usualAvailability
    return [{ id, site: null, prefix, region: null, space, availability }]
  })
}
