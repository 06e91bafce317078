/** Today's partners as selection sees them: for `kith partners --why`. */
import { isHourIn, weekBytes } from '../format/week.js'
import type { PartnerInfo as Partner, SwapInfo } from '../partners/partners.js'
import { counts } from '../planning/partner-state.js'
import { expectedHours, hoursSeen, type Presence, promiseKept, unseen } from '../planning/hours.js'
import { defaultPolicy, select } from '../planning/selection.js'
import { sketchOf } from '../planning/sketch.js'
import { type Candidate, weekHours } from '../planning/types.js'
import type { Result } from './api.js'
import type { Services } from './services.js'

/** What partners hold by now says more than a sketch of what they had before. */
const noSketch = sketchOf([], Buffer.alloc(32))

export function why({ partners, config }: Pick<Services, 'partners' | 'config'>): Result<'why'> {
  const known = partners.list()
  const swap = partners.swap()
  const names = new Map(known.map(({ id, name }) => [id, name]))
  const { chosen, passedOver } = select({
    sketch: noSketch,
    candidates: known.map((partner) => candidateOf(partner, partners.presence(partner.id))),
    // Whom to exchange is decided by other rules (planning/swap.ts).
    current: [],
    // All of today's are looked at, however many are wanted.
    policy: { ...defaultPolicy, count: Math.max(known.length, config.settings.poolPartners) },
  })
  const seenWhy = (id: string) => {
    const hours = known.find((partner) => partner.id === id)?.agreement?.theirs.hours
    return presenceWhy(partners.presence(id), hours ? hoursOf(hours) : null)
  }
  const named = (id: string) => ({ id, name: names.get(id) ?? '' })
  return {
    partners: [
      ...chosen.map(({ id, why }) => ({
        ...named(id),
        kept: true,
        why: [...why, ...seenWhy(id), ...swapWhy(id, swap, names)],
      })),
      ...passedOver.map(({ id, why }) => ({
        ...named(id),
        kept: false,
        why: [why, ...swapWhy(id, swap, names)],
      })),
    ],
  }
}

/** What an exchange that is under way has to do with this partner. */
export function swapWhy(id: string, swap: SwapInfo | null, names: ReadonlyMap<string, string>): string[] {
  if (!swap || (id !== swap.from && id !== swap.to)) return []
  const named = (of: string) => names.get(of) || of.slice(0, 12)
  const [from, to] = [named(swap.from), named(swap.to)]
  if (id === swap.from)
    return swap.stage === 'filling'
      ? [`gives way to ${to}, once that one holds everything and was tried`]
      : [`gives way to ${to}: what only this one has of your data goes to others first`]
  const now = swap.stage === 'filling' ? 'it is filled and tried first' : 'it holds everything, and was tried'
  return [`is to take the place of ${from} (${swap.why.join('; ')}): ${now}`]
}

/** A friend counts as chosen by the user; of a stranger, what the agreement says and what was seen of it. */
export function candidateOf(partner: Partner, presence: Presence = unseen): Candidate {
  const { id, agreement, circles, distance, roundTrip, bytesHeld, bytesPending, trouble, state } = partner
  const theirs = agreement?.theirs
  const all = bytesHeld + bytesPending
  // One of today counts from its first day: it is no newcomer to us.
  const isKeeping = agreement?.standing === 'active' && trouble.length === 0 && counts({ state: state.name })
  return {
    id,
    invited: circles.length > 0,
    holds: null,
    ...(all > 0 && { placed: bytesHeld / all }),
    belief: 1,
    distance,
    roundTrip,
    prefix: null,
    region: null,
    system: null,
    architecture: null,
    circles,
    hours: expectedHours(presence, theirs ? hoursOf(theirs.hours) : null),
    bandwidth: theirs?.bandwidth || null,
    space: theirs?.holds ?? 0,
    record: { ...state.record, kept: Math.max(state.record.kept, isKeeping ? 1 : 0) },
  }
}

/** Whether its hours are seen or promised only, and how far it kept to them. */
export function presenceWhy(presence: Presence, promised: readonly number[] | null): string[] {
  const kept = promiseKept(presence, promised)
  if (kept !== null) return [`was there in ${Math.round(100 * kept)} % of the time that it promised`]
  if (hoursSeen(presence)) return ['promised no hours: these are as they were seen from here']
  return promised ? ['its hours are as promised: too little was seen of it yet'] : []
}

/** null: no hours were promised */
function hoursOf(week: Buffer): number[] | null {
  if (week.equals(Buffer.alloc(weekBytes))) return null
  return Array.from({ length: weekHours }, (_, hour) =>
    isHourIn(week, Math.floor(hour / 24), hour % 24) ? 1 : 0,
  )
}
