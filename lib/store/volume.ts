/**
 * A protected directory: what changed in it, its snapshots, and its head.
 *
 * A snapshot becomes visible whole or not at all: its blocks are durable before one transaction writes the tables, the
 * snapshot list and the head. Dirty rows are taken away in that transaction, and only those that no change touched
 * since the snapshot began: what is recorded meanwhile stays for the next. After a crash at any point the tables are
 * those of the last snapshot, and all that changed since is still dirty.
 *
 * The newest changes may be told to the snapshot instead of being recorded before it, which spares a transaction: they are
 * merged with the rows in memory only. Whoever tells them keeps them until the snapshot is there, and records them when it
 * fails; after a crash they are told again, and compared with a snapshot that has them already or not.
 */
import type { BlockReader, BlockStore } from '../blocks/block-store.js'
import type { Database } from '../blocks/database.js'
import { asKithError } from '../base/errors.js'
import { close, openRoot, statFd } from '../base/posix.js'
import { randomBytes } from '../base/random.js'
import type { Change } from '../format/changes.js'
import { decodeHead, encodeHead, headSequence, sealOwnerState, type Head } from '../format/head.js'
import type { VolumeKeys } from '../format/keys.js'
import type { FileEntry } from '../format/node.js'
import type { NodeRef } from '../format/seal.js'
import { maxOrdinal, snapshotIdBytes, sortedTags, type SnapshotRecord } from '../format/snapshot-list.js'
import { AdoptingReader } from './adopting-reader.js'
import { clean, dataChanged, everythingIno, mergeChanges, type Merged, pendingOf } from './dirty.js'
import type { Checked } from './check.js'
import { countsOf, type LeftOutCounts, onlyKey, settingsOf } from './exclusions.js'
import { indexHeldChunks } from './chunk-index.js'
import { dropDeadRows, dropWrongRows, markTables } from './in-use.js'
import { Intake } from './intake.js'
import { snapshotList, type NodeAccess } from './list-kinds.js'
import { editList, type Edit } from './lists.js'
import type { Marker } from './marks.js'
import { Nodes } from './nodes.js'
import { forget, lookAgain, settleTaken } from './places.js'
import { ReadAhead, type ReadAheadResult } from './read-ahead.js'
import { Rewrites } from './rewrites.js'
import type { ExcludeSettings } from './rules.js'
import type { SealPool } from './seal-pool.js'
import { exactSnapshot, infoOf } from './snapshot-info.js'
import { refuseBadTags, refuseTooMany, withMarks } from './snapshot-marks.js'
import { Snapshotter, type SnapshotOutcome } from './snapshotter.js'
import { type Location, VolumeState } from './state.js'
import { TreeReader } from './tree-reader.js'
import type { MarkChange, PendingChanges, ProtectedVolume, SnapshotInfo } from './types.js'
import type { SnapshotOptions, SnapshotResult, StoreOptions } from './types.js'

/** Names to be looked at that are noted one by one; beyond that, their directories are read. */
const maxNames = 100_000

/** A partner so many heads behind holds "older than" the oldest point. */
const pointsKept = 10_000

/** What the store keeps of a volume beside its tables. */
export interface VolumeRow {
  dir: string
  wrappedKeys: Buffer
  /** Sealed blocks that its snapshots brought into the store. */
  blocks: number
  bytes: number
}

/** What a volume needs from the store it lies in. */
export interface VolumeHost {
  db: Database
  blocks: BlockStore
  pool: SealPool
  options: StoreOptions
  row(id: Buffer): VolumeRow
  head(id: Buffer): Buffer | undefined
  /** Both inside a transaction. */
  putRow(id: Buffer, row: VolumeRow): void
  putHead(id: Buffer, head: Buffer): void
  /** Inside a transaction: a prune is due. */
  noteGarbage(): void
  /** Nothing is read for now. */
  rest(): void
}

export class Volume implements ProtectedVolume {
  private readonly state: VolumeState
  private readonly nodes: Nodes
  /** Oldest first. */
  private readonly records: SnapshotRecord[]
  /** Of the rows of the records, by id. */
  private readonly numbers: Map<string, number>
  /** The head that was decoded last: its signature is not verified again while it is the same. */
  private decoded: { bytes: Buffer; head: Head } | undefined
  /** The last snapshot taken, also when it is forgotten: its name is not given again. */
  private last: { time: number; ordinal: number } | undefined
  /** Roots that running restores read from. */
  private readonly held = new Set<{ node: NodeRef }>()
  /** Grows whenever something may have come into use (prune.ts). */
  turns = 0
  readonly rewrites = new Rewrites(() => this.records.at(-1))
  private readonly stopping = new AbortController()
  /** Snapshots and what else changes the head, one at a time. */
  private turn: Promise<unknown> = Promise.resolve()
  private generation = 0
  /** Rows of `names`, at most. */
  private nameCount: number
  /** Where the log said that inodes stand, since the last snapshot; may be short of some. */
  private readonly places = new Map<bigint, Location & { generation: number }>()
  /** Ends the reading ahead that is under way: a snapshot does not wait for it. */
  private readingAhead = new AbortController()
  private snapshotsWaiting = 0
  readonly prepare = (): void => this.host.pool.warm()

  constructor(
    private readonly host: VolumeHost,
    readonly id: Buffer,
    readonly keys: VolumeKeys,
  ) {
    this.state = new VolumeState(host.db, id)
    this.nodes = new Nodes(host.blocks, keys.node)
    const rows = [...this.state.snapshots.range()]
    this.records = rows.map(({ value }) => value)
    this.numbers = new Map(rows.map(({ key, value }) => [value.id.toString('hex'), key]))
    this.last = this.records.at(-1)
    for (const table of [this.state.dirty, this.state.names])
      for (const { value } of table.range()) this.generation = Math.max(this.generation, value.generation)
    this.nameCount = this.state.names.count()
  }

  get dir(): string {
    return this.host.row(this.id).dir
  }

  async recordChanges(changes: readonly Change[]): Promise<void> {
    if (changes.length === 0) return
    const generation = ++this.generation
    const { rows, names } = this.merged(changes)
    for (const { kind, ino, parent, name } of changes)
      if (kind === 'names' && name && this.places.size < maxNames)
        this.places.set(ino, { parent, name, generation })
    await this.host.db.transaction(() => {
      for (const { ino, ...place } of names) this.state.names.put(place, { generation, ino })
      for (const [ino, row] of rows) this.state.dirty.put(ino, { ...row, generation })
    })
    this.nameCount += names.length
  }

  private merged(changes: readonly Change[]): Merged {
    const { dirty, directories } = this.state
    const hasRoom = (others: number) => this.nameCount + others < maxNames
    return mergeChanges(
      changes,
      (ino) => dirty.get(ino),
      (parent, others) => hasRoom(others) && directories.has(parent),
    )
  }

  async recordEverything(): Promise<void> {
    const generation = ++this.generation
    await this.host.db.transaction(() => {
      this.everythingChanged(generation)
      // Who may still change unseen is told anew before each snapshot; this may be the log of another server.
      for (const { key, value } of [...this.state.dirty.range()])
        if (value.open) this.state.dirty.put(key, { ...value, open: false, whole: true, generation })
    })
  }

  pending(): PendingChanges {
    const pending = pendingOf(this.state.dirty.range())
    return { ...pending, everything: pending.everything || this.records.length === 0 }
  }

  changedFiles(): bigint[] {
    const files = []
    for (const { key, value } of this.state.dirty.range()) if (dataChanged(value)) files.push(key)
    return files
  }

  openFiles(): bigint[] {
    const files = []
    for (const { key, value } of this.state.dirty.range()) if (value.open) files.push(key)
    return files
  }

  async readAhead(rootFd: number, inos: readonly bigint[], signal?: AbortSignal): Promise<ReadAheadResult> {
    // Its own: the caller's may be closed before this has its turn.
    const fd = openRoot(`/proc/self/fd/${rootFd}`)
    try {
      return await this.alone(async () => {
        if (this.snapshotsWaiting > 0) return { read: 0, left: [...inos] }
        this.readingAhead = new AbortController()
        const ends = [this.stopping.signal, this.readingAhead.signal, ...(signal ? [signal] : [])]
        const { options, pool } = this.host
        const access = { nodes: this.nodes, intake: this.intake() }
        const { state, keys, places, rewrites } = this
        const from = { clock: options.clock, pool, state, access, keys, places, rewrites }
        return new ReadAhead(fd, { ...from, signal: AbortSignal.any(ends) }).run(inos)
      })
    } catch (error) {
      throw asKithError(error)
    } finally {
      close(fd)
    }
  }

  /** Files read ahead of the next snapshot: no snapshot names their blocks yet, but all are in use. */
  *earlyFiles(): Generator<FileEntry> {
    for (const { value } of this.state.early.range()) yield value.entry
  }

  pointOf(headSequence: number): number | undefined {
    return this.state.points.get(headSequence)
  }

  excludes(): ExcludeSettings {
    return settingsOf(this.state)
  }

  async setExcludes(settings: ExcludeSettings): Promise<void> {
    const generation = ++this.generation
    await this.host.db.transaction(() => {
      this.state.excludes.put(onlyKey, settings)
      this.everythingChanged(generation)
    })
  }

  excluded(): LeftOutCounts {
    return countsOf(this.state)
  }

  snapshot(
    rootFd: number,
    options: SnapshotOptions = {},
    told: readonly Change[] = [],
  ): Promise<SnapshotResult> {
    this.readingAhead.abort()
    this.snapshotsWaiting++
    return this.alone(async () => {
      this.snapshotsWaiting--
      const { signal } = this.stopping
      const run = { ...options, signal: options.signal ? AbortSignal.any([options.signal, signal]) : signal }
      try {
        return await this.take(rootFd, run, told)
      } catch (error) {
        throw asKithError(error)
      }
    })
  }

  snapshots(): SnapshotInfo[] {
    return this.records.map(infoOf)
  }

  named(names: readonly string[]): SnapshotInfo[] {
    return this.recordsOf(names).map(infoOf)
  }

  mark(names: readonly string[], change: MarkChange): Promise<SnapshotInfo[]> {
    const given = [...(change.tags ?? []), ...(change.addTags ?? []), ...(change.removeTags ?? [])]
    return this.alone(async () => {
      refuseBadTags(given)
      const marked = this.recordsOf(names).map((record) => withMarks(record, change))
      for (const { tags } of marked) refuseTooMany(tags)
      await this.editRecords(marked.map((record) => ({ key: record, part: record })))
      return marked.map(infoOf)
    })
  }

  forget(names: readonly string[]): Promise<SnapshotInfo[]> {
    return this.alone(async () => {
      const gone = this.recordsOf(names)
      await this.editRecords(gone.map((record) => ({ key: record, part: undefined })))
      return gone.map(infoOf)
    })
  }

  head(): Buffer | undefined {
    return this.host.head(this.id)
  }

  hold(node: NodeRef): () => void {
    const holding = { node }
    this.held.add(holding)
    this.turns++
    return () => this.held.delete(holding)
  }

  /** Marks all that is in use (prune.ts). */
  async markAll(marker: Marker): Promise<void> {
    const list = this.decodedHead()?.snapshots
    if (list) marker.push('snapshots', list)
    for (const { node } of this.held) marker.push('directory', node)
    await marker.walk()
    await markTables(this.state, marker)
    for (const { content } of this.earlyFiles()) marker.file(content)
    await marker.walk()
  }

  /** Runs while no snapshot is under way and the list stays as it is. */
  still<T>(work: () => Promise<T>): Promise<T> {
    return this.inTurn(work)
  }

  /** After a sweep: the sums are of what is in use, and the tables name nothing that went. */
  swept(marker: Marker): Promise<void> {
    return this.inTurn(async () => {
      await this.markAll(marker)
      const { blocks, bytes } = marker
      await this.host.db.transaction(() => {
        this.host.putRow(this.id, { ...this.host.row(this.id), blocks, bytes })
      })
      await dropDeadRows(this.host.db, this.host.blocks, this.state)
    })
  }

  renewHead(): Promise<void> {
    return this.alone(async () => {
      const old = this.decodedHead()
      if (!old) return
      const head = this.signHead(old.snapshots, this.host.row(this.id))
      await this.host.db.transaction(() => this.putHead(head, this.records.at(-1)?.time ?? 0))
    })
  }

  reader(blocks: BlockReader): TreeReader {
    return new TreeReader({ blocks, keys: this.keys, snapshots: () => this.decodedHead()?.snapshots })
  }

  adopting(remote: BlockReader): BlockReader {
    return new AdoptingReader(this.host.blocks, remote, this.host.options.hasRoom)
  }

  rebuildIndex(reader: TreeReader): Promise<{ chunks: number }> {
    return this.alone(() => {
      const { blocks } = this.host
      const intake = new Intake(blocks, this.state, this.keys.node, () => undefined)
      return indexHeldChunks({ intake, blocks, state: this.state, keys: this.keys, reader })
    })
  }

  async setDir(dir: string): Promise<void> {
    await this.alone(() =>
      this.host.db.transaction(() => this.host.putRow(this.id, { ...this.host.row(this.id), dir })),
    )
  }

  /** Signs a new head over the records in the table, when the old one or its list is damaged. @param above its sequence */
  rebuildHead(above: number): Promise<void> {
    return this.alone(async () => {
      const intake = new Intake(this.host.blocks, this.state, this.keys.node, () => undefined)
      const edits = this.records.map((record) => ({ key: record, part: record }))
      const root = await editList(snapshotList({ nodes: this.nodes, intake }), undefined, edits)
      const sequence = Math.max(above, this.soundSequence()) + 1
      const head = this.signHead(root, this.host.row(this.id), sequence)
      await intake.commit(() => this.host.putHead(this.id, head))
    })
  }

  /** The next snapshot reads these files, and compares these directories, as if they were new. Durable when it resolves. */
  async forgetContents(files: readonly bigint[], directories: readonly bigint[]): Promise<void> {
    const generation = ++this.generation
    await this.host.db.transaction(() => {
      for (const ino of files) {
        const row = this.state.dirty.get(ino) ?? clean()
        this.state.dirty.put(ino, { ...row, whole: true, generation })
      }
      for (const ino of directories) this.state.directories.remove(ino)
      if (directories.length > 0) this.state.dirty.put(everythingIno, { ...clean(), names: true, generation })
    })
  }

  /** @returns rows of the index of chunks that were wrong, and are gone now */
  dropWrongRows(): Promise<number> {
    return this.alone(() => dropWrongRows(this.host.db, this.host.blocks, this.state))
  }

  /** For check and repair: what it is made of. */
  get checked(): Checked {
    return { id: this.id, dir: this.dir, keys: this.keys, state: this.state, head: () => this.head() }
  }

  /** Inside a transaction: what the list of a newly imported volume holds. */
  importRecords(records: readonly SnapshotRecord[], headSequence: number): void {
    this.state.points.put(headSequence, records.at(-1)?.time ?? 0)
    records.forEach((record, i) => this.state.snapshots.put(i + 1, record))
    this.records.splice(0, this.records.length, ...records)
    records.forEach((record, i) => this.numbers.set(record.id.toString('hex'), i + 1))
    this.last = this.records.at(-1)
  }

  /** Inside a transaction. */
  clear(): void {
    this.state.clear()
  }

  /** Names of the blocks that this volume brought in: nodes, and chunks unless told otherwise. */
  *blockNames(chunks = true): Generator<Buffer> {
    if (chunks) for (const { value } of this.state.chunks.range()) yield value.name
    for (const { value } of this.state.made.range()) yield value
    yield* this.state.nodes.keysOf()
  }

  /** Ends what runs, and waits for its end. */
  async close(): Promise<void> {
    this.stopping.abort()
    await this.turn.catch(() => undefined)
  }

  private async take(
    rootFd: number,
    run: SnapshotOptions,
    changes: readonly Change[],
  ): Promise<SnapshotResult> {
    const { options, pool } = this.host
    const told = this.merged(changes)
    const taken = new Map([...this.state.dirty.range()].map(({ key, value }) => [key, value]))
    for (const [ino, row] of told.rows) taken.set(ino, row)
    const names = [...this.state.names.range()]
    const { generation } = this
    const { tags = [], pinned = false } = run
    refuseBadTags(tags)
    refuseTooMany(sortedTags(tags))
    const intake = this.intake()
    const access: NodeAccess = { nodes: this.nodes, intake }
    const outcome = await new Snapshotter({
      clock: options.clock,
      pool,
      state: this.state,
      access,
      keys: this.keys,
      taken,
      names: [...names.map(({ key }) => key), ...told.names],
      rewrites: this.rewrites,
      everything: taken.has(everythingIno) || !this.knowsRoot(rootFd),
      run,
    }).run(rootFd)
    const record = this.recordOf(outcome, intake.newBytes, { tags: sortedTags(tags), pinned })
    const list = snapshotList(access)
    const root = await editList(list, this.decodedHead()?.snapshots, [{ key: record, part: record }])
    const head = this.signHead(root, this.sumsWith(intake))
    const number = Math.max(0, ...this.state.snapshots.keysOf({ reverse: true, limit: 1 })) + 1
    await intake.commit(() => {
      forget(this.state, outcome.changes)
      outcome.writePlaces()
      settleTaken(this.state, taken, told.rows)
      lookAgain(this.state, outcome.changes, () => ++this.generation)
      for (const { key, value } of names)
        if (this.state.names.get(key)?.generation === value.generation) this.state.names.remove(key)
      this.state.early.clear()
      this.state.snapshots.put(number, record)
      this.putHead(head, record.time)
    })
    this.nameCount = this.state.names.count()
    for (const [ino, place] of this.places) if (place.generation <= generation) this.places.delete(ino)
    this.records.push(record)
    this.numbers.set(record.id.toString('hex'), number)
    this.last = record
    this.host.rest()
    const { problemCount, problems } = outcome
    return { ...infoOf(record), problemCount, problems, excluded: this.excluded() }
  }

  /** Inside a transaction. */
  private everythingChanged(generation: number): void {
    this.state.dirty.put(everythingIno, { ...clean(), names: true, generation })
  }

  private intake(): Intake {
    const account = (newBlocks: number, newBytes: number) => {
      const row = this.host.row(this.id)
      const sums = { blocks: row.blocks + newBlocks, bytes: row.bytes + newBytes }
      if (newBlocks > 0) this.host.putRow(this.id, { ...row, ...sums })
    }
    return new Intake(this.host.blocks, this.state, this.keys.node, account, this.host.options.isSafe)
  }

  /** What the volume has brought in when the intake is committed. */
  private sumsWith({ unaccounted }: Intake): { blocks: number; bytes: number } {
    const row = this.host.row(this.id)
    return { blocks: row.blocks + unaccounted.blocks, bytes: row.bytes + unaccounted.bytes }
  }

  /** The records of these names, oldest first, each once. */
  private recordsOf(names: readonly string[]): SnapshotRecord[] {
    const found = new Set(names.map((name) => exactSnapshot(this.records, name)))
    return this.records.filter((record) => found.has(record))
  }

  /** Changes or takes away records: the list, its rows and the head in one transaction. */
  private async editRecords(edits: Edit<SnapshotRecord, SnapshotRecord>[]): Promise<void> {
    const frees = edits.some(({ part }) => part === undefined)
    if (edits.length === 0) return
    const intake = this.intake()
    const list = snapshotList({ nodes: this.nodes, intake })
    const root = await editList(list, this.decodedHead()?.snapshots, edits)
    const head = this.signHead(root, this.sumsWith(intake))
    const idOf = ({ id }: SnapshotRecord) => id.toString('hex')
    const now = new Map(edits.map(({ key, part }) => [idOf(key), part]))
    const kept = this.records.flatMap((record) => {
      return now.has(idOf(record)) ? (now.get(idOf(record)) ?? []) : record
    })
    await intake.commit(() => {
      for (const { key, part } of edits) {
        const number = this.numbers.get(idOf(key))
        if (number === undefined) continue
        if (part) this.state.snapshots.put(number, part)
        else this.state.snapshots.remove(number)
      }
      this.putHead(head, kept.at(-1)?.time ?? 0)
      if (frees) this.host.noteGarbage()
    })
    this.records.splice(0, this.records.length, ...kept)
    for (const [id, part] of now) if (!part) this.numbers.delete(id)
  }

  /** Inside a transaction. */
  private putHead(head: Buffer, newest: number): void {
    const sequence = headSequence(head)
    this.state.points.put(sequence, newest)
    if (sequence > pointsKept) this.state.points.remove(sequence - pointsKept)
    this.host.putHead(this.id, head)
  }

  private knowsRoot(rootFd: number): boolean {
    const stat = statFd(rootFd)
    const row = this.state.directories.get(stat.ino)
    return row?.parent === 0n && row.btimeNs === stat.btimeNs
  }

  /** Named by the clock, and always after the last one, even when the clock went back. */
  private recordOf(
    outcome: SnapshotOutcome,
    bytesNew: number,
    marks: Pick<SnapshotRecord, 'tags' | 'pinned'>,
  ): SnapshotRecord {
    const now = Math.max(0, Math.floor(this.host.options.clock.now()))
    const { last } = this
    let time = now
    let ordinal = 1
    if (last && Math.floor(now / 1000) <= Math.floor(last.time / 1000)) {
      time = Math.max(now, last.time)
      ordinal = last.ordinal + 1
      if (ordinal > maxOrdinal) {
        time = (Math.floor(last.time / 1000) + 1) * 1000
        ordinal = 1
      }
    }
    return { id: randomBytes(snapshotIdBytes), time, ordinal, bytesNew, ...marks, root: outcome.root }
  }

  /** Of the head, 0 when it is damaged. */
  private soundSequence(): number {
    try {
      return this.decodedHead()?.sequence ?? 0
    } catch {
      return 0
    }
  }

  private signHead(
    snapshots: NodeRef,
    { blocks, bytes }: { blocks: number; bytes: number },
    sequence = (this.decodedHead()?.sequence ?? 0) + 1,
  ): Buffer {
    const { identity, clock, circles } = this.host.options
    const { dir, wrappedKeys } = this.host.row(this.id)
    const state = { label: dir, circles: circles?.() ?? [] }
    return encodeHead(
      {
        owner: identity.id,
        volumeId: this.id,
        sequence,
        time: Math.max(0, Math.floor(clock.now())),
        blocks,
        bytes,
        snapshots,
        wrappedKeys,
        sealedState: sealOwnerState(identity.kek, identity.id, this.id, state),
      },
      identity,
    )
  }

  private decodedHead(): Head | undefined {
    const bytes = this.head()
    if (!bytes) return undefined
    if (!this.decoded?.bytes.equals(bytes)) this.decoded = { bytes, head: decodeHead(bytes) }
    return this.decoded.head
  }

  private alone<T>(work: () => Promise<T>): Promise<T> {
    return this.inTurn(() => {
      this.turns++
      return work()
    })
  }

  private inTurn<T>(work: () => Promise<T>): Promise<T> {
    const done = this.turn.then(work)
    this.turn = done.catch(() => undefined)
    return done
  }
}
