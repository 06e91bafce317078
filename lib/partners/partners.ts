/** The partners of this node, as the daemon sees them. */
import type { CircleInfo, CircleSecret } from './circle.js'

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
  /** what is wrong with it, one line each: failed audits, bad heads, refused blocks, no space */
  trouble: string[]
}

/** What a partner said to a request to let go of our blocks. */
export interface ReleaseResult {
  id: string
  name: string
  /** false: off line or refused; `reason` says which */
  released: boolean
  reason?: string
}

export interface AuditResult {
  id: string
  name: string
  /** blocks asked for / blocks proven */
  asked: number
  proven: number
  passed: boolean
  reason?: string
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

/** Calls of the manager; `class Partners` in this file implements it. */
export interface PartnersCalls {
  list(): PartnerInfo[]
  circles(): CircleInfo[]
  /** For the head's sealed owner state. */
  circleSecrets(): CircleSecret[]
  createCircle(name: string): Promise<CircleInfo>
  /** After a recovery: makes this node a member again. Known circles are left as they are. */
  restoreCircles(circles: CircleSecret[]): Promise<void>
  /** @param circle name or id; may be left out when there is exactly one */
  invite(circle?: string): Promise<Invite>
  join(code: string): Promise<Joined>
  /** New blocks or heads are there: offer them to the partners now. Cheap; call it as often as you like. */
  wake(): void
  /** Whether every known partner (at least one) holds all blocks up to the sequence, and that head or a newer one. */
  synced(sequence: number, head: Buffer): boolean
  /** Audits the partners that are on line now, besides the schedule. */
  audit(): Promise<AuditResult[]>
  /** Asks every partner, by signed request, to let go of one volume of ours or of everything. */
  release(what: { volume: Buffer } | 'all'): Promise<ReleaseResult[]>
  stop(): Promise<void>
}
