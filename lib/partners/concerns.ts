/**
 * Concerns: a partner that has not heard of an owner for long asks the owner's other partners when they saw it (fellows.ts).
 * Who was asked tells the owner, so that it learns that somebody still counts the days, and until when what lies there stays.
 *
 *     raise     a fellow asked after an owner: it is told in this session, or when it comes on line. Kept in memory for two days: who is
 *               concerned asks again each day, and so the owner hears of it as long as it lasts
 *     hear      a partner of ours says that another one asked after us: both must be partners that our backups are to be at. That one is
 *               dialled at once, and the user is told until it is on line again
 *
 * One that lies can have us dial a partner of ours, and show the user a line that names the liar: nothing is decided by it.
 */
import { type Clock } from '../base/clock.js'
import { asKithError, KithError } from '../base/errors.js'
import type { Log } from '../base/log.js'
import type { Requests } from '../format/wire.js'
import { dayMs } from '../planning/partner-state.js'
import type { Peer } from './types.js'

export interface ConcernsOptions {
  online(): Peer[]
  /** the session with whoever is on line */
  peer(key: Buffer): Peer | undefined
  /** partners that our backups are to be at */
  partners(): { key: Buffer; name: string }[]
  /** looks for those that are away, and dials them, now */
  hurry(): void
  clock: Clock
  log: Log
}

interface Concern {
  /** who told of it */
  by: Buffer
  at: number
}

const keptMs = 2 * dayMs
/** Owners that were asked after; each is one whose data is held here. */
const maxOwners = 10_000

export class Concerns {
  /** Owner -> who asked after it -> when. */
  private readonly raised = new Map<string, Map<string, number>>()
  private readonly told = new WeakMap<Peer, Set<string>>()
  /** Partner of ours -> who told us that it asked. */
  private readonly heard = new Map<string, Concern>()

  constructor(private readonly options: ConcernsOptions) {}

  /** Somebody asked after an owner whose data we hold, too. */
  raise(owner: Buffer, asker: Buffer): void {
    const id = owner.toString('hex')
    if (!this.raised.has(id) && this.raised.size >= maxOwners) return
    const askers = this.raised.get(id) ?? new Map<string, number>()
    askers.set(asker.toString('hex'), this.options.clock.now())
    this.raised.set(id, askers)
    const peer = this.options.peer(owner)
    if (!peer) return
    this.told.get(peer)?.delete(asker.toString('hex'))
    this.tell(peer)
  }

  /** Sessions came or went. */
  follow(): void {
    for (const id of [...this.raised.keys()]) if (this.current(id).length === 0) this.raised.delete(id)
    for (const peer of this.options.online()) this.tell(peer)
    for (const id of [...this.heard.keys()])
      if (this.options.peer(Buffer.from(id, 'hex'))) this.heard.delete(id)
  }

  /** @throws KithError denied when one of both is no partner of ours */
  hear(from: Buffer, { partner }: Requests['missed']): Record<never, never> {
    const { partners, peer, clock, hurry, log } = this.options
    const isOurs = (key: Buffer) => partners().some((one) => one.key.equals(key))
    if (!isOurs(from) || !isOurs(partner) || from.equals(partner))
      throw new KithError('denied', 'that is no partner of ours')
    if (peer(partner)) return {}
    log.warn({ partner: partner.toString('hex'), by: from.toString('hex') }, 'a partner has not heard of us')
    this.heard.set(partner.toString('hex'), { by: from, at: clock.now() })
    hurry()
    return {}
  }

  /** For the user, while a partner is away that asked after us. */
  warnings(partner: Buffer): string[] {
    const { partners, peer, clock } = this.options
    const concern = this.heard.get(partner.toString('hex'))
    if (!concern || peer(partner)) return []
    const by = partners().find(({ key }) => key.equals(concern.by))?.name ?? 'another partner'
    const days = Math.floor(Math.max(0, clock.now() - concern.at) / dayMs)
    const when = days === 0 ? '' : days === 1 ? ' a day ago' : ` ${days} days ago`
    return [
      `it runs, but has not heard of you for long, and asked ${by} after you${when}: it lets go of what it holds for you ` +
        'when its patience ends, unless you reach each other',
    ]
  }

  private tell(peer: Peer): void {
    if (!peer.heeds) return
    const told = this.told.get(peer) ?? new Set<string>()
    this.told.set(peer, told)
    for (const asker of this.current(peer.key.toString('hex'))) {
      if (told.has(asker)) continue
      told.add(asker)
      peer.request('missed', { partner: Buffer.from(asker, 'hex') }).catch((error: unknown) => {
        const reason = asKithError(error).message
        this.options.log.info(
          { peer: peer.key.toString('hex'), reason },
          'an owner was not told who misses it',
        )
      })
    }
  }

  /** Who asked after this owner in the last days. */
  private current(owner: string): string[] {
    const now = this.options.clock.now()
    return [...(this.raised.get(owner) ?? [])].flatMap(([id, at]) =>
      Math.abs(now - at) < keptMs ? [id] : [],
    )
  }
}
