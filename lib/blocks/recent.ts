/**
 * What small transactions wrote into large tables, until there is enough of it to be worth going through them.
 *
 * Keys that are hashes, or inode numbers, lie all over a table: each row that is put is a page of the index to be written, and
 * the pages on the way to it, the more the larger the table. So the rows of one small transaction are written together, as
 * one row of the table `recent`, and kept in memory; whoever reads a table sees them in front of what it holds. When they
 * are many, and the store rests, they go into their tables, the oldest transactions first.
 *
 *   1. put, remove   are gathered while the transaction runs
 *   2. commit        one row of `recent` has them all; where they are many (a first backup) all rows that were kept, and
 *                    these, go into their tables at once, in this transaction
 *   3. settle        the oldest rows of `recent` go into their tables and out of `recent`, some hundred at a time
 *   4. open          `recent` is read, in its order
 *
 * Crash argument: a row is in `recent`, or in its table, by one transaction each, so that it is never in neither. What is in
 * both counts as it is in `recent`, and of two there the later one; the oldest leave first, and one that a later row of
 * `recent` stands for is left out, so that a table never shows a value again that was replaced.
 *
 * Table `recent`: number, from 1, u64 big endian -> rows as below, little endian. While there are any, the table `uses` has
 * a row of number 0 that versions from before `recent` take for damaged (segment-uses.ts): they do not open such a store. When
 * the store is closed, all rows are in their tables.
 *
 *     [0..16)  first 16 bytes of the hash of the number, u64 big endian, and all that follows, namespace `kith recent rows`
 *     [16]     version, 1
 *     then for each table: length of its name u8, name, number of rows u32, and the rows: length of the key u16, key,
 *     length of the value u32 and value; a length of 2^32 - 1 and no value: the key was taken out
 *
 * A row of `recent` that is not what its hash says is left out, and counted: what stands in the tables may then be older than
 * what was committed, which `lost` tells whoever opens the store.
 */
import { assert } from '../base/errors.js'
import { Reader, Writer } from '../format/bytes.js'
import { hash } from '../format/hash.js'

/** What is asked of a table, by bytes, in the words of lmdb-js. */
export interface RawTable {
  get(key: Buffer): Buffer | undefined
  doesExist(key: Buffer): boolean
  putSync(key: Buffer, value: Buffer): unknown
  removeSync(key: Buffer): unknown
  clearSync(): unknown
  getRange(range: RawRange): Iterable<{ key: Buffer; value: Buffer }>
  getKeys(range: RawRange): Iterable<Buffer>
  getStats(): object
}

export interface RawRange {
  start?: Buffer
  end?: Buffer
  reverse?: boolean
  limit?: number
}

/** Puts and removals of one transaction that are kept; with more it writes into the tables. */
const maxOfOne = 512
/** Rows kept at most. */
const maxRows = 4096
/** Below this it is not worth going through the tables. */
const worthSettling = 1024
/** Rows that go into their tables by one transaction, which others wait for. */
const settledAtOnce = 256

const version = 1
const checkBytes = 16
const takenOut = 0xffff_ffff

/** `value` is undefined where the key was taken out. */
interface Row {
  key: Buffer
  value: Buffer | undefined
}

interface KeptRow extends Row {
  /** number of its row in `recent` */
  batch: number
}

const idOf = (key: Buffer) => key.toString('latin1')

export interface RecentOptions {
  /** The table `recent`. */
  log: RawTable
  /** Opens or makes a table. */
  open: (name: string) => RawTable
  /** Inside a transaction: whether versions from before must not open this. */
  refuse: (isToBe: boolean) => void
}

export class Recent {
  private readonly tables = new Map<string, RecentTable>()
  /** Rows of `recent`, oldest first: their numbers, and how many rows each has. */
  private batches: { number: number; rows: number }[] = []
  /** Of the transaction that runs: how much is gathered, and whether it writes into the tables. */
  private gathered = 0
  private direct = false
  private written: { number: number; rows: number } | undefined
  private through = 0
  /** Rows of `recent` that are damaged. */
  readonly lost: number

  constructor(private readonly options: RecentOptions) {
    let lost = 0
    for (const { key, value } of [...options.log.getRange({})]) {
      const number = Number(key.readBigUInt64BE(0))
      const tables = decodeBatch(number, Buffer.from(value))
      if (!tables) lost++
      let rows = 0
      for (const { name, rows: found } of tables ?? []) {
        this.table(name).load(found, number)
        rows += found.length
      }
      this.batches.push({ number, rows })
    }
    this.lost = lost
  }

  /** Rows that are not in their tables yet, those that later ones stand for included. */
  get rows(): number {
    return this.batches.reduce((sum, { rows }) => sum + rows, 0)
  }

  get isMuch(): boolean {
    return this.rows >= worthSettling
  }

  get isEmpty(): boolean {
    return this.batches.length === 0
  }

  has(name: string): boolean {
    return this.tables.has(name)
  }

  /** The table of this name, behind what is kept of it here. */
  table(name: string): RecentTable {
    const known = this.tables.get(name)
    if (known) return known
    assert(Buffer.byteLength(name) < 256, 'names of tables are short')
    const made = new RecentTable(this.options.open(name), {
      isDirect: () => this.direct,
      note: () => this.note(),
    })
    this.tables.set(name, made)
    return made
  }

  /** Inside a transaction, at its end. */
  commit(): void {
    if (this.direct || this.gathered === 0) return
    if (this.rows + this.gathered > maxRows) {
      this.writeThrough()
      return
    }
    const number = (this.batches.at(-1)?.number ?? 0) + 1
    const tables = [...this.tables].flatMap(([name, table]) => {
      const rows = table.gathered
      return rows.length > 0 ? [{ name, rows }] : []
    })
    this.options.log.putSync(numberKey(number), encodeBatch(number, tables))
    if (this.isEmpty) this.options.refuse(true)
    this.written = { number, rows: tables.reduce((sum, { rows }) => sum + rows.length, 0) }
  }

  /** The transaction is durable, or (`isDone` false) it never was. */
  ended(isDone: boolean): void {
    const { written, direct, through } = this
    for (const table of this.tables.values()) {
      if (isDone && direct) table.dropKept(Infinity)
      if (isDone && through > 0) table.dropKept(through)
      if (isDone && written) table.keep(written.number)
      table.forgetGathered()
    }
    if (isDone && direct) this.batches = []
    if (isDone && through > 0) this.batches = this.batches.filter(({ number }) => number > through)
    if (isDone && written) this.batches.push(written)
    this.gathered = 0
    this.direct = false
    this.written = undefined
    this.through = 0
  }

  /** Inside a transaction that does nothing else: the oldest rows go into their tables. */
  settle(): void {
    let rows = 0
    const oldest = this.batches.filter(({ rows: more }) => (rows += more) - more < settledAtOnce)
    this.through = oldest.at(-1)?.number ?? 0
    for (const table of this.tables.values()) table.writeKept(this.through)
    for (const { number } of oldest) this.options.log.removeSync(numberKey(number))
    if (oldest.length === this.batches.length) this.options.refuse(false)
  }

  private note(): void {
    if (++this.gathered > maxOfOne) this.writeThrough()
  }

  /** From now on the transaction writes into the tables, where all that was kept is before. */
  private writeThrough(): void {
    for (const table of this.tables.values()) {
      table.writeKept(Infinity)
      table.writeGathered()
    }
    if (!this.isEmpty) {
      this.options.log.clearSync()
      this.options.refuse(false)
    }
    this.direct = true
  }
}

interface Running {
  /** Whether the transaction that runs writes into the tables. */
  isDirect: () => boolean
  /** A row was gathered. */
  note: () => void
}

/** A table, and in front of it what was written last. */
export class RecentTable implements RawTable {
  private readonly kept = new Map<string, KeptRow>()
  /** Of the transaction that runs. */
  private readonly own = new Map<string, Row>()
  /** Of kept and own rows, by key; undefined after a change. */
  private sorted: Row[] | undefined

  constructor(
    private readonly below: RawTable,
    private readonly running: Running,
  ) {}

  get(key: Buffer): Buffer | undefined {
    const row = this.row(key)
    return row ? row.value : this.below.get(key)
  }

  doesExist(key: Buffer): boolean {
    const row = this.row(key)
    return row ? row.value !== undefined : this.below.doesExist(key)
  }

  putSync(key: Buffer, value: Buffer): void {
    if (this.running.isDirect()) this.below.putSync(key, value)
    // Copies: what is given may be part of much that is not kept.
    else this.gather(key, Buffer.from(value))
  }

  removeSync(key: Buffer): void {
    if (this.running.isDirect()) this.below.removeSync(key)
    else if (this.doesExist(key)) this.gather(key, undefined)
  }

  clearSync(): void {
    if (!this.running.isDirect()) {
      const keys = [...this.merged()].flatMap(({ key, value }) => (value ? [key] : []))
      for (const key of keys) this.removeSync(key)
    }
    this.below.clearSync()
  }

  *getRange(range: RawRange): Generator<{ key: Buffer; value: Buffer }> {
    const rows = this.merged()
    if (rows.length === 0) yield* this.below.getRange(range)
    else yield* inFront(rows, this.below, range)
  }

  *getKeys(range: RawRange): Generator<Buffer> {
    const rows = this.merged()
    if (rows.length === 0) yield* this.below.getKeys(range)
    else for (const { key } of inFront(rows, this.below, range)) yield key
  }

  getStats(): { entryCount: number } {
    let { entryCount = 0 }: { entryCount?: number } = this.below.getStats()
    for (const { key, value } of this.merged())
      entryCount += Number(value !== undefined) - Number(this.below.doesExist(key))
    return { entryCount }
  }

  // ---- what Recent asks

  get gathered(): Row[] {
    return [...this.own.values()]
  }

  load(rows: readonly Row[], batch: number): void {
    for (const row of rows) this.kept.set(idOf(row.key), { ...row, batch })
    this.sorted = undefined
  }

  keep(batch: number): void {
    this.load(this.gathered, batch)
  }

  forgetGathered(): void {
    if (this.own.size === 0) return
    this.own.clear()
    this.sorted = undefined
  }

  /** Of what is kept, that of the rows of `recent` up to this number. */
  dropKept(through: number): void {
    if (this.kept.size === 0) return
    for (const [id, { batch }] of this.kept) if (batch <= through) this.kept.delete(id)
    this.sorted = undefined
  }

  /** Inside a transaction, likewise. */
  writeKept(through: number): void {
    const rows = [...this.kept.values()].filter(({ batch }) => batch <= through)
    // In the order of the table, pages that several rows stand on are found once.
    this.write(rows.sort((a, b) => Buffer.compare(a.key, b.key)))
  }

  writeGathered(): void {
    this.write(this.gathered)
  }

  private write(rows: readonly Row[]): void {
    for (const { key, value } of rows)
      if (value) this.below.putSync(key, value)
      else this.below.removeSync(key)
  }

  private gather(key: Buffer, value: Buffer | undefined): void {
    this.own.set(idOf(key), { key: Buffer.from(key), value })
    this.sorted = undefined
    this.running.note()
  }

  private row(key: Buffer): Row | undefined {
    if ((this.own.size === 0 && this.kept.size === 0) || this.running.isDirect()) return undefined
    const id = idOf(key)
    return this.own.get(id) ?? this.kept.get(id)
  }

  private merged(): Row[] {
    if ((this.own.size === 0 && this.kept.size === 0) || this.running.isDirect()) return []
    this.sorted ??= [...new Map<string, Row>([...this.kept, ...this.own]).values()].sort((a, b) =>
      Buffer.compare(a.key, b.key),
    )
    return this.sorted
  }
}

/** A table's rows in order, with these in front of it. */
function* inFront(
  rows: readonly Row[],
  below: RawTable,
  { start, end, reverse, limit = Infinity }: RawRange,
): Generator<{ key: Buffer; value: Buffer }> {
  assert(!reverse, 'these tables are read forwards')
  const bounds = { ...(start && { start }), ...(end && { end }) }
  const old = below.getRange(bounds)[Symbol.iterator]()
  try {
    let at = start ? rows.findIndex(({ key }) => Buffer.compare(key, start) >= 0) : 0
    if (at < 0) at = rows.length
    let next = copyOf(old.next())
    for (let left = limit; left > 0;) {
      const row = rows[at]
      const isInside = row && (!end || Buffer.compare(row.key, end) < 0)
      if (!isInside) {
        if (!next) return
        yield next
        left--
        next = copyOf(old.next())
        continue
      }
      const order = next ? Buffer.compare(row.key, next.key) : -1
      if (order > 0 && next) {
        yield next
        left--
        next = copyOf(old.next())
        continue
      }
      at++
      if (order === 0) next = copyOf(old.next())
      if (!row.value) continue
      yield { key: row.key, value: row.value }
      left--
    }
  } finally {
    old.return?.()
  }
}

/** lmdb-js has one place for the keys of all its cursors. */
function copyOf(
  found: IteratorResult<{ key: Buffer; value: Buffer }, unknown>,
): { key: Buffer; value: Buffer } | undefined {
  return found.done ? undefined : { key: Buffer.from(found.value.key), value: found.value.value }
}

function numberKey(number: number): Buffer {
  const key = Buffer.alloc(8)
  key.writeBigUInt64BE(BigInt(number))
  return key
}

interface TableRows {
  name: string
  rows: Row[]
}

export function encodeBatch(number: number, tables: readonly TableRows[]): Buffer {
  const out = new Writer(4096).raw(Buffer.alloc(checkBytes)).u8(version)
  for (const { name, rows } of tables) {
    const bytes = Buffer.from(name)
    out.u8(bytes.length).raw(bytes).u32(rows.length)
    for (const { key, value } of rows) {
      out
        .u16(key.length)
        .raw(key)
        .u32(value ? value.length : takenOut)
      if (value) out.raw(value)
    }
  }
  const batch = out.finish()
  checkOf(number, batch).copy(batch)
  return batch
}

/**
 * Undefined when it is not what its hash says.
 * @throws KithError damaged when a newer kith wrote it
 */
export function decodeBatch(number: number, batch: Buffer): TableRows[] | undefined {
  if (batch.length <= checkBytes) return undefined
  if (!batch.subarray(0, checkBytes).equals(checkOf(number, batch))) return undefined
  const from = new Reader(batch, 'recent row')
  from.slice(checkBytes)
  if (from.u8() !== version) throw from.damaged('its version is unknown; a newer kith wrote it')
  const tables: TableRows[] = []
  while (from.left > 0) {
    const name = from.slice(from.u8()).toString()
    const rows: Row[] = []
    for (let left = from.u32(); left > 0; left--) {
      const key = from.slice(from.u16())
      const length = from.u32()
      rows.push({ key, value: length === takenOut ? undefined : from.slice(length) })
    }
    tables.push({ name, rows })
  }
  return tables
}

function checkOf(number: number, batch: Buffer): Buffer {
  return hash('kith recent rows', numberKey(number), batch.subarray(checkBytes)).subarray(0, checkBytes)
}
