/**
 * Where blocks are appended: the end of the active segment. They are gathered in memory, written in pieces of some MiB, and
 * synced before the index may name them.
 *
 * Small blocks that come one by one are copied into memory of the tail's own, which is used again once it is written: a message
 * that brought many is free at once, and the kernel takes them as one part. Large ones are written from where they are, as are
 * records that lie in one memory already.
 *
 * What a failed write leaves stays gathered, and the next flush tries again at the same place. After a failed sync nobody
 * knows what the disk has: everything is refused until the store is opened anew.
 */
import { assert, KithError } from '../base/errors.js'
import { idOf, type Pending, recordBytes, type Run } from './records.js'
import { decodeHeader, encodeHeader, headerBytes, segmentBytes, type Segments } from './segments.js'

const flushBytes = 4 * 1024 * 1024
/** From here on a block is not copied: that takes the processor longer than one part more to write. */
const largeBytes = 64 * 1024
/** Of one slab: many of those that are copied. */
const slabBytes = 1024 * 1024
/** Kept to be used again. */
const maxSpare = 4

/** Memory that blocks are copied into, one after the other. */
interface Slab {
  bytes: Buffer
  used: number
}

export class Tail {
  /** Appended and not yet named by the index, in order. */
  readonly pending = new Map<string, Pending>()
  active = { id: 0, offset: segmentBytes }
  /** Set when the disk may have dropped what was written: only a new open knows what is there. */
  broken: KithError | undefined
  /** Of these, with their headers. */
  pendingBytes = 0
  private runs: Run[] = []
  private gathered = 0
  /** What is gathered lies in these; blocks go into the last one. */
  private slabs: Slab[] = []
  private readonly spare: Slab[] = []
  /** Written since their last sync. */
  private readonly unsynced = new Set<number>()
  /** Writes to segments, one at a time. */
  private writing: Promise<unknown> = Promise.resolve()

  /** @param onBegin told of each segment that is begun */
  constructor(
    private readonly segments: Segments,
    private readonly onBegin: (segment: number) => void,
  ) {}

  /** So much is in memory that it should be written before more is taken. */
  get isFull(): boolean {
    return this.gathered >= flushBytes
  }

  /**
   * When enough is gathered then, it begins to be written: at once, while the processor's caches have it.
   * @param data is not to change until it is written
   */
  append(name: Buffer, data: Buffer): Pending {
    const run = this.runFor(data.length)
    const place = this.join(run, Buffer.from(name), data.length, this.gather(run, name, data))
    // A write that fails is tried again, by who waits for it.
    if (this.isFull) this.flush().catch(() => undefined)
    return place
  }

  /** @returns where the bytes are until they are written */
  private gather(run: Run, name: Buffer, data: Buffer): Buffer {
    if (data.length >= largeBytes) {
      run.parts.push(encodeHeader(name, data.length), data)
      return data
    }
    const slab = this.slabFor(headerBytes + data.length)
    const start = slab.used
    encodeHeader(name, data.length).copy(slab.bytes, start)
    data.copy(slab.bytes, start + headerBytes)
    slab.used += headerBytes + data.length
    const last = run.parts.at(-1)
    const isNext =
      last?.buffer === slab.bytes.buffer && last.byteOffset + last.length === slab.bytes.byteOffset + start
    if (isNext) run.parts.pop()
    run.parts.push(slab.bytes.subarray(isNext ? start - last.length : start, slab.used))
    return slab.bytes.subarray(start + headerBytes, slab.used)
  }

  private slabFor(bytes: number): Slab {
    const last = this.slabs.at(-1)
    if (last && last.bytes.length - last.used >= bytes) return last
    const slab = this.spare.pop() ?? { bytes: Buffer.allocUnsafeSlow(slabBytes), used: 0 }
    this.slabs.push(slab)
    return slab
  }

  /** Nothing of these is to be written any more. */
  private reuse(slabs: readonly Slab[]): void {
    for (const { bytes } of slabs.slice(0, maxSpare - this.spare.length)) this.spare.push({ bytes, used: 0 })
  }

  /**
   * Appends those of the records, which lie one after the other as in a segment, for which `wanted` says so: asked for each
   * in turn. Those that follow one another are one part.
   */
  appendRecords(records: Buffer, wanted: (index: number, name: Buffer, bytes: number) => boolean): void {
    let run: Run | undefined
    /** Records of the run that are not among its parts yet begin here. */
    let from = 0
    for (let at = 0, index = 0; at < records.length; index++) {
      const header = decodeHeader(records.subarray(at, at + headerBytes))
      assert(header, 'records are whole')
      const next = at + recordBytes(header)
      const name = Buffer.from(header.name)
      const isWanted = wanted(index, name, header.bytes)
      const room = isWanted ? this.runFor(header.bytes) : run
      if (!isWanted || room !== run) {
        if (run && at > from) run.parts.push(records.subarray(from, at))
        from = isWanted ? at : next
        run = room
      }
      if (isWanted && run) this.join(run, name, header.bytes, records.subarray(at + headerBytes, next))
      at = next
    }
    if (run && records.length > from) run.parts.push(records.subarray(from))
  }

  /** Where a block of that length goes next. */
  private runFor(bytes: number): Run {
    if (this.active.offset + headerBytes + bytes > segmentBytes) {
      this.active = { id: this.active.id + 1, offset: 0 }
      this.onBegin(this.active.id)
    }
    const { id: segment, offset } = this.active
    const last = this.runs.at(-1)
    if (last?.segment === segment) return last
    const run = { segment, offset, bytes: 0, parts: [], blocks: [] }
    this.runs.push(run)
    return run
  }

  /** A block at the end of a run, whose parts have its record. */
  private join(run: Run, name: Buffer, bytes: number, data: Buffer): Pending {
    const block: Pending = { name, data, segment: run.segment, offset: this.active.offset, bytes }
    run.blocks.push(block)
    run.bytes += recordBytes(block)
    this.gathered += recordBytes(block)
    this.active.offset += recordBytes(block)
    this.pending.set(idOf(name), block)
    this.pendingBytes += recordBytes(block)
    return block
  }

  /** The index names it now. */
  settle(block: Pending): void {
    if (this.pending.delete(idOf(block.name))) this.pendingBytes -= recordBytes(block)
  }

  /** Writes what is gathered. */
  flush(): Promise<void> {
    const done = this.writing.then(async () => {
      if (this.broken) throw this.broken
      const { runs, slabs } = this
      this.runs = []
      this.slabs = []
      try {
        for (let run = runs[0]; run; run = runs[0]) {
          this.unsynced.add(run.segment)
          await this.segments.write(run.segment, run.offset, run.parts)
          for (const block of run.blocks) block.data = undefined
          this.gathered -= run.bytes
          runs.shift()
        }
        this.reuse(slabs)
      } catch (error) {
        this.runs = [...runs, ...this.runs]
        this.slabs = [...slabs, ...this.slabs]
        throw error
      }
    })
    this.writing = done.catch(() => undefined)
    return done
  }

  async sync(): Promise<void> {
    for (const segment of [...this.unsynced]) {
      this.unsynced.delete(segment)
      try {
        await this.segments.sync(segment)
      } catch (error) {
        // After a failed sync the kernel may have dropped the pages, and a later one would succeed without them.
        const message = `the disk failed to keep blocks (${String(error)}): check it, then start again`
        this.broken = new KithError('internal', message, { cause: error })
        throw this.broken
      }
    }
  }

  /** Nothing is being written any more. */
  async settled(): Promise<void> {
    await this.writing.catch(() => undefined)
  }
}
