/**
 * Sealed blocks by name: appended to segment files, found through an index in LMDB. The owner's store and the vault both
 * stand on it.
 *
 * Flow of a block:
 *   1. put       gives it a place at the end of the active segment and gathers it in memory
 *   2. flush     writes what is gathered, in pieces of some MiB
 *   3. commit    fdatasync of the segments written, then one index transaction: names, sequence numbers, lengths
 *   4. get       finds the place, reads, and checks the name: a changed byte never gets out
 *   5. remove    takes names out of the index; a segment that is mostly dead is rewritten, a dead one is deleted
 *   6. evict     takes the bytes away and leaves the name: partners have the block. A later put brings it back
 *
 * Crash argument: the index never names bytes that are not on disk, since the segments are synced first. Bytes past the
 * length that the index knows of a segment were never committed and are cut at open; a file without a row was never
 * committed, or is already rewritten, and is deleted. Rewriting copies first, then one transaction moves all the
 * names, and only then the old file goes.
 *
 * Evicting is one transaction that makes rows say "not here"; the bytes stay in their segment, unnamed, until it is
 * rewritten or deleted as after a removal, at the latest after the next start, when every segment is looked at.
 *
 * A full disk: a put or commit fails with noSpace and nothing that was there is touched. Blocks that were put stay
 * pending, at most some MiB of them in memory, and the next commit that finds room takes them along.
 *
 * Index rows, little endian, keyed by name:
 *   blocks    [0..8) sequence u64 [8..12) segment u32 [12..16) offset of the record u32 [16..20) sealed bytes u32;
 *             segment 0: evicted, only partners have it
 *   order     sequence -> name
 *   damaged   name -> nothing: found to differ from its name; counts as not here until it is put again
 *   segments  number -> [0..8) committed length u64 [8..16) bytes of live records u64, headers included
 *   counters  `sequence` -> the highest given when blocks were last taken out; `evicted`, `evictedBytes`: sums; u64 big endian
 */
import { join } from 'node:path'
import type { Clock } from '../base/clock.js'
import { assert, KithError } from '../base/errors.js'
import type { Log } from '../base/log.js'
import { type BlockKind, blockKind, kindBytes } from '../format/seal.js'
import { Comparisons } from './comparisons.js'
import { type Database, encodings, type Table } from './database.js'
import { examineIndex, type Examined, type Watch } from './examine.js'
import { salvageAnywhere, salvageInPlace, type Take } from './salvage.js'
import type { Compacted } from './segments.js'
import { decodeHeader, headerBytes, maxBlockBytes, nothingDone, segmentBytes, Segments } from './segments.js'
import { idOf, type Pending, recordBytes } from './records.js'
import type { Place, Row, SegmentRow, Sum } from './segment-rows.js'
import { evictedSegment, isEvicted, rowEncoding, segmentEncoding } from './segment-rows.js'
import { SegmentUses } from './segment-uses.js'
import { Tail } from './tail.js'

export { maxBlockBytes } from './segments.js'
export type { Row } from './segment-rows.js'

/** Where blocks come from: this machine's store, or partners. */
export interface BlockReader {
  /**
   * The sealed bytes, verified against the name; undefined when not to be had.
   * @throws KithError damaged when what is stored differs from its name
   */
  get(name: Buffer): Promise<Buffer | undefined>
}

export interface BlockStoreOptions {
  db: Database
  clock: Clock
  log: Log
  /** What is committed is not read soon, and takes no memory of the kernel's. */
  isCold?: boolean
}

export class BlockStore implements BlockReader {
  private readonly index: Table<Buffer, Row>
  private readonly order: Table<number, Buffer>
  private readonly segmentRows: Table<number, SegmentRow>
  private readonly damagedRows: Table<Buffer, Buffer>
  private readonly counters: Table<string, number>
  private readonly segments: Segments
  private readonly uses: SegmentUses
  private readonly tail: Tail
  private readonly comparisons = new Comparisons()
  private readonly damaged = new Set<string>()
  /** Segments that may have space to give back. */
  readonly sparse = new Set<number>()
  private nextSequence = 1
  private liveBytes = 0
  private liveCount = 0
  /** Of all segments, once it is asked for; unknown again after what changes it. */
  private lengths: number | undefined
  /** Commits, removals and rewrites, one at a time. */
  private exclusive: Promise<unknown> = Promise.resolve()
  /** The commit that waits for its turn, joined by all who ask meanwhile. */
  private waitingCommit: Promise<void> | undefined

  private constructor(
    dir: string,
    private readonly options: BlockStoreOptions,
  ) {
    this.segments = new Segments(join(dir, 'segments'), options.isCold)
    const { db } = options
    this.index = db.table('blocks', encodings.bytes, rowEncoding, { spread: true })
    this.order = db.table('order', encodings.number, encodings.bytes)
    this.segmentRows = db.table('segments', encodings.number, segmentEncoding)
    this.damagedRows = db.table('damaged', encodings.bytes, encodings.bytes)
    this.counters = db.table('counters', encodings.text, encodings.number)
    this.uses = new SegmentUses(db)
    this.tail = new Tail(this.segments, (segment) => this.uses.touch(segment))
  }

  /** Opens or makes the store in `dir`; its index lies in `db`, which no other BlockStore uses. */
  static async open(dir: string, options: BlockStoreOptions): Promise<BlockStore> {
    const store = new BlockStore(dir, options)
    await store.recover()
    return store
  }

  /** Sealed bytes of all committed blocks that are here. */
  get bytes(): number {
    return this.liveBytes
  }

  get count(): number {
    return this.liveCount
  }

  /** Blocks whose names are known here, and whose bytes only partners have. */
  get evicted(): Sum {
    const { counters } = this
    return { blocks: counters.get('evicted') ?? 0, bytes: counters.get('evictedBytes') ?? 0 }
  }

  /** What the segments take, or are about to, dead space included. */
  get bytesOnDisk(): number {
    this.lengths ??= [...this.segmentRows.range()].reduce((sum, { value }) => sum + value.length, 0)
    return this.tail.pendingBytes + this.lengths
  }

  /** Whether the block is known, not necessarily committed yet, and not known to be damaged: here, or evicted. */
  has(name: Buffer): boolean {
    const id = idOf(name)
    return this.tail.pending.has(id) || (!this.damaged.has(id) && this.index.has(name))
  }

  /** Whether its bytes are here, too. */
  isHere(name: Buffer): boolean {
    const place = this.place(name)
    return place !== undefined && !isEvicted(place)
  }

  /** Its sealed bytes, when it is known. */
  size(name: Buffer): number | undefined {
    return this.place(name)?.bytes
  }

  async get(name: Buffer): Promise<Buffer | undefined> {
    const block = await this.peek(name)
    if (!block || blockKind(block) !== 'chunk') return block
    const segment = this.place(name)?.segment
    if (segment) this.uses.touch(segment)
    return block
  }

  /** The same for whoever does not want the content: it counts as no use. */
  async peek(name: Buffer): Promise<Buffer | undefined> {
    for (let attempt = 0; ; attempt++) {
      const place = this.tail.pending.get(idOf(name)) ?? this.index.get(name)
      if (!place || isEvicted(place)) return undefined
      // A copy: what it is gathered in is used again.
      if ('data' in place && place.data) return Buffer.from(place.data)
      const record = await this.readRecord(place)
      if (record && (await this.comparisons.matches(record, name, place))) {
        this.damaged.delete(idOf(name))
        return record.subarray(headerBytes)
      }
      // A rewrite of the segment may have moved the block while it was read.
      const now = this.tail.pending.get(idOf(name)) ?? this.index.get(name)
      if (!now || isEvicted(now)) return undefined
      if (attempt < 3 && (now.segment !== place.segment || now.offset !== place.offset)) continue
      this.damaged.add(idOf(name))
      const [block, { segment, offset }] = [name.toString('hex', 0, 6), place]
      this.options.log.warn({ block, segment, offset }, 'block is damaged')
      const where = `block ${block} in segment ${segment}`
      throw new KithError('damaged', `${where} is damaged: fetch it from a partner`)
    }
  }

  /**
   * Takes a block in; the caller vouches that `name` is the hash of `bytes`, which must not change afterwards. A name
   * that is already here costs nothing; a damaged one is replaced, an evicted one is here again under its old number.
   * Durable after the next commit.
   * @returns whether it was not known: of two puts of one block at a time, one is told so
   * @throws KithError noSpace, and then the block is not taken
   */
  async put(name: Buffer, bytes: Buffer): Promise<boolean> {
    assert(bytes.length > 0 && bytes.length <= maxBlockBytes, 'blocks have 1 byte to 1 MiB + 64')
    let known = this.place(name)
    while ((!known || isEvicted(known)) && this.tail.isFull) {
      await this.tail.flush()
      known = this.place(name)
    }
    if (known && !isEvicted(known)) return false
    if (this.tail.broken) throw this.tail.broken
    this.tail.append(name, bytes)
    return known === undefined
  }

  /**
   * Takes in blocks that lie in `records` as a segment has them, one after the other; else as put().
   * @param taken is told of each, new or not, in order
   * @returns blocks and sealed bytes of those that were not known
   * @throws KithError noSpace, and then no block is taken
   */
  async putRecords(
    records: Buffer,
    taken: (index: number, name: Buffer, bytes: number) => void,
  ): Promise<{ blocks: number; bytes: number }> {
    while (this.tail.isFull) await this.tail.flush()
    if (this.tail.broken) throw this.tail.broken
    const fresh = { blocks: 0, bytes: 0 }
    this.tail.appendRecords(records, (index, name, bytes) => {
      const known = this.place(name)
      if (!known) {
        fresh.blocks++
        fresh.bytes += bytes
      }
      taken(index, name, bytes)
      return !known || isEvicted(known)
    })
    return fresh
  }

  /**
   * What was put before is durable when this resolves.
   * @param also runs inside the index transaction: its writes to other tables of the same database become durable
   *   together with the blocks, or not at all
   */
  commit(also?: () => void): Promise<void> {
    if (also) return this.alone(() => this.commitPending(also))
    this.waitingCommit ??= this.alone(async () => {
      this.waitingCommit = undefined
      await this.commitPending()
    })
    return this.waitingCommit
  }

  /** Committed blocks with a sequence number above `sequence`, in order of insertion. */
  since(sequence: number, limit: number): { sequence: number; name: Buffer; bytes: number }[] {
    const found = []
    for (const { key, value: name } of this.order.range({ start: sequence + 1, limit })) {
      const row = this.index.get(name)
      if (row) found.push({ sequence: key, name, bytes: row.bytes })
    }
    return found
  }

  /** The highest sequence number given so far, 0 before the first. */
  get lastSequence(): number {
    return this.nextSequence - 1
  }

  /** Committed names, in the order of their bytes. Read it to its end within one turn, or start again from `after`. */
  names(after?: Buffer): Iterable<Buffer> {
    return this.index.keysOf(after ? { start: Buffer.concat([after, Buffer.alloc(1)]) } : {})
  }

  /** The block's sequence number, when it is committed. */
  sequence(name: Buffer): number | undefined {
    return this.index.get(name)?.sequence
  }

  /** Frees the blocks, with their space; unknown names are no error. Durable when it resolves. */
  async remove(names: readonly Buffer[]): Promise<void> {
    await this.takeOut(names)
    await this.alone(async () => {
      for (const segment of [...this.sparse]) await this.reclaim(segment)
    })
  }

  /**
   * Takes the blocks out of the index; unknown names are no error. Their space comes back by `compact`.
   * @param also runs inside the index transaction, as in commit()
   */
  takeOut(names: readonly Buffer[], also?: () => void): Promise<void> {
    return this.alone(async () => {
      await this.commitPending()
      const removed = await this.options.db.transaction(() => {
        const rows: Row[] = []
        for (const name of names) {
          const row = this.index.get(name)
          if (!row) continue
          this.index.remove(name)
          this.order.remove(row.sequence)
          if (this.damaged.has(idOf(name))) this.damagedRows.remove(name)
          if (!this.leave(row)) continue
          rows.push(row)
        }
        // Partners remember how far they have come: a number that was given must not be given again.
        this.counters.put('sequence', this.lastSequence)
        also?.()
        return rows
      })
      for (const row of removed) {
        this.liveBytes -= row.bytes
        this.liveCount--
        this.sparse.add(row.segment)
      }
      for (const name of names) this.damaged.delete(idOf(name))
    })
  }

  /**
   * Takes the bytes of blocks away and keeps their names; partners have them. Their space comes back by `compact`.
   * @param mayGo asked for each inside the transaction; what is damaged, or not here, stays as it is
   */
  evict(names: readonly Buffer[], mayGo: (sequence: number, name: Buffer) => boolean): Promise<Sum> {
    return this.alone(async () => {
      await this.commitPending()
      const sum = { blocks: 0, bytes: 0 }
      const left = new Set<number>()
      await this.options.db.transaction(() => {
        for (const name of names) {
          const row = this.index.get(name)
          if (!row || isEvicted(row) || this.damaged.has(idOf(name)) || !mayGo(row.sequence, name)) continue
          this.index.put(name, { ...row, segment: evictedSegment, offset: 0 })
          this.leave(row)
          left.add(row.segment)
          sum.blocks++
          sum.bytes += row.bytes
        }
        this.countEvicted(sum.blocks, sum.bytes)
        this.uses.save((segment) => segment === this.tail.active.id || this.segmentRows.has(segment))
      })
      this.liveBytes -= sum.bytes
      this.liveCount -= sum.blocks
      for (const segment of left) this.sparse.add(segment)
      return sum
    })
  }

  /** The segments that hold anything, the least recently used first. */
  leastUsed(): { segment: number; length: number }[] {
    const rows = [...this.segmentRows.range()]
    return this.uses.inOrder(rows.map(({ key: segment, value: { length } }) => ({ segment, length })))
  }

  /** What lies in a segment and is named by the index, as far as its headers can be read. */
  async blocksIn(segment: number): Promise<(Row & { name: Buffer; kind: BlockKind | undefined })[]> {
    const length = this.segmentRows.get(segment)?.length ?? 0
    const found = []
    for (let offset = 0; offset < length;) {
      const reading = this.segments.read(segment, offset, headerBytes + kindBytes)
      const bytes = await reading.catch(() => Buffer.alloc(0))
      const header = decodeHeader(bytes)
      if (!header) break
      const row = this.index.get(header.name)
      if (row?.segment === segment && row.offset === offset)
        found.push({ ...row, name: Buffer.from(header.name), kind: blockKind(bytes.subarray(headerBytes)) })
      offset += headerBytes + header.bytes
    }
    return found
  }

  /** Gives a segment's dead space back, when at least half of it is dead. Commits may come between two segments. */
  compact(segment: number): Promise<Compacted> {
    return this.alone(() => this.reclaim(segment))
  }

  /** Found damaged since the store was opened, and not replaced. */
  get knownDamaged(): Buffer[] {
    return [...this.damaged].map((id) => Buffer.from(id, 'latin1'))
  }

  /**
   * Compares the index with the segments. What cannot be read counts as damaged from then on: `has` denies it, and a put
   * replaces it. With `fix`, what follows from the rest is written anew (examine.ts).
   */
  examine(fix: boolean, watch?: Watch): Promise<Examined> {
    return this.alone(async () => {
      const { index, order, segmentRows, segments, counters } = this
      const parts = { db: this.options.db, index, order, segmentRows, segments, counters }
      const examined = await examineIndex(parts, fix, watch)
      for (const name of examined.damaged) this.damaged.add(idOf(name))
      if (examined.fixed > 0) this.takeStock()
      return examined
    })
  }

  /** These count as not here, also after the next start, until they are put again or are found to be whole after all. */
  async rememberDamaged(names: readonly Buffer[]): Promise<void> {
    await this.alone(() =>
      this.options.db.transaction(() => {
        for (const name of names) if (this.index.has(name)) this.damagedRows.put(name, Buffer.alloc(0))
      }),
    )
    for (const name of names) if (this.index.has(name)) this.damaged.add(idOf(name))
  }

  remembersDamaged(name: Buffer): boolean {
    return this.damagedRows.has(name)
  }

  /** Gives those of the blocks that can still be found whole: where the index says, or `anywhere` in the segments. */
  async salvage(
    names: readonly Buffer[],
    anywhere: boolean,
    take: Take,
    signal?: AbortSignal,
  ): Promise<void> {
    if (anywhere) return salvageAnywhere(this.segments, new Set(names.map(idOf)), take, signal)
    const said = names.flatMap((name) => {
      const row = this.index.get(name)
      return row && !isEvicted(row) ? [{ name, ...row }] : []
    })
    return salvageInPlace(this.segments, said, take)
  }

  /** Commits nothing: what was put and not committed is gone. */
  async close(): Promise<void> {
    await this.exclusive.catch(() => undefined)
    await this.tail.settled()
    await this.segments.close()
  }

  /** Brings files and index to the same state, and takes stock. */
  private async recover(): Promise<void> {
    const rows = new Map([...this.segmentRows.range()].map(({ key, value }) => [key, value]))
    const files = new Map(this.segments.list().map(({ id, length }) => [id, length]))
    let last = 0
    for (const [id, length] of files) {
      const row = rows.get(id)
      last = Math.max(last, id)
      if (!row) await this.segments.remove(id)
      else if (length > row.length) await this.segments.truncate(id, row.length)
    }
    for (const [id, row] of rows) {
      last = Math.max(last, id)
      const length = files.get(id) ?? 0
      if (length < row.length) {
        this.options.log.error({ segment: id, length, expected: row.length }, 'segment is truncated')
      }
    }
    const newest = rows.get(last)
    // Only a segment that is whole is appended to.
    if (newest && files.get(last) === newest.length) this.tail.active = { id: last, offset: newest.length }
    else this.tail.active = { id: last, offset: segmentBytes }
    for (const id of rows.keys()) this.sparse.add(id)
    for (const name of this.damagedRows.keysOf()) this.damaged.add(idOf(name))
    this.takeStock()
  }

  private takeStock(): void {
    this.lengths = undefined
    this.nextSequence = (this.counters.get('sequence') ?? 0) + 1
    for (const { key } of this.order.range({ reverse: true, limit: 1 }))
      this.nextSequence = Math.max(this.nextSequence, key + 1)
    this.liveCount = this.index.count() - this.evicted.blocks
    this.liveBytes = -this.liveCount * headerBytes
    for (const { value } of this.segmentRows.range()) this.liveBytes += value.live
  }

  private place(name: Buffer): Place | undefined {
    const id = idOf(name)
    const pending = this.tail.pending.get(id)
    if (pending) return pending
    return this.damaged.has(id) ? undefined : this.index.get(name)
  }

  /** The record at its place, header included; undefined when the segment does not give it. */
  private async readRecord(place: Place): Promise<Buffer | undefined> {
    try {
      const record = await this.segments.read(place.segment, place.offset, recordBytes(place))
      return record.length === recordBytes(place) ? record : undefined
    } catch (error) {
      this.options.log.warn({ segment: place.segment, error: String(error) }, 'segment cannot be read')
      return undefined
    }
  }

  private async commitPending(also?: () => void): Promise<void> {
    if (this.tail.broken) throw this.tail.broken
    const batch = [...this.tail.pending.values()]
    if (batch.length === 0) {
      if (also) await this.options.db.transaction(also)
      return
    }
    await this.tail.flush()
    await this.tail.sync()
    const { next, replaced } = await this.options.db.transaction(() => {
      const old: Row[] = []
      let following = this.nextSequence
      const ends = new Map<number, { length: number; live: number }>()
      for (const block of batch) {
        const { name, segment, offset, bytes } = block
        const row = this.index.get(name)
        const isDamaged = this.damaged.has(idOf(name))
        if (row && this.leave(row)) old.push(row)
        // Partners have what was evicted, and were told of it under its number; what is damaged is offered anew.
        const sequence = row && isEvicted(row) && !isDamaged ? row.sequence : following++
        if (row) this.order.remove(row.sequence)
        if (isDamaged) this.damagedRows.remove(name)
        this.index.put(name, { sequence, segment, offset, bytes })
        this.order.put(sequence, name)
        const end = ends.get(segment) ?? { length: 0, live: 0 }
        ends.set(segment, { length: offset + recordBytes(block), live: end.live + recordBytes(block) })
      }
      for (const [segment, end] of ends) this.addLive(segment, end.live, end.length)
      also?.()
      return { next: following, replaced: old }
    })
    this.nextSequence = next
    this.lengths = undefined
    for (const block of batch) {
      this.tail.settle(block)
      this.damaged.delete(idOf(block.name))
      this.liveBytes += block.bytes
    }
    this.liveCount += batch.length - replaced.length
    for (const row of replaced) this.liveBytes -= row.bytes
  }

  /** Inside a transaction: the place is named no more. @returns whether it was here */
  private leave(row: Row): boolean {
    if (isEvicted(row)) this.countEvicted(-1, -row.bytes)
    else this.addLive(row.segment, -recordBytes(row))
    return !isEvicted(row)
  }

  /** Inside a transaction. */
  private countEvicted(blocks: number, bytes: number): void {
    const sum = this.evicted
    this.counters.put('evicted', sum.blocks + blocks)
    this.counters.put('evictedBytes', sum.bytes + bytes)
  }

  /** Inside a transaction: a segment's live bytes change, and its committed length may grow. */
  private addLive(segment: number, change: number, length = 0): void {
    const row = this.segmentRows.get(segment) ?? { length: 0, live: 0 }
    this.segmentRows.put(segment, { length: Math.max(row.length, length), live: row.live + change })
  }

  /** Gives a segment's dead space back, when it is worth it. */
  private async reclaim(segment: number): Promise<Compacted> {
    this.sparse.delete(segment)
    const row = this.segmentRows.get(segment)
    if (!row || row.live * 2 > row.length) return nothingDone
    if (segment === this.tail.active.id) this.tail.active.offset = segmentBytes
    if ([...this.tail.pending.values()].some((block) => block.segment === segment)) {
      this.sparse.add(segment)
      return nothingDone
    }
    try {
      if (row.live > 0 && !(await this.rewrite(segment, row.length))) return nothingDone
      await this.options.db.transaction(() => this.segmentRows.remove(segment))
      await this.segments.remove(segment)
      return { copied: row.live, freed: row.length - row.live }
    } catch (error) {
      // The next removal tries again; until then the space is not back, and nothing is lost.
      this.sparse.add(segment)
      this.options.log.warn({ segment, error: String(error) }, 'segment not reclaimed')
      return nothingDone
    } finally {
      this.lengths = undefined
    }
  }

  /** Copies the live records of a segment elsewhere and moves their names; false when one of them is damaged. */
  private async rewrite(segment: number, length: number): Promise<boolean> {
    const moved: Pending[] = []
    for (let offset = 0; offset < length;) {
      const header = decodeHeader(await this.segments.read(segment, offset, headerBytes))
      if (!header) return false
      const row = this.index.get(header.name)
      if (row?.segment === segment && row.offset === offset) {
        const bytes = await this.peek(header.name)
        if (!bytes) return false
        if (this.tail.isFull) await this.tail.flush()
        moved.push(this.tail.append(header.name, bytes))
      }
      offset += headerBytes + header.bytes
    }
    await this.tail.flush()
    await this.tail.sync()
    await this.options.db.transaction(() => {
      for (const block of moved) {
        const row = this.index.get(block.name)
        if (!row) continue
        const { segment: to, offset, bytes } = block
        this.index.put(block.name, { sequence: row.sequence, segment: to, offset, bytes })
        this.addLive(to, recordBytes(block), offset + recordBytes(block))
        this.addLive(segment, -recordBytes(block))
      }
    })
    for (const block of moved) this.tail.settle(block)
    return true
  }

  /** Commits, removals and rewrites run one at a time. */
  private alone<T>(work: () => Promise<T>): Promise<T> {
    const done = this.exclusive.then(work)
    this.exclusive = done.catch(() => undefined)
    return done
  }
}
