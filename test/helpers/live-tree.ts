/** A protected directory, changed at random by a seed, and what is said of the difference to a snapshot. */
import {
  chmodSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  renameSync,
  rmSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { nameText } from '../../lib/base/path-text.js'
import { reopenDirectory } from '../../lib/base/posix.js'
import type { DirectoryEntry } from '../../lib/format/node.js'
import type { LeftOutOptions } from '../../lib/restore/left-out.js'
import { diffWithLive } from '../../lib/restore/live-diff.js'
import { OpenDirectories } from '../../lib/restore/open-directories.js'
import type { TreeSource } from '../../lib/restore/types.js'
import { RuledDirectory } from '../../lib/store/rules.js'
import { seededBytes } from './bytes.js'
import type { Fixture } from './store.js'

/** 32 bits at a time */
export type Random = () => number

function share(random: Random): number {
  return random() / 2 ** 32
}

export function lineOf(mark: string | undefined, path: readonly Buffer[]): string {
  return `${mark ?? '='} ${path.map(nameText).join('/')}`
}

export async function rootOf({ volume, store }: Fixture, name = 'latest'): Promise<DirectoryEntry> {
  return volume.reader(store.blocks).snapshot(name)
}

/** The rules of the volume; those of the snapshot as well when it is to be restored. */
export function leftOutOf({ volume, store }: Fixture, restoring: boolean): LeftOutOptions {
  const settings = volume.excludes()
  return {
    rules: [(own) => RuledDirectory.root(settings, own)],
    caches: settings.caches,
    ...(restoring && { reader: volume.reader(store.blocks) }),
  }
}

export async function liveDiff(
  fixture: Fixture,
  root: DirectoryEntry,
  content: boolean,
  { signal, source }: { signal?: AbortSignal; source?: TreeSource } = {},
): Promise<string[]> {
  const { volume, store, rootFd } = fixture
  const directories = new OpenDirectories(reopenDirectory(rootFd))
  const lines: string[] = []
  try {
    const options = {
      convergence: volume.keys.convergence,
      leftOut: leftOutOf(fixture, false),
      content,
      signal,
    }
    for await (const { mark, path } of diffWithLive(
      source ?? volume.reader(store.blocks),
      root,
      directories,
      options,
    ))
      lines.push(lineOf(mark, path))
  } finally {
    directories.closeAll()
  }
  return lines
}

export function everyPath(dir: string, below = ''): string[] {
  return readdirSync(join(dir, below), { withFileTypes: true }).flatMap((entry) => {
    const path = join(below, entry.name)
    return entry.isDirectory() ? [path, ...everyPath(dir, path)] : [path]
  })
}

/** A few files, directories and links, some of them big. */
export function growTree(dir: string, random: Random, names: number): void {
  for (let i = 0; i < names; i++) addName(dir, random, `n${i}`)
}

function pick<T>(random: Random, list: readonly T[]): T | undefined {
  return list[Math.floor(share(random) * list.length)]
}

function addName(dir: string, random: Random, name: string): void {
  const parents = ['', ...everyPath(dir).filter((path) => lstatSync(join(dir, path)).isDirectory())]
  const path = join(dir, pick(random, parents) ?? '', name)
  const kind = share(random)
  if (kind < 0.3) mkdirSync(path)
  else if (kind < 0.4) symlinkSync(`to-${name}`, path)
  else if (kind < 0.5) writeFileSync(path, seededBytes(random, 300_000 + Math.floor(share(random) * 300_000)))
  else writeFileSync(path, seededBytes(random, Math.floor(share(random) * 1500)))
}

/** One change of those that programs make. */
export function changeSomething(dir: string, random: Random, name: string): void {
  const paths = everyPath(dir)
  const path = join(dir, pick(random, paths) ?? '')
  const stat = lstatSync(path)
  const kind = share(random)
  if (paths.length < 5 || kind < 0.25) return addName(dir, random, name)
  if (kind < 0.4) return rmSync(path, { recursive: true })
  if (kind < 0.5 && !stat.isSymbolicLink()) return chmodSync(path, 0o700 + Math.floor(share(random) * 0o77))
  if (kind < 0.6) return renameSync(path, join(dir, name))
  if (!stat.isFile()) return
  const later = new Date(stat.mtimeMs + 1000 + Math.floor(share(random) * 1e6))
  if (kind < 0.7) return utimesSync(path, stat.atime, later)
  if (kind < 0.8) truncateSync(path, Math.floor(share(random) * 2 * stat.size))
  else writeFileSync(path, seededBytes(random, stat.size)) // of the same size
  // Some put the time back.
  utimesSync(path, stat.atime, share(random) < 0.4 ? wholeSecond(stat.mtimeMs) : later)
}

/** The only times that utimes sets exactly. */
export function wholeSecond(ms: number): number {
  return Math.floor(ms / 1000)
}

/** Times that can be put back. */
export function stampWhole(dir: string): void {
  for (const path of everyPath(dir)) {
    const { mtimeMs } = lstatSync(join(dir, path))
    if (!lstatSync(join(dir, path)).isSymbolicLink())
      utimesSync(join(dir, path), wholeSecond(mtimeMs), wholeSecond(mtimeMs))
  }
}
