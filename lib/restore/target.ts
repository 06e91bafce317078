/** Opens, or makes, the place that a restore writes to. The one part of restore/ that knows a path. */
import { mkdirSync, statSync } from 'node:fs'
import { basename, dirname, join, resolve } from 'node:path'
import { KithError } from '../base/errors.js'
import * as posix from '../base/posix.js'
import type { Entry } from '../format/entry.js'
import { alreadyThere, refuseConflicts } from './conflicts.js'
import { OpenDirectories } from './open-directories.js'
import type { RestoreOptions, TreeSource } from './types.js'

export interface Target {
  /** what will be written: the directory, or the single file */
  path: string
  /** its root is the directory itself, or the one around the single file */
  directories: OpenDirectories
  /** the directory held something before */
  held: boolean
  /** of the single file; empty for a directory */
  name: Buffer
}

export async function openTarget(
  source: TreeSource,
  entry: Entry,
  target: string,
  options: RestoreOptions,
): Promise<Target> {
  const path = resolve(target)
  if (entry.type !== 'directory') return openFileTarget(entry, path, options)
  makeDirectories(path)
  const directories = new OpenDirectories(posix.openRoot(path))
  try {
    const held = await directories.use(directories.root, holdsAnything)
    if (held && (options.overwrite ?? 'never') === 'never')
      await refuseConflicts(source, entry, directories, path, options.signal)
    return { path, directories, held, name: Buffer.alloc(0) }
  } catch (error) {
    directories.closeAll()
    throw error
  }
}

function openFileTarget(entry: Entry, path: string, options: RestoreOptions): Target {
  const inside = isDirectory(path)
  const folder = inside ? path : dirname(path)
  const name = inside ? entry.name : Buffer.from(basename(path))
  makeDirectories(folder)
  const directories = new OpenDirectories(posix.openRoot(folder))
  const there = directories.useSync(directories.root, (fd) => posix.statIfAny(fd, name))
  const full = inside ? join(path, name.toString()) : path
  if (there && (options.overwrite ?? 'never') === 'never') {
    directories.closeAll()
    throw alreadyThere(full)
  }
  return { path: full, directories, held: true, name }
}

export function isDirectory(path: string): boolean {
  try {
    return statSync(path).isDirectory()
  } catch (error) {
    const code = posix.errnoCode(error)
    if (code === 'ENOENT' || code === 'ENOTDIR') return false
    throw error
  }
}

/** Makes the directory and those above it, where missing; for the user alone until a restored mode replaces that. */
function makeDirectories(path: string): void {
  if (isDirectory(path)) return
  mkdirParents(dirname(path))
  try {
    mkdirSync(path, { mode: 0o700 })
  } catch (error) {
    const code = posix.errnoCode(error)
    if (code === 'EEXIST') throw new KithError('exists', `${path} is not a directory; choose another place`)
    throw error
  }
}

function mkdirParents(path: string): void {
  try {
    mkdirSync(path, { recursive: true })
  } catch (error) {
    const code = posix.errnoCode(error)
    if (code === 'EEXIST' || code === 'ENOTDIR')
      throw new KithError('exists', `${path} is not a directory; choose another place`)
    throw error
  }
}

async function holdsAnything(fd: number): Promise<boolean> {
  for await (const batch of posix.readDirectoryBatches(fd)) return batch.length > 0
  return false
}
