/**
 * Answers what kith-fuse asks about `.snapshots`, from the snapshots of one volume. Read-only, and stateless: a request
 * names its file by the path from `.snapshots` down, so that a daemon that was started again answers as the one before.
 *
 * Inode numbers: those of the live tree must not come back, or cp would take a file and its snapshot for one file, and
 * diff would not compare two snapshots. So each snapshot has a random pad (from its id) over its inode numbers, and bit
 * 63 set: within a snapshot hard links keep one number and nothing else shares one, and a snapshot's numbers never
 * change.
 */
import { constants } from 'node:os'
import { sleep, type Clock } from '../base/clock.js'
import { asKithError } from '../base/errors.js'
import type { Log } from '../base/log.js'
import {
  frameTypes,
  maxPayloadBytes,
  maxReadBytes,
  readPath,
  readText,
  smallFileBytes,
  writeAttributes,
  writeText,
  type BridgeAttributes,
} from '../format/bridge.js'
import { Reader, Writer } from '../format/bytes.js'
import { extentBytes, type Entry, type EntryType, type FileEntry } from '../format/entry.js'
import { hash } from '../format/hash.js'
import { WeightedCache } from '../store/lru.js'
import { offeredNames, type Offers } from './snapshot-names.js'
import type { SnapshotCatalog, SnapshotListing } from './types.js'

/** An answer to kith-fuse: an errno, 0 for none, and the body. */
export interface Answer {
  errno: number
  body: Buffer
}

/** A file or directory in a snapshot. */
interface Found {
  entry: Entry
  /** xor over its inode number */
  pad: bigint
}

function emptyCaches() {
  return {
    /** by path */
    entries: new WeightedCache<Found>(cachedEntries, () => 1),
    /** by path and number of the window */
    windows: new WeightedCache<Buffer>(cachedWindowBytes, (bytes) => bytes.length + 64),
    /** by path: where the last read ended */
    readers: new WeightedCache<{ end: number }>(cachedReaders, () => 1),
  }
}

class Errno extends Error {
  constructor(readonly errno: number) {
    super()
  }
}

const { EAGAIN, EINVAL, EIO, ENODATA, ENOENT, ENOTDIR, ENXIO } = constants.errno
const typeBits: Record<EntryType, number> = {
  file: 0o100000,
  directory: 0o040000,
  symlink: 0o120000,
  fifo: 0o010000,
  socket: 0o140000,
  character: 0o020000,
  block: 0o060000,
}
const snapshotBit = 1n << 63n
const padMask = snapshotBit - 1n
const blockBytes = 512
const cachedEntries = 8192
const cachedReaders = 256
const listBatch = 1000
/** At most so many files are sent with one, and those that take longer to come than so are left out. */
const filesAhead = 64
const aheadMs = 50
/** Room that a batch of a listing may take, so that it surely fits a frame. */
const listBytes = maxPayloadBytes - 1024
/** The pieces in which files are read ahead, and how many pieces ahead of a sequential reader. */
const windowBytes = 1024 * 1024
const windowsAhead = 3
const cachedWindowBytes = 16 * 1024 * 1024

export class SnapshotFs {
  readonly #catalog: SnapshotCatalog
  readonly #clock: Clock
  readonly #log: Log
  #caches = emptyCaches()
  #offered: Offers | undefined

  constructor({ catalog, clock, log }: { catalog: SnapshotCatalog; clock: Clock; log: Log }) {
    this.#catalog = catalog
    this.#clock = clock
    this.#log = log
  }

  /** A snapshot came or went. A name that is used again means another one. */
  listChanged(): void {
    this.#caches = emptyCaches()
    this.#offered = undefined
  }

  /** Never rejects. */
  async answer(type: number, payload: Buffer): Promise<Answer> {
    try {
      const from = new Reader(payload, 'request of kith-fuse')
      const path = readPath(from)
      return { errno: 0, body: await this.#perform(type, path, from) }
    } catch (error) {
      return { errno: this.#errnoOf(error), body: Buffer.alloc(0) }
    }
  }

  #errnoOf(error: unknown): number {
    if (error instanceof Errno) return error.errno
    const { code, message } = asKithError(error)
    // The message names the block, never the file.
    this.#log.error({ code, error: message }, 'a snapshot could not be read')
    if (code === 'noPartners' || code === 'timeout') return EAGAIN
    return EIO
  }

  async #perform(type: number, path: Buffer[], from: Reader): Promise<Buffer> {
    switch (type) {
      case frameTypes.lookup:
        return this.#lookup(path, readText(from))
      case frameTypes.getattr:
        return this.#getattr(path)
      case frameTypes.readdir:
        return this.#readdir(path, readText(from))
      case frameTypes.read:
        return this.#read(path, from.number(), from.u32())
      case frameTypes.readlink:
        return this.#readlink(path)
      case frameTypes.getxattr:
        return this.#getxattr(path, readText(from))
      case frameTypes.listxattr:
        return this.#listxattr(path)
      case frameTypes.seek:
        return this.#seek(path, from.number(), from.u32() === 1)
      case frameTypes.files:
        return this.#files(path, readText(from), from.u32())
      default:
        throw new Errno(EINVAL)
    }
  }

  // ---- finding

  /** Kept until the list changes, since every path that leads through `.snapshots` asks. */
  #offers(): Offers {
    return (this.#offered ??= offeredNames(this.#catalog.list()))
  }

  #snapshot(name: Buffer): SnapshotListing {
    const wanted = name.toString('latin1')
    const snapshot = this.#offers().byName.get(wanted)?.snapshot
    if (snapshot?.name !== wanted) throw new Errno(ENOENT)
    return snapshot
  }

  /** The entry at a path that begins with the exact name of a snapshot. */
  async #find(path: Buffer[]): Promise<Found> {
    const name = path[path.length - 1]
    if (!name) throw new Errno(EINVAL)
    return this.#caches.entries.through(keyOf(path), async () => {
      if (path.length === 1) return this.#root(this.#snapshot(name))
      return this.#child(await this.#find(path.slice(0, -1)), name)
    })
  }

  async #root(snapshot: SnapshotListing): Promise<Found> {
    const pad = hash('kith snapshot inodes', Buffer.from(snapshot.id)).readBigUInt64LE(0)
    return { entry: await this.#catalog.reader().snapshot(snapshot.name), pad }
  }

  async #child({ entry: directory, pad }: Found, name: Buffer): Promise<Found> {
    if (directory.type !== 'directory') throw new Errno(ENOTDIR)
    const entry = await this.#catalog.reader().lookup(directory, name)
    if (!entry) throw new Errno(ENOENT)
    return { entry, pad }
  }

  // ---- operations

  async #lookup(path: Buffer[], name: Buffer): Promise<Buffer> {
    const out = new Writer(128)
    if (path.length > 0) {
      writeAttributes(out, attributesOf(await this.#find([...path, name])))
      writeText(out, Buffer.alloc(0))
      return out.finish()
    }
    const wanted = name.toString('latin1')
    const offered = this.#offers().byName.get(wanted)
    if (!offered) throw new Errno(ENOENT)
    const canonical = Buffer.from(offered.snapshot.name)
    writeAttributes(out, attributesOf(await this.#find([canonical])))
    writeText(out, canonical)
    return out.finish()
  }

  async #getattr(path: Buffer[]): Promise<Buffer> {
    const out = new Writer(128)
    writeAttributes(out, attributesOf(await this.#find(path)))
    return out.finish()
  }

  async #readdir(path: Buffer[], after: Buffer): Promise<Buffer> {
    const listed = path.length === 0 ? await this.#names(after) : await this.#entriesOf(path, after)
    const out = new Writer(64 * 1024)
    let count = 0
    for (const { name, found, canonical } of listed.entries) {
      if (out.length + 128 + name.length + canonical.length > listBytes) break
      writeAttributes(out, attributesOf(found))
      writeText(out, name)
      writeText(out, canonical)
      count++
    }
    const head = Buffer.alloc(8)
    head.writeUInt32LE(count, 0)
    head.writeUInt32LE(listed.end && count === listed.entries.length ? 1 : 0, 4)
    return Buffer.concat([head, out.finish()])
  }

  async #names(after: Buffer): Promise<Listed> {
    const wanted = after.toString('latin1')
    const offers = this.#offers().names.filter((offer) => wanted === '' || offer.name > wanted)
    const entries = []
    for (const { name, snapshot } of offers.slice(0, listBatch)) {
      const canonical = Buffer.from(snapshot.name)
      entries.push({
        name: Buffer.from(name),
        found: await this.#find([canonical]),
        canonical,
      })
    }
    return { entries, end: offers.length <= listBatch }
  }

  async #entriesOf(path: Buffer[], after: Buffer): Promise<Listed> {
    const { entry: directory, pad } = await this.#find(path)
    if (directory.type !== 'directory') throw new Errno(ENOTDIR)
    const from = after.length > 0 ? after : undefined
    const entries = await this.#catalog.reader().list(directory, from, listBatch)
    const prefix = keyOf(path)
    const listed = entries.map((entry) => {
      const found = { entry, pad }
      this.#caches.entries.set(`${prefix}/${entry.name.toString('latin1')}`, found)
      return { name: entry.name, found, canonical: Buffer.alloc(0) }
    })
    return { entries: listed, end: entries.length < listBatch }
  }

  async #readlink(path: Buffer[]): Promise<Buffer> {
    const { entry } = await this.#find(path)
    if (entry.type !== 'symlink') throw new Errno(EINVAL)
    return entry.target
  }

  async #getxattr(path: Buffer[], name: Buffer): Promise<Buffer> {
    const { entry } = await this.#find(path)
    const found = entry.xattrs.find(([key]) => key.equals(name))
    if (!found) throw new Errno(ENODATA)
    return found[1]
  }

  async #listxattr(path: Buffer[]): Promise<Buffer> {
    if (path.length === 0) return Buffer.alloc(0)
    const { entry } = await this.#find(path)
    return Buffer.concat(entry.xattrs.flatMap(([key]) => [key, Buffer.alloc(1)]))
  }

  async #seek(path: Buffer[], offset: number, hole: boolean): Promise<Buffer> {
    const file = fileOf(await this.#find(path))
    if (offset >= file.size) throw new Errno(ENXIO)
    const out = Buffer.alloc(8)
    out.writeBigUInt64LE(BigInt(await this.#seekIn(file, offset, hole)))
    return out
  }

  async #seekIn(file: FileEntry, offset: number, hole: boolean): Promise<number> {
    if (file.content.kind !== 'inline') {
      for await (const piece of this.#catalog.reader().pieces(file, offset)) {
        if ((piece.extent.kind === 'hole') === hole) return Math.max(piece.offset, offset)
      }
    } else if (!hole) {
      return offset
    }
    // Every file ends with a hole, and none that was asked for may have more data.
    if (hole) return file.size
    throw new Errno(ENXIO)
  }

  // ---- reading

  /** Small and scattered reads get what they ask for; a sequential reader is read ahead for. */
  async #read(path: Buffer[], offset: number, length: number): Promise<Buffer> {
    const file = fileOf(await this.#find(path))
    const end = Math.min(offset + Math.min(length, maxReadBytes), file.size)
    if (end <= offset) return Buffer.alloc(0)
    const key = keyOf(path)
    const known = this.#caches.readers.get(key)
    const sequential = offset === 0 || (known !== undefined && Math.abs(offset - known.end) <= windowBytes)
    this.#caches.readers.set(key, { end })
    if (!sequential || file.size <= windowBytes)
      return this.#catalog.reader().read(file, offset, end - offset)
    const first = Math.floor(offset / windowBytes)
    const last = Math.floor((end - 1) / windowBytes)
    const wanted = []
    for (let window = first; window <= last; window++) wanted.push(this.#window(key, file, window))
    for (let window = last + 1; window <= last + windowsAhead; window++) {
      // A failure is met again by the read that wants it.
      if (window * windowBytes < file.size) this.#window(key, file, window).catch(() => undefined)
    }
    const windows = await Promise.all(wanted)
    const bytes = windows.length === 1 && windows[0] ? windows[0] : Buffer.concat(windows)
    return bytes.subarray(offset - first * windowBytes, end - first * windowBytes)
  }

  /** A small file, and those after it as far as they are small, fit the answer, and are quickly had. */
  async #files(path: Buffer[], name: Buffer, count: number): Promise<Buffer> {
    const { entry: directory } = await this.#find(path)
    const first = fileOf(await this.#find([...path, name]))
    const limit = Math.min(count, filesAhead) - 1
    const listed = limit > 0 ? await this.#catalog.reader().list(directory, name, limit) : []
    const got = new Map<Buffer, Buffer>()
    let room = maxPayloadBytes - 1024
    const read = async (file: FileEntry) => {
      got.set(file.name, await this.#catalog.reader().read(file, 0, file.size))
    }
    const started: Promise<void>[] = []
    for (const file of [first, ...listed]) {
      if (file.type !== 'file' || file.size > smallFileBytes) continue
      room -= file.size + file.name.length + 6
      if (room < 0) break
      started.push(read(file))
    }
    const others = Promise.allSettled(started.slice(1))
    await started[0]
    await Promise.race([others, sleep(this.#clock, aheadMs)])
    const out = new Writer(64 * 1024)
    for (const [file, bytes] of got) {
      writeText(out, file)
      out.u32(bytes.length).raw(bytes)
    }
    return out.finish()
  }

  #window(key: string, file: FileEntry, window: number): Promise<Buffer> {
    return this.#caches.windows.through(`${key}/${window}`, () =>
      this.#catalog.reader().read(file, window * windowBytes, windowBytes),
    )
  }
}

interface Listed {
  entries: { name: Buffer; found: Found; canonical: Buffer }[]
  end: boolean
}

function keyOf(path: Buffer[]): string {
  return path.map((name) => name.toString('latin1')).join('/')
}

function fileOf({ entry }: Found): FileEntry {
  if (entry.type !== 'file') throw new Errno(EINVAL)
  return entry
}

function attributesOf({ entry, pad }: Found): BridgeAttributes {
  return {
    ino: ((entry.ino ^ pad) & padMask) | snapshotBit,
    size: entry.type === 'symlink' ? entry.target.length : entry.size,
    blocks: blocksOf(entry),
    mtimeNs: entry.mtimeNs,
    mode: typeBits[entry.type] | entry.mode,
    nlink: entry.nlink,
    uid: entry.uid,
    gid: entry.gid,
    xattrs: entry.xattrs.length,
    rdev: entry.type === 'character' || entry.type === 'block' ? entry.rdev : 0n,
  }
}

/**
 * Exact where the entry holds its extents. A longer list would have to be walked; there, one block less than the size
 * needs is reported, so that programs that copy sparse files ask where the holes are, which they do only then.
 */
function blocksOf(entry: Entry): number {
  if (entry.type !== 'file') return 0
  const { content, size } = entry
  if (content.kind === 'list') return Math.max(Math.floor(size / blockBytes) - 1, 0)
  if (content.kind === 'inline') return Math.ceil(size / blockBytes)
  return content.extents.reduce(
    (sum, extent) => sum + (extent.kind === 'hole' ? 0 : Math.ceil(extentBytes(extent) / blockBytes)),
    0,
  )
}
