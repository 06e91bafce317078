/** What partners.ts tells the daemon. */
import type { CircleInfo } from './circle.js'
import type { Distance } from '../planning/types.js'
import type { PactInfo } from './agreements.js'
import type { StateInfo } from './states.js'

export interface PartnerInfo {
  /** hex of the partner's public key */
  id: string
  /** the name that the partner gave itself; not unique, not to be trusted */
  name: string
  online: boolean
  /** names of the circles that we share, sorted */
  circles: string[]
  /** first met, ms since 1970 */
  since: number
  /** last connected, ms since 1970 */
  lastSeen: number
  /** bytes of our blocks that the partner has acknowledged as durable */
  bytesHeld: number
  /** bytes of our blocks that it still lacks */
  bytesPending: number
  /** bytes of its blocks that we hold */
  bytesHeldForIt: number
  /** the last audit that it passed, ms since 1970 */
  lastProof: number | null
  /** by address and round trip; null: not known */
  distance: Distance
  /** ms; null: off line, or shorter than can be measured */
  roundTrip: number | null
  /** what is wrong with it, one line each: failed audits, bad heads, refused blocks, no space */
  trouble: string[]
  state: StateInfo
  /** null: none was made yet, or its kith makes none */
  agreement: PactInfo | null
}

/** What a partner said to a request to let go of our blocks. */
export interface ReleaseResult {
  id: string
  name: string
  /** false: it will be told when it is on line again; `reason` says why not now */
  released: boolean
  reason?: string
}

export interface AuditResult {
  id: string
  name: string
  online: boolean
  /** blocks asked for / blocks proven */
  asked: number
  proven: number
  /** this audit or an earlier one found something, and none since found it whole */
  failed: boolean
  /** what is wrong with it, one line each */
  trouble: string[]
}

/** What audits find, and what they cost. */
export interface AuditInfo {
  /** A partner that lost this part (0..1) of what it holds is found out within that time with this confidence (0..1). */
  lost: number
  confidence: number
  /** null: nobody holds anything yet */
  caughtWithinMs: number | null
  /** both ways with one partner, the most of any, in the last day since the start; and what is taken on average */
  bytesLastDay: number
  bytesPerDay: number
}

/** An exchange of one partner for a better one (planning/swap.ts). Ids are hex. */
export interface SwapInfo {
  /** `moving`: the new one is tried and full, and what only the old one has of stripes goes elsewhere */
  stage: 'filling' | 'moving'
  /** ms since 1970 */
  begun: number
  from: string
  to: string
  /** what is gained, one line each */
  why: string[]
}

/** A change of an agreement. */
export interface PactChange {
  /** as it is afterwards */
  partner: PartnerInfo
  /** false: the partner is off line; it hears of it when it is back */
  told: boolean
}

export interface Invite {
  /** what the friend types */
  code: string
  /** ms since 1970 */
  expires: number
  circle: string
}

export interface Joined {
  circle: CircleInfo
  /** who invited: hex public key and the name it gave itself */
  inviter: { id: string; name: string }
}
