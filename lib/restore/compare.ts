/**
 * A directory of a snapshot beside a live one, name by name, in the order of the names' bytes, a directory before what
 * is in it. Only metadata is looked at here. Live names that rules leave out of snapshots (left-out.ts), and other file
 * systems, are passed over and counted. Follows no symlink; memory grows with the largest live directory and the depth.
 */
import { KithError } from '../base/errors.js'
import { pathText } from '../base/path-text.js'
import * as posix from '../base/posix.js'
import type { DirectoryEntry, Entry, EntryType } from '../format/entry.js'
import { typeOf } from '../store/entries.js'
import { checkCancelled } from './content.js'
import { LeftOut, type LeftOutOptions } from './left-out.js'
import type { DirectoryHandle, OpenDirectories } from './open-directories.js'
import type { TreeSource } from './types.js'

export interface Live {
  stat: posix.FileStat
  type: EntryType
}

/** One name; on one side or on both. */
export interface Pair {
  path: readonly Buffer[]
  name: Buffer
  saved: Entry | undefined
  live: Live | undefined
  /** the live directory that the name is in; undefined where there is none */
  directory: DirectoryHandle | undefined
  /** the snapshot's directory that the name is in, or would be */
  around: DirectoryEntry | undefined
}

export interface CompareOptions {
  /** tells of live names, too, that the snapshot has not; undefined: only of those that it has */
  leftOut?: LeftOutOptions | undefined
  signal?: AbortSignal | undefined
  /** directories whose names are not told; asked once the pair was taken */
  passOver?: (pair: Pair) => boolean
}

interface Level {
  path: readonly Buffer[]
  saved: DirectoryEntry | undefined
  handle: DirectoryHandle | undefined
  leftOut: LeftOut | undefined
  listed: posix.DirectoryEntry[]
  at: number
  page: Entry[]
  pageAt: number
  more: boolean
}

const pageEntries = 1000
/** The mount answers there; it is no part of the directory. */
const snapshotsName = Buffer.from('.snapshots')

export class Comparison {
  readonly #root: posix.FileStat | undefined
  /** live names that were passed over: left out by rules, or on another file system */
  passed = 0

  /** @param directories with the live directory as its root; undefined when there is none */
  constructor(
    private readonly source: Pick<TreeSource, 'list'>,
    private readonly directories: OpenDirectories | undefined,
    private readonly options: CompareOptions,
  ) {
    this.#root = directories?.useSync(directories.root, (fd) => posix.statFd(fd))
  }

  async *walk(top: DirectoryEntry): AsyncGenerator<Pair> {
    const { directories, options } = this
    const { leftOut: given } = options
    const handle = directories?.root
    const leftOut =
      given && directories && (await directories.use(directories.root, (fd) => LeftOut.root(given, fd, top)))
    const stack = [await this.#level([], top, handle, leftOut)]
    for (let level = stack.at(-1); level; level = stack.at(-1)) {
      checkCancelled(options.signal)
      const pair = await this.#next(level)
      if (!pair) {
        if (level.handle) directories?.done(level.handle)
        stack.pop()
        continue
      }
      yield pair
      if (options.passOver?.(pair)) continue
      const below = await this.#below(level, pair)
      if (below) stack.push(below)
    }
  }

  async #level(
    path: readonly Buffer[],
    saved: DirectoryEntry | undefined,
    handle: DirectoryHandle | undefined,
    leftOut: LeftOut | undefined,
  ): Promise<Level> {
    const read = async (fd: number) => {
      try {
        return await posix.readDirectory(fd)
      } catch (error) {
        throw unreadable(path, error)
      }
    }
    const listed = handle && this.directories ? await this.directories.use(handle, read) : []
    listed.sort((a, b) => Buffer.compare(a.name, b.name))
    const more = saved !== undefined
    return { path, saved, handle, leftOut, listed, at: 0, page: [], pageAt: 0, more }
  }

  async #next(level: Level): Promise<Pair | undefined> {
    for (;;) {
      const saved = await this.#savedOf(level)
      const listed = level.listed[level.at]
      if (!saved && !listed) return undefined
      const order = !saved ? 1 : !listed ? -1 : Buffer.compare(saved.name, listed.name)
      if (order <= 0) level.pageAt++
      if (order >= 0) level.at++
      const pair = this.#pair(level, order <= 0 ? saved : undefined, order >= 0 ? listed : undefined)
      if (pair) return pair
    }
  }

  async #savedOf(level: Level): Promise<Entry | undefined> {
    if (level.pageAt >= level.page.length && level.more && level.saved) {
      const after = level.page.at(-1)?.name
      level.page = await this.source.list(level.saved, after, pageEntries)
      level.pageAt = 0
      level.more = level.page.length === pageEntries
    }
    return level.page[level.pageAt]
  }

  #pair(level: Level, saved: Entry | undefined, listed: posix.DirectoryEntry | undefined): Pair | undefined {
    const name = (saved ?? listed)?.name ?? Buffer.alloc(0)
    const type = listed && typeOf(listed.stat)
    const live = listed && type ? { stat: listed.stat, type } : undefined
    if (!saved) {
      if (!live || !level.leftOut) return undefined
      const atRoot = level.path.length === 0 && name.equals(snapshotsName)
      if (atRoot || !this.#isHere(live.stat) || level.leftOut.has(name, live.stat)) {
        this.passed++
        return undefined
      }
    }
    return { path: [...level.path, name], name, saved, live, directory: level.handle, around: level.saved }
  }

  async #below(level: Level, { path, name, saved, live }: Pair): Promise<Level | undefined> {
    const directory = saved?.type === 'directory' ? saved : undefined
    const { directories } = this
    const { handle } = level
    if (live?.type !== 'directory' || !directories || !handle) {
      return directory && this.#level(path, directory, undefined, undefined)
    }
    const child = directories.useSync(handle, (fd) => openChild(directories, handle, fd, path, name))
    if (!child) return directory && this.#level(path, directory, undefined, undefined)
    // In what another file system has there, only what the snapshot names is looked at.
    const ruled = (fd: number) =>
      this.#isHere(live.stat) ? level.leftOut?.child(name, fd, directory) : undefined
    return this.#level(path, directory, child, await directories.use(child, ruled))
  }

  /** On the file system of the directory where both begin. */
  #isHere(stat: posix.FileStat): boolean {
    return stat.dev === this.#root?.dev && stat.mountId === this.#root.mountId
  }
}

/** Undefined when it went meanwhile. */
function openChild(
  directories: OpenDirectories,
  parent: DirectoryHandle,
  fd: number,
  path: readonly Buffer[],
  name: Buffer,
): DirectoryHandle | undefined {
  try {
    return directories.child(parent, fd, name)
  } catch (error) {
    const code = posix.errnoCode(error)
    if (code === 'ENOENT' || code === 'ENOTDIR' || code === 'ELOOP') return undefined
    throw unreadable(path, error)
  }
}

function unreadable(path: readonly Buffer[], error: unknown): unknown {
  const code = posix.errnoCode(error)
  if (code !== 'EACCES' && code !== 'EPERM') return error
  return new KithError('denied', `${pathText(path)} may not be read by this user`, { cause: error })
}
