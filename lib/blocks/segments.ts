/**
 * Append-only segment files of at most 64 MiB, which hold sealed blocks one after the other. Which record lies where is
 * the index's matter (block-store.ts); a record still carries its name and length, so that a segment can be read and
 * checked by itself.
 *
 * A record, little endian:
 *
 *     [0..4)    magic 0x4b4c424b ("KBLK")
 *     [4..36)   name, the hash of the sealed bytes
 *     [36..40)  length of the sealed bytes, u32, 1 to 1 MiB + 64
 *     [40..)    sealed bytes
 *
 * Files are named by their number: `00000001.seg`. A number is never used again while its file or index row exists.
 */
import { mkdirSync, readdirSync, statSync, writevSync } from 'node:fs'
import { open, rm, type FileHandle } from 'node:fs/promises'
import { join } from 'node:path'
import { directUnit } from '../base/direct.js'
import { assert, KithError } from '../base/errors.js'
import { reached } from '../base/persistence.js'
import { dropCached, readCached } from '../base/posix.js'
import { DirectFile } from './direct-file.js'

export const segmentBytes = 64 * 1024 * 1024
export const nameBytes = 32
/** A sealed block of 1 MiB of plaintext that did not compress, with its header, nonce and tag. */
export const maxBlockBytes = 1024 * 1024 + 64
export const headerBytes = 40
const magic = 0x4b4c424b

/** Bytes of records copied, and bytes of files given back beyond these. */
export interface Compacted {
  copied: number
  freed: number
}

export const nothingDone: Compacted = { copied: 0, freed: 0 }

export interface RecordHeader {
  name: Buffer
  /** Of the sealed bytes, without the header. */
  bytes: number
}

export function encodeHeader(name: Buffer, bytes: number): Buffer {
  assert(name.length === nameBytes, 'block names have 32 bytes')
  assert(bytes > 0 && bytes <= maxBlockBytes, 'blocks have 1 byte to 1 MiB + 64')
  const header = Buffer.allocUnsafe(headerBytes)
  header.writeUInt32LE(magic, 0)
  name.copy(header, 4)
  header.writeUInt32LE(bytes, 36)
  return header
}

/** The header, or undefined where none is. */
export function decodeHeader(header: Buffer): RecordHeader | undefined {
  if (header.length < headerBytes || header.readUInt32LE(0) !== magic) return undefined
  const bytes = header.readUInt32LE(36)
  if (bytes === 0 || bytes > maxBlockBytes) return undefined
  return { name: header.subarray(4, 36), bytes }
}

/** What is written without the thread pool. */
const littleBytes = 128 * 1024
/** IOV_MAX: parts that the kernel takes at once. */
const maxParts = 1024
/** From here on a cold write goes past the kernel's cache: with less, waiting for the disk costs more than the copy. */
const directBytes = 256 * 1024
/** How many files are kept open; a large store has thousands. */
const maxOpen = 32

export class Segments {
  /** In order of use, the least recent first. */
  private readonly handles = new Map<number, Promise<FileHandle>>()
  private readonly dir: string
  /** Made since their folder was last synced. */
  private readonly unnamed = new Set<number>()
  private readonly direct = new DirectFile()

  /** @param isCold what was written is not read soon: the kernel's memory is for others */
  constructor(
    dir: string,
    private readonly isCold = false,
  ) {
    this.dir = dir
    mkdirSync(dir, { recursive: true, mode: 0o700 })
  }

  /** Number and length of every file there is. */
  list(): { id: number; length: number }[] {
    return readdirSync(this.dir)
      .map((name) => ({ name, match: /^(\d{8,10})\.seg$/.exec(name) }))
      .filter(({ match }) => match !== null)
      .map(({ name, match }) => ({ id: Number(match?.[1]), length: statSync(join(this.dir, name)).size }))
  }

  /**
   * Writes all parts, one after the other, at `offset`: one write at a time. What a failed write left behind is overwritten by
   * the next at this offset.
   */
  async write(id: number, offset: number, parts: readonly Buffer[]): Promise<void> {
    try {
      const handle = await this.handle(id)
      reached('segmentWrite')
      if (this.isCold) await this.writeCold(handle, id, offset, parts)
      else await writeCached(handle, offset, parts)
    } catch (error) {
      throw writeError(error, this.dir)
    }
  }

  /** Past the kernel's cache, but for the ends that share a page with what lies before, or is to come. */
  private async writeCold(
    handle: FileHandle,
    id: number,
    offset: number,
    parts: readonly Buffer[],
  ): Promise<void> {
    const end = offset + parts.reduce((sum, part) => sum + part.length, 0)
    const first = Math.ceil(offset / directUnit) * directUnit
    const last = Math.floor(end / directUnit) * directUnit
    if (last - first < directBytes) return writeCached(handle, offset, parts)
    const [head, rest] = split(parts, first - offset)
    const [body, tail] = split(rest, last - first)
    await writeCached(handle, offset, head)
    if (!(await this.direct.write(this.path(id), body, first))) await writeCached(handle, first, body)
    await writeCached(handle, last, tail)
  }

  /** What was written is on the disk when this resolves, and so is the file's name. */
  async sync(id: number): Promise<void> {
    const handle = await this.handle(id)
    reached('segmentSync')
    await handle.datasync()
    if (this.isCold && handle.fd >= 0) dropCached(handle.fd)
    if (!this.unnamed.delete(id)) return
    const folder = await open(this.dir, 'r')
    try {
      reached('segmentFolderSync')
      await folder.sync()
    } finally {
      await folder.close()
    }
  }

  /** Up to `length` bytes at `offset`: fewer where the file ends. */
  async read(id: number, offset: number, length: number): Promise<Buffer> {
    const handle = await this.handle(id, false)
    const bytes = Buffer.allocUnsafe(length)
    // What the kernel has in memory costs less than a way to the thread pool and back.
    let done = handle.fd < 0 ? 0 : (readCached(handle.fd, bytes, offset) ?? 0)
    while (done < length) {
      const { bytesRead } = await handle.read(bytes, done, length - done, offset + done)
      if (bytesRead === 0) break
      done += bytesRead
    }
    return bytes.subarray(0, done)
  }

  async truncate(id: number, length: number): Promise<void> {
    const handle = await this.handle(id)
    reached('segmentTruncate')
    await handle.truncate(length)
    await handle.datasync()
  }

  async remove(id: number): Promise<void> {
    await this.forget(id)
    await this.direct.close(this.path(id))
    reached('segmentRemove')
    await rm(this.path(id), { force: true })
  }

  async close(): Promise<void> {
    await this.direct.close()
    for (const id of [...this.handles.keys()]) await this.forget(id)
  }

  private path(id: number): string {
    return join(this.dir, `${String(id).padStart(8, '0')}.seg`)
  }

  /** The file, opened; made when it is to be written and not there. */
  private handle(id: number, create = true): Promise<FileHandle> {
    const known = this.handles.get(id)
    this.handles.delete(id)
    const handle = known ?? this.open(id, create)
    this.handles.set(id, handle)
    for (const oldest of this.handles.keys()) {
      if (this.handles.size <= maxOpen) break
      void this.forget(oldest)
    }
    return handle
  }

  private async open(id: number, create: boolean): Promise<FileHandle> {
    try {
      return await open(this.path(id), 'r+')
    } catch (error) {
      if (create && error instanceof Error && 'code' in error && error.code === 'ENOENT') {
        try {
          const made = await open(this.path(id), 'wx+', 0o600)
          this.unnamed.add(id)
          return made
        } catch (createError) {
          this.handles.delete(id)
          throw createError
        }
      }
      this.handles.delete(id)
      throw error
    }
  }

  /** Closes the file, after the operations running on it. */
  private async forget(id: number): Promise<void> {
    const handle = this.handles.get(id)
    this.handles.delete(id)
    if (handle) await handle.then((file) => file.close()).catch(() => undefined)
  }
}

async function writeCached(handle: FileHandle, offset: number, parts: readonly Buffer[]): Promise<void> {
  let at = offset
  for (let left = parts; left.length > 0;) {
    const bytesWritten = await writeSome(handle, left.slice(0, maxParts), at)
    at += bytesWritten
    left = split(left, bytesWritten)[1]
  }
}

/** A little goes into the kernel's memory at once, which takes less time than a way to the thread pool and back. @returns bytes written */
async function writeSome(handle: FileHandle, parts: readonly Buffer[], at: number): Promise<number> {
  const bytes = parts.reduce((sum, part) => sum + part.length, 0)
  if (bytes <= littleBytes && handle.fd >= 0) return writevSync(handle.fd, parts, at)
  return (await handle.writev(parts as Buffer[], at)).bytesWritten
}

/** The parts up to so many bytes, and what is left of them after these. */
function split(parts: readonly Buffer[], bytes: number): [before: Buffer[], after: Buffer[]] {
  let rest = bytes
  const at = parts.findIndex((part) => {
    if (part.length > rest) return true
    rest -= part.length
    return false
  })
  const part = parts[at]
  if (!part) return [[...parts], []]
  const before = rest > 0 ? [...parts.slice(0, at), part.subarray(0, rest)] : parts.slice(0, at)
  return [before, [part.subarray(rest), ...parts.slice(at + 1)]]
}

function writeError(error: unknown, dir: string): KithError {
  const code = error instanceof Error && 'code' in error ? error.code : ''
  const cause = { cause: error }
  if (code === 'ENOSPC' || code === 'EDQUOT') {
    return new KithError('noSpace', `no space left for blocks in ${dir}: make room on this disk`, cause)
  }
  return new KithError('internal', `writing blocks in ${dir} failed: ${String(error)}`, cause)
}
