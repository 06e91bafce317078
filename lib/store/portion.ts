/**
 * The memory of one job of a worker thread, and the chunks in it that are not sealed yet. Bytes of files stay where they
 * are read until then: nothing is copied while the main thread is asked, and no chunk is an object.
 *
 *   1. bytes come behind `used`, and ranges of them are added as chunks, each with the place where its reference belongs
 *   2. flush asks which of them are known, seals the others, sends them on, and fills the references
 *
 * Bytes: the memory of 4 MiB and some 150 KB of tables. Each thread has one scratch, as large, for what is sealed; what is
 * sent is held by the main thread until it is written, and the answer to the next question waits for that.
 */
import type { Writer } from '../format/bytes.js'
import { Chunker } from '../format/chunker.js'
import { chunkExtentBytes, patchChunkExtent, writeChunkExtent } from '../format/entry.js'
import { hashBytes } from '../format/hash.js'
import { chunkKeys, chunkRowBytes, keyAndIdBytes, recordOverhead, sealChunks } from '../format/seal.js'

const maxChunks = 2048

/** What a flush needs of the main thread. */
export interface Exchange {
  /** A row for each id, in order. @throws when the job is off */
  ask(ids: Buffer): Promise<Buffer>
  /** So many ids, then so many records. */
  send(count: number, blocks: Buffer): void
}

interface Scratch {
  records: Buffer
  ids: Buffer
}

let scratch: Scratch | undefined

function scratchOf(memoryBytes: number): Scratch {
  scratch ??= {
    records: Buffer.allocUnsafeSlow(memoryBytes + maxChunks * recordOverhead),
    ids: Buffer.allocUnsafeSlow(maxChunks * hashBytes),
  }
  return scratch
}

export class Portion {
  readonly memory: Buffer
  /** Bytes of the memory that are taken. */
  used = 0
  private count = 0
  private readonly chunker: Chunker
  private readonly ranges = new Uint32Array(maxChunks * 2)
  private readonly keys = Buffer.alloc(maxChunks * keyAndIdBytes)
  /** Where the reference of each chunk is to be filled in. */
  private readonly places = new Uint32Array(maxChunks)
  private readonly writers: Writer[] = []

  constructor(gear: Buffer) {
    this.chunker = new Chunker(gear)
    this.memory = this.chunker.memory
  }

  get minChunkBytes(): number {
    return this.chunker.sizes.min
  }

  /** Too little room for a chunk of any size, or for the chunks of as many files as one reading takes. */
  get full(): boolean {
    return this.memory.length - this.used < this.chunker.sizes.max || this.count > maxChunks / 2
  }

  /** Ends of the chunks of memory[from, to), as Chunker.cut. */
  cut(from: number, to: number, end: boolean): Uint32Array {
    return this.chunker.cut(to, end, from)
  }

  /** memory[start, end) is a chunk; its extent is appended to `out`, and filled in by the next flush. */
  add(start: number, end: number, out: Writer): void {
    const i = this.count++
    this.ranges[2 * i] = start
    this.ranges[2 * i + 1] = end
    this.places[i] = out.length
    this.writers[i] = out
    writeChunkExtent(out, end - start)
  }

  /** Seals what was added. Bytes from `keep` on move to the front of the memory. */
  async flush(convergence: Buffer, exchange: Exchange, keep = this.used): Promise<void> {
    if (this.count > 0) await this.seal(convergence, exchange)
    this.memory.copyWithin(0, keep, this.used)
    this.used -= keep
    this.clear()
  }

  /** For another job. */
  reset(): void {
    this.used = 0
    this.clear()
  }

  private clear(): void {
    this.count = 0
    this.writers.length = 0
  }

  private async seal(convergence: Buffer, exchange: Exchange): Promise<void> {
    const { memory: data, keys, count } = this
    const ranges = Buffer.from(this.ranges.buffer, 0, count * 8)
    chunkKeys(convergence, data, ranges, keys)
    const ids = Buffer.allocUnsafeSlow(count * hashBytes)
    for (let i = 0; i < count; i++)
      keys.copy(ids, i * hashBytes, i * keyAndIdBytes + hashBytes, (i + 1) * keyAndIdBytes)
    const rows = await exchange.ask(ids)
    const { records, ids: sealedIds } = scratchOf(data.length)
    const [sealed, bytes] = sealChunks({ data, ranges, keys, rows }, { records, ids: sealedIds })
    if (sealed > 0) {
      const blocks = Buffer.allocUnsafeSlow(sealed * hashBytes + bytes)
      sealedIds.copy(blocks, 0, 0, sealed * hashBytes)
      records.copy(blocks, sealed * hashBytes, 0, bytes)
      exchange.send(sealed, blocks)
    }
    for (let i = 0; i < count; i++) {
      const extent = (this.writers[i] as Writer).written(this.places[i] as number, chunkExtentBytes)
      patchChunkExtent(extent, rows, i * chunkRowBytes, keys, i * keyAndIdBytes)
    }
  }
}
