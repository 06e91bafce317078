/**
 * What a restore would do, without doing it: the same questions as restore.ts asks, and not a byte written, nor a
 * directory made. Told in the marks of `diff`, from the target as it is to the target as it would be.
 */
import { basename, dirname, join, resolve } from 'node:path'
import { KithError } from '../base/errors.js'
import * as posix from '../base/posix.js'
import type { DirectoryEntry, Entry } from '../format/entry.js'
import { typeOf } from '../store/entries.js'
import type { DifferenceMark } from '../store/tree-diff.js'
import { Comparison, type Live, type Pair } from './compare.js'
import { alreadyThere, refuseConflicts } from './conflicts.js'
import { refuseDelete, refusePatterns } from './extras.js'
import { FilteredSource } from './filter.js'
import { namedFile, sameAttributes } from './metadata.js'
import { OpenDirectories } from './open-directories.js'
import { isTemporary, isThere } from './place.js'
import { isDirectory } from './target.js'
import type { Overwrite, RestoreOptions, TreeSource } from './types.js'

/**
 * `+` would be made, `M` written anew, `U` given other attributes, `T` replaced by another type, `-` removed. Undefined:
 * written anew though it looks the same (`always`).
 */
export interface Planned {
  mark: DifferenceMark | undefined
  /** below the target; of a single file its name */
  path: readonly Buffer[]
  /** what would be there, and what is */
  saved: Entry | undefined
  live: Live | undefined
  /** it would fail, and everything be left where it stands: a directory is in the place of something else */
  blocked: boolean
}

/** @throws KithError `exists` and `usage` as restoreTree does */
export async function* planRestore(
  source: TreeSource,
  entry: Entry,
  target: string,
  options: RestoreOptions,
): AsyncGenerator<Planned> {
  const { filter, delete: leftOut, overwrite = 'never' } = options
  const path = resolve(target)
  if (leftOut) await refuseDelete(source, entry, overwrite)
  const filtered = filter !== undefined && filter.include.length + filter.exclude.length > 0
  if (filtered) refusePatterns(options, entry)
  if (entry.type !== 'directory') {
    const planned = planFile(entry, path, overwrite)
    if (planned) yield planned
    return
  }
  const from = filtered ? new FilteredSource(source, entry, filter) : source
  const top = from instanceof FilteredSource ? from.root : entry
  const fd = openIfAny(path)
  const directories = fd === undefined ? undefined : new OpenDirectories(fd)
  try {
    if (directories && overwrite === 'never')
      await refuseConflicts(from, top, directories, path, options.signal)
    yield* planTree(from, top, directories, options)
  } finally {
    directories?.closeAll()
  }
}

async function* planTree(
  source: TreeSource,
  top: DirectoryEntry,
  directories: OpenDirectories | undefined,
  { delete: leftOut, overwrite = 'never', signal }: RestoreOptions,
): AsyncGenerator<Planned> {
  const comparison = new Comparison(source, directories, {
    leftOut,
    signal,
    passOver: ({ saved, live }) =>
      live?.type === 'directory' && saved !== undefined && saved.type !== 'directory',
  })
  for await (const pair of comparison.walk(top)) {
    const { path, name, saved, live, directory } = pair
    if (!saved && isTemporary(name)) continue
    const look = (fd: number) => lookAt(pair, fd, overwrite)
    const seen = directories && directory && saved && live ? directories.useSync(directory, look) : undefined
    if (seen === 'same') continue
    const mark = !saved ? '-' : !live ? '+' : seen
    yield { mark, path, saved, live, blocked: isBlocked(saved, live) }
  }
}

function isBlocked(saved: Entry | undefined, live: Live | undefined): boolean {
  return saved !== undefined && saved.type !== 'directory' && live?.type === 'directory'
}

/** Of what both have. Undefined as in Planned. */
function lookAt(
  { name, saved, live }: Pick<Pair, 'name' | 'saved' | 'live'>,
  dirFd: number,
  overwrite: Overwrite,
): DifferenceMark | 'same' | undefined {
  if (!saved || !live) return undefined
  if (saved.type !== live.type) return 'T'
  if (saved.type !== 'directory' && !isThere(saved, dirFd, name)) return 'M'
  if (saved.type === 'directory' && overwrite === 'never') return 'same'
  if (!sameAttributes(namedFile(dirFd, name), live.stat, saved)) return 'U'
  return saved.type === 'directory' || overwrite === 'if-changed' ? 'same' : undefined
}

function planFile(entry: Entry, path: string, overwrite: Overwrite): Planned | undefined {
  const inside = isDirectory(path)
  const name = inside ? entry.name : Buffer.from(basename(path))
  const fd = openIfAny(inside ? path : dirname(path))
  try {
    const stat = fd === undefined ? undefined : posix.statIfAny(fd, name)
    const type = stat && typeOf(stat)
    const live = stat && type ? { stat, type } : undefined
    if (live && overwrite === 'never') throw alreadyThere(inside ? join(path, name.toString()) : path)
    const seen = fd !== undefined && live ? lookAt({ name, saved: entry, live }, fd, overwrite) : '+'
    if (seen === 'same') return undefined
    return { mark: seen, path: [name], saved: entry, live, blocked: isBlocked(entry, live) }
  } finally {
    if (fd !== undefined) posix.close(fd)
  }
}

function openIfAny(path: string): number | undefined {
  try {
    return posix.openRoot(path)
  } catch (error) {
    const code = posix.errnoCode(error)
    if (code === 'ENOENT') return undefined
    if (code === 'ENOTDIR') throw new KithError('exists', `${path} is not a directory; choose another place`)
    throw error
  }
}
