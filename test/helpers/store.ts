/** A store of its own, a directory to protect, and the comparison of a snapshot with the directory itself. */
import { createHash } from 'node:crypto'
import { constants, mkdirSync, readSync } from 'node:fs'
import { join } from 'node:path'
import type { Test } from 'tap'
import type { Clock } from '../../lib/base/clock.js'
import { systemClock } from '../../lib/base/clock.js'
import { silentLog } from '../../lib/base/log.js'
import {
  close,
  openAt,
  openDirectoryAt,
  openRoot,
  readDirectory,
  readlinkAt,
  statFd,
  xattrsAt,
} from '../../lib/base/posix.js'
import type { Change, ChangeKind } from '../../lib/format/changes.js'
import { identityFrom } from '../../lib/format/keys.js'
import type { Entry } from '../../lib/format/node.js'
import { typeOf } from '../../lib/store/entries.js'
import { Store } from '../../lib/store/store.js'
import type { TreeReader } from '../../lib/store/tree-reader.js'
import type { Volume } from '../../lib/store/volume.js'

export const testIdentity = identityFrom(Buffer.alloc(32, 1), Buffer.alloc(32, 2))

export interface Fixture {
  /** of the protected directory */
  dir: string
  home: string
  rootFd: number
  store: Store
  volume: Volume
  /** Closes the store and opens it again. */
  reopen(): Promise<void>
}

/** Timers of sleeping code do not hold the process: the test does, until it ends. */
export function holdProcess(t: Test): void {
  const timer = setInterval(() => undefined, 1000)
  t.teardown(() => clearInterval(timer))
}

export async function protect(t: Test, clock: Clock = systemClock): Promise<Fixture> {
  holdProcess(t)
  const base = t.testdir()
  const dir = join(base, 'live')
  const home = join(base, 'home')
  mkdirSync(dir)
  const rootFd = openRoot(dir)
  const open = () => Store.open(home, { clock, log: silentLog(), identity: testIdentity, workers: 2 })
  const store = await open()
  const volume = await store.createVolume({ dir })
  const fixture: Fixture = {
    dir,
    home,
    rootFd,
    store,
    volume,
    async reopen() {
      await fixture.store.close()
      fixture.store = await open()
      fixture.volume = fixture.store.volumes()[0] as Volume
    },
  }
  t.teardown(async () => {
    await fixture.store.close()
    close(rootFd)
  })
  return fixture
}

export function change(kind: ChangeKind, ino: bigint, rest: Partial<Change> = {}): Change {
  return { kind, ino, parent: 0n, offset: 0, length: 0, ...rest }
}

function line(path: string, type: string, entry: Lined, rest: string): string {
  const xattrs = [...entry.xattrs]
    .sort(([a], [b]) => Buffer.compare(a, b))
    .map(([name, value]) => `${name.toString('latin1')}=${value.toString('hex')}`)
  const size = type === 'directory' ? 0 : entry.size
  return [path, type, (entry.mode & 0o7777).toString(8), entry.uid, entry.gid, entry.mtimeNs, size]
    .concat([entry.ino, type === 'directory' ? 0 : entry.nlink, xattrs.join(','), rest])
    .join(' ')
}

interface Lined {
  mode: number
  uid: number
  gid: number
  mtimeNs: bigint
  size: number
  ino: bigint
  nlink: number
  xattrs: [Buffer, Buffer][]
}

/** A line for each name below the snapshot's root, sorted: attributes, and a hash of the content. */
export async function linesOfSnapshot(reader: TreeReader, root: Entry, path = ''): Promise<string[]> {
  const lines: string[] = []
  for await (const batch of reader.batches(root)) {
    for (const entry of batch) {
      const at = `${path}/${entry.name.toString('latin1')}`
      let rest = ''
      if (entry.type === 'symlink') rest = entry.target.toString('latin1')
      if (entry.type === 'character' || entry.type === 'block') rest = String(entry.rdev)
      if (entry.type === 'file') {
        const hash = createHash('sha256')
        for (let offset = 0; offset < entry.size; offset += 1 << 20) {
          hash.update(await reader.read(entry, offset, 1 << 20))
        }
        rest = hash.digest('hex')
      }
      lines.push(line(at, entry.type, entry, rest))
      if (entry.type === 'directory') lines.push(...(await linesOfSnapshot(reader, entry, at)))
    }
  }
  return path === '' ? lines.sort() : lines
}

/** The same lines for what lies behind a directory's descriptor. */
export async function linesOfDirectory(fd: number, path = ''): Promise<string[]> {
  const lines: string[] = []
  for (const { name, stat } of await readDirectory(fd)) {
    const at = `${path}/${name.toString('latin1')}`
    const type = typeOf(stat) ?? 'unknown'
    let rest = ''
    if (type === 'symlink') rest = readlinkAt(fd, name).toString('latin1')
    if (type === 'character' || type === 'block') rest = String(stat.rdev)
    if (type === 'file') rest = hashOf(fd, name)
    const { mode, uid, gid, mtimeNs, size, ino, nlink } = stat
    const attributes = { mode, uid, gid, mtimeNs, size, ino, nlink, xattrs: xattrsAt(fd, name) }
    lines.push(line(at, type, attributes, rest))
    if (type === 'directory') {
      const below = openDirectoryAt(fd, name)
      lines.push(...(await linesOfDirectory(below, at)))
      close(below)
    }
  }
  return path === '' ? lines.sort() : lines
}

function hashOf(dirFd: number, name: Buffer): string {
  const fd = openAt(dirFd, name, constants.O_RDONLY)
  const hash = createHash('sha256')
  const buffer = Buffer.alloc(1 << 20)
  for (let got = readSync(fd, buffer); got > 0; got = readSync(fd, buffer))
    hash.update(buffer.subarray(0, got))
  close(fd)
  return hash.digest('hex')
}

/** Asserts that the snapshot is the directory, name by name; tells the first few differences. */
export async function sameAsDirectory(t: Test, { store, volume, rootFd }: Fixture, name = 'latest') {
  const reader = volume.reader(store.blocks)
  const snapshot = await linesOfSnapshot(reader, await reader.snapshot(name))
  const directory = await linesOfDirectory(rootFd)
  const there = new Set(directory)
  const here = new Set(snapshot)
  const missing = directory.filter((text) => !here.has(text)).slice(0, 3)
  const extra = snapshot.filter((text) => !there.has(text)).slice(0, 3)
  t.same({ missing, extra, count: snapshot.length }, { missing: [], extra: [], count: directory.length })
}

export function inoOf(dirFd: number, name?: string): bigint {
  if (name === undefined) return statFd(dirFd).ino
  const fd = openAt(dirFd, Buffer.from(name), constants.O_RDONLY)
  const { ino } = statFd(fd)
  close(fd)
  return ino
}
