/**
 * Room that comes back: what is held for owners that are never heard of any more is let go of at the end of their term
 * (planning/reclaim.ts), after a warning through all the days before, in which its other partners are asked for it once a day; and partners that we parted from are dialled no more when
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
import type { Fellows } from './fellows.js'
import type { Policy } from './negotiation.js'
import type { KnownPartner, Roster } from './roster.js'
import type { States } from './states.js'
import type { PeersVault } from './types.js'

export interface ReclaimOptions {
  roster: Roster
  agreements: Agreements
  states: States
  book: Book
  fellows: Fellows
  vault: PeersVault
  policy(): Omit<Policy, 'needs'>
  /** ms that a friend's data is kept at least after it was last heard of */
  leastSilenceMs(): number
  /** whether it must still be told to release something of ours */
  waits(partner: Buffer): boolean
  log: Log
}

export const usualSilenceMs = 365 * dayMs

/** Between two rounds of questions about one owner, of the time that it was silent. */
const askEveryMs = dayMs

/** What another partner of an owner said: so long ago it saw it, when it was silent here for so long. */
interface Word {
  silentMs: number
  ageMs: number | undefined
}

export class Reclaim {
  private readonly words = new Map<string, Word>()
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
    const elsewhere = this.elsewhere(owner)
    return [
      `not heard of for ${silent} days: what you hold for it goes after ${days(verdict.leftMs)} more, unless it comes back`,
      ...(elsewhere === undefined ? [] : [`another of its partners saw it ${within(days(elsewhere))}`]),
    ]
  }

  private async round(): Promise<void> {
    const { roster, fellows, vault, log } = this.options
    for (const partner of roster.known()) if (!this.stopped && this.isPast(partner)) await this.part(partner)
    // A list that is old by now is made anew.
    fellows.follow()
    await fellows.sweep()
    for (const { key, id } of roster.known()) {
      if (this.stopped || this.verdict(key).kind === 'kept') continue
      await this.inquire(key, id)
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

  /** Has the owner's other partners asked, once a day of its silence. */
  private async inquire(key: Buffer, id: string): Promise<void> {
    const { states, fellows, log } = this.options
    const { silentMs } = states.get(key)
    const last = this.words.get(id)
    if (last && silentMs >= last.silentMs && silentMs - last.silentMs < askEveryMs) return
    const said = await fellows.ask(key)
    const before = this.elsewhere(key)
    // Who does not answer today takes nothing back of what was said before.
    const ageMs = said === undefined || (before !== undefined && before < said) ? before : said
    this.words.set(id, { silentMs, ageMs })
    if (said !== undefined) log.info({ peer: id, ageMs: said }, 'another partner of a silent owner saw it')
  }

  /** Ms since another partner saw it, counted like its silence here. */
  private elsewhere(owner: Buffer): number | undefined {
    const word = this.words.get(owner.toString('hex'))
    const { silentMs } = this.options.states.get(owner)
    // It was here since.
    if (word?.ageMs === undefined || silentMs < word.silentMs) return undefined
    return word.ageMs + silentMs - word.silentMs
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
      elsewhereMs: this.elsewhere(key),
    })
  }
}

function within(days: number): string {
  return days <= 1 ? 'within the last day' : `within the last ${days} days`
}
