/** The partners as people see them: what is told of each, what is wrong with it, and whom a name means. */
import { assert, KithError } from '../base/errors.js'
import type { Clock } from '../base/clock.js'
import { ownAddresses } from './addresses.js'
import { distanceOf } from './distance.js'
import type { Parts } from './parts.js'
import type { PartnerInfo } from './reports.js'
import type { KnownPartner } from './roster.js'

export interface ListingOptions {
  parts: Parts
  clock: Clock
  /** bytes of its blocks that the vault holds */
  heldFor(key: Buffer): number
  /** bytes of ours that it still lacks */
  pending(partner: KnownPartner): number
  /** what the uploader and the reclaim have to say of it, one line each */
  troubles(key: Buffer): string[]
  /** it must still be told to release what it held */
  waits(key: Buffer): boolean
}

export class Listing {
  constructor(private readonly options: ListingOptions) {}

  all(): PartnerInfo[] {
    const own = ownAddresses()
    return this.options.parts.roster.known().map((partner) => this.info(partner, own))
  }

  /** @param partner its name, or a beginning of its id. @throws KithError notFound, usage (which partner?) */
  find(text: string): KnownPartner {
    const known = this.options.parts.roster.known()
    const named = known.filter(({ name }) => name === text)
    const found = named.length > 0 ? named : known.filter(({ id }) => id.startsWith(text.toLowerCase()))
    const [first, second] = found
    if (!first) throw new KithError('notFound', `no partner is called '${text}'; kith partners lists them`)
    if (second)
      throw new KithError('usage', `several partners match '${text}': give more of the id (kith partners)`)
    return first
  }

  /** @param id hex, of one that is known */
  of(id: string): PartnerInfo {
    const info = this.all().find((one) => one.id === id)
    assert(info, 'partners that are known are listed')
    return info
  }

  /** What is wrong with it, one line each. */
  trouble(key: Buffer): string[] {
    const { parts, troubles, waits } = this.options
    const { verdict } = parts.book.progress(key)
    const lines = verdict.found.map((kind) => {
      const again = verdict.repaired > 0 ? `; ${verdict.repaired} sent again` : ''
      if (kind === 'missing')
        return `it lacks blocks that it acknowledged (${verdict.blocks} bad in all${again})`
      if (kind === 'wrong') return `it holds damaged blocks (${verdict.blocks} bad in all${again})`
      return kind === 'oldHead' ? 'it gave an old head' : 'its head does not verify or is lost'
    })
    lines.push(...troubles(key))
    if (waits(key)) lines.push('it must still be told to release what it held')
    return lines
  }

  private info(partner: KnownPartner, own: string[]): PartnerInfo {
    const { key, id, name, since, lastSeen, circles } = partner
    const { parts, clock, heldFor, pending } = this.options
    const { roster, book, states, agreements } = parts
    const { bytesHeld, lastProof } = book.progress(key)
    const online = roster.isOnline(id)
    const roundTrip = roster.roundTrip(key)
    return {
      id,
      name,
      online,
      circles: circles.map((circle) => parts.circles.get(circle)?.name ?? circle.slice(0, 8)).sort(),
      since,
      lastSeen: online ? clock.now() : lastSeen,
      bytesHeld,
      bytesPending: pending(partner),
      bytesHeldForIt: heldFor(key),
      lastProof: lastProof || null,
      distance: distanceOf(roster.hostOf(key), own, roundTrip),
      roundTrip: roundTrip || null,
      trouble: this.trouble(key),
      state: states.info(key),
      agreement: agreements.info(key) ?? null,
    }
  }
}
