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
 *
 * Crash argument: the index never names bytes that are not on disk, since the segments are synced first. Bytes past the
 * length that the index knows of a segment were never committed and are cut at open; a file without a row was never
 * committed, or is already rewritten, and is deleted. Rewriting copies first, then one transaction moves all the
 * names, and only then the old file goes.
 *
 * A full disk: a put or commit fails with noSpace and nothing that was there is touched. Blocks that were put stay
 * pending, at most some MiB of them in memory, and the next commit that finds room takes them along.
 *
 * Index rows, little endian, keyed by name:
 *   blocks    [0..8) sequence u64 [8..12) segment u32 [12..16) offset of the record u32 [16..20) sealed bytes u32
 *   order     sequence -> name
 *   damaged   name -> nothing: found to differ from its name; counts as not here until it is put again
 *   segments  number -> [0..8) committed length u64 [8..16) bytes of live records u64, headers included
 *   counters  `sequence` -> the highest sequence number given when blocks were last taken out, u64 big endian
 */
import { join } from 'node:path'
import type { Clock } from '../base/clock.js'
import { assert, KithError } from '../base/errors.js'
import type { Log } from '../base/log.js'
import { type Database, encodings, type Table } from './database.js'
import { examineIndex, type Examined, type Watch } from './examine.js'
import { salvageAnywhere, salvageInPlace, type Take } from './salvage.js'
import {
  type Compacted,
  nothingDone,
  decodeHeader,
  encodeHeader,
  headerBytes,
  maxBlockBytes,
  segmentBytes,
  Segments,
} from './segments.js'
import { idOf, matches, type Pending, recordBytes, type Run, wholeOf } from './records.js'
import { rowEncoding, segmentEncoding, type Place, type Row, type SegmentRow } from './segment-rows.js'

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
}

const flushBytes = 4 * 1024 * 1024

export class BlockStore implements BlockReader {
  private readonly index: Table<Buffer, Row>
  private readonly order: Table<number, Buffer>
  private readonly segmentRows: Table<number, SegmentRow>
  private readonly damagedRows: Table<Buffer, Buffer>
  private readonly counters: Table<string, number>
  private readonly segments: Segments
  /** Put and not yet committed, in order. */
  private readonly pending = new Map<string, Pending>()
  private runs: Run[] = []
  private gathered = 0
  private active: { id: number; offset: number }
  /** Written since their last sync. */
  private readonly unsynced = new Set<number>()
  private readonly damaged = new Set<string>()
  /** Segments that may have space to give back. */
  readonly sparse = new Set<number>()
  private nextSequence = 1
  private liveBytes = 0
  private liveCount = 0
  /** Writes to segments and commits, each one at a time. */
  private writing: Promise<unknown> = Promise.resolve()
  private exclusive: Promise<unknown> = Promise.resolve()
  /** The commit that waits for its turn, joined by all who ask meanwhile. */
  private waitingCommit: Promise<void> | undefined
  /** Set when the disk may have dropped what was written: only a new open knows what is there. */
  private broken: KithError | undefined

  private constructor(
    dir: string,
    private readonly options: BlockStoreOptions,
  ) {
    this.segments = new Segments(join(dir, 'segments'))
    const { db } = options
    this.index = db.table('blocks', encodings.bytes, rowEncoding)
    this.order = db.table('order', encodings.number, encodings.bytes)
    this.segmentRows = db.table('segments', encodings.number, segmentEncoding)
    this.damagedRows = db.table('damaged', encodings.bytes, encodings.bytes)
    this.counters = db.table('counters', encodings.text, encodings.number)
    this.active = { id: 0, offset: segmentBytes }
  }

  /** Opens or makes the store in `dir`; its index lies in `db`, which no other BlockStore uses. */
  static async open(dir: string, options: BlockStoreOptions): Promise<BlockStore> {
    const store = new BlockStore(dir, options)
    await store.recover()
    return store
  }

  /** Sealed bytes of all committed blocks. */
  get bytes(): number {
    return this.liveBytes
  }

  get count(): number {
    return this.liveCount
  }

  /** Whether the block is here (not necessarily committed yet) and not known to be damaged. */
  has(name: Buffer): boolean {
    const id = idOf(name)
    return this.pending.has(id) || (!this.damaged.has(id) && this.index.has(name))
  }

  /** Its sealed bytes, when it is here. */
  size(name: Buffer): number | undefined {
    return this.place(name)?.bytes
  }

  async get(name: Buffer): Promise<Buffer | undefined> {
    for (let attempt = 0; ; attempt++) {
      const place = this.pending.get(idOf(name)) ?? this.index.get(name)
      if (!place) return undefined
      if ('data' in place && place.data) return place.data
      const record = await this.readRecord(place)
      if (record && matches(record, name, place)) {
        this.damaged.delete(idOf(name))
        return record.subarray(headerBytes)
      }
      // A rewrite of the segment may have moved the block while it was read.
      const now = this.pending.get(idOf(name)) ?? this.index.get(name)
      if (!now) return undefined
      if (attempt < 3 && (now.segment !== place.segment || now.offset !== place.offset)) continue
      this.damaged.add(idOf(name))
      const short = name.toString('hex', 0, 6)
      this.options.log.warn(
        { block: short, segment: place.segment, offset: place.offset },
        'block is damaged',
      )
      throw new KithError(
        'damaged',
        `block ${short} in segment ${place.segment} is damaged: fetch it from a partner`,
      )
    }
  }

  /**
   * Takes a block in; the caller vouches that `name` is the hash of `bytes`, which must not change afterwards. A name
   * that is already here costs nothing; a damaged one is replaced. Durable after the next commit.
   * @returns whether it was not here: of two puts of one block at a time, one is told so
   * @throws KithError noSpace, and then the block is not taken
   */
  async put(name: Buffer, bytes: Buffer): Promise<boolean> {
    assert(bytes.length > 0 && bytes.length <= maxBlockBytes, 'blocks have 1 byte to 1 MiB + 64')
    if (this.has(name)) return false
    while (this.gathered >= flushBytes) {
      await this.flush()
      if (this.has(name)) return false
    }
    if (this.broken) throw this.broken
    this.append(name, bytes)
    return true
  }

  /**
   * Takes in blocks that lie in `records` as a segment has them, one after the other; else as put().
   * @param taken is told of each, new or not, in order
   * @returns blocks and sealed bytes of those that were not here
   * @throws KithError noSpace, and then no block is taken
   */
  async putRecords(
    records: Buffer,
    taken: (index: number, name: Buffer, bytes: number) => void,
  ): Promise<{ blocks: number; bytes: number }> {
    while (this.gathered >= flushBytes) await this.flush()
    if (this.broken) throw this.broken
    const fresh = { blocks: 0, bytes: 0 }
    let run: Run | undefined
    /** Records of the run that are not among its parts yet begin here. */
    let from = 0
    for (let at = 0, index = 0; at < records.length; index++) {
      const header = decodeHeader(records.subarray(at, at + headerBytes))
      assert(header, 'records are whole')
      const next = at + recordBytes(header)
      const name = Buffer.from(header.name)
      const known = this.has(name)
      const room = known ? run : this.runFor(header.bytes)
      if (known || room !== run) {
        if (run && at > from) run.parts.push(records.subarray(from, at))
        from = known ? next : at
        run = room
      }
      if (!known && run) {
        this.join(run, name, header.bytes, records.subarray(at + headerBytes, next))
        fresh.blocks++
        fresh.bytes += header.bytes
      }
      taken(index, name, header.bytes)
      at = next
    }
    if (run && records.length > from) run.parts.push(records.subarray(from))
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
          this.addLive(row.segment, -recordBytes(row))
          if (this.damaged.has(idOf(name))) this.damagedRows.remove(name)
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
      const { index, order, segmentRows, segments } = this
      const parts = { db: this.options.db, index, order, segmentRows, segments }
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
      return row ? [{ name, ...row }] : []
    })
    return salvageInPlace(this.segments, said, take)
  }

  /** Commits nothing: what was put and not committed is gone. */
  async close(): Promise<void> {
    await this.exclusive.catch(() => undefined)
    await this.writing.catch(() => undefined)
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
    if (newest && files.get(last) === newest.length) this.active = { id: last, offset: newest.length }
    else this.active = { id: last, offset: segmentBytes }
    for (const id of rows.keys()) this.sparse.add(id)
    for (const name of this.damagedRows.keysOf()) this.damaged.add(idOf(name))
    this.takeStock()
  }

  private takeStock(): void {
    this.nextSequence = (this.counters.get('sequence') ?? 0) + 1
    for (const { key } of this.order.range({ reverse: true, limit: 1 }))
      this.nextSequence = Math.max(this.nextSequence, key + 1)
    this.liveCount = this.index.count()
    this.liveBytes = -this.liveCount * headerBytes
    for (const { value } of this.segmentRows.range()) this.liveBytes += value.live
  }

  private place(name: Buffer): Place | undefined {
    const id = idOf(name)
    const pending = this.pending.get(id)
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

  private append(name: Buffer, data: Buffer): Pending {
    const run = this.runFor(data.length)
    run.parts.push(encodeHeader(name, data.length), data)
    return this.join(run, Buffer.from(name), data.length, data)
  }

  /** Where a block of that length goes next. */
  private runFor(bytes: number): Run {
    if (this.active.offset + headerBytes + bytes > segmentBytes) {
      this.active = { id: this.active.id + 1, offset: 0 }
    }
    const { id: segment, offset } = this.active
    const last = this.runs.at(-1)
    if (last?.segment === segment) return last
    const run = { segment, offset, bytes: 0, parts: [], blocks: [] }
    this.runs.push(run)
    return run
  }

  /** A block at the end of a run, whose parts have its record. */
  private join(run: Run, name: Buffer, bytes: number, data: Buffer): Pending {
    const block: Pending = { name, data, segment: run.segment, offset: this.active.offset, bytes }
    run.blocks.push(block)
    run.bytes += recordBytes(block)
    this.gathered += recordBytes(block)
    this.active.offset += recordBytes(block)
    this.pending.set(idOf(name), block)
    return block
  }

  /** Writes what is gathered; on failure it stays gathered, and the next flush tries again. */
  private flush(): Promise<void> {
    const done = this.writing.then(async () => {
      if (this.broken) throw this.broken
      const runs = this.runs
      this.runs = []
      try {
        for (let run = runs[0]; run; run = runs[0]) {
          this.unsynced.add(run.segment)
          await this.segments.write(run.segment, run.offset, wholeOf(run))
          for (const block of run.blocks) block.data = undefined
          this.gathered -= run.bytes
          runs.shift()
        }
      } finally {
        this.runs = [...runs, ...this.runs]
      }
    })
    this.writing = done.catch(() => undefined)
    return done
  }

  private async sync(): Promise<void> {
    for (const segment of [...this.unsynced]) {
      this.unsynced.delete(segment)
      try {
        await this.segments.sync(segment)
      } catch (error) {
        // After a failed sync the kernel may have dropped the pages, and a later one would succeed without them.
        const message = `the disk failed to keep blocks (${String(error)}): check it, then start again`
        this.broken = new KithError('internal', message, { cause: error })
        throw this.broken
      }
    }
  }

  private async commitPending(also?: () => void): Promise<void> {
    if (this.broken) throw this.broken
    const batch = [...this.pending.values()]
    if (batch.length === 0) {
      if (also) await this.options.db.transaction(also)
      return
    }
    await this.flush()
    await this.sync()
    const first = this.nextSequence
    const replaced = await this.options.db.transaction(() => {
      const old: Row[] = []
      const ends = new Map<number, { length: number; live: number }>()
      batch.forEach((block, i) => {
        const { name, segment, offset, bytes } = block
        const row = this.index.get(name)
        if (row) {
          this.order.remove(row.sequence)
          this.addLive(row.segment, -recordBytes(row))
          old.push(row)
        }
        if (this.damaged.has(idOf(name))) this.damagedRows.remove(name)
        this.index.put(name, { sequence: first + i, segment, offset, bytes })
        this.order.put(first + i, name)
        const end = ends.get(segment) ?? { length: 0, live: 0 }
        ends.set(segment, { length: offset + recordBytes(block), live: end.live + recordBytes(block) })
      })
      for (const [segment, end] of ends) this.addLive(segment, end.live, end.length)
      also?.()
      return old
    })
    this.nextSequence += batch.length
    for (const block of batch) {
      this.pending.delete(idOf(block.name))
      this.damaged.delete(idOf(block.name))
      this.liveBytes += block.bytes
    }
    this.liveCount += batch.length - replaced.length
    for (const row of replaced) this.liveBytes -= row.bytes
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
    if (segment === this.active.id) this.active.offset = segmentBytes
    if ([...this.pending.values()].some((block) => block.segment === segment)) {
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
        const bytes = await this.get(header.name)
        if (!bytes) return false
        if (this.gathered >= flushBytes) await this.flush()
        moved.push(this.append(header.name, bytes))
      }
      offset += headerBytes + header.bytes
    }
    await this.flush()
    await this.sync()
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
    for (const block of moved) this.pending.delete(idOf(block.name))
    return true
  }

  /** Commits, removals and rewrites run one at a time. */
  private alone<T>(work: () => Promise<T>): Promise<T> {
    const done = this.exclusive.then(work)
    this.exclusive = done.catch(() => undefined)
    return done
  }
}
