/**
 * The daemon's side of the change log. It reads and writes the file that kith-fuse has mapped; both meet in the page
 * cache, so nothing here waits for a disk or for kith-fuse, and a call costs less than a way to the thread pool and back: a
 * snapshot would wait for a dozen of these. What has left the cache is read by the thread pool.
 * Argument for races and crashes: native/kith-fuse/changes.cc.
 *
 *   1. take() sets `taken`, then reads the records between `freed` and `taken`, and returns them. The caller may look at
 *      the files only after that.
 *   2. The caller makes durable that those files are to be looked at.
 *   3. done() sets `freed`. A daemon killed before that reads the same records again.
 *   4. sleep() asks for a wake-up, unless there is something to take already.
 */
import { constants, writeSync, type PathLike } from 'node:fs'
import { open, type FileHandle } from 'node:fs/promises'
import { KithError } from '../base/errors.js'
import { readCached } from '../base/posix.js'
import {
  decodeHeader,
  decodeRecords,
  encodeField,
  headerBytes,
  headerFields,
  recordBytes,
  type LogHeader,
} from '../format/changes.js'
import type { Taken } from './types.js'

/** A store, a full fence, a load: what was written before is visible before anything is read after. */
const fence = new Int32Array(new SharedArrayBuffer(4))

export class ChangeLogReader {
  readonly #file: FileHandle
  #pending: { taken: number; lost: bigint } | undefined

  private constructor(file: FileHandle) {
    this.#file = file
  }

  static async open(path: PathLike): Promise<ChangeLogReader> {
    const file = await open(path, constants.O_RDWR | constants.O_NOFOLLOW)
    const log = new ChangeLogReader(file)
    try {
      await log.header()
    } catch (error) {
      await file.close()
      throw error
    }
    return log
  }

  async header(): Promise<LogHeader> {
    return decodeHeader(await this.#read(0, headerBytes))
  }

  /** What changed since the last done(). `lost`: more than the records say. */
  async take(): Promise<Taken> {
    const { written, freed, capacity } = await this.header()
    this.#write('taken', BigInt(written))
    Atomics.add(fence, 0, 1)
    // Read after `taken` was set: a change that is not in the records and not in this value comes later.
    const { lost, lostSeen } = await this.header()
    const parts: Buffer[] = []
    for (let next = freed; next < written;) {
      const slot = next % capacity
      const count = Math.min(written - next, capacity - slot)
      parts.push(await this.#read(headerBytes + slot * recordBytes, count * recordBytes))
      next += count
    }
    const { changes, whole } = decodeRecords(Buffer.concat(parts), freed + 1)
    this.#pending = { taken: written, lost }
    return { changes, lost: !whole || lost !== lostSeen }
  }

  /** Forgets what the last take() returned. */
  async done(): Promise<void> {
    const pending = this.#pending
    if (!pending) return
    this.#pending = undefined
    this.#write('lostSeen', pending.lost)
    this.#write('freed', BigInt(pending.taken))
    this.#write('freedCheck', ~BigInt(pending.taken))
  }

  /** Asks the server for a wake-up at the next record. True when there is something to take already. */
  async sleep(): Promise<boolean> {
    this.#write('asleep', 1n)
    Atomics.add(fence, 0, 1)
    const { written, freed, lost, lostSeen } = await this.header()
    return written > freed || lost !== lostSeen
  }

  async close(): Promise<void> {
    await this.#file.close()
  }

  async #read(position: number, length: number): Promise<Buffer> {
    const buffer = Buffer.alloc(length)
    let done = readCached(this.#file.fd, buffer, position) ?? 0
    while (done < length) {
      const { bytesRead } = await this.#file.read(buffer, done, length - done, position + done)
      if (bytesRead === 0) break
      done += bytesRead
    }
    if (done !== length)
      throw new KithError('damaged', 'the change log is cut short; unmount and mount the directory again')
    return buffer
  }

  #write(field: keyof typeof headerFields, value: bigint): void {
    writeSync(this.#file.fd, encodeField(value), 0, 8, headerFields[field])
  }
}
