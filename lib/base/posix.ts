/**
 * System calls that Node lacks, by the addon of native/posix: names as bytes, relative to an open directory, statuses
 * with nanoseconds, extended attributes.
 *
 * Nothing here follows a symlink, except `openRoot` on the path it is given. A name is one component (1 to 255 bytes,
 * no slash, no NUL, not `.` or `..`), so that no hostile name leaves the directory; any other name is a TypeError.
 * System errors are Errors with `code` ('ENOENT'), `errno` (negative, as Node has it) and `syscall`; the message
 * holds no file name. Calls are synchronous unless they return a promise. Descriptors are plain numbers: reading and
 * writing through them is node:fs's part (fs.read, fs.write, fs.ftruncate, fs.fdatasync).
 */
import { createRequire } from 'node:module'
import { constants } from 'node:fs'
import { endianness } from 'node:os'
import { assert } from './errors.js'
import { Gathering } from './gathering.js'
import { nativeFile } from './native-files.js'

export interface FileStat {
  dev: bigint
  ino: bigint
  /** type and permission bits, as in struct stat */
  mode: number
  nlink: number
  uid: number
  gid: number
  rdev: bigint
  /** bytes */
  size: number
  /** of 512 bytes */
  blocks: number
  atimeNs: bigint
  mtimeNs: bigint
  ctimeNs: bigint
  /** 0n where the file system keeps none */
  btimeNs: bigint
  /** 0n before Linux 5.8 */
  mountId: bigint
}

export interface DirectoryEntry {
  name: Buffer
  stat: FileStat
}

/** An extended attribute: its name with the namespace (`user.x`), and its value. */
export type Xattr = [name: Buffer, value: Buffer]

interface Addon {
  O_PATH: number
  stat(fd: number, name: Buffer | null, out: Buffer): void
  statIfAny(fd: number, name: Buffer, out: Buffer): boolean
  openRoot(path: Buffer): number
  open(dirFd: number, name: Buffer, flags: number, mode: number): number
  close(fd: number): void
  readlink(dirFd: number, name: Buffer): Buffer
  mkdir(dirFd: number, name: Buffer, mode: number): void
  mknod(dirFd: number, name: Buffer, mode: number, rdev: bigint): void
  symlink(target: Buffer, dirFd: number, name: Buffer): void
  link(oldDirFd: number, oldName: Buffer, newDirFd: number, newName: Buffer): void
  unlink(dirFd: number, name: Buffer, directory: number): void
  rename(oldDirFd: number, oldName: Buffer, newDirFd: number, newName: Buffer, flags: number): void
  chown(fd: number, name: Buffer | null, uid: number, gid: number): void
  chmod(fd: number, name: Buffer | null, mode: number): void
  utimes(fd: number, name: Buffer | null, atimeNs: bigint | undefined, mtimeNs: bigint | undefined): void
  seekData(fd: number, offset: number): number
  seekHole(fd: number, offset: number): number
  peerCredentials(fd: number): [number, number, number]
  flockExclusive(fd: number): boolean
  giveBackMemory(): void
  keepMemory(bytes: number): void
  letGoOfMapped(path: Buffer): void
  dropCached(fd: number): void
  reopenDirectory(fd: number): number
  placeFiles(
    heads: Buffer,
    temporaries: Buffer[],
    names: Buffer[],
    data: Buffer[],
  ): Promise<(number | Error)[]>
  readCached(fd: number, into: Buffer, position: number): number
  readSmall(request: Buffer, at: number, memory: Buffer, used: number, limit: number, found: Buffer): void
  readBatches(fds: Buffer): Promise<(Buffer | Error)[]>
  syncFileSystem(fd: Buffer): Promise<(Buffer | Error)[]>
  xattrs(fd: number, name: Buffer | null): Buffer[]
  setXattr(fd: number, name: Buffer | null, key: Buffer, value: Buffer): void
  removeXattr(fd: number, name: Buffer | null, key: Buffer): void
}

const addon = createRequire(import.meta.url)(nativeFile('posix.node')) as Addon

/** A descriptor that names a file without opening it: for status and attributes whatever its mode and type. */
export const O_PATH = addon.O_PATH
/** renameat2(2): fail with EEXIST rather than replace. */
export const RENAME_NOREPLACE = 1
/** renameat2(2): swap the two. */
export const RENAME_EXCHANGE = 2

// The layout of native/posix/stat.h: eight 64-bit integers, then six doubles.
const statWords = 14
const scratch = Buffer.alloc(statWords * 8)
const scratchIntegers = new BigInt64Array(scratch.buffer, scratch.byteOffset, statWords)
const scratchDoubles = new Float64Array(scratch.buffer, scratch.byteOffset, statWords)

function decodeStat(integers: BigInt64Array, doubles: Float64Array, at: number): FileStat {
  return {
    dev: BigInt.asUintN(64, integers[at] ?? 0n),
    ino: BigInt.asUintN(64, integers[at + 1] ?? 0n),
    rdev: BigInt.asUintN(64, integers[at + 2] ?? 0n),
    atimeNs: integers[at + 3] ?? 0n,
    mtimeNs: integers[at + 4] ?? 0n,
    ctimeNs: integers[at + 5] ?? 0n,
    btimeNs: integers[at + 6] ?? 0n,
    mountId: BigInt.asUintN(64, integers[at + 7] ?? 0n),
    mode: doubles[at + 8] ?? 0,
    nlink: doubles[at + 9] ?? 0,
    uid: doubles[at + 10] ?? 0,
    gid: doubles[at + 11] ?? 0,
    size: doubles[at + 12] ?? 0,
    blocks: doubles[at + 13] ?? 0,
  }
}

// ---- opening and status

/** Opens a directory by its path, following symlinks on the way. The one call that takes a path. */
export function openRoot(path: string | Buffer): number {
  return addon.openRoot(typeof path === 'string' ? Buffer.from(path) : path)
}

/**
 * openat(2) with O_CLOEXEC and O_NOFOLLOW added: a symlink gives ELOOP (or, with O_PATH, itself). Give O_NONBLOCK
 * when the name may be a fifo. Flags are those of fs.constants.
 */
export function openAt(dirFd: number, name: Buffer, flags: number, mode = 0o600): number {
  return addon.open(dirFd, name, flags, mode)
}

/** Opens the directory `name` to read and to work below. */
export function openDirectoryAt(dirFd: number, name: Buffer): number {
  return addon.open(dirFd, name, constants.O_RDONLY | constants.O_DIRECTORY, 0)
}

/** The directory once more, by a descriptor of its own. */
export function reopenDirectory(fd: number): number {
  return addon.reopenDirectory(fd)
}

export function close(fd: number): void {
  addon.close(fd)
}

export function statAt(dirFd: number, name: Buffer): FileStat {
  addon.stat(dirFd, name, scratch)
  return decodeStat(scratchIntegers, scratchDoubles, 0)
}

export function statFd(fd: number): FileStat {
  addon.stat(fd, null, scratch)
  return decodeStat(scratchIntegers, scratchDoubles, 0)
}

/** The status of `name`, or undefined where there is no such name. */
export function statIfAny(dirFd: number, name: Buffer): FileStat | undefined {
  return addon.statIfAny(dirFd, name, scratch) ? decodeStat(scratchIntegers, scratchDoubles, 0) : undefined
}

/** The `code` of a system error, like 'ENOENT'; undefined for any other error. */
export function errnoCode(error: unknown): string | undefined {
  if (!(error instanceof Error) || !('errno' in error) || !('code' in error)) return undefined
  return String(error.code)
}

// ---- directories

/** A status of a batch: its fields are read when they are asked for, as of a first backup's files few are. */
class ListedStat implements FileStat {
  readonly #integers: BigInt64Array
  readonly #doubles: Float64Array
  readonly #at: number

  constructor(integers: BigInt64Array, doubles: Float64Array, at: number) {
    this.#integers = integers
    this.#doubles = doubles
    this.#at = at
  }

  get dev() {
    return BigInt.asUintN(64, this.#integers[this.#at] ?? 0n)
  }
  get ino() {
    return BigInt.asUintN(64, this.#integers[this.#at + 1] ?? 0n)
  }
  get rdev() {
    return BigInt.asUintN(64, this.#integers[this.#at + 2] ?? 0n)
  }
  get atimeNs() {
    return this.#integers[this.#at + 3] ?? 0n
  }
  get mtimeNs() {
    return this.#integers[this.#at + 4] ?? 0n
  }
  get ctimeNs() {
    return this.#integers[this.#at + 5] ?? 0n
  }
  get btimeNs() {
    return this.#integers[this.#at + 6] ?? 0n
  }
  get mountId() {
    return BigInt.asUintN(64, this.#integers[this.#at + 7] ?? 0n)
  }
  get mode() {
    return this.#doubles[this.#at + 8] ?? 0
  }
  get nlink() {
    return this.#doubles[this.#at + 9] ?? 0
  }
  get uid() {
    return this.#doubles[this.#at + 10] ?? 0
  }
  get gid() {
    return this.#doubles[this.#at + 11] ?? 0
  }
  get size() {
    return this.#doubles[this.#at + 12] ?? 0
  }
  get blocks() {
    return this.#doubles[this.#at + 13] ?? 0
  }
}

function decodeBatch(bytes: Buffer): DirectoryEntry[] {
  assert(bytes.byteOffset % 8 === 0 && bytes.length % 8 === 0, 'a batch is aligned')
  const integers = new BigInt64Array(bytes.buffer, bytes.byteOffset, bytes.length / 8)
  const doubles = new Float64Array(bytes.buffer, bytes.byteOffset, bytes.length / 8)
  const entries: DirectoryEntry[] = []
  for (let at = 1; at < integers.length;) {
    const length = doubles[at + statWords] ?? 0
    const start = (at + statWords + 1) * 8
    // Copied, so that an entry that is kept does not keep its whole batch.
    const name = Buffer.from(bytes.subarray(start, start + length))
    entries.push({ name, stat: new ListedStat(integers, doubles, at) })
    at += statWords + 1 + Math.ceil(length / 8)
  }
  return entries
}

/**
 * The entries of the directory with their statuses, some thousands at a time, in the order of the file system, without
 * `.` and `..`. Read in the thread pool; the position of `fd` itself is not used, so several may read at once.
 */
export async function* readDirectoryBatches(fd: number): AsyncGenerator<DirectoryEntry[]> {
  const own = addon.reopenDirectory(fd)
  try {
    for (;;) {
      const bytes = await readBatch(own)
      const entries = decodeBatch(bytes)
      if (entries.length > 0) yield entries
      if (bytes[0] === 1) return
    }
  } finally {
    addon.close(own)
  }
}

interface Reading {
  fd: number
  resolve: (batch: Buffer) => void
  reject: (error: Error) => void
}

let readings: Reading[] = []
/** Pieces of work that what is asked for within one turn makes. */
const worksAtOnce = 2

/** What the directory has from the descriptor's position on. What is asked for within one turn goes to the pool together. */
function readBatch(fd: number): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    if (readings.push({ fd, resolve, reject }) === 1) setImmediate(readTogether)
  })
}

function readTogether(): void {
  const all = readings
  readings = []
  const each = Math.ceil(all.length / worksAtOnce)
  for (let at = 0; at < all.length; at += each) {
    const some = all.slice(at, at + each)
    const fds = Int32Array.from(some, ({ fd }) => fd)
    addon.readBatches(Buffer.from(fds.buffer)).then(
      (found) =>
        some.forEach(({ resolve, reject }, i) => {
          const batch = found[i]
          if (Buffer.isBuffer(batch)) resolve(batch)
          else reject(batch ?? new Error('a batch is missing'))
        }),
      (error: unknown) => some.forEach(({ reject }) => reject(error as Error)),
    )
  }
}

/** All entries at once, by the position of the descriptor itself: nobody else reads through it, and it is at its beginning. */
export async function readOwnDirectory(fd: number): Promise<DirectoryEntry[]> {
  let all: DirectoryEntry[] | undefined
  for (;;) {
    const bytes = await readBatch(fd)
    const entries = decodeBatch(bytes)
    if (!all) all = entries
    else for (const entry of entries) all.push(entry)
    if (bytes[0] === 1) return all
  }
}

/** All entries at once. For directories that may be huge, use the batches. */
export async function readDirectory(fd: number): Promise<DirectoryEntry[]> {
  const all: DirectoryEntry[] = []
  for await (const batch of readDirectoryBatches(fd)) for (const entry of batch) all.push(entry)
  return all
}

export function readlinkAt(dirFd: number, name: Buffer): Buffer {
  return addon.readlink(dirFd, name)
}

export function mkdirAt(dirFd: number, name: Buffer, mode = 0o777): void {
  addon.mkdir(dirFd, name, mode)
}

/** @param mode with the type's bits, like S_IFIFO | 0o644; the umask applies */
export function mknodAt(dirFd: number, name: Buffer, mode: number, rdev = 0n): void {
  addon.mknod(dirFd, name, mode, rdev)
}

export function symlinkAt(target: Buffer, dirFd: number, name: Buffer): void {
  addon.symlink(target, dirFd, name)
}

export function linkAt(oldDirFd: number, oldName: Buffer, newDirFd: number, newName: Buffer): void {
  addon.link(oldDirFd, oldName, newDirFd, newName)
}

export function unlinkAt(dirFd: number, name: Buffer): void {
  addon.unlink(dirFd, name, 0)
}

export function rmdirAt(dirFd: number, name: Buffer): void {
  addon.unlink(dirFd, name, 1)
}

/** @param flags RENAME_NOREPLACE or RENAME_EXCHANGE */
export function renameAt(
  oldDirFd: number,
  oldName: Buffer,
  newDirFd: number,
  newName: Buffer,
  flags = 0,
): void {
  addon.rename(oldDirFd, oldName, newDirFd, newName, flags)
}

// ---- attributes: of a name in a directory, or of an open descriptor (O_PATH too)

export function chownAt(dirFd: number, name: Buffer, uid: number, gid: number): void {
  addon.chown(dirFd, name, uid, gid)
}

export function chownFd(fd: number, uid: number, gid: number): void {
  addon.chown(fd, null, uid, gid)
}

/** @param mode 07777 bits. EOPNOTSUPP on a symlink. */
export function chmodAt(dirFd: number, name: Buffer, mode: number): void {
  addon.chmod(dirFd, name, mode)
}

export function chmodFd(fd: number, mode: number): void {
  addon.chmod(fd, null, mode)
}

/** Nanoseconds since 1970, may be negative; undefined leaves a time as it is. */
export function utimesAt(
  dirFd: number,
  name: Buffer,
  atimeNs: bigint | undefined,
  mtimeNs: bigint | undefined,
): void {
  addon.utimes(dirFd, name, atimeNs, mtimeNs)
}

export function utimesFd(fd: number, atimeNs: bigint | undefined, mtimeNs: bigint | undefined): void {
  addon.utimes(fd, null, atimeNs, mtimeNs)
}

function pairs(list: Buffer[]): Xattr[] {
  const all: Xattr[] = []
  for (let i = 0; i + 1 < list.length; i += 2) all.push([list[i] as Buffer, list[i + 1] as Buffer])
  return all
}

/** All extended attributes that this process may see, in the order of the file system; none where it has none. */
export function xattrsAt(dirFd: number, name: Buffer): Xattr[] {
  return pairs(addon.xattrs(dirFd, name))
}

export function xattrsFd(fd: number): Xattr[] {
  return pairs(addon.xattrs(fd, null))
}

export function setXattrAt(dirFd: number, name: Buffer, key: Buffer, value: Buffer): void {
  addon.setXattr(dirFd, name, key, value)
}

export function setXattrFd(fd: number, key: Buffer, value: Buffer): void {
  addon.setXattr(fd, null, key, value)
}

export function removeXattrAt(dirFd: number, name: Buffer, key: Buffer): void {
  addon.removeXattr(dirFd, name, key)
}

export function removeXattrFd(fd: number, key: Buffer): void {
  addon.removeXattr(fd, null, key)
}

// ---- whole files

export interface PlacedAttributes {
  uid: number
  gid: number
  /** 07777 bits */
  mode: number
  mtimeNs: bigint
  /** RENAME_NOREPLACE, or 0 */
  renameFlags: number
}

export interface PlacedFile {
  dirFd: number
  /** what it is called until it is complete, where the file system has no files without a name */
  temporary: Buffer
  name: Buffer
  /** must not change meanwhile */
  bytes: Buffer
  attributes: PlacedAttributes | undefined
}

/**
 * In the thread pool, one after the other: makes a file (mode 0600), writes its bytes, gives it its attributes and then its
 * name. Of each: -1 when all is done; the descriptor of the file, complete and locked, but under its temporary name, when there
 * are no `attributes`, or when one of them or the name was refused: set them by the other calls, which tell why; an Error when it could not
 * be made or written, and the temporary name may be there then.
 */
export function placeFiles(files: PlacedFile[]): Promise<(number | Error)[]> {
  const heads = Buffer.alloc(files.length * placedHeadBytes)
  const view = new DataView(heads.buffer, heads.byteOffset, heads.length)
  files.forEach(({ dirFd, attributes }, i) => {
    const at = i * placedHeadBytes
    view.setInt32(at, dirFd, littleEndian)
    if (!attributes) return
    const { uid, gid, mode, renameFlags, mtimeNs } = attributes
    view.setUint32(at + 4, 1, littleEndian)
    view.setUint32(at + 8, uid, littleEndian)
    view.setUint32(at + 12, gid, littleEndian)
    view.setUint32(at + 16, mode, littleEndian)
    view.setUint32(at + 20, renameFlags, littleEndian)
    view.setBigInt64(at + 24, mtimeNs, littleEndian)
  })
  return addon.placeFiles(
    heads,
    files.map(({ temporary }) => temporary),
    files.map(({ name }) => name),
    files.map(({ bytes }) => bytes),
  )
}

/** placeFiles of one, with others of the same turn; what could not be made or written rejects. */
export function placeFile(file: PlacedFile): Promise<number> {
  return placing.add(file)
}

/** Files that are placed by one thread, one after the other. */
const placing = new Gathering<PlacedFile, number>(placeFiles, {
  items: 8,
  bytes: 256 * 1024,
  bytesOf: ({ bytes }) => bytes.length,
})

/** Of a file in the list that goes to native/posix/files.cc. */
const placedHeadBytes = 32

const littleEndian = endianness() === 'LE'

/**
 * Reads bytes of a file that are in memory already, without waiting for the disk: how many, 0 at the end of the file, or
 * undefined where one would have to wait (then read with node:fs).
 */
export function readCached(fd: number, into: Buffer, position: number): number | undefined {
  const got = addon.readCached(fd, into, position)
  return got < 0 ? undefined : got
}

/** Why readSmall came to an end: all items are done, there is no room for the next, or it is for the caller. */
export const smallStops = { end: 0, noRoom: 1, special: 2 } as const

/**
 * Reads small files one after the other into one memory, with their attributes. native/posix/intake.cc has the layouts of
 * items and of what is found; an item that is no plain file of at most `limit` bytes is left to the caller.
 */
export function readSmall(
  request: Buffer,
  at: number,
  memory: Buffer,
  used: number,
  limit: number,
  found: Buffer,
): void {
  addon.readSmall(request, at, memory, used, limit, found)
}

// ---- descriptors

/** The first byte of data at or after `offset`, or -1 when there is none up to the end. Moves the file position. */
export function seekData(fd: number, offset: number): number {
  return addon.seekData(fd, offset)
}

/** The first hole at or after `offset` (the end of the file counts as one), or -1 beyond the end. Moves the position. */
export function seekHole(fd: number, offset: number): number {
  return addon.seekHole(fd, offset)
}

/** Writes out everything of the file system that holds `fd` (syncfs(2)), in the thread pool. */
export async function syncFileSystem(fd: number): Promise<void> {
  const [done] = await addon.syncFileSystem(Buffer.from(Int32Array.of(fd).buffer))
  if (done instanceof Error) throw done
}

export interface PeerCredentials {
  pid: number
  uid: number
  gid: number
}

/** Who connected the Unix socket `fd`, by the kernel's word (SO_PEERCRED). */
export function peerCredentials(fd: number): PeerCredentials {
  const [pid, uid, gid] = addon.peerCredentials(fd)
  return { pid, uid, gid }
}

/** Locks the open file for this process; false when another has it. Held until the descriptor is closed. */
export function flockExclusive(fd: number): boolean {
  return addon.flockExclusive(fd)
}

// ---- memory

/** Gives back to the system what the allocator keeps for later; some ten milliseconds when that is much. */
export function giveBackMemory(): void {
  addon.giveBackMemory()
}

/** How much of the memory that is freed at one end of a heap of the allocator's stays with it, for the process; each thread has a heap. */
const keptBytes = 64 * 1024 * 1024

/**
 * From now on the allocator keeps what is freed, as far as this bound, until giveBackMemory(): what is large and short-lived, as the
 * blocks that threads send each other, lies in pages that were touched before. By itself it gives back what is freed at once,
 * and V8's collector frees many Buffers at once. A page that is touched for the first time costs as much as sealing what goes into it.
 */
export function keepMemory(): void {
  addon.keepMemory(keptBytes)
}

/**
 * Pages of this file that are mapped for reading leave this process' memory: they stay in the system's cache, and come back
 * when they are read. To be called by the thread that maps the file.
 */
export function letGoOfMapped(path: string): void {
  addon.letGoOfMapped(Buffer.from(path))
}

/** The kernel need not keep the file's pages in memory any longer: nobody is going to read them soon. */
export function dropCached(fd: number): void {
  addon.dropCached(fd)
}
