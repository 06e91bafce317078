/**
 * Which chunk blocks lie in which stripe, and which partner holds, or is to get, which shard of it: the owner's own account, in the
 * database of the partners. The striper adds, the uploader notes what was acknowledged, readers look up.
 *
 *     stripes         number u64 -> the stripe (format/stripe.ts); numbers are given once
 *     stripe blocks   block name 32 -> number u64: the stripe that the block is read from
 *     stripe shards   partner 32 | shard name 32 -> number u64 | number of the element u8
 *     stripe pending  the same key -> bytes of the element: the partner has not acknowledged it
 *     stripe drops    partner 32 | name 32 -> 1: a shard or page of ours that the partner is to let go of
 *     stripe again    block name 32 -> 1: to be striped anew: too little lives in its stripe, or the stripe cannot be completed
 *     stripe moves    elements on their way to another partner (moves.ts); their shards have rows in `shards` and `pending`, too
 *     stripe dead     number u64 -> u64: no block is read from it; it goes when all stripes up to the other number are placed
 *     stripe dirty    number u64 -> 1: changed since the pages were made (placement-pages.ts)
 *     stripe notes    `through` -> sequence u64: all blocks of the store up to it are decided: in a stripe, or each partner gets
 *                     them whole. Absent while every partner gets everything. `removed` -> the last removal that was followed
 *
 * Crash argument: a stripe, its blocks, its shards and the new `through` become durable in one transaction; before it the
 * blocks count as undecided and are gathered again, and after it all shards are pending until a partner says that they are
 * durable. A block that is not in the table and not above `through` goes to every partner by its cursor (upload.ts), so no
 * block is ever without a way out. A stripe is released only when no block is read from it and those that took its blocks
 * over are placed. An element moves in two transactions: the new partner's shard becomes pending; and when it is acknowledged, the
 * stripe names the new partner, the old one is to let go of its shard, and the page is to be made anew.
 */
import { type Database, encodings, type Encoding, type Table } from '../blocks/database.js'
import { codeFor } from '../codes/codes.js'
import {
  decodeStripe,
  encodeStripe,
  type NumberedStripe,
  type ShardAt,
  type Stripe,
  type StripeContent,
} from '../format/stripe.js'
import { Moves } from './moves.js'

/** Elements of it that always suffice. */
export function neededOf({ code, data, parity }: StripeContent): number {
  return codeFor(code, data, parity).needed
}

interface ShardRow {
  number: number
  index: number
}

const shardEncoding: Encoding<ShardRow> = {
  encode({ number, index }) {
    const bytes = Buffer.alloc(9)
    bytes.writeBigUInt64LE(BigInt(number), 0)
    bytes.writeUInt8(index, 8)
    return bytes
  },
  decode: (bytes) => ({ number: Number(bytes.readBigUInt64LE(0)), index: bytes.readUInt8(8) }),
}

const stripeEncoding: Encoding<Stripe> = { encode: encodeStripe, decode: decodeStripe }

/** A stripe of which a shard is pending. */
interface Open {
  needed: number
  shards: number
  pending: number
}

const present = Buffer.from([1])
const cachedStripes = 256
/** Where less than this part of a stripe lives, what lives is striped anew. */
const leastAlive = 0.25

const under = (prefix: Buffer) => ({ start: prefix, end: Buffer.concat([prefix, Buffer.alloc(40, 0xff)]) })
const key = (a: Buffer, b: Buffer) => Buffer.concat([a, b])

export class Stripes {
  private readonly rows: Table<number, Stripe>
  private readonly blocks: Table<Buffer, number>
  private readonly shards: Table<Buffer, ShardRow>
  private readonly pendingRows: Table<Buffer, number>
  private readonly dropRows: Table<Buffer, Buffer>
  private readonly againRows: Table<Buffer, Buffer>
  private readonly deadRows: Table<number, number>
  private readonly dirtyRows: Table<number, Buffer>
  private readonly notes: Table<string, number>
  readonly moves: Moves
  /** Stripes not wholly acknowledged, by number. */
  private readonly open = new Map<number, Open>()
  private readonly cache = new Map<number, NumberedStripe>()
  /** Grows with whatever changes how many copies of a block there are. */
  version = 0

  /** @param db of the partners folder */
  constructor(private readonly db: Database) {
    this.rows = db.table('stripes', encodings.number, stripeEncoding)
    this.blocks = db.table('stripe blocks', encodings.bytes, encodings.number)
    this.shards = db.table('stripe shards', encodings.bytes, shardEncoding)
    this.pendingRows = db.table('stripe pending', encodings.bytes, encodings.number)
    this.dropRows = db.table('stripe drops', encodings.bytes, encodings.bytes)
    this.againRows = db.table('stripe again', encodings.bytes, encodings.bytes)
    this.deadRows = db.table('stripe dead', encodings.number, encodings.number)
    this.dirtyRows = db.table('stripe dirty', encodings.number, encodings.bytes)
    this.notes = db.table('stripe notes', encodings.text, encodings.number)
    this.moves = new Moves(db)
    this.recount()
  }

  private recount(): void {
    this.open.clear()
    for (const row of [...this.pendingRows.keysOf()]) {
      const shard = this.shards.get(row)
      if (shard && !this.isMove(row, shard)) this.opened(shard.number, 1)
    }
  }

  /** Whether it is of an element on its way, and not one of the stripe's own. */
  private isMove(row: Buffer, { number, index }: ShardRow): boolean {
    const to = this.moves.get(number, index)
    return to !== undefined && key(to.partner, to.name).equals(row)
  }

  private opened(number: number, pending: number): void {
    const known = this.open.get(number)
    if (known) known.pending += pending
    else {
      const stripe = this.rows.get(number)
      if (stripe) this.open.set(number, { needed: neededOf(stripe), shards: stripe.shards.length, pending })
    }
  }

  /** As a transaction; when it fails, what is in memory is read anew. */
  private async change(work: () => void): Promise<void> {
    try {
      await this.db.transaction(work)
      this.version++
    } catch (error) {
      this.cache.clear()
      this.recount()
      throw error
    }
  }

  /** Every partner gets everything, and always did. */
  get isIdle(): boolean {
    return this.through === undefined && this.isEmpty
  }

  /** undefined: every partner gets everything. */
  get through(): number | undefined {
    return this.notes.get('through')
  }

  /** The last removal in the store that was followed; undefined before the first stripe. */
  get removalsFollowed(): number | undefined {
    return this.notes.get('removed')
  }

  /** The highest number of a stripe so far; 0 before the first. */
  get last(): number {
    return this.notes.get('last') ?? 0
  }

  get isEmpty(): boolean {
    return [...this.rows.keysOf({ limit: 1 })].length === 0
  }

  get count(): number {
    return this.rows.count()
  }

  /** Blocks that are in stripes. */
  get blockCount(): number {
    return this.blocks.count()
  }

  /**
   * From here on blocks after `through` wait to be decided; those up to it are decided.
   * @param removal the store's last removal, from which on they are followed when none was before
   */
  async decide(through: number, removal: number): Promise<void> {
    if ((this.through ?? -1) >= through) return
    await this.change(() => {
      this.notes.put('through', through)
      if (this.removalsFollowed === undefined) this.notes.put('removed', removal)
    })
  }

  /** Every partner gets everything that is in no stripe. */
  async decideAll(): Promise<void> {
    if (this.through !== undefined) await this.change(() => this.notes.remove('through'))
  }

  /** Takes in a stripe, with all blocks of the store up to `through` decided. @returns its number */
  async add(stripe: Stripe, through: number): Promise<number> {
    const number = this.last + 1
    let pending = 0
    await this.change(() => {
      const before = new Set<number>()
      // The same blocks as before, in part with the same partners: what they hold already is the very shard.
      const fresh = stripe.shards.filter(({ partner, name }) => !this.isHeld(partner, name))
      pending = fresh.length
      this.put(number, stripe)
      for (const { name } of stripe.blocks) {
        const old = this.blocks.get(name)
        if (old !== undefined) before.add(old)
        this.blocks.put(name, number)
        this.againRows.remove(name)
      }
      for (const { partner, name } of stripe.shards) this.dropRows.remove(key(partner, name))
      for (const { partner, name } of fresh) this.pendingRows.put(key(partner, name), stripe.elementBytes)
      this.notes.put('last', number)
      if (through > (this.through ?? 0)) this.notes.put('through', through)
      for (const old of before) this.weigh(old, number)
    })
    if (pending > 0)
      this.open.set(number, { needed: neededOf(stripe), shards: stripe.shards.length, pending })
    return number
  }

  private put(number: number, stripe: Stripe): void {
    this.rows.put(number, stripe)
    this.dirtyRows.put(number, present)
    stripe.shards.forEach(({ partner, name }, index) => {
      this.shards.put(key(partner, name), { number, index })
    })
  }

  /** After a recovery: what the placement pages tell. What is known already stays. */
  async adopt(stripes: readonly NumberedStripe[]): Promise<void> {
    await this.change(() => {
      for (const stripe of stripes) {
        if (this.rows.get(stripe.number)) continue
        this.put(stripe.number, stripe)
        for (const { name } of stripe.blocks) this.blocks.put(name, stripe.number)
        if (stripe.number > this.last) this.notes.put('last', stripe.number)
      }
    })
  }

  /** The number of the stripe that the block is read from. */
  numberOf(block: Buffer): number | undefined {
    return this.blocks.get(block)
  }

  get(number: number): NumberedStripe | undefined {
    const cached = this.cache.get(number)
    if (cached) return cached
    const stripe = this.rows.get(number)
    if (!stripe) return undefined
    const numbered = { number, ...stripe }
    this.cache.set(number, numbered)
    for (const oldest of this.cache.keys()) {
      if (this.cache.size <= cachedStripes) break
      this.cache.delete(oldest)
    }
    return numbered
  }

  /** The stripe that the block is read from. */
  of(block: Buffer): NumberedStripe | undefined {
    const number = this.blocks.get(block)
    return number === undefined ? undefined : this.get(number)
  }

  /** Stripes with numbers above `number`, in order. */
  since(number: number, limit: number): NumberedStripe[] {
    return [...this.rows.range({ start: number + 1, limit })].map(({ key: found, value }) => ({
      number: found,
      ...value,
    }))
  }

  /** Of its blocks, those that are read from it. */
  alive(stripe: NumberedStripe): Buffer[] {
    return stripe.blocks.filter(({ name }) => this.blocks.get(name) === stripe.number).map(({ name }) => name)
  }

  // ---- shards, by partner

  /** The shard of that name which the partner holds or is to get. */
  shard(partner: Buffer, name: Buffer): ShardRow | undefined {
    return this.shards.get(key(partner, name))
  }

  /** Whether the partner acknowledged the shard. */
  isHeld(partner: Buffer, name: Buffer): boolean {
    const row = key(partner, name)
    return this.shards.has(row) && !this.pendingRows.has(row)
  }

  /** Acknowledged shards of the partner, by name, from `start` on and before `end`. */
  heldWithin(partner: Buffer, { start, end }: { start: Buffer; end?: Buffer }, limit: number): Buffer[] {
    const found: Buffer[] = []
    const range = { start: key(partner, start), end: end ? key(partner, end) : under(partner).end }
    for (const row of this.shards.keysOf(range)) {
      if (found.length >= limit) break
      if (!this.pendingRows.has(row)) found.push(Buffer.from(row.subarray(32)))
    }
    return found
  }

  /** Numbers of the stripes of which the partner acknowledged its shard. */
  heldNumbers(partner: Buffer): number[] {
    const numbers: number[] = []
    for (const { key: row, value } of this.shards.range(under(partner)))
      if (!this.pendingRows.has(row)) numbers.push(value.number)
    return numbers
  }

  pending(partner: Buffer, limit: number): Buffer[] {
    return [...this.pendingRows.keysOf({ ...under(partner), limit })].map((row) =>
      Buffer.from(row.subarray(32)),
    )
  }

  pendingBytes(partner: Buffer): number {
    let bytes = 0
    for (const { value } of this.pendingRows.range(under(partner))) bytes += value
    return bytes
  }

  /** They are durable at the partner. @returns whether a stripe came within reach, or is placed now */
  async acknowledged(partner: Buffer, names: readonly Buffer[]): Promise<boolean> {
    const numbers: number[] = []
    let isNews = false
    await this.change(() => {
      for (const name of names) {
        const row = key(partner, name)
        const shard = this.shards.get(row)
        if (!this.pendingRows.has(row)) continue
        this.pendingRows.remove(row)
        if (!shard) continue
        const isMoved = this.isMove(row, shard)
        if (isMoved) isNews = true
        if (!isMoved || this.arrive(shard, { partner, name })) numbers.push(shard.number)
      }
    })
    for (const number of numbers) {
      const open = this.open.get(number)
      if (!open) continue
      open.pending--
      if (open.shards - open.pending === open.needed || open.pending === 0) isNews = true
      if (open.pending === 0) this.open.delete(number)
    }
    return isNews
  }

  /**
   * The element of that stripe goes to another partner as this shard; the old one is let go of when that has arrived. What was on
   * its way to a third one is called off.
   * @returns false: it is not wanted any more
   */
  async move(number: number, index: number, to: ShardAt): Promise<boolean> {
    let isTaken = false
    await this.change(() => {
      const stripe = this.deadRows.get(number) === undefined ? this.rows.get(number) : undefined
      const holders = [...(stripe?.shards ?? []), ...this.moves.of(number).map((one) => one.to)]
      if (!stripe || holders.some(({ partner }) => partner.equals(to.partner))) return
      const before = this.moves.get(number, index)
      if (before) this.leave(number, before)
      const row = key(to.partner, to.name)
      this.moves.put(number, index, to)
      this.shards.put(row, { number, index })
      this.pendingRows.put(row, stripe.elementBytes)
      this.dropRows.remove(row)
      isTaken = true
    })
    return isTaken
  }

  /** Inside a transaction: the new partner has it. @returns whether the old one never acknowledged its own */
  private arrive({ number, index }: ShardRow, to: ShardAt): boolean {
    const stripe = this.rows.get(number)
    const old = stripe?.shards[index]
    this.moves.remove(number, index)
    this.cache.delete(number)
    if (!stripe || !old) return false
    const shards = stripe.shards.map((shard, i) => (i === index ? { ...to } : shard))
    this.rows.put(number, { ...stripe, shards })
    this.dirtyRows.put(number, present)
    const isFirst = this.pendingRows.has(key(old.partner, old.name))
    this.leave(number, old)
    return isFirst
  }

  /** Inside a transaction: a shard that this stripe does not want any more, arrived or not. */
  private leave(number: number, { partner, name }: ShardAt): void {
    const row = key(partner, name)
    if (this.shards.get(row)?.number !== number) return
    this.shards.remove(row)
    this.pendingRows.remove(row)
    this.dropRows.put(row, present)
  }

  /** The partner lost something that it cannot name: all of its shards are sent again. */
  async restart(partner: Buffer): Promise<void> {
    await this.change(() => {
      for (const { key: row, value } of [...this.shards.range(under(partner))]) {
        const { number } = value
        const stripe = this.deadRows.get(number) === undefined ? this.get(number) : undefined
        if (stripe) this.pendingRows.put(row, stripe.elementBytes)
      }
    })
    this.recount()
  }

  /** How many stripes up to that number cannot be read yet: fewer shards than it takes are acknowledged. */
  unreadable(upTo = Infinity): number {
    let count = 0
    for (const [number, { needed, shards, pending }] of this.open)
      if (number <= upTo && shards - pending < needed) count++
    return count
  }

  /** Those. */
  notReadable(): NumberedStripe[] {
    return [...this.open].flatMap(([number, { needed, shards, pending }]) => {
      const stripe = shards - pending < needed ? this.get(number) : undefined
      return stripe ? [stripe] : []
    })
  }

  drops(partner: Buffer, limit: number): Buffer[] {
    return [...this.dropRows.keysOf({ ...under(partner), limit })].map((row) => Buffer.from(row.subarray(32)))
  }

  async dropped(partner: Buffer, names: readonly Buffer[]): Promise<void> {
    await this.change(() => {
      for (const name of names) this.dropRows.remove(key(partner, name))
    })
  }

  /** Inside a transaction: the partner shall let go of it. */
  drop(partner: Buffer, name: Buffer): void {
    this.dropRows.put(key(partner, name), present)
  }

  // ---- what is no longer needed

  /** Blocks to be striped anew, at most so many. */
  again(limit: number): Buffer[] {
    return [...this.againRows.keysOf({ limit })].map((name) => Buffer.from(name))
  }

  /** Partners that hold, or are to get, a shard. */
  partners(): Buffer[] {
    const found: Buffer[] = []
    for (let start: Buffer | undefined; ;) {
      const [row] = [...this.shards.keysOf({ ...(start && { start }), limit: 1 })]
      if (!row) return found
      const partner = Buffer.from(row.subarray(0, 32))
      found.push(partner)
      start = under(partner).end
    }
  }

  /** Numbers of the stripes with a shard at this partner, or on its way there, from which blocks are read. */
  livingAt(partner: Buffer): number[] {
    return [...this.shards.range(under(partner))]
      .map(({ value }) => value.number)
      .filter((number) => this.deadRows.get(number) === undefined)
  }

  /** Whether blocks are read from a stripe with a shard at this partner, or on its way there. */
  isReadFrom(partner: Buffer): boolean {
    for (const { value } of this.shards.range(under(partner)))
      if (this.deadRows.get(value.number) === undefined) return true
    return false
  }

  /** All that is read from it is striped anew. */
  async dissolve(stripe: NumberedStripe): Promise<void> {
    await this.change(() => {
      for (const name of this.alive(stripe)) this.againRows.put(name, present)
    })
  }

  /** They stay in the stripe that they are in. */
  async stay(names: readonly Buffer[]): Promise<void> {
    await this.change(() => {
      for (const name of names) this.againRows.remove(name)
    })
  }

  /** They are not to be striped anew: each partner gets them whole, or they are gone. */
  async settle(names: readonly Buffer[]): Promise<void> {
    await this.change(() => {
      const before = new Set<number>()
      for (const name of names) {
        const number = this.blocks.get(name)
        this.againRows.remove(name)
        this.blocks.remove(name)
        if (number !== undefined) before.add(number)
      }
      for (const number of before) this.weigh(number, this.last)
    })
  }

  /** The store removed these, up to that removal; undefined: they are released in another way. */
  async removed(names: readonly Buffer[], removal: number | undefined): Promise<void> {
    await this.change(() => {
      const touched = new Set<number>()
      for (const name of names) {
        const number = this.blocks.get(name)
        if (number === undefined) continue
        this.blocks.remove(name)
        this.againRows.remove(name)
        touched.add(number)
      }
      for (const number of touched) this.weigh(number, this.last)
      if (removal !== undefined) this.notes.put('removed', removal)
    })
  }

  /**
   * Inside a transaction, after blocks left a stripe. One that lacks a block here and has shards to send could not be made again;
   * so what lives in it moves.
   */
  private weigh(number: number, successor: number): void {
    this.cache.delete(number)
    const stripe = this.get(number)
    if (!stripe || this.deadRows.get(number) !== undefined) return
    const alive = new Set(this.alive(stripe).map((name) => name.toString('latin1')))
    if (alive.size === 0) {
      this.deadRows.put(number, successor)
      for (const row of this.rowsOf(stripe)) this.pendingRows.remove(row)
      for (const { index, to } of this.moves.of(number)) {
        this.leave(number, to)
        this.moves.remove(number, index)
      }
      this.open.delete(number)
      return
    }
    const bytes = (all: typeof stripe.blocks) => all.reduce((sum, block) => sum + block.bytes, 0)
    const living = stripe.blocks.filter(({ name }) => alive.has(name.toString('latin1')))
    if (bytes(living) >= bytes(stripe.blocks) * leastAlive && !this.open.has(number)) return
    for (const { name } of living) this.againRows.put(name, present)
  }

  /** Keys of its shards, without those that another stripe has taken over as they are. */
  private rowsOf({ number, shards }: NumberedStripe): Buffer[] {
    return shards
      .map(({ partner, name }) => key(partner, name))
      .filter((row) => this.shards.get(row)?.number === number)
  }

  /** Stripes that nothing is read from go, once what took their blocks over is placed. @returns whether any did */
  async sweep(): Promise<boolean> {
    const firstOpen = Math.min(Infinity, ...this.open.keys())
    const over = [...this.deadRows.range()].filter(({ value }) => value < firstOpen)
    if (over.length === 0) return false
    await this.change(() => {
      for (const { key: number } of over) {
        const stripe = this.get(number)
        for (const row of stripe ? this.rowsOf(stripe) : []) {
          this.shards.remove(row)
          this.dropRows.put(row, present)
        }
        this.rows.remove(number)
        this.deadRows.remove(number)
        this.dirtyRows.put(number, present)
      }
    })
    for (const { key: number } of over) this.cache.delete(number)
    return true
  }

  /** Nothing changed since the pages were made. */
  get isClean(): boolean {
    return [...this.dirtyRows.keysOf({ limit: 1 })].length === 0
  }

  /** Numbers of stripes that came, changed or went since the pages were made. */
  dirty(): number[] {
    return [...this.dirtyRows.keysOf()]
  }

  /** Inside a transaction. */
  clean(numbers: readonly number[]): void {
    for (const number of numbers) this.dirtyRows.remove(number)
  }

  /** Everything was released. */
  async clear(): Promise<void> {
    await this.change(() => {
      for (const table of [this.rows, this.deadRows, this.dirtyRows]) table.clear()
      for (const table of [this.blocks, this.shards, this.pendingRows]) table.clear()
      for (const table of [this.dropRows, this.againRows]) table.clear()
      for (const note of ['through', 'removed']) this.notes.remove(note)
      this.moves.clear()
    })
    this.open.clear()
    this.cache.clear()
  }
}
