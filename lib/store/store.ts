/**
 * The owner's store: volumes with their tables, heads and keys, and the blocks of all of them. Lies in one directory:
 * `data.mdb` (LMDB) and `segments/`.
 *
 * Tables: `volumes`, volume id -> [0] version 1 [1..137) wrapped volume keys [137..145) blocks u64 [145..153) bytes u64,
 * then the directory's path; `notes`, `garbage` -> how often snapshots were forgotten since the last prune, u64 big endian; `heads`, volume id -> the newest signed head (format/head.ts). The others are those of
 * blocks/block-store.ts and state.ts. Volume keys lie here wrapped under the phrase's KEK, as they do in the head.
 */
import type { Timer } from '../base/clock.js'
import { BlockStore, type BlockReader } from '../blocks/block-store.js'
import { Database, encodings, type Encoding, type Table } from '../blocks/database.js'
import { refusal } from '../blocks/segment-uses.js'
import { KithError } from '../base/errors.js'
import { Reader, Writer } from '../format/bytes.js'
import { decodeHead } from '../format/head.js'
import {
  newVolumeId,
  newVolumeKeys,
  unwrapVolumeKeys,
  type VolumeKeys,
  wrapVolumeKeys,
  wrappedKeysBytes,
} from '../format/keys.js'
import { AdoptingReader } from './adopting-reader.js'
import { checkStore, type CheckOptions, type StoreFindings } from './check.js'
import { mendVolumes } from './mend.js'
import { repairStore, type Repaired, type RepairOptions } from './repair.js'
import { Prune, type PruneOptions, type PruneResult } from './prune.js'
import { Removed } from './removed.js'
import { SealPool } from './seal-pool.js'
import { TreeReader } from './tree-reader.js'
import type { ProtectedVolume, StoreOptions, VolumeStore } from './types.js'
import { Volume, type VolumeHost, type VolumeRow } from './volume.js'

const rowVersion = 1

const rowEncoding: Encoding<VolumeRow> = {
  encode: (row) =>
    new Writer(256)
      .u8(rowVersion)
      .raw(row.wrappedKeys)
      .number(row.blocks)
      .number(row.bytes)
      .raw(Buffer.from(row.dir))
      .finish(),
  decode(bytes) {
    const from = new Reader(bytes, 'volume row')
    if (from.u8() !== rowVersion) throw from.damaged('its version is unknown; a newer kith wrote it')
    const wrappedKeys = from.slice(wrappedKeysBytes)
    const sums = { blocks: from.number(), bytes: from.number() }
    return { wrappedKeys, ...sums, dir: from.slice(from.left).toString() }
  },
}

/** At most sixteen tables a volume, and a few of the store's own. */
const maxTables = 1024

const restMs = 1000
/** From one compaction of the index to the next: where much is written all the time, free pages are soon used again. */
const compactMs = 10 * 60_000

export class Store implements VolumeStore, VolumeHost {
  readonly pool: SealPool
  /** For partners to follow. */
  readonly removed: Removed
  private readonly rows: Table<Buffer, VolumeRow>
  private readonly heads: Table<Buffer, Buffer>
  private readonly notes: Table<string, number>
  private readonly open = new Map<string, Volume>()
  private pruning: Promise<unknown> | undefined
  private readonly closing = new AbortController()
  private resting: Timer | undefined
  private unmapping: Timer | undefined
  /** When the index may be compacted again, monotonic. */
  private compactNext = 0

  private constructor(
    readonly db: Database,
    readonly blocks: BlockStore,
    readonly options: StoreOptions,
  ) {
    this.pool = new SealPool(options.workers)
    this.rows = db.table('volumes', encodings.bytes, rowEncoding)
    this.heads = db.table('heads', encodings.bytes, encodings.bytes)
    this.notes = db.table('notes', encodings.text, encodings.number)
    this.removed = new Removed(db)
  }

  /** Opens or makes the store in `dir`. One opener at a time: the daemon's lock sees to that. */
  static async open(dir: string, options: StoreOptions): Promise<Store> {
    const db = Database.open(dir, { maxTables, keepsRecent: { refusal } })
    try {
      const blocks = await BlockStore.open(dir, { db, clock: options.clock, log: options.log })
      const store = new Store(db, blocks, options)
      const { rows, heads } = store
      await mendVolumes({ db, blocks, rows, heads, identity: options.identity, log: options.log })
      for (const { key, value } of [...rows.range()]) store.openVolume(key, value)
      if (db.lostRecent > 0) await store.forgetPlaces()
      return store
    } catch (error) {
      await db.close()
      throw error
    }
  }

  volumes(): Volume[] {
    return [...this.open.values()]
  }

  async createVolume({ dir, keys }: { dir: string; keys?: VolumeKeys }): Promise<Volume> {
    this.refuseTwice(dir)
    const { identity } = this.options
    const id = newVolumeId()
    const wrappedKeys = wrapVolumeKeys(identity.kek, identity.id, id, keys ?? newVolumeKeys())
    const row = { dir, wrappedKeys, blocks: 0, bytes: 0 }
    await this.db.transaction(() => this.putRow(id, row))
    return this.openVolume(id, row)
  }

  async importVolume(from: { head: Buffer; dir: string; blocks: BlockReader }): Promise<Volume> {
    this.refuseTwice(from.dir)
    const { identity } = this.options
    const head = decodeHead(from.head)
    if (!head.owner.equals(identity.id)) {
      throw new KithError('damaged', 'this head is of another owner: check the recovery phrase')
    }
    const id = Buffer.from(head.volumeId)
    if (this.open.has(id.toString('hex'))) {
      throw new KithError('exists', 'this volume is already here: unmount and remove it first')
    }
    const row = {
      dir: from.dir,
      wrappedKeys: Buffer.from(head.wrappedKeys),
      blocks: head.blocks,
      bytes: head.bytes,
    }
    const keys = unwrapVolumeKeys(identity.kek, identity.id, id, row.wrappedKeys)
    const blocks = new AdoptingReader(this.blocks, from.blocks)
    const records = await new TreeReader({ blocks, keys, snapshots: () => head.snapshots }).records()
    const volume = new Volume(this, id, keys)
    await this.blocks.commit(() => {
      this.putRow(id, row)
      this.putHead(id, from.head)
      volume.importRecords(records, head.sequence)
    })
    this.open.set(id.toString('hex'), volume)
    return volume
  }

  /**
   * Names of blocks that only this volume has. Volumes have none in common, since each has keys of its own; but those of two that
   * share with one circle have the same keys of chunks, and then what one of them needs no longer is for a prune to find out.
   */
  blockNames(id: Buffer): Buffer[] {
    const volume = this.open.get(id.toString('hex'))
    return volume ? [...volume.blockNames(!this.hasTwin(volume))] : []
  }

  private hasTwin({ id, keys }: Volume): boolean {
    const others = this.volumes().filter((volume) => !volume.id.equals(id))
    return others.some((volume) => volume.keys.convergence.equals(keys.convergence))
  }

  async removeVolume(id: Buffer): Promise<void> {
    const volume = this.open.get(id.toString('hex'))
    if (!volume) throw new KithError('notFound', 'there is no such volume')
    await volume.close()
    const names = this.open.size === 1 ? [...this.blocks.names()] : this.blockNames(id)
    const hasTwin = this.hasTwin(volume)
    this.open.delete(id.toString('hex'))
    await this.db.transaction(() => {
      if (hasTwin) this.noteGarbage()
      this.rows.remove(id)
      this.heads.remove(id)
      volume.clear()
    })
    await this.blocks.remove(names)
  }

  /** Whether everything is there that the snapshots need (check.ts). */
  check(options: CheckOptions = {}): Promise<StoreFindings> {
    return checkStore(this.blocks, this.options.identity, this.volumes(), options)
  }

  /** Heals what can be healed (repair.ts). */
  repair(options: RepairOptions): Promise<Repaired> {
    return repairStore(this.blocks, this.options.identity, this.volumes(), options)
  }

  /** Whether snapshots were forgotten since the last prune. */
  get pruneIsDue(): boolean {
    return this.notes.get('garbage') !== undefined
  }

  /**
   * Frees what no snapshot needs any more.
   * @throws KithError busy while another runs, damaged when a node cannot be had, and then nothing is removed
   */
  async prune(options: PruneOptions): Promise<PruneResult> {
    if (this.pruning) throw new KithError('busy', 'a prune is under way already')
    const { signal } = this.closing
    const ends = options.signal ? AbortSignal.any([options.signal, signal]) : signal
    const run = this.pruneNow({ ...options, signal: ends })
    this.pruning = run.catch(() => undefined)
    try {
      return await run
    } finally {
      this.pruning = undefined
    }
  }

  private async pruneNow(options: PruneOptions): Promise<PruneResult> {
    const noted = this.notes.get('garbage')
    const result = await new Prune(this, options).run()
    // What was forgotten meanwhile is for the next.
    if (!options.dryRun && this.notes.get('garbage') === noted)
      await this.db.transaction(() => this.notes.remove('garbage'))
    return result
  }

  async close(): Promise<void> {
    this.closing.abort()
    await this.pruning
    await Promise.all(this.volumes().map((volume) => volume.close()))
    this.resting?.cancel()
    this.unmapping?.cancel()
    await this.pool.close()
    await this.blocks.commit().catch((error: unknown) => {
      this.options.log.warn({ error: String(error) }, 'what was fetched last is not kept')
    })
    await this.blocks.close()
    await this.db.close()
  }

  // ---- what volumes ask of their host

  /**
   * Memory is given back when those who worked have let go of it. What is mapped goes a second after it began to gather, so that
   * snapshots that follow one another do not have the whole index mapped in the end.
   */
  rest(): void {
    const { clock } = this.options
    this.resting?.cancel()
    this.resting = clock.after(restMs, () => {
      this.pool.rest()
      void this.settle()
    })
    this.unmapping ??= clock.after(restMs, () => {
      this.unmapping = undefined
      this.db.rest()
    })
  }

  private async settle(): Promise<void> {
    const { log } = this.options
    try {
      if (await this.db.settle()) this.db.rest()
    } catch (error) {
      log.warn({ error: String(error) }, 'rows of the index stay where they were kept for now')
      return
    }
    try {
      await this.compact()
    } catch (error) {
      log.warn({ error: String(error) }, 'the index keeps its free pages for now')
    }
  }

  private async compact(): Promise<void> {
    const now = this.options.clock.monotonic()
    if (now < this.compactNext || this.closing.signal.aborted || !this.db.isWasteful) return
    this.compactNext = now + compactMs
    if (await this.db.compact()) this.options.log.info({}, 'the index was written anew without free pages')
  }

  /** Rows of the newest snapshots are damaged: what the tables say of directories may be of older ones, from which none goes on. */
  private async forgetPlaces(): Promise<void> {
    this.options.log.error({ rows: this.db.lostRecent }, 'the index is damaged: run kith repair')
    for (const volume of this.volumes()) {
      await volume.forgetContents([], [...volume.checked.state.directories.keysOf()])
    }
    await this.db.settle(true)
  }

  row(id: Buffer): VolumeRow {
    const row = this.rows.get(id)
    if (!row) throw new KithError('notFound', 'this volume was removed')
    return row
  }

  head(id: Buffer): Buffer | undefined {
    return this.heads.get(id)
  }

  putRow(id: Buffer, row: VolumeRow): void {
    this.rows.put(id, row)
  }

  putHead(id: Buffer, head: Buffer): void {
    this.heads.put(id, head)
  }

  noteGarbage(): void {
    this.notes.put('garbage', (this.notes.get('garbage') ?? 0) + 1)
  }

  noteRemoved(names: readonly Buffer[]): void {
    this.removed.add(names)
  }

  private refuseTwice(dir: string): void {
    const other: ProtectedVolume | undefined = this.volumes().find((volume) => volume.dir === dir)
    if (other) throw new KithError('exists', `${dir} is already protected`)
  }

  private openVolume(id: Buffer, row: VolumeRow): Volume {
    const { identity } = this.options
    const volumeId = Buffer.from(id)
    const keys = unwrapVolumeKeys(identity.kek, identity.id, volumeId, row.wrappedKeys)
    const volume = new Volume(this, volumeId, keys)
    this.open.set(volumeId.toString('hex'), volume)
    return volume
  }
}
