/**
 * One snapshot: from what changed to a new root directory.
 *
 *   1. plan      the dirty inodes, closed upwards: every directory on a way from the root to a change is visited
 *   2. walk      down from the root's descriptor along those directories. Only the names that changed are looked at,
 *                however many there are; a directory of which the log does not tell them is read and compared. What is
 *                as it was costs nothing: a known directory that is not on the way keeps its node, wherever it stands now
 *   3. files     new and changed ones go to the worker threads (seal-pool.ts), in batches; what was read ahead
 *                (read-ahead.ts) and has not changed since is taken over
 *   4. nodes     bottom-up, each directory's list edited where entries changed (lists.ts)
 *
 * What to write into the tables is gathered in `StateChanges`; the volume commits it together with the head. The walk
 * itself changes nothing but the block store, where blocks without a head do no harm.
 *
 * Trust: while the change log is whole, a file that it does not name has its old content, even though a rename or a
 * link gave it a new ctime. When everything must be compared, size, mtime and ctime decide. So they do for a file that is
 * open for writing unseen; where writes to mapped pages do not show in its times, it is read each time.
 */
import { KithError } from '../base/errors.js'
import type { Clock } from '../base/clock.js'
import {
  close,
  errnoCode,
  openDirectoryAt,
  readDirectory,
  readOwnDirectory,
  statFd,
  statIfAny,
  xattrsAt,
  xattrsFd,
} from '../base/posix.js'
import type { DirectoryEntry as Listed, FileStat } from '../base/posix.js'
import type { VolumeKeys } from '../format/keys.js'
import { totalsOf, type DirectoryEntry, type Entry, type Totals } from '../format/node.js'
import type { NodeRef } from '../format/seal.js'
import { dataChanged, type Dirty, everythingIno } from './dirty.js'
import { attributesOf, sameAttributes, timesTell, typeOf } from './entries.js'
import { type DirectoryFiles, FileIntake, type FileOutcome } from './file-intake.js'
import { Exclusions, type Ruled } from './exclusions.js'
import { directoryList, type DirectoryPart, type NodeAccess } from './list-kinds.js'
import { editList, type Edit } from './lists.js'
import { Places, type StateChanges } from './places.js'
import { earlyEntry, entryOf } from './read-ahead.js'
import { rulesName } from './rules.js'
import { formerlyNamed, type Rewrites } from './rewrites.js'
import type { SealPool } from './seal-pool.js'
import type { DirectoryRow, Location, VolumeState } from './state.js'
import { findEntry, walkLeaves } from './tree-walk.js'
import type { SnapshotOptions, SnapshotProblem } from './types.js'

/** Directories worked on at once: enough to keep the threads busy, few enough to bound descriptors and memory. */
const directoriesAtOnce = 32
const problemsTold = 20
/** Places of directories and files held in memory before they are written. */
const placesAtOnce = 20_000

export interface SnapshotterOptions {
  clock: Clock
  pool: SealPool
  state: VolumeState
  access: NodeAccess
  keys: VolumeKeys
  /** The dirty rows that this snapshot answers. */
  taken: Map<bigint, Dirty>
  /** The names that came, went or lead elsewhere, likewise. */
  names: readonly Location[]
  rewrites: Rewrites
  /** Compare everything. */
  everything: boolean
  run: SnapshotOptions
}

/** What a directory needs: to be read again, or some names looked at. */
interface Work {
  /** As the last snapshot has it; undefined for the root, too. */
  row: DirectoryRow | undefined
  reread: boolean
  names: Map<string, Buffer>
}

export interface SnapshotOutcome {
  root: DirectoryEntry
  /** Writes the places that are not written yet, inside a transaction. */
  writePlaces: () => void
  changes: StateChanges
  problemCount: number
  problems: SnapshotProblem[]
}

/** Where a directory was found below another. */
interface Child {
  above: Ruled
  name: Buffer
  /** from elsewhere, while rules depend on where it stands */
  moved: boolean
}

interface Visit {
  fd: number
  ino: bigint
  path: string
  row: DirectoryRow | undefined
  ruled: Ruled
  files: DirectoryFiles
  /** In the order in which they were found; of two of one name the later one counts. */
  edits: Edit<Buffer, DirectoryPart>[]
}

export class Snapshotter {
  private readonly work = new Map<bigint, Work>()
  private readonly places: Places
  private readonly files: FileIntake
  private readonly exclusions: Exclusions
  private readonly problems: SnapshotProblem[] = []
  private problemCount = 0
  private running = 0
  private root!: FileStat
  /** Writes through a mapping change a file's times: not where pages are never written out. */
  private timesTell = true
  /** So that the files of a first backup are not looked up one by one. */
  private readonly nothingKnown: boolean
  private readonly nothingEarly: boolean

  constructor(private readonly options: SnapshotterOptions) {
    this.nothingKnown = options.state.files.count() === 0
    this.nothingEarly = options.state.early.count() === 0
    this.places = new Places(options.state)
    this.files = new FileIntake(options)
    this.exclusions = new Exclusions(options.state)
  }

  async run(rootFd: number): Promise<SnapshotOutcome> {
    this.root = statFd(rootFd)
    this.timesTell = timesTell(rootFd)
    if (!this.options.everything) this.plan()
    const { node, totals } = await this.directory(rootFd, this.root, '')
    const xattrs = xattrsFd(rootFd)
    const attributes = attributesOf(Buffer.alloc(0), statFd(rootFd), xattrs)
    const root: DirectoryEntry = { ...attributes, type: 'directory', node, totals }
    this.place(this.root, 0n, Buffer.alloc(0), node, totals)
    this.exclusions.settle(this.root.ino)
    await this.places.forgetRemoved(this.options.access.nodes)
    this.stopIfCancelled()
    const { problemCount, problems } = this
    const writePlaces = this.gathered()
    return { root, writePlaces, changes: this.places.changes(), problemCount, problems }
  }

  // ---- 1. plan

  private plan(): void {
    const { state, taken, names } = this.options
    for (const { parent, name } of names) this.look(parent, name)
    for (const [ino, dirty] of taken) {
      if (ino === everythingIno) continue
      if (ino === this.root.ino || this.rowOf(ino)) {
        const work = this.visit(ino)
        if (dirty.names) work.reread = true
      }
      for (const { parent, name } of state.files.get(ino) ?? []) this.look(parent, name)
    }
  }

  /** The directory is on the way, and so is every one above it. */
  private visit(ino: bigint): Work {
    const known = this.work.get(ino)
    if (known) return known
    const row = ino === this.root.ino ? undefined : this.options.state.directories.get(ino)
    const work: Work = { row, reread: false, names: new Map() }
    this.work.set(ino, work)
    if (row) this.look(row.parent, row.name)
    return work
  }

  /** Of those on the way it was read before. */
  private rowOf(ino: bigint): DirectoryRow | undefined {
    return this.work.get(ino)?.row ?? this.options.state.directories.get(ino)
  }

  private look(parent: bigint, name: Buffer): void {
    this.visit(parent).names.set(name.toString('latin1'), name)
  }

  // ---- 2. walk

  private async directory(
    fd: number,
    stat: FileStat,
    path: string,
    child?: Child,
  ): Promise<{ node: NodeRef; totals: Totals }> {
    const { everything } = this.options
    this.stopIfCancelled()
    const known = this.rowOf(stat.ino)
    const row = known && known.btimeNs === stat.btimeNs ? known : undefined
    const work = this.work.get(stat.ino)
    // The root's descriptor is the caller's, the others are this walk's own.
    const list = () => (child ? readOwnDirectory(fd) : readDirectory(fd))
    const listed = everything || !row || work?.reread ? await list() : undefined
    const ruled = this.rulesOf(fd, stat.ino, path, listed, child)
    const files = this.files.directory(fd)
    const visit: Visit = { fd, ino: stat.ino, path, row, ruled, files, edits: [] }
    const tasks = new Tasks()
    try {
      if (listed || ruled.again) await this.compare(visit, listed ?? (await list()), tasks)
      else for (const name of work?.names.values() ?? []) await this.lookAt(visit, name, tasks)
      await files.finish()
    } finally {
      // The descriptor is closed behind this: nothing may still use it.
      await Promise.all([tasks.settled(), files.settled()])
    }
    tasks.check()
    return this.rewrite(visit)
  }

  private rulesOf(
    fd: number,
    ino: bigint,
    path: string,
    listed: Listed[] | undefined,
    child: Child | undefined,
  ): Ruled {
    const { above, name = Buffer.alloc(0), moved = false } = child ?? {}
    const ruled = this.exclusions.enter({ fd, ino, name, above, moved, listed })
    if (ruled.problem) this.problem({ path }, rulesName, 'unreadable', ruled.problem)
    return ruled
  }

  /** Compares the directory, name by name, with what it was. */
  private async compare(visit: Visit, listed: Listed[], tasks: Tasks): Promise<void> {
    const leftOut = this.exclusions.knownIn(visit.ino)
    for (const { name } of leftOut.size > 0 ? listed : []) leftOut.delete(name.toString('latin1'))
    for (const name of leftOut.values()) this.exclusions.gone(visit.ino, name)
    listed.sort((a, b) => Buffer.compare(a.name, b.name))
    let at = 0
    const leaves = visit.row ? walkLeaves(this.options.access.nodes, visit.row.node) : []
    for await (const leaf of leaves)
      for (const entry of leaf) {
        for (; at < listed.length; at++) {
          const order = Buffer.compare((listed[at] as Listed).name, entry.name)
          if (order >= 0) break
          const added = this.name(visit, undefined, listed[at] as Listed, tasks)
          if (added) await added
        }
        const same = listed[at]?.name.equals(entry.name) ? listed[at] : undefined
        if (same) at++
        await this.name(visit, entry, same ?? { name: entry.name, stat: undefined }, tasks)
      }
    for (; at < listed.length; at++) {
      const added = this.name(visit, undefined, listed[at] as Listed, tasks)
      if (added) await added
    }
  }

  private async lookAt(visit: Visit, name: Buffer, tasks: Tasks): Promise<void> {
    const old = visit.row && (await findEntry(this.options.access.nodes, visit.row.node, name))
    const stat = statIfAny(visit.fd, name)
    if (!stat) this.exclusions.gone(visit.ino, name)
    if (old || stat) await this.name(visit, old, { name, stat }, tasks)
  }

  /** One name: what it was and what it is. Undefined where nothing need be waited for, as for most files. */
  private name(
    visit: Visit,
    old: Entry | undefined,
    { name, stat }: { name: Buffer; stat: FileStat | undefined },
    tasks: Tasks,
  ): Promise<void> | undefined {
    if (!stat) {
      this.set(visit, name, old, undefined)
      return undefined
    }
    const why = this.exclusions.verdict(visit.ruled, name, stat)
    if (why) {
      // Whatever changes in it may bring it back, or bring other rules.
      const watched = why === 'large' || name.equals(rulesName)
      if (watched) this.places.addFile(stat.ino, visit.ino, name)
      this.set(visit, name, old, undefined, watched && old?.ino === stat.ino)
      return undefined
    }
    if (stat.dev !== this.root.dev || stat.mountId !== this.root.mountId) {
      this.problem(visit, name, 'mounted', 'another file system is mounted here')
      this.set(visit, name, old, undefined)
      return undefined
    }
    return typeOf(stat) === 'directory'
      ? this.child(visit, old, name, stat, tasks)
      : this.file(visit, old, name, stat)
  }

  private child(
    visit: Visit,
    old: Entry | undefined,
    name: Buffer,
    stat: FileStat,
    tasks: Tasks,
  ): Promise<void> | undefined {
    const row = this.rowOf(stat.ino)
    const known = row && this.sameDirectory(row, visit, name, stat) ? row : undefined
    const elsewhere = known && (known.parent !== visit.ino || !known.name.equals(name))
    const moved = elsewhere === true && this.exclusions.dependOnPlace
    const again = moved || visit.ruled.again
    if (known && !again && !this.options.everything && !this.work.has(stat.ino)) {
      this.childDone(visit, old, name, stat, known, known)
      return undefined
    }
    const visited = async () => {
      const path = `${visit.path}/${name.toString()}`
      let fd: number
      try {
        fd = openDirectoryAt(visit.fd, name)
      } catch (error) {
        this.unreadable(visit, name, old, error)
        return
      }
      try {
        const now = statFd(fd)
        const below = await this.directory(fd, now, path, { above: visit.ruled, name, moved })
        this.childDone(visit, old, name, now, below, known, fd)
        this.exclusions.settle(now.ino)
        await this.writePlaces()
      } catch (error) {
        this.unreadable(visit, name, old, error)
      } finally {
        close(fd)
      }
    }
    if (this.running >= directoriesAtOnce) return visited()
    this.running++
    tasks.add(visited().finally(() => this.running--))
    return undefined
  }

  /** A row is of this very directory, not of an earlier one with its inode number. */
  private sameDirectory(row: DirectoryRow, visit: Visit, name: Buffer, stat: FileStat): boolean {
    if (stat.btimeNs !== 0n) return row.btimeNs === stat.btimeNs
    return row.parent === visit.ino && row.name.equals(name)
  }

  private childDone(
    visit: Visit,
    old: Entry | undefined,
    name: Buffer,
    stat: FileStat,
    { node, totals }: { node: NodeRef; totals: Totals },
    known: DirectoryRow | undefined,
    fd?: number,
  ): void {
    const same = old?.type === 'directory' && sameAttributes(old, stat)
    const kept = same && old.node.name.equals(node.name)
    if (kept && known?.node.name.equals(node.name)) return
    this.place(stat, visit.ino, name, node, totals)
    if (kept) return
    const xattrs = () => (fd === undefined ? xattrsAt(visit.fd, name) : xattrsFd(fd))
    const attributes = same ? old : attributesOf(name, stat, xattrs())
    this.set(visit, name, old, { ...attributes, type: 'directory', node, totals })
  }

  // ---- 3. files

  private file(
    visit: Visit,
    old: Entry | undefined,
    name: Buffer,
    stat: FileStat,
  ): Promise<void> | undefined {
    if (typeOf(stat) === undefined) return undefined
    const known = this.nothingEarly ? undefined : earlyEntry(this.options.state, stat)
    const before = known ?? (old?.ino === stat.ino ? old : undefined)
    if (before || this.nothingKnown) {
      this.fileAfter(visit, old, before, name, stat)
      return undefined
    }
    return entryOf(this.options, stat.ino).then((entry) => this.fileAfter(visit, old, entry, name, stat))
  }

  /** @param before what is known of the inode, here or elsewhere */
  private fileAfter(
    visit: Visit,
    old: Entry | undefined,
    before: Entry | undefined,
    name: Buffer,
    stat: FileStat,
  ): void {
    const dirty = this.options.taken.get(stat.ino)
    if (before && this.unchanged(before, stat, dirty)) {
      if (before === old && sameAttributes(old, stat)) return
      const attributes = attributesOf(name, stat, xattrsAt(visit.fd, name))
      this.fileDone(visit, name, old, { outcome: 'entry', entry: { ...before, ...attributes } })
      return
    }
    const formerly = visit.row?.node
    const replaced = formerly && (() => formerlyNamed(this.options.access.nodes, formerly, name))
    visit.files.add({ name, stat, before, dirty, replaced }, (outcome) =>
      this.fileDone(visit, name, old, outcome),
    )
  }

  /** Whether the content is what it was. */
  private unchanged(before: Entry, stat: FileStat, dirty: Dirty | undefined): boolean {
    if (before.busy || dataChanged(dirty) || before.type !== typeOf(stat)) return false
    if (dirty?.open && !this.timesTell) return false
    if (before.size !== stat.size || before.mtimeNs !== stat.mtimeNs) return false
    // Another file of the same number: a symbolic link's bytes, a device's number are in no record of the log.
    const trusted = before.type === 'file' && !this.options.everything && !dirty?.open
    return trusted || before.ctimeNs === stat.ctimeNs
  }

  private fileDone(visit: Visit, name: Buffer, old: Entry | undefined, outcome: FileOutcome): void {
    switch (outcome.outcome) {
      case 'entry': {
        const { entry } = outcome
        this.set(visit, name, old, entry)
        this.places.addFile(entry.ino, visit.ino, name)
        if (entry.busy) {
          this.problem(visit, name, 'busy', 'it was written to while it was read')
          this.places.again(entry.ino, 'whole')
        }
        break
      }
      case 'changed':
      case 'gone':
        this.set(visit, name, old, undefined)
        this.places.again(visit.ino, 'names')
        break
      case 'unreadable':
        this.problem(visit, name, 'unreadable', outcome.why)
        this.set(visit, name, old, undefined)
        this.places.again(visit.ino, 'names')
        break
    }
  }

  // ---- 4. nodes

  private set(
    visit: Visit,
    name: Buffer,
    old: Entry | undefined,
    now: Entry | undefined,
    stays = false,
  ): void {
    const removed = old !== undefined && (old.ino !== now?.ino || old.type !== now.type)
    if (removed && !stays) this.places.removed(old, visit.ino)
    if (old || now) visit.edits.push({ key: name, part: now })
  }

  private async rewrite(visit: Visit): Promise<{ node: NodeRef; totals: Totals }> {
    const totals = { ...(visit.row?.totals ?? { files: 0, bytes: 0, busy: 0 }) }
    const count = (part: DirectoryPart | undefined, sign: number) => {
      if (!part || !('type' in part)) return
      const sums = totalsOf(part)
      totals.files += sign * sums.files
      totals.bytes += sign * sums.bytes
      totals.busy += sign * sums.busy
    }
    const sorted = visit.edits.sort((a, b) => Buffer.compare(a.key, b.key))
    const edits = sorted.filter(({ key }, i) => !sorted[i + 1]?.key.equals(key))
    const list = directoryList(this.options.access)
    const node = await editList(list, visit.row?.node, edits, (before, now) => {
      count(before, -1)
      count(now, 1)
    })
    return { node, totals }
  }

  /** Writes what is gathered when it is much, so that memory stays bounded and an interrupted backup goes on. */
  private async writePlaces(): Promise<void> {
    if (this.places.size + this.exclusions.size < placesAtOnce) return
    await this.options.access.intake.commit(this.gathered())
  }

  private gathered(): () => void {
    const parts = [this.places.write(), this.exclusions.write()]
    return () => parts.forEach((write) => write())
  }

  private place(stat: FileStat, parent: bigint, name: Buffer, node: NodeRef, totals: Totals): void {
    const row = { parent, name, btimeNs: stat.btimeNs, node, totals }
    this.places.addDirectory(stat.ino, row, () => this.rowOf(stat.ino))
  }

  private stopIfCancelled(): void {
    if (this.options.run.signal?.aborted) throw new KithError('cancelled', 'the snapshot was cancelled')
  }

  // ---- problems

  private unreadable(visit: Visit, name: Buffer, old: Entry | undefined, error: unknown): void {
    const code = errnoCode(error)
    if (code === undefined) throw error
    this.set(visit, name, old, undefined)
    this.places.again(visit.ino, 'names')
    if (code !== 'ENOENT' && code !== 'ENOTDIR') this.problem(visit, name, 'unreadable', code)
  }

  private problem(
    visit: Pick<Visit, 'path'>,
    name: Buffer,
    what: SnapshotProblem['what'],
    why: string,
  ): void {
    this.problemCount++
    if (this.problems.length >= problemsTold) return
    this.problems.push({ path: `${visit.path}/${name.toString()}`.slice(1), what, why })
  }
}

/** Work that runs beside; its first failure is told when all has ended. */
class Tasks {
  private readonly running: Promise<void>[] = []
  private failure: { error: unknown } | undefined

  add(task: Promise<void>): void {
    this.running.push(
      task.catch((error: unknown) => {
        this.failure ??= { error }
      }),
    )
  }

  async settled(): Promise<void> {
    await Promise.all(this.running)
  }

  check(): void {
    if (this.failure) throw this.failure.error
  }
}
