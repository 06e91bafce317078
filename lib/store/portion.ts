/**
 * The memory of one job of a worker thread, and the chunks in it that are not sealed yet. Bytes of files stay where they
 * are read until then: nothing is copied while the main thread is asked, and no chunk is an object.
 *
 *   1. bytes come behind `used`, and ranges of them are added as chunks, each with the place where its reference belongs,
 *      or as small files
 *   2. flush asks which of them are known, seals the others, sends them on, and fills the references
 *
 * Small files that are not known become packs: as they follow each other, up to a size, those of one pack are moved together
 * in the memory (over what is known, or in its entry) and sealed as one chunk, of which each is a part. Of equal ones the
 * first is in it. One that is alone is a chunk, as it would be without packs. All this is done by one call
 * (native/seal/portion.cc), which makes the rows of the index and the references, too: a thread runs next to no JavaScript for a file.
 *
 * Bytes: the memory of 4 MiB and some 150 KB of tables. Each thread has one scratch, as large, for what is sealed; what is
 * sent is held by the main thread until it is written, and the answer to the next question waits for that.
 */
import { Writer } from '../format/bytes.js'
import { Chunker } from '../format/chunker.js'
import {
  chunkExtentBytes,
  extentBytesAt,
  extentSlotBytes,
  maxInlineBytes,
  writeChunkExtent,
} from '../format/entry.js'
import { hashBytes } from '../format/hash.js'
import { chunkKeys, keyAndIdBytes, recordOverhead, sealPortion } from '../format/seal.js'
import { askBytes, packHeadBytes } from './seal-messages.js'
import { partRowBytes } from './parts.js'

const maxChunks = 2048
/** Of the heads of files: what most jobs need. */
const headsBytes = 48 * 1024
/** Files up to this size share blocks, at most 256 KiB of them one (native/seal/portion.cc; docs/benchmarks.md). */
const packedFileBytes = 64 * 1024

/** Whether a file of this size is not cut, but may share a block. */
export function isPacked(size: number): boolean {
  return size > maxInlineBytes && size <= packedFileBytes
}

/** What a flush needs of the main thread. */
export interface Exchange {
  /** A row for each id, in order. @throws when the job is off */
  ask(ids: Buffer): Promise<Buffer>
  /** So many ids, then so many records; and what is in the packs among them. */
  send(count: number, blocks: Buffer, packs: Buffer): void
  /** A small file's extent is known. Both are valid during the call only. */
  settleFile(head: Buffer, extent: Buffer): void
}

interface Scratch {
  records: Buffer
  ids: Buffer
  packs: Buffer
  extents: Buffer
}

let scratch: Scratch | undefined

function scratchOf(memoryBytes: number): Scratch {
  scratch ??= {
    records: Buffer.allocUnsafeSlow(memoryBytes + maxChunks * recordOverhead),
    ids: Buffer.allocUnsafeSlow(maxChunks * hashBytes),
    packs: Buffer.allocUnsafeSlow(maxChunks * (packHeadBytes + partRowBytes)),
    extents: Buffer.allocUnsafeSlow(maxChunks * extentSlotBytes),
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
  /** Where the reference of each chunk is to be filled in, and where the head of each file begins. */
  private readonly places = new Uint32Array(maxChunks)
  private readonly writers: Writer[] = []
  /** 1 for small files. */
  private readonly files = Buffer.alloc(maxChunks)
  /** What settleFile is told, one after the other. */
  private heads = new Writer(headsBytes)
  private readonly headBytes = new Uint32Array(maxChunks)

  constructor(gear: Buffer) {
    this.chunker = new Chunker(gear)
    this.memory = this.chunker.memory
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
    this.files[i] = 0
    writeChunkExtent(out, end - start)
  }

  /** memory[start, end) is a small file; the next flush tells its extent, together with `number` and `entry`. */
  addFile(start: number, end: number, number: Buffer, entry: Buffer): void {
    const i = this.count++
    this.ranges[2 * i] = start
    this.ranges[2 * i + 1] = end
    this.places[i] = this.heads.length
    this.headBytes[i] = number.length + entry.length
    this.files[i] = 1
    this.heads.raw(number).raw(entry)
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
    if (this.heads.length > 0) this.heads = new Writer(headsBytes)
  }

  private async seal(convergence: Buffer, exchange: Exchange): Promise<void> {
    const { memory: data, keys, count, files } = this
    const ranges = Buffer.from(this.ranges.buffer, 0, count * 8)
    chunkKeys(convergence, data, ranges, keys)
    const ids = Buffer.allocUnsafeSlow(count * askBytes)
    for (let i = 0; i < count; i++) {
      keys.copy(ids, i * askBytes, i * keyAndIdBytes + hashBytes, (i + 1) * keyAndIdBytes)
      ids.writeUInt32LE(files[i] ? this.bytesOf(i) : 0, i * askBytes + hashBytes)
    }
    const rows = await exchange.ask(ids)
    const { records, ids: sealedIds, packs, extents } = scratchOf(data.length)
    const [sealed, recordBytes, packBytes] = sealPortion(
      convergence,
      { data, ranges, files, keys, rows },
      { records, ids: sealedIds, packs, extents },
    )
    if (sealed > 0) {
      const blocks = Buffer.allocUnsafeSlow(sealed * hashBytes + recordBytes)
      sealedIds.copy(blocks, 0, 0, sealed * hashBytes)
      records.copy(blocks, sealed * hashBytes, 0, recordBytes)
      exchange.send(sealed, blocks, ownCopy(packs, packBytes))
    }
    for (let i = 0; i < count; i++) this.fill(i, extents, exchange)
  }

  private bytesOf(i: number): number {
    return (this.ranges[2 * i + 1] as number) - (this.ranges[2 * i] as number)
  }

  private fill(i: number, extents: Buffer, exchange: Exchange): void {
    const from = i * extentSlotBytes
    const place = this.places[i] as number
    if (this.files[i]) {
      const head = this.heads.written(place, this.headBytes[i] as number)
      exchange.settleFile(head, extents.subarray(from, from + extentBytesAt(extents, from)))
    } else {
      const extent = (this.writers[i] as Writer).written(place, chunkExtentBytes)
      extents.copy(extent, 0, from, from + chunkExtentBytes)
    }
  }
}

/** In memory of its own, which can move to another thread. */
function ownCopy(bytes: Buffer, length: number): Buffer {
  const copy = Buffer.allocUnsafeSlow(length)
  bytes.copy(copy, 0, 0, length)
  return copy
}

/** As many as a thread has jobs. */
const maxIdle = 3

/** Portions of one thread that no job uses, by their gear secret (each volume has one). */
export class PortionKeeper {
  private readonly idle: { gear: string; portion: Portion }[] = []

  take(gear: Buffer): Portion {
    const key = gear.toString('latin1')
    const at = this.idle.findIndex((idle) => idle.gear === key)
    const [known] = at >= 0 ? this.idle.splice(at, 1) : []
    return known?.portion ?? new Portion(Buffer.from(gear))
  }

  giveBack(gear: Buffer, portion: Portion): void {
    portion.reset()
    this.idle.push({ gear: gear.toString('latin1'), portion })
    if (this.idle.length > maxIdle) this.idle.shift()
  }
}
