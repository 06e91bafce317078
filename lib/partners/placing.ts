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
import type { Book } from './book.js'
import type { Fetcher } from './fetch.js'
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
  onFault: (partner: Buffer, kind: Damage, shard: Buffer) => void
  patienceMs?: number | undefined
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
}

export class Placing {
  readonly stripes: Stripes
  readonly pages: PlacementPages
  readonly placement: Placement
  readonly reader: PlacedReader
  readonly striper: Striper
  /** Of `auto`, what was chosen last. */
  private chosen: Counts | undefined

  constructor(private readonly options: PlacingOptions) {
    const { db, identity, owned, book, fetcher, clock, log } = options
    const stripes = new Stripes(db)
    const pages = new PlacementPages(db, stripes, identity, clock)
    const shards = new Shards(identity, stripes, (name) => owned.get(name))
    const { onFault, onPlaced, candidates } = options
    const { patienceMs } = options
    const reader = new PlacedReader({ identity, stripes, fetcher, clock, onFault, patienceMs })
    const striper = new Striper({
      blocks: owned,
      stripes,
      shards,
      pages,
      scheme: () => this.scheme(),
      candidates,
      partners: () => options.partners(),
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
    this.striper = striper
    this.placement = new Placement({ owned, book, stripes, pages, shards, striper, reader })
  }

  private scheme(): Scheme {
    const policy = this.options.policy()
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
    const policy = this.options.policy()
    const counts = this.counts(policy)
    return {
      policy,
      shape: counts ? shapeText(counts) : null,
      needs: counts ? counts.data + counts.parity : 0,
      have: this.options.candidates().length,
      stripes: this.stripes.count,
      unreadable: this.stripes.unreadable(),
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

function shapeOf({ data, parity }: Counts): Shape {
  return { code: parity === 1 ? 'parity' : 'reed-solomon', data, parity }
}
