/**
 * Content of changed files, read ahead of the next snapshot: cut, sealed and in the store, so that partners get it within
 * seconds and the snapshot has only to name it.
 *
 *   1. locate    where the inode stands: by the names that the log told since the last snapshot, else as in that snapshot.
 *                Each step down is checked by inode number; a file that is not found there is left to the snapshot
 *   2. read      as a snapshot reads it (file-intake.ts), but once: a file that changes meanwhile is told as busy
 *   3. commit    chunks, the row in the table `early`, and the dirty row without its data, in one transaction
 *
 * From then on the row stands for the file where a snapshot would look at its entry in the last one: what is written later
 * is dirty against it, and the same comparisons decide whether it still holds (snapshotter.ts). The next snapshot's
 * transaction empties the table, since its tree then says it all.
 *
 * Crash argument: before the transaction the file is dirty as it was, and sealed chunks without a row are only found
 * again by their ids. After it the row says what was read, and only changes recorded since are dirty: the generation of
 * the dirty row was read before the file was, and a row that another record touched meanwhile is left alone, so that no
 * change recorded after the reading began is ever forgotten. A change that was performed but not yet recorded makes the
 * file dirty anew, whether the reading saw it or not.
 *
 * Every block that a row of `early` names is in use, though no snapshot names it: a sweep must take these rows as roots.
 */
import type { Clock } from '../base/clock.js'
import {
  close,
  errnoCode,
  openDirectoryAt,
  openRoot,
  statFd,
  statIfAny,
  type FileStat,
} from '../base/posix.js'
import type { VolumeKeys } from '../format/keys.js'
import { maxInlineBytes, type Entry, type FileEntry } from '../format/node.js'
import { dataChanged, type Dirty } from './dirty.js'
import { atRest, typeOf } from './entries.js'
import { settingsOf } from './exclusions.js'
import { FileIntake, type DirectoryFiles } from './file-intake.js'
import type { NodeAccess } from './list-kinds.js'
import { formerlyNamed, type Rewrites } from './rewrites.js'
import { type ExcludeSettings, readOwnRules, RuledDirectory } from './rules.js'
import type { SealPool } from './seal-pool.js'
import type { EarlyRow, Location, VolumeState } from './state.js'
import { findEntry } from './tree-walk.js'

/** Files between two commits, and directories open at once. */
const filesAtOnce = 512
const directoriesAtOnce = 32
/** Deeper is nothing that a chain of rows should lead to. */
const maxDepth = 4096

export interface ReadAheadOptions {
  clock: Clock
  pool: SealPool
  state: VolumeState
  access: NodeAccess
  keys: VolumeKeys
  rewrites: Rewrites
  /** Names told by the log since the last snapshot, by inode: the newest of each. */
  places: ReadonlyMap<bigint, Location>
  signal: AbortSignal
}

export interface ReadAheadResult {
  /** Files whose content is in the store now. */
  read: number
  /** They changed while they were read, or there was no time for them: to be tried again. */
  left: bigint[]
}

/** A directory, and what holds for the names in it. */
interface Opened {
  fd: number
  rules: RuledDirectory
}

interface Found {
  ino: bigint
  stat: FileStat
  name: Buffer
  dirty: Dirty
  before: Entry | undefined
}

export class ReadAhead {
  private readonly root: FileStat
  /** Files that changed without a record, with the generation of their dirty rows: a snapshot is wanted. */
  private readonly seen = new Map<bigint, number>()
  private readonly settings: ExcludeSettings

  constructor(
    private readonly rootFd: number,
    private readonly options: ReadAheadOptions,
  ) {
    this.root = statFd(rootFd)
    this.settings = settingsOf(options.state)
  }

  async run(inos: readonly bigint[]): Promise<ReadAheadResult> {
    const result: ReadAheadResult = { read: 0, left: [] }
    for (let at = 0; at < inos.length; at += filesAtOnce) {
      if (this.options.signal.aborted) {
        result.left.push(...inos.slice(at))
        break
      }
      await this.part(inos.slice(at, at + filesAtOnce), result)
    }
    return result
  }

  private async part(inos: readonly bigint[], result: ReadAheadResult): Promise<void> {
    const byParent = new Map<bigint, { ino: bigint; name: Buffer }[]>()
    for (const ino of inos) {
      for (const { parent, name } of this.placesOf(ino)) {
        byParent.set(parent, [...(byParent.get(parent) ?? []), { ino, name }])
      }
    }
    const rows = new Map<bigint, { row: EarlyRow; generation: number }>()
    const waiting = [...byParent]
    const worker = async () => {
      for (let next = waiting.pop(); next; next = waiting.pop()) await this.directory(...next, rows, result)
    }
    const workers = await Promise.allSettled(Array.from({ length: directoriesAtOnce }, worker))
    for (const ended of workers) if (ended.status === 'rejected') throw ended.reason
    result.read += rows.size
    if (rows.size + this.seen.size > 0) await this.commit(rows)
    this.seen.clear()
  }

  /** One is enough for the content, but a name may be gone by now. */
  private placesOf(ino: bigint): Location[] {
    const told = this.options.places.get(ino)
    const known = this.options.state.files.get(ino) ?? []
    return told ? [told, ...known] : known
  }

  private async directory(
    parent: bigint,
    wanted: readonly { ino: bigint; name: Buffer }[],
    rows: Map<bigint, { row: EarlyRow; generation: number }>,
    result: ReadAheadResult,
  ): Promise<void> {
    const opened = this.open(parent)
    if (opened === undefined) return
    const { fd } = opened
    const { clock, pool, access, keys, rewrites, signal } = this.options
    const intake = new FileIntake({
      clock,
      pool,
      access,
      keys,
      rewrites,
      everything: false,
      hasty: true,
      run: { signal },
    })
    const files = intake.directory(fd)
    try {
      for (const { ino, name } of wanted) {
        const found = rows.has(ino) ? undefined : await this.find(opened, ino, name)
        if (found) this.add(files, { ...found, parent }, rows, result)
      }
      await files.finish()
    } catch (error) {
      if (!signal.aborted) throw error
      result.left.push(...wanted.map(({ ino }) => ino).filter((ino) => !rows.has(ino)))
    } finally {
      await files.settled()
      close(fd)
    }
  }

  private add(
    files: DirectoryFiles,
    { ino, stat, name, dirty, before, parent }: Found & { parent: bigint },
    rows: Map<bigint, { row: EarlyRow; generation: number }>,
    result: ReadAheadResult,
  ): void {
    const { access, state } = this.options
    const replaced = () => formerlyNamed(access.nodes, state.directories.get(parent)?.node, name)
    files.add({ name, stat, before, dirty, replaced }, (outcome) => {
      if (outcome.outcome === 'changed') result.left.push(ino)
      if (outcome.outcome !== 'entry' || outcome.entry.type !== 'file') return
      const { generation } = dirty
      rows.set(ino, { row: { btimeNs: stat.btimeNs, entry: outcome.entry }, generation })
    })
  }

  /** The file of that number under that name, when its content is worth reading. */
  private async find({ fd, rules }: Opened, ino: bigint, name: Buffer): Promise<Found | undefined> {
    const { state } = this.options
    const dirty = state.dirty.get(ino)
    if (!dirty || !(dataChanged(dirty) || dirty.open)) return undefined
    const stat = statAny(fd, name)
    if (stat?.ino !== ino || typeOf(stat) !== 'file' || !this.isOurs(stat)) return undefined
    if (rules.leavesOut(name, stat)) return undefined
    const before = earlyEntry(state, stat) ?? (await entryOf(this.options, ino))
    if (!dataChanged(dirty)) {
      if (before && atRest(before, stat)) return undefined
      this.seen.set(ino, dirty.generation)
    }
    // What small files hold goes into the directory's node.
    if (stat.size <= maxInlineBytes) return undefined
    return { ino, stat, name, dirty, before }
  }

  /**
   * The directory's descriptor, from the root down along what is known of its ancestors; none where the rules leave it out,
   * as the next snapshot will.
   */
  private open(ino: bigint): Opened | undefined {
    const { state, places } = this.options
    const names: Buffer[] = []
    for (let at = ino; at !== this.root.ino;) {
      const place = places.get(at) ?? state.directories.get(at)
      if (!place || place.parent === 0n || names.length >= maxDepth) return undefined
      names.unshift(place.name)
      at = place.parent
    }
    let fd: number | undefined
    try {
      fd = openRoot(`/proc/self/fd/${this.rootFd}`)
      let rules = RuledDirectory.root(this.settings, readOwnRules(fd, false))
      let leftOut = false
      for (const name of names) {
        const next = openDirectoryAt(fd, name)
        close(fd)
        fd = next
        leftOut ||= rules.leavesOut(name, statFd(fd)) !== undefined
        rules = rules.child(name, readOwnRules(fd, this.settings.caches))
      }
      const stat = statFd(fd)
      if (stat.ino === ino && this.isOurs(stat) && !leftOut) return { fd, rules }
    } catch (error) {
      if (errnoCode(error) === undefined) throw error
    }
    if (fd !== undefined) close(fd)
    return undefined
  }

  private isOurs(stat: FileStat): boolean {
    return stat.dev === this.root.dev && stat.mountId === this.root.mountId
  }

  private commit(rows: ReadonlyMap<bigint, { row: EarlyRow; generation: number }>): Promise<void> {
    const { state, access } = this.options
    return access.intake.commit(() => {
      for (const [ino, generation] of this.seen) {
        const dirty = state.dirty.get(ino)
        if (dirty?.generation === generation) state.dirty.put(ino, { ...dirty, attributes: true })
      }
      for (const [ino, { row, generation }] of rows) {
        const dirty = state.dirty.get(ino)
        if (dirty?.generation !== generation) continue
        state.early.put(ino, row)
        state.dirty.put(ino, { ...dirty, attributes: true, whole: false, ranges: [] })
      }
    })
  }
}

/** What was read of this very file since the last snapshot. */
export function earlyEntry(state: VolumeState, stat: FileStat): FileEntry | undefined {
  const row = state.early.get(stat.ino)
  return row?.btimeNs === stat.btimeNs ? row.entry : undefined
}

/** The entry that the last snapshot has of this inode, under any name. */
export async function entryOf(
  { state, access }: { state: VolumeState; access: NodeAccess },
  ino: bigint,
): Promise<Entry | undefined> {
  for (const { parent, name } of state.files.get(ino) ?? []) {
    const row = state.directories.get(parent)
    const entry = row && (await findEntry(access.nodes, row.node, name))
    if (entry?.ino === ino) return entry
  }
  return undefined
}

function statAny(fd: number, name: Buffer): FileStat | undefined {
  try {
    return statIfAny(fd, name)
  } catch (error) {
    if (errnoCode(error) === undefined) throw error
    return undefined
  }
}
