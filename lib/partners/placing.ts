/** Joins what places blocks as the owner's policy says: the one place where the policy becomes a code and partners become candidates. */
import type { Clock } from '../base/clock.js'
import type { Log } from '../base/log.js'
import type { Database } from '../blocks/database.js'
import type { Identity } from '../format/keys.js'
import {
  chooseShape,
  parsePlacement,
  shapeText,
  type PlacePartner,
  type Shape as Counts,
} from '../planning/placement.js'
import type { RepairPartner } from '../planning/repair.js'
import type { Book } from './book.js'
import type { Fetcher } from './fetch.js'
import { Mender, type RepairState } from './mender.js'
import { RepairProgress } from './repair-progress.js'
import { PlacedReader } from './placed-reader.js'
import { Placement } from './placement.js'
import { PlacementPages } from './placement-pages.js'
import type { Recovered } from './recovery.js'
import { Shards } from './shards.js'
import { Striper, type Scheme, type Shape } from './striper.js'
import { Stripes } from './stripes.js'
import type { Damage, OwnedBlocks } from './types.js'

export interface PlacingOptions {
  db: Database
  identity: Identity
  owned: OwnedBlocks
  book: Book
  fetcher: Fetcher
  /** as planning/placement.ts has it */
  policy(): string
  /** partners that take blocks now, and were on line within the last day */
  candidates(): PlacePartner[]
  /** all partners that are to have our backups */
  partners(): Buffer[]
  /**
   * All that are known, for what is made again of what they hold.
   * @param isFresh the account was taken over lately: who was not met since is not taken for lost
   */
  repairers(isFresh: boolean): RepairPartner[]
  /** ms for which a partner that was not met since a recovery is not taken for lost */
  graceMs(): number
  onFault: (partner: Buffer, kind: Damage, shard: Buffer) => void
  /** there is something to send */
  onPlaced(): void
  clock: Clock
  log: Log
}

export interface PlacementState {
  policy: string
  /** what new blocks are laid out by; null: each partner gets everything */
  shape: string | null
  /** partners that a stripe takes, and that could be given a part now */
  needs: number
  have: number
  /** stripes there are, and of those, what too few partners acknowledged to be read from partners alone */
  stripes: number
  unreadable: number
  /** elements of stripes that are made again, as partners with them are lost; null: nothing is to be done */
  repair: RepairState | null
  /** the account of what is where was not taken over whole: `kith recover` is to be run again */
  isPartial: boolean
}

export class Placing {
  readonly stripes: Stripes
  readonly pages: PlacementPages
  readonly placement: Placement
  readonly reader: PlacedReader
  readonly mender: Mender
  readonly striper: Striper
  /** Of `auto`, what was chosen last. */
  private chosen: Counts | undefined

  constructor(private readonly options: PlacingOptions) {
    const { db, identity, owned, book, fetcher, clock, log } = options
    const stripes = new Stripes(db)
    const pages = new PlacementPages(db, stripes, identity, clock)
    const shards = new Shards(identity, stripes, (name) => owned.get(name))
    const { onFault, onPlaced, candidates } = options
    const wakeStriper = () => this.striper.wake()
    const reader = new PlacedReader({ identity, stripes, fetcher, clock, onFault })
    const mender = new Mender({
      ...{ stripes, shards, reader, clock, log, progress: new RepairProgress(db) },
      partners: () => (pages.isAdopting ? undefined : this.repairers()),
      layout: () => {
        const { shape } = this.scheme()
        return { candidates: candidates().map(({ id }) => id), needs: shape ? shape.data + shape.parity : 0 }
      },
      isHere: (name) => owned.isHere(name),
      isBad: (partner, shard) => book.isBad(partner, shard),
      onMoved: onPlaced,
      onDissolved: wakeStriper,
    })
    const striper = new Striper({
      blocks: owned,
      stripes,
      shards,
      pages,
      scheme: () => this.scheme(),
      mender,
      candidates,
      owe: async (names) => {
        for (const partner of options.partners()) await book.lacks(partner, names)
      },
      onPlaced,
      clock,
      log,
    })
    this.stripes = stripes
    this.pages = pages
    this.reader = reader
    this.mender = mender
    this.striper = striper
    this.placement = new Placement({ owned, book, stripes, pages, shards, striper, reader })
  }

  async stop(): Promise<void> {
    this.reader.stop()
    await Promise.all([this.striper.stop(), this.mender.stop()])
  }

  /** Until the owner's setting is known to be one, that which came with a recovered account. */
  private policy(): string {
    return this.pages.adoptedPolicy ?? this.options.policy()
  }

  /** In a roster that begins anew who is not in it need not be lost: the holders are met one by one. */
  private repairers(): RepairPartner[] {
    const { adoptedAt } = this.pages
    const { clock, graceMs } = this.options
    const isFresh = adoptedAt !== undefined && Math.abs(clock.now() - adoptedAt) < graceMs()
    const known = this.options.repairers(isFresh)
    if (!isFresh) return known
    const ids = new Set(known.map(({ id }) => id))
    const others = this.stripes.partners().filter((key) => !ids.has(key.toString('hex')))
    return [...known, ...others.map((key) => expected(key.toString('hex')))]
  }

  private scheme(): Scheme {
    const policy = this.policy()
    const counts = this.counts(policy)
    return { policy, shape: counts && shapeOf(counts) }
  }

  private counts(policy: string): Counts | undefined {
    const wanted = parsePlacement(policy)
    if (wanted.kind === 'erasure') return wanted.shape
    if (wanted.kind === 'replica')
      return wanted.copies === null ? undefined : { data: 1, parity: wanted.copies - 1 }
    this.chosen = chooseShape(this.options.candidates(), wanted.target, this.chosen).shape
    return this.chosen.parity > 0 ? this.chosen : undefined
  }

  state(): PlacementState {
    const policy = this.policy()
    const counts = this.counts(policy)
    const repair = this.mender.state()
    return {
      policy,
      shape: counts ? shapeText(counts) : null,
      needs: counts ? counts.data + counts.parity : 0,
      have: this.options.candidates().length,
      stripes: this.stripes.count,
      unreadable: this.stripes.unreadable(),
      repair: repair.stripes > repair.done ? repair : null,
      isPartial: this.pages.isAdopting,
    }
  }

  /** Takes over the account that came with the heads, and keeps it from those who know of volumes only. */
  async recovered(found: Recovered): Promise<Recovered & { placement?: string }> {
    const account = found.heads.find(({ head }) => head.volumeId.equals(this.pages.volume))
    if (!account) return found
    const heads = found.heads.filter((one) => one !== account)
    return { ...found, heads, placement: await this.pages.adopt(account.bytes, this.options.fetcher) }
  }

  /** The owner let go of a volume with these blocks, or of everything. */
  async released(what: readonly Buffer[] | 'all'): Promise<void> {
    if (what === 'all') await this.clear()
    else await this.stripes.removed(what, undefined)
    this.striper.wake()
  }

  /** Everything was released: nothing is with partners any more. */
  private async clear(): Promise<void> {
    await this.stripes.clear()
    await this.pages.clear()
  }
}

/** A holder that was not met yet. */
function expected(id: string): RepairPartner {
  const unknown = { site: null, prefix: null, region: null, space: 0, availability: 0 }
  return { id, ...unknown, state: 'good', online: false }
}

function shapeOf({ data, parity }: Counts): Shape {
  return { code: parity === 1 ? 'parity' : 'reed-solomon', data, parity }
}
