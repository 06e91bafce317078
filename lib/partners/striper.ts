/**
 * Gathers the store's chunk blocks, in the order in which they came, into stripes, and says who gets which shard.
 *
 *   1. what the store removed leaves its stripe (stripes.ts)
 *   2. blocks to be striped anew (mender.ts, or below, says which), then those after `through`: chunks are gathered, nodes pass
 *      by (each partner gets them)
 *   3. a stripe is closed when it is full; a partial one when a head waits for it, or when nothing came for a while
 *   4. when nothing is left, the pages are brought up to the table (placement-pages.ts)
 *
 * Data never waits unprotected: while there are fewer partners than a stripe needs, what comes goes to each of them whole, and
 * status says so. A partner counts when it was on line within the last day, has an agreement and takes blocks.
 *
 * What a head promises here: when it goes to any partner, every chunk that it can name is in a stripe of which enough shards
 * to read it are acknowledged as durable, or goes to each partner whole; the placement head, which names the stripes, goes
 * before it. Nodes are at that partner itself. So who holds the head, with enough others, has everything.
 *
 * It does not run far ahead of the partners: while some stripes cannot be read yet, no further ones are made, so that shards
 * go out from memory.
 */
import type { Clock, Timer } from '../base/clock.js'
import { restSlabs } from '../base/memory.js'
import { asKithError, KithError } from '../base/errors.js'
import type { Log } from '../base/log.js'
import type { CodeName } from '../codes/types.js'
import { blockKind } from '../format/seal.js'
import { maxElementBytes } from '../format/shard.js'
import { elementBytesFor, maxStripeBlocks, type StripeContent } from '../format/stripe.js'
import { placeElements, type PlacePartner } from '../planning/placement.js'
import type { Mender } from './mender.js'
import type { PlacementPages } from './placement-pages.js'
import { Rounds } from './rounds.js'
import type { Shards } from './shards.js'
import { neededOf, type Stripes } from './stripes.js'
import type { OwnedBlocks } from './types.js'

export interface Shape {
  code: CodeName
  data: number
  parity: number
}

/** What the owner wants, for the partners there are. */
export interface Scheme {
  /** as the owner set it */
  policy: string
  /** undefined: every partner gets everything */
  shape: Shape | undefined
}

export interface StriperOptions {
  blocks: OwnedBlocks
  stripes: Stripes
  shards: Shards
  pages: PlacementPages
  scheme(): Scheme
  /** makes again what partners lose */
  mender: Pick<Mender, 'wake' | 'isMoving'>
  /** who may get a shard now */
  candidates(): PlacePartner[]
  /** blocks that are to go to each partner whole after all */
  owe(names: readonly Buffer[]): Promise<void>
  /** there is something to send */
  onPlaced(): void
  clock: Clock
  log: Log
}

interface Gathered {
  name: Buffer
  bytes: Buffer
}

const rowsAtOnce = 1000
const quietMs = 5_000
/** After a failure, e.g. a full disk. */
const retryMs = 30_000
const mostUnreadable = 16
/** So long the pages may be behind what moved, while elements are on their way: each costs every partner its bytes. */
const renewMs = 5 * 60_000
/** While stripes cannot be read, whether their partners are still there. */
const lookAgainMs = 10 * 60_000

export class Striper {
  /** Heads that were read when every block that they can name was decided, and the last stripe then. */
  private covered: { heads: Buffer[]; last: number } | undefined
  /** Of those, the newest whose stripes can be read. */
  private ready: Buffer[] = []
  private group: Gathered[] = []
  private groupBytes = 0
  /** Read and gathered up to this sequence number. */
  private position = 0
  private quietSince = 0
  private renewedAt = -Infinity
  private timer: Timer | undefined
  private readonly rounds: Rounds

  constructor(private readonly options: StriperOptions) {
    const { clock, log } = options
    this.rounds = new Rounds(
      () => this.round(),
      (error) => {
        log.error({ err: asKithError(error) }, 'striping failed')
        this.timer = clock.after(retryMs, () => this.wake())
      },
    )
  }

  /** New blocks, heads, partners or acknowledgements are there. Cheap. */
  wake(): void {
    this.rounds.wake()
  }

  async stop(): Promise<void> {
    const stopped = this.rounds.stop()
    this.timer?.cancel()
    await stopped
  }

  /** Until nothing is under way; what was asked for by then is done. */
  settled(): Promise<void> {
    return this.rounds.settled()
  }

  /** What may go out to partners now. */
  heads(): Buffer[] {
    const { stripes, pages } = this.options
    const { covered } = this
    if (covered && stripes.unreadable(covered.last) === 0) {
      const { head } = pages
      this.ready = [...(head ? [head] : []), ...covered.heads]
    }
    return [...this.ready]
  }

  private async round(): Promise<void> {
    this.timer?.cancel()
    const { stripes, pages, mender, scheme, onPlaced } = this.options
    const { shape, policy } = scheme()
    if ((!shape && stripes.isIdle) || pages.isAdopting) return
    await this.followRemovals()
    mender.wake()
    if (shape) await this.advance(shape)
    else {
      await stripes.decideAll()
      await this.takeAgain(undefined)
    }
    const { heads, isAtEnd } = this.atEnd()
    if (isAtEnd && !mender.isMoving) restSlabs()
    if (isAtEnd || !shape) {
      const isSwept = await stripes.sweep()
      const isRenewed = !this.canWait() && (await this.renew(policy))
      this.covered = { heads, last: stripes.last }
      if (isSwept || isRenewed || stripes.unreadable() === 0) onPlaced()
    }
  }

  /** Elements are moving, and nothing else happened to the table that a head here could need. */
  private canWait(): boolean {
    const { stripes, mender, clock } = this.options
    const left = this.renewedAt + renewMs - clock.monotonic()
    if (!mender.isMoving || this.covered?.last !== stripes.last || left <= 0) return false
    this.timer?.cancel()
    this.timer = clock.after(left, () => this.wake())
    return true
  }

  private renew(policy: string): Promise<boolean> {
    this.renewedAt = this.options.clock.monotonic()
    return this.options.pages.renew(policy)
  }

  /** Heads and the question whether anything is left, in one turn. */
  private atEnd(): { heads: Buffer[]; isAtEnd: boolean } {
    const { blocks, stripes } = this.options
    const heads = [...blocks.heads()]
    const through = stripes.through ?? Infinity
    const isAtEnd =
      stripes.again(1).length === 0 &&
      (through === Infinity || (blocks.since(through, 1).length === 0 && this.group.length === 0))
    return { heads, isAtEnd }
  }

  /** What was removed is no longer gathered, nor in its stripe. */
  private async followRemovals(): Promise<void> {
    const { blocks, stripes } = this.options
    for (;;) {
      const from = stripes.removalsFollowed
      if (from === undefined) return
      const rows = blocks.removed(from, rowsAtOnce)
      const last = rows.at(-1)
      if (!last) return
      const names = new Set(rows.map(({ name }) => name.toString('latin1')))
      this.group = this.group.filter(({ name }) => !names.has(name.toString('latin1')))
      this.groupBytes = this.group.reduce((sum, { bytes }) => sum + bytes.length, 0)
      await stripes.removed(
        rows.map(({ name }) => name),
        last.number,
      )
    }
  }

  private async advance(shape: Shape): Promise<void> {
    const { blocks, stripes } = this.options
    if (stripes.through === undefined) await stripes.decide(blocks.last(), blocks.lastRemoved())
    this.position = Math.max(this.position, stripes.through ?? 0)
    await this.dissolve()
    await this.takeAgain(shape)
    while (await this.takePage(shape));
    if (this.group.length > 0 && this.mayClose()) await this.close(shape)
    if (this.group.length === 0) await stripes.decide(this.position, blocks.lastRemoved())
  }

  /** @returns whether there may be more */
  private async takePage(shape: Shape): Promise<boolean> {
    const { blocks, stripes, clock } = this.options
    // Read in the turn in which no removal was left: a block that came back counts as new.
    await this.followRemovals()
    const rows = blocks.since(this.position, rowsAtOnce)
    for (const { sequence, name } of rows) {
      if (this.rounds.isStopped || this.isAhead(shape)) return false
      if (stripes.numberOf(name) === undefined) await this.take(shape, name)
      this.position = sequence
      this.quietSince = clock.monotonic()
    }
    return rows.length > 0
  }

  /** Enough is on its way, to partners that are there. */
  private isAhead({ data, parity }: Shape): boolean {
    const { stripes, candidates } = this.options
    return stripes.unreadable() >= mostUnreadable && candidates().length >= data + parity
  }

  /** What could not be read in the end, as partners went before their shards arrived, is striped anew. */
  private async dissolve(): Promise<void> {
    const { stripes, candidates, clock } = this.options
    if (stripes.unreadable() === 0) return
    this.timer?.cancel()
    this.timer = clock.after(lookAgainMs, () => this.wake())
    const there = new Set(candidates().map(({ id }) => id))
    for (const stripe of stripes.notReadable()) {
      const hopeful = stripe.shards.filter(
        ({ partner, name }) => stripes.isHeld(partner, name) || there.has(partner.toString('hex')),
      )
      if (hopeful.length < neededOf(stripe)) await stripes.dissolve(stripe)
    }
  }

  /** A partial stripe: a head waits for it, or nothing came for a while. */
  private mayClose(): boolean {
    const { blocks, clock } = this.options
    const heads = blocks.heads()
    const told = this.covered?.heads ?? []
    const isHeadWaiting =
      heads.length !== told.length || heads.some((head, i) => told[i]?.equals(head) !== true)
    const left = this.quietSince + quietMs - clock.monotonic()
    if (isHeadWaiting || left <= 0) return true
    this.timer?.cancel()
    this.timer = clock.after(left, () => this.wake())
    return false
  }

  /**
   * @param isStriped it lies in a stripe, so that it can come from partners
   * @returns whether it was gathered
   */
  private async take(shape: Shape, name: Buffer, isStriped = false): Promise<boolean> {
    const here = await this.here(name)
    // What is in no stripe, and not here, or not whole, goes the other way: from another partner.
    const bytes = here ?? (isStriped ? await this.options.blocks.fetch(name) : undefined)
    if (!bytes || blockKind(bytes) !== 'chunk') return false
    if (bytes.length > shape.data * maxElementBytes) return false
    const isFull = this.groupBytes + bytes.length > shape.data * maxElementBytes
    if (isFull || this.group.length === maxStripeBlocks) await this.close(shape)
    this.group.push({ name, bytes })
    this.groupBytes += bytes.length
    return true
  }

  /** What must leave its stripe goes into new ones of its own; without a shape, to each partner whole. */
  private async takeAgain(shape: Shape | undefined): Promise<void> {
    const { stripes } = this.options
    for (;;) {
      const names = stripes.again(maxStripeBlocks)
      if (names.length === 0 || this.rounds.isStopped) return
      if (!shape) {
        await this.leaveWhole(names)
        continue
      }
      if (this.group.length > 0) await this.close(shape)
      for (const name of names) if (!(await this.take(shape, name, true))) await stripes.stay([name])
      if (this.group.length > 0) await this.close(shape)
    }
  }

  private async here(name: Buffer): Promise<Buffer | undefined> {
    try {
      return await this.options.blocks.get(name)
    } catch (error) {
      if (error instanceof KithError && error.code === 'damaged') return undefined
      throw error
    }
  }

  /** Makes a stripe of what is gathered; or, without enough partners, leaves it to go to each of them. */
  private async close(shape: Shape): Promise<void> {
    const { blocks, stripes, shards, onPlaced } = this.options
    const { group } = this
    const content: StripeContent = {
      ...shape,
      elementBytes: elementBytesFor(this.groupBytes, shape.data),
      blocks: group.map(({ name, bytes }) => ({ name: Buffer.from(name), bytes: bytes.length })),
    }
    const partners = this.choose(content)
    if (partners) {
      const made = await shards.make(
        content,
        group.map(({ bytes }) => bytes),
        partners,
      )
      const placed = made.map(({ name }, i) => ({ partner: partners[i] ?? Buffer.alloc(0), name }))
      const number = await stripes.add({ ...content, shards: placed }, this.position)
      shards.keep(number, made)
    } else {
      await this.leaveWhole(group.map(({ name }) => name))
      await stripes.decide(this.position, blocks.lastRemoved())
    }
    this.group = []
    this.groupBytes = 0
    onPlaced()
  }

  /** What is with partners only stays in its stripe, as nobody has it whole. */
  private async leaveWhole(names: readonly Buffer[]): Promise<void> {
    const { stripes, owe } = this.options
    for (const name of names) {
      if (stripes.numberOf(name) === undefined) continue
      if (!(await this.here(name))) await stripes.stay([name])
      else {
        await owe([name])
        await stripes.settle([name])
      }
    }
  }

  private choose(content: StripeContent): Buffer[] | undefined {
    const { name } = content.blocks[0] ?? { name: Buffer.alloc(0) }
    const chosen = placeElements(content.data + content.parity, this.options.candidates(), {
      stripe: name.toString('hex'),
      bytes: content.elementBytes,
    })
    const partners = chosen.flatMap((id) => (id === null ? [] : [Buffer.from(id, 'hex')]))
    return partners.length === chosen.length ? partners : undefined
  }
}
