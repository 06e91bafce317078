/**
 * One LMDB environment: ordered tables, atomic transactions that are durable when they resolve.
 *
 * Transactions run synchronously, one at a time, and are synced to disk before they resolve. lmdb's asynchronous ones
 * would spare the event loop a few milliseconds, but report a full disk by rejections nobody holds; the synchronous
 * ones throw at the commit, leave the last state untouched, and work again when there is room. The map starts small and
 * grows with the data (lmdb-js remaps it), so no size is reserved ahead.
 *
 * A page that was written anew is free for the next transaction but one, and the file never gets shorter by itself. After a first
 * backup a third of it may be such pages. `compact` writes what is used into a file beside it, which takes its place: while
 * nobody writes, and unless somebody wrote meanwhile.
 *
 * Tables whose keys lie all over them may be told so: then what small transactions write there is kept together and goes into
 * them later (recent.ts). Nobody who reads or writes notices.
 *
 * Keys compare bytewise. Numbers as keys are stored as 8 bytes big endian (the one exception to little endian in kith),
 * since that is what makes their order the numeric one.
 */
import { mkdirSync, realpathSync, rmSync, statfsSync } from 'node:fs'
import { join } from 'node:path'
import { setImmediate } from 'node:timers/promises'
import { assert, KithError } from '../base/errors.js'
import { reached } from '../base/persistence.js'
import { letGoOfMapped } from '../base/posix.js'
import { environment, type Environment, EnvironmentTable, replaced, statsOf } from './environment.js'
import { type RawTable, Recent } from './recent.js'

/** How a type is stored as a key or a value. */
export interface Encoding<T> {
  encode(value: T): Buffer
  decode(bytes: Buffer): T
}

export const encodings = {
  bytes: { encode: (value: Buffer) => value, decode: (bytes: Buffer) => bytes },
  text: {
    encode: (value: string) => Buffer.from(value, 'utf8'),
    decode: (bytes: Buffer) => bytes.toString('utf8'),
  },
  /** Integers from 0 to 2^53 - 1, ordered. */
  number: {
    encode: (value: number) => {
      const bytes = Buffer.allocUnsafe(8)
      bytes.writeBigUInt64BE(BigInt(value))
      return bytes
    },
    decode: (bytes: Buffer) => Number(bytes.readBigUInt64BE(0)),
  },
  /** Unsigned 64 bit, ordered: inode numbers. */
  bigint: {
    encode: (value: bigint) => {
      const bytes = Buffer.allocUnsafe(8)
      bytes.writeBigUInt64BE(value)
      return bytes
    },
    decode: (bytes: Buffer) => bytes.readBigUInt64BE(0),
  },
}

/** Bounds of a walk over a table, in key order; `start` is included, `end` is not. */
export interface Range<K> {
  start?: K
  end?: K
  reverse?: boolean
  limit?: number
}

/** LMDB's own bound on keys with pages of 4 KiB. */
const maxKeyBytes = 1978

export class Table<K, V> {
  constructor(
    private readonly lmdb: RawTable,
    private readonly keys: Encoding<K>,
    private readonly values: Encoding<V>,
    private readonly writing: () => boolean,
  ) {}

  get(key: K): V | undefined {
    const bytes = this.lmdb.get(this.keys.encode(key))
    return bytes === undefined ? undefined : this.values.decode(bytes)
  }

  has(key: K): boolean {
    return this.lmdb.doesExist(this.keys.encode(key))
  }

  /** Inside a transaction only. */
  put(key: K, value: V): void {
    this.putEncoded(key, this.values.encode(value))
  }

  /** The same for who has the value encoded already. */
  putEncoded(key: K, value: Buffer): void {
    assert(this.writing(), 'writes go through a transaction')
    const bytes = this.keys.encode(key)
    assert(bytes.length > 0 && bytes.length <= maxKeyBytes, 'keys have 1 to 1978 bytes')
    this.lmdb.putSync(bytes, value)
  }

  /** Inside a transaction only; a key that is not there is no error. */
  remove(key: K): void {
    assert(this.writing(), 'writes go through a transaction')
    this.lmdb.removeSync(this.keys.encode(key))
  }

  /** Inside a transaction only. */
  clear(): void {
    assert(this.writing(), 'writes go through a transaction')
    this.lmdb.clearSync()
  }

  /** Entries in key order. Read it to its end within one turn of the event loop. */
  *range(range: Range<K> = {}): Generator<{ key: K; value: V }> {
    for (const { key, value } of this.lmdb.getRange(this.options(range))) {
      yield { key: this.keys.decode(key), value: this.values.decode(value) }
    }
  }

  *keysOf(range: Range<K> = {}): Generator<K> {
    for (const key of this.lmdb.getKeys(this.options(range))) yield this.keys.decode(key)
  }

  /** All entries, so many at a time, with turns for others between: for tables of any size. Keys keep their order. */
  async *batches(limit: number): AsyncGenerator<{ key: K; value: V }[]> {
    for (let start: Buffer | undefined; ;) {
      const raw = [...this.lmdb.getRange({ limit, ...(start && { start }) })]
      const last = raw.at(-1)?.key
      if (!last) return
      start = Buffer.concat([last, Buffer.alloc(1)])
      yield raw.map(({ key, value }) => ({
        key: this.keys.decode(Buffer.from(key)),
        value: this.values.decode(value),
      }))
      if (raw.length < limit) return
      await setImmediate()
    }
  }

  count(): number {
    const stats: { entryCount?: number } = this.lmdb.getStats()
    return stats.entryCount ?? 0
  }

  private options(range: Range<K>) {
    const start = range.start === undefined ? undefined : this.keys.encode(range.start)
    const end = range.end === undefined ? undefined : this.keys.encode(range.end)
    return {
      ...(start && { start }),
      ...(end && { end }),
      ...(range.reverse && { reverse: true }),
      ...(range.limit !== undefined && { limit: range.limit }),
    }
  }
}

export interface DatabaseOptions {
  /** How many tables may be opened, 64 unless told. */
  maxTables?: number
  /** Rows of small transactions in `spread` tables are kept together at first. */
  keepsRecent?: {
    /** A row that is there while any are kept: versions that know nothing of them fail at it when they open this. */
    refusal: { table: string; key: Buffer; value: Buffer }
  }
}

export interface TableOptions {
  /** Keys that are written together lie far from each other. */
  spread?: boolean
}

/** Free pages that are worth a copy of all others: bytes, and as a share of the file. */
const wasteBytes = 8 * 1024 * 1024
const wasteShare = 0.2
/** Folder of the copy. */
const copyName = 'compact'

export class Database {
  private running = false
  private closed = false
  private readonly recent: Recent | undefined
  private readonly raws = new Map<string, EnvironmentTable>()
  private readonly maxTables: number
  private root: Environment
  private compacting: Promise<boolean> | undefined

  private constructor(
    private readonly dir: string,
    { maxTables = 64, keepsRecent }: DatabaseOptions,
  ) {
    this.maxTables = maxTables
    rmSync(join(dir, copyName), { recursive: true, force: true })
    this.root = environment(dir, maxTables)
    if (!keepsRecent) return
    const { table, key, value } = keepsRecent.refusal
    const refusing = this.raw(table)
    this.recent = new Recent({
      log: this.raw('recent'),
      open: (name) => this.raw(name),
      refuse: (isToBe) => void (isToBe ? refusing.putSync(key, value) : refusing.removeSync(key)),
    })
  }

  /** Opens or makes the environment in `dir` (data.mdb, lock.mdb). One opener at a time. */
  static open(dir: string, options: DatabaseOptions = {}): Database {
    try {
      mkdirSync(dir, { recursive: true, mode: 0o700 })
      return new Database(dir, options)
    } catch (error) {
      throw explained(error, dir)
    }
  }

  table<K, V>(
    name: string,
    keys: Encoding<K>,
    values: Encoding<V>,
    { spread = false }: TableOptions = {},
  ): Table<K, V> {
    try {
      const isKept = spread || this.recent?.has(name)
      const raw = (isKept && this.recent?.table(name)) || this.raw(name)
      return new Table(raw, keys, values, () => this.running)
    } catch (error) {
      throw explained(error, this.dir)
    }
  }

  private raw(name: string): RawTable {
    const known = this.raws.get(name)
    if (known) return known
    const made = new EnvironmentTable(this.opened(name))
    this.raws.set(name, made)
    return made
  }

  private opened(name: string): RawTable {
    return this.root.openDB<Buffer, Buffer>({ name, encoding: 'binary', keyEncoding: 'binary' })
  }

  /** Damaged rows of `recent`: what stands in `spread` tables may be older than what was committed last. */
  get lostRecent(): number {
    return this.recent?.lost ?? 0
  }

  /**
   * What was kept of `spread` tables goes into them, with turns for others between.
   * @param evenLittle also when there are too few rows for it to be worth it
   * @returns whether there was anything to do
   * @throws KithError noSpace when the disk is full; nothing is lost, and the next time goes on
   */
  async settle(evenLittle = false): Promise<boolean> {
    const { recent } = this
    if (!recent || !(evenLittle || recent.isMuch)) return false
    while (!this.closed && !recent.isEmpty) {
      await this.transaction(() => recent.settle())
      await setImmediate()
    }
    return !this.closed
  }

  /**
   * Runs `work` as one transaction: all of its writes, or (when it throws) none. Durable when the promise resolves.
   * @throws KithError noSpace when the disk is full; the database stays as it was and usable.
   */
  async transaction<T>(work: () => T): Promise<T> {
    assert(!this.closed, 'the database is open')
    assert(!this.running, 'transactions do not nest')
    this.running = true
    let failure: { error: unknown } | undefined
    let isDone = false
    try {
      const result = this.root.transactionSync(() => {
        let done: T
        try {
          done = work()
          this.recent?.commit()
        } catch (error) {
          failure = { error }
          throw error
        }
        reached('indexCommit')
        return done
      })
      isDone = true
      reached('indexCommitted')
      return result
    } catch (error) {
      // What `work` itself threw is its own matter; the rest comes from lmdb.
      if (failure && failure.error === error && !isLmdbError(error)) throw error
      throw explained(error, this.dir)
    } finally {
      this.running = false
      this.recent?.ended(isDone)
    }
  }

  /** Whether so many pages of the file are free that a file without them is worth its cost. */
  get isWasteful(): boolean {
    const { pageSize, lastPageNumber, free } = statsOf(this.root)
    // Numbers of free pages, 8 bytes each; the last page of each list is taken to be half full.
    const bytes = (free.overflowPages - free.entryCount / 2) * (pageSize / 8) * pageSize
    return bytes >= Math.max(wasteBytes, wasteShare * lastPageNumber * pageSize)
  }

  /**
   * Puts a file without free pages in the place of the one there is. Others read and write meanwhile; when anybody wrote, all stays
   * as it is. After a crash at any moment the one file is there or the other, and both have the same rows.
   * @returns whether it was done
   * @throws KithError noSpace when there is no room for both; nothing is lost
   */
  async compact(): Promise<boolean> {
    assert(!this.compacting, 'one at a time')
    this.compacting = this.compactNow()
    try {
      return await this.compacting
    } catch (error) {
      throw explained(error, this.dir)
    } finally {
      this.compacting = undefined
    }
  }

  private async compactNow(): Promise<boolean> {
    const place = join(this.dir, copyName)
    const { lastTxnId } = statsOf(this.root)
    try {
      rmSync(place, { recursive: true, force: true })
      mkdirSync(place, { mode: 0o700 })
      reached('fileWrite')
      await this.root.backup(place, true)
      if (this.closed || statsOf(this.root).lastTxnId !== lastTxnId) return false
      // From here on without a turn for anybody else.
      const before = this.root
      this.root = replaced(place, this.dir, this.maxTables)
      for (const [name, raw] of this.raws) raw.environmentIs(this.opened(name))
      await before.close()
      return true
    } finally {
      // What locks the new file among processes goes, too: who opens this has the lock of the home.
      rmSync(place, { recursive: true, force: true })
    }
  }

  /**
   * After work: what is mapped into memory goes. lmdb-js keeps the smaller maps of before the file grew, so that what was
   * read through each of them counts again.
   */
  rest(): void {
    letGoOfMapped(realpathSync(join(this.dir, 'data.mdb')))
  }

  /** What was kept of tables goes into them, unless there is no room: then it is kept on. */
  async close(): Promise<void> {
    if (this.closed) return
    await this.compacting?.catch(() => false)
    await this.settle(true).catch(() => false)
    this.closed = true
    await this.root.close()
  }
}

/** lmdb-js gives errno or MDB codes as numbers. */
function isLmdbError(error: unknown): error is Error & { code: number } {
  return error instanceof Error && 'code' in error && typeof error.code === 'number'
}

const MDB_MAP_FULL = -30792
const ENOSPC = 28
const EIO = 5
/** Below this a failed write is taken for a full disk: lmdb reports a short write as an I/O error. */
const nearlyFullBytes = 1024 * 1024

function explained(error: unknown, dir: string): KithError {
  if (error instanceof KithError) return error
  const code = isLmdbError(error) ? error.code : 0
  const message = error instanceof Error ? error.message : String(error)
  if (code === MDB_MAP_FULL || code === ENOSPC || (code === EIO && nearlyFull(dir))) {
    return new KithError('noSpace', `no space left for the index in ${dir}: make room on this disk`, {
      cause: error,
    })
  }
  const errno = error instanceof Error && 'code' in error ? error.code : undefined
  if (errno === 'ENOSPC' || errno === 'EDQUOT') {
    return new KithError('noSpace', `no space left for the index in ${dir}: make room on this disk`, {
      cause: error,
    })
  }
  return new KithError('internal', `the index in ${dir} failed: ${message}`, { cause: error })
}

function nearlyFull(dir: string): boolean {
  try {
    const { bavail, bsize } = statfsSync(dir)
    return bavail * bsize < nearlyFullBytes
  } catch {
    return false
  }
}
