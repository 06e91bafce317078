/**
 * What changed from a snapshot to a live directory as it is now, in the marks of `diff` between snapshots. Files of the
 * same size are told apart by their times first: where those say that nothing changed, the content is read only when
 * asked for; where they differ, it is read, since a time alone is no change of content. What is read is compared with
 * the keys of the snapshot's chunks, so that no block has to be fetched for it; but for small files that share a block, whose
 * key is of all of them together.
 */
import { constants, read } from 'node:fs'
import { promisify } from 'node:util'
import { asKithError, KithError } from '../base/errors.js'
import { pathText } from '../base/path-text.js'
import * as posix from '../base/posix.js'
import {
  bytesOfExtent,
  extentBytes,
  type DirectoryEntry,
  type Entry,
  type FileEntry,
} from '../format/entry.js'
import { chunkKey } from '../format/seal.js'
import { attributesOf } from '../store/entries.js'
import { type DifferenceMark, sameXattrs } from '../store/tree-diff.js'
import { checkCancelled } from './content.js'
import { Comparison, type Live, type Pair } from './compare.js'
import type { LeftOutOptions } from './left-out.js'
import type { OpenDirectories } from './open-directories.js'
import type { TreeSource } from './types.js'

export interface LiveDifference {
  mark: DifferenceMark
  path: readonly Buffer[]
  saved: Entry | undefined
  live: Live | undefined
}

export interface LiveDiffOptions {
  /** the secret that the chunks' keys are made with */
  convergence: Buffer
  leftOut: LeftOutOptions
  /** read every file that looks the same, too */
  content: boolean
  signal?: AbortSignal | undefined
}

const readBytes = promisify(read)
const readAtOnce = 1024 * 1024

export async function* diffWithLive(
  source: TreeSource,
  top: DirectoryEntry,
  directories: OpenDirectories,
  options: LiveDiffOptions,
): AsyncGenerator<LiveDifference> {
  const { leftOut, signal } = options
  const comparison = new Comparison(source, directories, { leftOut, signal })
  for await (const pair of comparison.walk(top)) {
    const mark = await markOf(source, directories, pair, options).catch((error: unknown) => {
      // It went between two looks at it.
      if (posix.errnoCode(error) === 'ENOENT') return '-' as const
      throw error
    })
    const { path, saved, live } = pair
    if (mark) yield { mark, path, saved, live }
  }
}

async function markOf(
  source: TreeSource,
  directories: OpenDirectories,
  { path, name, saved, live, directory }: Pair,
  options: LiveDiffOptions,
): Promise<DifferenceMark | undefined> {
  if (!saved) return '+'
  if (!live || !directory) return '-'
  if (saved.type !== live.type) return 'T'
  const { stat } = live
  const rest = directories.useSync(directory, (fd) => sameRest(saved, stat, fd, name))
  if (saved.type !== 'file')
    return directories.useSync(directory, (fd) => sameThing(saved, stat, fd, name))
      ? rest
        ? undefined
        : 'U'
      : 'M'
  if (saved.size !== stat.size) return 'M'
  const timesSay = saved.mtimeNs === stat.mtimeNs
  if (timesSay && !options.content) return rest ? undefined : 'U'
  const same = await directories.use(directory, async (dirFd) => {
    try {
      return await sameContent(source, saved, dirFd, name, options)
    } catch (error) {
      if (posix.errnoCode(error) === 'ENOENT') throw error
      const { code, message } = asKithError(error)
      if (code === 'cancelled') throw error
      // The pack cannot be had: what the times say is all that is known.
      if (!timesSay && (code === 'noPartners' || code === 'timeout')) return false
      throw new KithError(code, `${pathText(path)} cannot be compared: ${message}`, { cause: error })
    }
  })
  if (same) return rest ? undefined : 'U'
  return rest ? '?' : 'M'
}

/** What belongs to it beside content. A directory's time changes with the names in it, which are told by themselves. */
function sameRest(saved: Entry, stat: posix.FileStat, dirFd: number, name: Buffer): boolean {
  if (saved.mode !== (stat.mode & 0o7777) || saved.uid !== stat.uid || saved.gid !== stat.gid) return false
  if (saved.type !== 'directory' && saved.mtimeNs !== stat.mtimeNs) return false
  // The same ctime of the same file: nobody has touched it since.
  if (saved.ino === stat.ino && saved.ctimeNs === stat.ctimeNs) return true
  const { xattrs } = attributesOf(name, stat, posix.xattrsAt(dirFd, name))
  return sameXattrs(saved, { xattrs })
}

function sameThing(saved: Entry, stat: posix.FileStat, dirFd: number, name: Buffer): boolean {
  if (saved.type === 'symlink') return posix.readlinkAt(dirFd, name).equals(saved.target)
  if (saved.type === 'character' || saved.type === 'block') return saved.rdev === stat.rdev
  return true
}

async function sameContent(
  source: TreeSource,
  saved: FileEntry,
  dirFd: number,
  name: Buffer,
  { convergence, signal }: LiveDiffOptions,
): Promise<boolean> {
  const { O_NOFOLLOW, O_NONBLOCK, O_RDONLY } = constants
  const fd = posix.openAt(dirFd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK)
  try {
    if (saved.content.kind === 'inline') {
      const bytes = await bytesAt(fd, 0, saved.size)
      return bytes.equals(saved.content.bytes)
    }
    for await (const { offset, extent } of source.pieces(saved)) {
      checkCancelled(signal)
      if (extent.kind === 'hole') {
        if (!(await isZero(fd, offset, offset + extent.bytes, signal))) return false
        continue
      }
      const plain = await bytesAt(fd, offset, extentBytes(extent))
      if (plain.length !== extentBytes(extent)) return false
      if (extent.kind === 'part') return plain.equals(bytesOfExtent(extent, await source.chunk(extent.chunk)))
      if (!chunkKey(convergence, plain).equals(extent.chunk.key)) return false
    }
    return true
  } finally {
    posix.close(fd)
  }
}

/** Fewer where the file ends. */
async function bytesAt(fd: number, offset: number, length: number): Promise<Buffer> {
  const buffer = Buffer.allocUnsafe(length)
  let at = 0
  while (at < length) {
    const { bytesRead } = await readBytes(fd, buffer, at, length - at, offset + at)
    if (bytesRead === 0) break
    at += bytesRead
  }
  return buffer.subarray(0, at)
}

/** Holes are passed over. */
async function isZero(
  fd: number,
  from: number,
  to: number,
  signal: AbortSignal | undefined,
): Promise<boolean> {
  const zeros = Buffer.alloc(readAtOnce)
  for (let at = from; at < to;) {
    checkCancelled(signal)
    const data = posix.seekData(fd, at)
    if (data < 0 || data >= to) return true
    const bytes = await bytesAt(fd, data, Math.min(readAtOnce, to - data))
    if (bytes.length === 0) return true
    if (!bytes.equals(zeros.subarray(0, bytes.length))) return false
    at = data + bytes.length
  }
  return true
}
