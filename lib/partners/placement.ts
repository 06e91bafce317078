/**
 * What each partner is to hold, as the uploader and the auditor see it: blocks of the store that are in no stripe, its shards of
 * those that are, and the pages of the table. Shards and pages have no number of the store's, so that cursors do not cover
 * them: a list of what is pending does (stripes.ts, placement-pages.ts).
 *
 * While the policy is `replica` and there never was a stripe, all of this is the store itself.
 */
import { setImmediate } from 'node:timers/promises'
import type { NumberedStripe } from '../format/stripe.js'
import type { Book } from './book.js'
import type { PlacedReader } from './placed-reader.js'
import type { PlacementPages } from './placement-pages.js'
import type { Shards } from './shards.js'
import type { Striper } from './striper.js'
import { neededOf, type Stripes } from './stripes.js'
import type { OwnedBlocks } from './types.js'

export interface PlacementParts {
  owned: OwnedBlocks
  book: Book
  stripes: Stripes
  pages: PlacementPages
  shards: Shards
  striper: Striper
  reader: PlacedReader
}

/** Whether the partner is believed to hold the shard that it acknowledged. */
type Holds = (partner: Buffer, shard: Buffer) => boolean

const rowsAtOnce = 1000
const stripesAtOnce = 100
/** Of a window of names; a draw asks for few. */
const windowRows = 100_000

export class Placement {
  private readonly views = new Map<string, PartnerView>()
  private readonly undecided: Undecided

  constructor(private readonly parts: PlacementParts) {
    this.undecided = new Undecided(parts)
  }

  /** The blocks of that partner. */
  view(partner: Buffer): PartnerView {
    const id = partner.toString('hex')
    const view = this.views.get(id) ?? new PartnerView(Buffer.from(partner), this.parts, this.undecided)
    this.views.set(id, view)
    return view
  }

  /** Whether all that the partner is to hold besides blocks is acknowledged. */
  isSettled(partner: Buffer): boolean {
    return this.view(partner).pending(1).length === 0
  }

  /** Whether the partner has the newest account of what is where. */
  isTold(partner: Buffer): boolean {
    const { book, pages, stripes } = this.parts
    return stripes.isClean && book.head(partner, pages.volume) >= pages.sequence
  }

  /** The partner lost what it held, or some of it that it cannot name. */
  async restart(partner: Buffer): Promise<void> {
    await this.parts.stripes.restart(partner)
    await this.parts.pages.restart(partner)
  }

  /** Of these partners, how many could be lost but one, and the block still be read; undefined: it is in no stripe. */
  copies(block: Buffer, holds: Holds): number | undefined {
    const stripe = this.parts.stripes.of(block)
    return stripe && this.copiesOf(stripe, holds)
  }

  get version(): number {
    return this.parts.stripes.version
  }

  /** Blocks in stripes of which there are fewer copies. */
  async fewerThan(copies: number, holds: Holds): Promise<Buffer[]> {
    const { stripes } = this.parts
    const found: Buffer[] = []
    for (let at = 0; ;) {
      const page = stripes.since(at, stripesAtOnce)
      const last = page.at(-1)
      if (!last) return found
      for (const stripe of page)
        if (this.copiesOf(stripe, holds) < copies) found.push(...stripes.alive(stripe))
      at = last.number
      await setImmediate()
    }
  }

  private copiesOf(stripe: NumberedStripe, holds: Holds): number {
    const held = stripe.shards.filter(
      ({ partner, name }) => this.parts.stripes.isHeld(partner, name) && holds(partner, name),
    ).length
    return Math.max(0, held - neededOf(stripe) + 1)
  }
}

/** Bytes of blocks of which it is not decided yet who gets them: counted on from the last time, at both ends. */
class Undecided {
  private from = 0
  private to = 0
  private sum = 0

  constructor(private readonly parts: Pick<PlacementParts, 'owned' | 'stripes'>) {}

  bytes(): number {
    const { through } = this.parts.stripes
    if (through === undefined) return 0
    for (const row of this.rows(this.from, Math.min(through, this.to))) this.sum -= row.bytes
    this.from = through
    this.to = Math.max(this.to, through)
    for (const row of this.rows(this.to, Infinity)) {
      this.sum += row.bytes
      this.to = row.sequence
    }
    // Blocks removed while they were counted leave a remainder.
    if (this.to <= through) this.sum = 0
    return Math.max(0, this.sum)
  }

  private *rows(after: number, last: number): Generator<{ sequence: number; bytes: number }> {
    for (let at = after; at < last;) {
      const rows = this.parts.owned.since(at, rowsAtOnce)
      for (const row of rows) if (row.sequence <= last) yield row
      at = rows.at(-1)?.sequence ?? last
    }
  }
}

/** What one partner holds or is to hold. */
export class PartnerView implements OwnedBlocks {
  constructor(
    readonly partner: Buffer,
    private readonly parts: PlacementParts,
    private readonly undecided: Undecided,
  ) {}

  /** Blocks of the store that are to go to it themselves. */
  since(sequence: number, limit: number) {
    const { owned, stripes } = this.parts
    if (stripes.isIdle) return owned.since(sequence, limit)
    const through = stripes.through ?? Infinity
    const found: ReturnType<OwnedBlocks['since']> = []
    for (let at = sequence; found.length < limit && at < through;) {
      const page = owned.since(at, Math.max(limit, rowsAtOnce))
      for (const row of page) {
        if (row.sequence > through || found.length === limit) return found
        if (stripes.numberOf(row.name) === undefined) found.push(row)
      }
      const last = page.at(-1)
      if (!last) break
      at = last.sequence
    }
    return found
  }

  /** Up to where, after `sequence`, nothing of the store is for this partner itself. */
  passed(sequence: number): number {
    const { owned, stripes } = this.parts
    const { through } = stripes
    const end = Math.min(through ?? Infinity, owned.last())
    if (stripes.isIdle) return sequence
    const [next] = this.since(sequence, 1)
    return Math.max(sequence, next ? next.sequence - 1 : end)
  }

  within(range: { start: Buffer; end?: Buffer }, limit: number): { sequence: number; name: Buffer }[] {
    const { owned, stripes } = this.parts
    if (stripes.isEmpty) return owned.within(range, limit)
    const rows = owned.within(range, windowRows).filter(({ name }) => stripes.numberOf(name) === undefined)
    const shards = stripes.heldWithin(this.partner, range, limit).map((name) => ({ sequence: 0, name }))
    return [...rows, ...shards].sort((a, b) => Buffer.compare(a.name, b.name)).slice(0, limit)
  }

  countTo(sequence: number): number {
    const { owned, stripes } = this.parts
    if (stripes.isEmpty) return owned.countTo(sequence)
    return (
      Math.max(0, owned.countTo(sequence) - stripes.blockCount) + stripes.heldNumbers(this.partner).length
    )
  }

  async get(name: Buffer): Promise<Buffer | undefined> {
    const { owned, pages, shards, stripes } = this.parts
    if (stripes.shard(this.partner, name)) return shards.get(this.partner, name)
    return pages.get(name) ?? owned.get(name)
  }

  async fetch(name: Buffer): Promise<Buffer | undefined> {
    const { owned, reader, stripes } = this.parts
    const row = stripes.shard(this.partner, name)
    const stripe = row && stripes.get(row.number)
    if (!stripe) return owned.fetch(name)
    const isOwn = stripe.shards[row.index]?.partner.equals(this.partner) === true
    return (await reader.remake(stripe, row.index, { partner: this.partner, isLost: isOwn }))?.bytes
  }

  has(name: Buffer): boolean {
    const { owned, pages, stripes } = this.parts
    return stripes.shard(this.partner, name) !== undefined || pages.isPage(name) || owned.has(name)
  }

  isHere(name: Buffer): boolean {
    return this.parts.owned.isHere(name)
  }

  heads(): Buffer[] {
    const { owned, stripes, striper } = this.parts
    return stripes.isIdle ? owned.heads() : striper.heads()
  }

  last(): number {
    return this.parts.owned.last()
  }

  removed(after: number, limit: number) {
    return this.parts.owned.removed(after, limit)
  }

  lastRemoved(): number {
    return this.parts.owned.lastRemoved()
  }

  /** The striper follows the removals, too. */
  async removalsTold(number: number): Promise<void> {
    const { owned, stripes } = this.parts
    await owned.removalsTold(Math.min(number, stripes.removalsFollowed ?? Infinity))
  }

  /** Shards and pages to be sent, at most so many. */
  pending(limit: number): Buffer[] {
    const { pages, stripes } = this.parts
    const shards = stripes.pending(this.partner, limit)
    return [...shards, ...pages.pending(this.partner, limit - shards.length)]
  }

  /** Bytes of its shards that are to be sent, and of blocks of which it is not decided yet who gets them. */
  pendingBytes(): number {
    return this.parts.stripes.pendingBytes(this.partner) + this.undecided.bytes()
  }

  /** They are durable there. */
  async acknowledged(names: readonly Buffer[]): Promise<void> {
    const { pages, stripes, striper } = this.parts
    await pages.acknowledged(this.partner, names)
    if (await stripes.acknowledged(this.partner, names)) striper.wake()
  }

  /** Shards and pages to let go of; none before it has the newest account of what is where. */
  drops(limit: number): Buffer[] {
    const { book, pages, stripes } = this.parts
    const names = stripes.drops(this.partner, limit)
    return names.length > 0 && book.head(this.partner, pages.volume) >= pages.sequence ? names : []
  }

  async dropped(names: readonly Buffer[]): Promise<void> {
    await this.parts.stripes.dropped(this.partner, names)
  }

  /**
   * Where an audit finds what the partner acknowledged: numbers of blocks in the store, and below zero those of stripes of which it
   * has a shard.
   */
  places(cursor: number): number[] {
    const all = this.parts.stripes.heldNumbers(this.partner).map((number) => -number)
    for (let at = 0; at < cursor;) {
      const rows = this.since(at, rowsAtOnce)
      for (const { sequence } of rows) if (sequence <= cursor) all.push(sequence)
      at = rows.at(-1)?.sequence ?? cursor
    }
    return all
  }

  nameAt(place: number): Buffer | undefined {
    const { stripes } = this.parts
    if (place < 0) {
      const shard = stripes.get(-place)?.shards.find(({ partner }) => partner.equals(this.partner))
      return shard && stripes.isHeld(this.partner, shard.name) ? shard.name : undefined
    }
    const [row] = this.since(place - 1, 1)
    return row?.sequence === place ? row.name : undefined
  }
}
