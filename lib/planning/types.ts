/**
 * What planning knows of the nodes that could be partners, and what it decides. Plain data: the parts that measure (partners/) and
 * the simulation fill it in, and selection.ts plans with it, without a network, a disk or a clock.
 */
import type { Sketch } from '../format/sketch.js'

export type { Sketch } from '../format/sketch.js'

export const weekHours = 168

/** For each hour of the week (UTC, from Monday 0 h), 0..1: how surely the node is on line then. 168 numbers. */
export type Hours = readonly number[]

/** `near`: same network or site; `far`: another place; null: not known. */
export type Distance = 'near' | 'far' | null

export interface TrackRecord {
  /** agreements that it kept to their end, or keeps, as far as they are vouched for */
  readonly kept: number
  readonly reneged: number
  /** days since it is known here or by those who vouch for it */
  readonly days: number
}

/** What somebody says of another. */
export interface Heard extends TrackRecord {
  /** days since who says it is known here */
  readonly knownDays: number
}

export interface Candidate {
  /** hex of its public key */
  readonly id: string
  /** Chosen by a person: always kept, and no rule bounds it (it counts for the bounds of the others). */
  readonly invited: boolean
  /** Answer to the owner's sketch (format/sketch.ts): what the candidate has of it; null: not asked yet. */
  readonly holds: Buffer | null
  /** 0..1 of the owner's bytes that were placed there and acknowledged; a partner of today */
  readonly placed?: number
  /** 0..1: how far its answer is believed; 1 after possession challenges were passed, 0 after one failed. */
  readonly belief: number
  readonly distance: Distance
  /** ms; null: not measured */
  readonly roundTrip: number | null
  /** its /24 (IPv4) or /48 (IPv6) as text; null where it says nothing: loopback, unknown */
  readonly prefix: string | null
  /** as declared, checked where it can be; null: not told */
  readonly region: string | null
  /** e.g. linux */
  readonly system: string | null
  /** e.g. arm64 */
  readonly architecture: string | null
  /** hex ids of the circles shared with it; empty: a stranger of the open pool */
  readonly circles: readonly string[]
  /** observed, else declared; null: not known */
  readonly hours: Hours | null
  /** bytes a second, measured or agreed upon; null: not known */
  readonly bandwidth: number | null
  /** bytes that it would hold for us */
  readonly space: number
  readonly record: TrackRecord
}

/** What the owner wants. `defaultPolicy` in selection.ts has usual values. */
export interface SelectionPolicy {
  /** partners wanted, invited ones among them */
  readonly count: number
  /** bytes that a partner should have room for */
  readonly needs: number
  /** bytes a second below which nobody is taken */
  readonly leastBandwidth: number
  /** At most so many of one address prefix, of one circle, of strangers without a record; who was invited counts, and is kept. */
  readonly perPrefix: number
  readonly perCircle: number
  readonly newcomers: number
  /** Bytes that a node without a record is entrusted with. */
  readonly newcomerBytes: number
  /** 0..1: what a change of the set must gain. */
  readonly churn: number
}

export interface SelectionInput {
  /** of the owner's own blocks, as it was sent to the candidates */
  readonly sketch: Sketch
  readonly candidates: readonly Candidate[]
  /** ids of today's partners */
  readonly current: readonly string[]
  readonly policy: SelectionPolicy
}

export interface Choice {
  readonly id: string
  /** 0..1 of the owner's bytes that it has already, and the error of that (95 %); null: not known */
  readonly share: number | null
  readonly error: number | null
  /** bytes to place there at most, for now */
  readonly entrusted: number
  /** one line each, in words; the weightiest first */
  readonly why: readonly string[]
}

export interface Selection {
  readonly chosen: readonly Choice[]
  /** Candidates that were not chosen, and why not, one line each. */
  readonly passedOver: readonly { readonly id: string; readonly why: string }[]
  /** 0..1 of the owner's bytes that the chosen have together before anything is sent */
  readonly coverage: number
}
