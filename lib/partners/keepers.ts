/**
 * Whose word counts when bytes are let go of here. A partner is a keeper while it shares a circle with us and is bound to
 * keep what it took, did not renege, and gives back what it holds (no commitment runs), has proven by an audit within the last
 * month that it holds what it acknowledged, was found to have lost nothing since, and was on line within the last week.
 * `isKeeper` is pure. What a keeper holds: all blocks up to its cursor that are in no stripe, but those that it is known to lack
 * (book.ts). Of a block in a stripe with n shards, any m of which suffice, and of which keepers hold h, there are as many
 * copies as of these shards could be lost and one more: h - m + 1.
 */
import type { Clock } from '../base/clock.js'
import type { Book, Progress } from './book.js'
import type { Placement } from './placement.js'

const weekMs = 7 * 86_400_000
const monthMs = 30 * 86_400_000

export interface Standing {
  /** shares a circle, and is not to be told to let go of everything */
  isPartner: boolean
  /** its agreement is over (it keeps what it has for the notice only), it reneged on it, or its commitment runs */
  isLeaving: boolean
  online: boolean
  /** ms since 1970 */
  lastSeen: number
}

export function isKeeper(
  { isPartner, isLeaving, online, lastSeen }: Standing,
  progress: Progress,
  now: number,
): boolean {
  const { cursor, lastProof, verdict } = progress
  if (!isPartner || isLeaving || cursor === 0 || verdict.state === 'damaged') return false
  if (lastProof === 0 || now - lastProof > monthMs) return false
  return online || now - lastSeen < weekMs
}

export class Keepers {
  constructor(
    private readonly book: Book,
    private readonly standings: () => ({ key: Buffer } & Standing)[],
    private readonly clock: Clock,
    private readonly placement?: Placement,
  ) {}

  /** How many there are. */
  get count(): number {
    return this.keys().length
  }

  /** How many copies of the block with this name and number of the store they hold. */
  of(sequence: number, name: Buffer): number {
    const striped = this.placement?.copies(name, this.holder(this.keys()))
    if (striped !== undefined) return striped
    return this.keys().filter((key) => this.book.holdsBlock(key, sequence, name)).length
  }

  /** Whether one that cannot be asked now, keeper or not, acknowledged the block. */
  believed(sequence: number, name: Buffer): boolean {
    const partners = this.standings().filter(({ isPartner }) => isPartner)
    const striped = this.placement?.copies(name, this.holder(partners.map(({ key }) => key)))
    if (striped !== undefined) return striped > 0 && partners.some(({ online }) => !online)
    return partners.some(({ key, online }) => !online && this.book.holdsBlock(key, sequence, name))
  }

  /** Grows with whatever changes how many copies of blocks in stripes there are. */
  get version(): number {
    return this.placement?.version ?? 0
  }

  /** Blocks in stripes of which they hold fewer copies; in turns, as there may be many stripes. */
  async thin(copies: number): Promise<Buffer[]> {
    return (await this.placement?.fewerThan(copies, this.holder(this.keys()))) ?? []
  }

  /** Whether one of these is believed to hold a shard. */
  private holder(keys: readonly Buffer[]): (partner: Buffer, shard: Buffer) => boolean {
    const known = new Set(keys.map((key) => key.toString('latin1')))
    return (partner, shard) => known.has(partner.toString('latin1')) && !this.book.isBad(partner, shard)
  }

  /** Up to this number so many of them hold every block that is in no stripe, but for those of `exceptions`; 0 when there are not so many. */
  floor(copies: number): number {
    const cursors = this.keys().map((key) => this.book.progress(key).cursor)
    return cursors.sort((a, b) => b - a)[copies - 1] ?? 0
  }

  /** Blocks that a keeper is known to lack, at most so many of each. */
  exceptions(limit: number): Buffer[] {
    return this.keys().flatMap((key) => [...this.book.resend(key, limit), ...this.book.lacking(key, limit)])
  }

  private keys(): Buffer[] {
    const now = this.clock.now()
    return this.standings()
      .filter((standing) => isKeeper(standing, this.book.progress(standing.key), now))
      .map(({ key }) => key)
  }
}
