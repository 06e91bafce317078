/**
 * Where and how often a node looks for partners with data in common.
 *
 * Who has much in common must find each other among thousands without asking all. So a node is announced, and looks, at
 * *meeting places* that follow from its blocks: in each of `placesOfNode` parts of the random order of sketches (format/sketch.ts) that
 * of the block with the lowest rank. Two nodes have the same lowest block with the chance of the bytes that they have in common
 * out of those that either has; so those who share half meet at one of four places or more in 15 of 16 cases, and those who share
 * nothing never. A place is named by the entry, under the key of the circle: who lacks the key cannot tell what it stands for.
 */
import type { Sketch } from '../format/sketch.js'

export const placesOfNode = 4
/** Strangers dialled in one round, of all that were found. */
export const metInRound = 8
const metByChance = 2
const firstDelayMs = 2000
const longestDelayMs = 10 * 60_000
/** Rounds with nobody new to bind, after which a node that has its partners rests. */
const patience = 5
/** Rounds of meeting before the first choice: a minute, and up to 48 met. */
const roundsBefore = 5
/** Between rounds of one that has its partners: somebody better may have come. */
const restMs = 24 * 3_600_000

/** Names of the places, at most `placesOfNode`; fewer for a node with very few blocks. */
export function meetingPlaces({ entries }: Sketch): string[] {
  const places = new Map<number, number>()
  for (const entry of entries) {
    const part = Math.floor(entry / 256) % placesOfNode
    if (!places.has(part)) places.set(part, entry)
  }
  return [...places.values()].map((entry) => entry.toString(16).padStart(12, '0'))
}

/**
 * Whom to dial of those found: first who was found at the most of our meeting places, since it has the most in common with us;
 * and a few by chance, who differ from us in all else.
 * @param found at how many of our places each was found
 * @param random 32 bits, as from base/random.ts
 */
export function whomToMeet<Id>(found: ReadonlyMap<Id, number>, random: () => number): Id[] {
  const mixed = [...found]
    .map(([id, places]) => ({ id, places, lot: random() }))
    .sort((a, b) => a.lot - b.lot)
  const alike = mixed.slice().sort((a, b) => b.places - a.places)
  const first = alike.slice(0, metInRound - metByChance)
  const others = mixed.filter((one) => !first.includes(one)).slice(0, metByChance)
  return [...first, ...others].map(({ id }) => id)
}

/**
 * Whether to choose among those met, or to look on. To bind somebody means to send it a whole backup, so a node meets some first;
 * it does not wait where nobody else is found, or for long.
 * @param found others that were found in the last round and not met before
 */
export function mayChoose({ rounds }: Pick<Search, 'rounds'>, found: number): boolean {
  return rounds >= roundsBefore || found <= metInRound
}

/** How the search of a node stands. */
export interface Search {
  /** rounds since partners were last lacking anew */
  readonly rounds: number
  /** of these, the last ones that brought no better set */
  readonly vain: number
  /** partners that are lacking */
  readonly lacking: number
}

/** Until the next round. @param chance 0..1, spreads the nodes */
export function nextRoundMs({ rounds, vain, lacking }: Search, chance: number): number {
  const isResting = lacking <= 0 && vain >= patience
  const delay = isResting ? restMs : Math.min(longestDelayMs, firstDelayMs * 2 ** Math.min(20, rounds))
  return delay * (0.75 + chance / 2)
}
