/**
 * What a snapshot would leave out, without taking one: a walk through the live directory by its own rules. Where other
 * file systems are mounted it stops, as snapshots do.
 */
import { KithError } from '../base/errors.js'
import {
  close,
  errnoCode,
  openDirectoryAt,
  readDirectory,
  statFd,
  type DirectoryEntry as Listed,
  type FileStat,
} from '../base/posix.js'
import type { EntryType } from '../format/node.js'
import { typeOf } from './entries.js'
import { type ExcludeSettings, type LeftOutReason, readOwnRules, RuledDirectory } from './rules.js'

export interface WouldLeaveOut {
  path: Buffer[]
  type: EntryType
  size: number
  reason: LeftOutReason
}

/** In the order of the names' bytes. What is in a directory that is left out is not told; what is in a cache is. */
export async function* previewExcluded(
  rootFd: number,
  settings: ExcludeSettings,
  signal?: AbortSignal,
): AsyncGenerator<WouldLeaveOut> {
  const root = statFd(rootFd)
  const listed = await readDirectory(rootFd)
  const rules = RuledDirectory.root(settings, readOwnRules(rootFd, false, listed))
  yield* below(rootFd, [], listed, rules)

  async function* below(
    fd: number,
    path: Buffer[],
    names: Listed[],
    ruled: RuledDirectory,
  ): AsyncGenerator<WouldLeaveOut> {
    names.sort((a, b) => Buffer.compare(a.name, b.name))
    for (const { name, stat } of names) {
      if (signal?.aborted) throw new KithError('cancelled', 'cancelled')
      const type = typeOf(stat)
      if (!type) continue
      const reason = ruled.leavesOut(name, stat)
      if (reason) yield { path: [...path, name], type, size: stat.size, reason }
      else if (type === 'directory' && sameFileSystem(stat, root)) yield* inside(fd, [...path, name], ruled)
    }
  }

  async function* inside(
    above: number,
    path: Buffer[],
    ruled: RuledDirectory,
  ): AsyncGenerator<WouldLeaveOut> {
    const name = path.at(-1) ?? Buffer.alloc(0)
    const fd = openIfAny(above, name)
    if (fd === undefined) return
    try {
      const names = await readDirectory(fd)
      yield* below(fd, path, names, ruled.child(name, readOwnRules(fd, settings.caches, names)))
    } finally {
      close(fd)
    }
  }
}

function sameFileSystem(a: FileStat, b: FileStat): boolean {
  return a.dev === b.dev && a.mountId === b.mountId
}

/** What went meanwhile, or may not be read, is the snapshot's to tell. */
function openIfAny(dirFd: number, name: Buffer): number | undefined {
  try {
    return openDirectoryAt(dirFd, name)
  } catch (error) {
    if (errnoCode(error) === undefined) throw error
    return undefined
  }
}
