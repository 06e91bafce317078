/** What a vault takes and says. */
import type { Clock } from '../base/clock.js'
import type { Log } from '../base/log.js'

export interface VaultOptions {
  /** Of all owners together: bytes of sealed blocks, and 512 for each. */
  quotaBytes: number
  /** Of one owner, as it is agreed upon now; the whole when not given. */
  ownerQuotaBytes?(owner: Buffer): number
  /** So long a drop is held back, by this machine's clock; until then the owner can still read the block. */
  dropDelayMs?: number
  /** This node's public key: releases are bound to it. */
  partnerKey: Buffer
  clock: Clock
  log: Log
}

export interface Held {
  bytes: number
  blocks: number
}

export interface OwnerInfo extends Held {
  /** public key */
  owner: Buffer
  /** milliseconds since 1970 of the first block or head */
  since: number
  heads: number
}

/** What one step of a round through the vault found. */
export interface Scrubbed {
  checked: number
  /** names of blocks that were dropped because their bytes had changed */
  damaged: Buffer[]
  /** where the next step goes on; absent at the end of the round */
  next?: Buffer
}

/** What a check of the vault found. */
export interface Checked {
  blocks: number
  /** of them, blocks whose bytes were read */
  read: number
  damaged: number
  /** what is wrong with the index, one line each */
  problems: string[]
}
