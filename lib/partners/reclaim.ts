/**
 * Room that comes back: what is held for owners that are never heard of any more is let go of at the end of their term
 * (planning/reclaim.ts), after a warning through all the days before; and partners that we parted from are dialled no more when
 * nothing is left of them: friends rest (resting.ts) until there is a new agreement or the user wants one, others are forgotten,
 * else the list would fill up with those that were replaced.
 *
 * Crash argument: the vault lets go in its own transactions, which it can repeat; whoever is left over is looked at within the hour.
 */
import type { Log } from '../base/log.js'
import { dayMs } from '../planning/partner-state.js'
import { verdictOn, type OwnerVerdict } from '../planning/reclaim.js'
import type { Agreements } from './agreements.js'
import type { Book } from './book.js'
import type { Policy } from './negotiation.js'
import type { KnownPartner, Roster } from './roster.js'
import type { States } from './states.js'
import type { PeersVault } from './types.js'

export interface ReclaimOptions {
  roster: Roster
  agreements: Agreements
  states: States
  book: Book
  vault: PeersVault
  policy(): Omit<Policy, 'needs'>
  /** ms that a friend's data is kept at least after it was last heard of */
  leastSilenceMs(): number
  /** whether it must still be told to release something of ours */
  waits(partner: Buffer): boolean
  log: Log
}

export const usualSilenceMs = 365 * dayMs

export class Reclaim {
  private running: Promise<void> = Promise.resolve()
  private stopped = false

  constructor(private readonly options: ReclaimOptions) {}

  async stop(): Promise<void> {
    this.stopped = true
    await this.running
  }

  /** One round after the other. Never throws. */
  run(): void {
    this.running = this.running
      .then(() => this.round())
      .catch((error: unknown) => this.options.log.warn({ err: error }, 'reclaiming failed'))
  }

  /** For the user, while the term of this owner runs out. */
  warnings(owner: Buffer): string[] {
    const verdict = this.verdict(owner)
    if (verdict.kind !== 'warned') return []
    const days = (ms: number) => Math.ceil(ms / dayMs)
    const silent = days(this.options.states.get(owner).silentMs)
    return [
      `not heard of for ${silent} days: what you hold for it goes after ${days(verdict.leftMs)} more, unless it comes back`,
    ]
  }

  private async round(): Promise<void> {
    const { roster, vault, log } = this.options
    for (const partner of roster.known()) if (!this.stopped && this.isPast(partner)) await this.part(partner)
    for (const { key, id } of roster.known()) {
      if (this.stopped || this.verdict(key).kind !== 'expired') continue
      const { blocks, bytes } = await vault.evict(key)
      roster.holdingsChanged()
      log.warn({ peer: id, blocks, bytes }, 'never heard of any more: what was held is let go of')
    }
  }

  /** An agreement with a friend at rest was made: by its wish, or as both met. */
  follow(): void {
    const { roster, agreements, log } = this.options
    for (const { key, id } of roster.known())
      if (roster.resting.of(id) && !agreements.isOver(key))
        roster.wake(key).catch((error: unknown) => log.warn({ err: error }, 'a partner may stay at rest'))
  }

  /** Parted from: the notices of both are over, here nothing is held for it, and nothing of ours is left there. */
  private isPast({ key, id, circles }: KnownPartner): boolean {
    const { agreements, states, roster, vault, waits } = this.options
    if (roster.resting.of(id) || states.get(key).state !== 'gone' || vault.knows(key) || waits(key))
      return false
    return circles.length > 0 ? agreements.isPast(key) : !agreements.isBound(key)
  }

  private async part({ key, id, circles }: KnownPartner): Promise<void> {
    const { agreements, book, roster, log } = this.options
    // Else what the store removes would be kept in mind for it for ever.
    await book.emptied(key)
    if (circles.length === 0) await roster.forget(key)
    else await roster.rest(key, agreements.info(key)?.standing === 'expired' ? 'expired' : 'ended')
    log.info({ peer: id }, 'parted from: it is not dialled any more')
  }

  /** An agreement that is over has its own notice. */
  private verdict(key: Buffer): OwnerVerdict {
    const { agreements, roster, states, vault, policy, leastSilenceMs } = this.options
    if (!vault.knows(key) || agreements.isOver(key)) return { kind: 'kept' }
    const { ours, theirs } = agreements.info(key) ?? {}
    const { terms } = policy()
    return verdictOn({
      silentMs: states.get(key).silentMs,
      grace: (theirs ?? terms).grace,
      notice: (ours ?? terms).notice,
      leastMs: roster.isFriend(key) ? leastSilenceMs() : 0,
    })
  }
}
