/**
 * Writing a file's content: chunks are fetched ahead and written in order, holes stay holes.
 *
 * Each chunk is verified by the source before its promise resolves; its length is checked here, so that every byte of
 * the file is either a verified one or a hole of the snapshot.
 */
import { ftruncateSync, write, writeSync } from 'node:fs'
import { KithError } from '../base/errors.js'
import { errnoCode } from '../base/posix.js'
import { bytesOfExtent, extentBytes, type FileEntry } from '../format/entry.js'
import type { TreeSource } from './types.js'

/** Memory for chunks that were fetched and not written yet, shared by all files of one restore. */
export class ReadAhead {
  #free: number

  constructor(bytes = 64 * 1024 * 1024) {
    this.#free = bytes
  }

  tryTake(bytes: number): boolean {
    if (bytes > this.#free) return false
    this.#free -= bytes
    return true
  }

  /** Takes even what is not free: a file may always have one chunk, so that no file waits for another. */
  take(bytes: number): void {
    this.#free -= bytes
  }

  give(bytes: number): void {
    this.#free += bytes
  }
}

/** Writes up to this size do not leave the thread: the way to the pool and back would cost more. */
const maxWriteHere = 64 * 1024
const maxChunksAhead = 32

function writePiece(fd: number, bytes: Buffer, start: number, position: number): Promise<number> {
  return new Promise((resolve, reject) => {
    write(fd, bytes, start, bytes.length - start, position, (error, written) => {
      if (error) reject(error)
      else resolve(written)
    })
  })
}

async function writeAll(fd: number, bytes: Buffer, position: number): Promise<void> {
  for (let start = 0; start < bytes.length;) {
    const left = bytes.length - start
    const written =
      left <= maxWriteHere
        ? writeSync(fd, bytes, start, left, position + start)
        : await writePiece(fd, bytes, start, position + start)
    if (written === 0) throw new KithError('noSpace', 'the disk takes no more bytes')
    start += written
  }
}

/** All bytes of a file that is one piece; undefined for any other. The caller holds their memory. */
export async function wholeBytes(
  source: TreeSource,
  { content, size }: FileEntry,
): Promise<Buffer | undefined> {
  if (content.kind === 'inline') return content.bytes
  if (content.kind !== 'extents' || content.extents.length !== 1) return undefined
  const [extent] = content.extents
  if (!extent || extent.kind === 'hole') return undefined
  const bytes = bytesOfExtent(extent, await source.chunk(extent.chunk))
  if (bytes.length !== size) throw new KithError('damaged', 'a chunk has another length than its file says')
  return bytes
}

interface Fetched {
  offset: number
  length: number
  bytes: Promise<Buffer>
}

/** Writes the file's content into the empty file `fd`. `onBytes` is told how many bytes came to be known as done. */
export async function writeContent(
  source: TreeSource,
  file: FileEntry,
  fd: number,
  ahead: ReadAhead,
  onBytes: (bytes: number) => void,
  signal?: AbortSignal,
): Promise<void> {
  if (file.content.kind === 'inline') {
    await writeAll(fd, file.content.bytes, 0)
    onBytes(file.size)
    return
  }
  const queue: Fetched[] = []
  let offset = 0
  let end = 0
  const writeOldest = async (): Promise<void> => {
    const next = queue[0]
    if (!next) return
    const bytes = await next.bytes
    if (bytes.length !== next.length)
      throw new KithError('damaged', 'a chunk has another length than its file says')
    await writeAll(fd, bytes, next.offset)
    queue.shift()
    ahead.give(next.length)
    end = next.offset + next.length
    onBytes(next.length)
  }
  try {
    for await (const piece of source.pieces(file)) {
      checkCancelled(signal)
      const { extent } = piece
      if (piece.offset !== offset) throw new KithError('damaged', 'the parts of a file leave a gap')
      if (extent.kind === 'hole') {
        offset += extent.bytes
        onBytes(extent.bytes)
        continue
      }
      const length = extentBytes(extent)
      while (queue.length >= maxChunksAhead) await writeOldest()
      while (!ahead.tryTake(length)) {
        if (queue.length > 0) await writeOldest()
        else {
          ahead.take(length)
          break
        }
      }
      const bytes = source.chunk(extent.chunk).then((plain) => bytesOfExtent(extent, plain))
      // Seen again when its turn comes; until then a failure must not count as unhandled.
      bytes.catch(() => undefined)
      queue.push({ offset, length, bytes })
      offset += length
    }
    while (queue.length > 0) {
      checkCancelled(signal)
      await writeOldest()
    }
  } finally {
    for (const { length } of queue) ahead.give(length)
  }
  if (offset !== file.size) throw new KithError('damaged', 'the parts of a file do not add up to its size')
  if (end < file.size) extendTo(fd, file.size)
}

/** The last hole: only the size says that it is there. */
function extendTo(fd: number, size: number): void {
  try {
    ftruncateSync(fd, size)
  } catch (error) {
    if (errnoCode(error) !== 'EINVAL') throw error
    throw new KithError('unsupported', 'the file is larger than this file system allows')
  }
}

export function checkCancelled(signal: AbortSignal | undefined): void {
  if (signal?.aborted)
    throw new KithError('cancelled', 'the restore was stopped; files finished so far are whole')
}
