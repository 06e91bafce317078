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
 * first is in it. One that is alone is a chunk, as it would be without packs.
 *
 * Bytes: the memory of 4 MiB and some 150 KB of tables. Each thread has one scratch, as large, for what is sealed; what is
 * sent is held by the main thread until it is written, and the answer to the next question waits for that.
 */
import { Writer } from '../format/bytes.js'
import { Chunker } from '../format/chunker.js'
import {
  chunkExtentBytes,
  maxInlineBytes,
  patchChunkExtent,
  writeChunkExtent,
  writeExtent,
} from '../format/entry.js'
import { hashBytes } from '../format/hash.js'
import {
  type ChunkRef,
  chunkKeys,
  chunkRowBytes,
  keyAndIdBytes,
  recordOverhead,
  sealChunks,
} from '../format/seal.js'
import { askBytes, ownBytes, packRowBytes, writePack } from './seal-messages.js'

const maxChunks = 2048
/** Files up to this size share blocks, */
const packedFileBytes = 64 * 1024
/** so many bytes of them one block (docs/benchmarks.md). */
const packBytes = 256 * 1024

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
  /** 1 for small files. */
  private readonly isFile = new Uint8Array(maxChunks)
  /** What is to be sealed: chunks and packs. */
  private readonly units = new Units()

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
    this.isFile[i] = 0
    writeChunkExtent(out, end - start)
  }

  /** memory[start, end) is a small file; the next flush appends its extent to `out`. */
  addFile(start: number, end: number, out: Writer): void {
    const i = this.count++
    this.ranges[2 * i] = start
    this.ranges[2 * i + 1] = end
    this.writers[i] = out
    this.isFile[i] = 1
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
    const { memory: data, keys, count, units } = this
    const ranges = Buffer.from(this.ranges.buffer, 0, count * 8)
    chunkKeys(convergence, data, ranges, keys)
    const ids = Buffer.allocUnsafeSlow(count * askBytes)
    for (let i = 0; i < count; i++) {
      keys.copy(ids, i * askBytes, i * keyAndIdBytes + hashBytes, (i + 1) * keyAndIdBytes)
      ids.writeUInt32LE(this.isFile[i] ? this.bytesOf(i) : 0, i * askBytes + hashBytes)
    }
    const rows = await exchange.ask(ids)
    this.plan(rows)
    if (units.count > 0) this.sealUnits(convergence, exchange)
    for (let i = 0; i < count; i++) {
      if (this.isFile[i]) this.fillFile(i, rows)
      else {
        const extent = (this.writers[i] as Writer).written(this.places[i] as number, chunkExtentBytes)
        const unit = units.of[i] as number
        const [from, at] = unit < 0 ? [rows, i] : [units.rows, unit]
        patchChunkExtent(extent, from, at * chunkRowBytes, keys, i * keyAndIdBytes)
      }
    }
  }

  private bytesOf(i: number): number {
    return (this.ranges[2 * i + 1] as number) - (this.ranges[2 * i] as number)
  }

  /** What is not known becomes units; the files of a pack are moved together. */
  private plan(rows: Buffer): void {
    const { memory, keys, ranges, units } = this
    const seen = new Map<string, number>()
    units.clear()
    let pack = -1
    for (let i = 0; i < this.count; i++) {
      const [start, end] = [ranges[2 * i] as number, ranges[2 * i + 1] as number]
      units.of[i] = -1
      if (rows.readUInt32LE(i * chunkRowBytes + hashBytes) > 0) continue
      if (!this.isFile[i]) {
        units.start(i, start, end)
        // Its bytes lie behind the pack: nothing may be moved over them.
        pack = -1
        continue
      }
      const id = keys.toString('latin1', i * keyAndIdBytes + hashBytes, (i + 1) * keyAndIdBytes)
      const twin = seen.get(id)
      if (twin !== undefined) {
        units.of[i] = units.of[twin] as number
        units.offsets[i] = units.offsets[twin] as number
        continue
      }
      seen.set(id, i)
      if (pack < 0 || units.bytesOf(pack) + end - start > packBytes) {
        pack = units.start(i, start, end)
        continue
      }
      memory.copyWithin(units.endOf(pack), start, end)
      units.append(pack, i, end - start)
    }
  }

  private sealUnits(convergence: Buffer, exchange: Exchange): void {
    const { memory: data, units } = this
    units.makeKeys(convergence, data, this.keys)
    const { records, ids: sealedIds } = scratchOf(data.length)
    const ranges = units.rangesBuffer()
    units.rows.fill(0, 0, units.count * chunkRowBytes)
    const chunks = {
      data,
      ranges,
      keys: units.keys,
      rows: units.rows.subarray(0, units.count * chunkRowBytes),
    }
    const [sealed, bytes] = sealChunks(chunks, { records, ids: sealedIds })
    const blocks = Buffer.allocUnsafeSlow(sealed * hashBytes + bytes)
    sealedIds.copy(blocks, 0, 0, sealed * hashBytes)
    records.copy(blocks, sealed * hashBytes, 0, bytes)
    const packs = new Writer(ownBytes)
    for (const [unit, files] of units.files.entries()) {
      if (files.length < 2) continue
      const packed = files.map((i) => {
        const id = this.keys.subarray(i * keyAndIdBytes + hashBytes, (i + 1) * keyAndIdBytes)
        return { id, offset: units.offsets[i] as number, bytes: this.bytesOf(i) }
      })
      writePack(packs, units.refOf(unit), packed)
    }
    exchange.send(sealed, blocks, packs.finish())
  }

  private fillFile(i: number, rows: Buffer): void {
    const { keys, units } = this
    const out = this.writers[i] as Writer
    const bytes = this.bytesOf(i)
    const unit = units.of[i] as number
    const key = keys.subarray(i * keyAndIdBytes, i * keyAndIdBytes + hashBytes)
    if (unit >= 0) {
      const ref = units.refOf(unit)
      const isPart = (units.files[unit]?.length ?? 0) > 1
      if (isPart) writeExtent(out, { kind: 'part', chunk: ref, offset: units.offsets[i] as number, bytes })
      else writeExtent(out, { kind: 'chunk', chunk: ref })
      return
    }
    const name = rows.subarray(i * chunkRowBytes, i * chunkRowBytes + hashBytes)
    const sealedBytes = rows.readUInt32LE(i * chunkRowBytes + hashBytes)
    const at = this.count * chunkRowBytes + i * packRowBytes
    const plainBytes = rows.readUInt32LE(at)
    if (plainBytes === 0) {
      writeExtent(out, { kind: 'chunk', chunk: { name, key, plainBytes: bytes, sealedBytes } })
      return
    }
    const chunk = { name, key: rows.subarray(at + 4, at + 36), plainBytes, sealedBytes }
    writeExtent(out, { kind: 'part', chunk, offset: rows.readUInt32LE(at + 36), bytes })
  }
}

/** Ranges of a portion that are sealed as a block each. */
class Units {
  count = 0
  private readonly ranges = new Uint32Array(maxChunks * 2)
  readonly keys = Buffer.alloc(maxChunks * keyAndIdBytes)
  readonly rows = Buffer.alloc(maxChunks * chunkRowBytes)
  /** For each chunk of the portion its unit, or -1, and where in it it begins. */
  readonly of = new Int32Array(maxChunks)
  readonly offsets = new Uint32Array(maxChunks)
  /** The chunks of the portion in each unit. */
  readonly files: number[][] = []

  clear(): void {
    this.count = 0
    this.files.length = 0
  }

  start(i: number, start: number, end: number): number {
    const unit = this.count++
    this.ranges[2 * unit] = start
    this.ranges[2 * unit + 1] = end
    this.files[unit] = [i]
    this.of[i] = unit
    this.offsets[i] = 0
    return unit
  }

  append(unit: number, i: number, bytes: number): void {
    this.files[unit]?.push(i)
    this.of[i] = unit
    this.offsets[i] = this.bytesOf(unit)
    this.ranges[2 * unit + 1] = this.endOf(unit) + bytes
  }

  endOf(unit: number): number {
    return this.ranges[2 * unit + 1] as number
  }

  bytesOf(unit: number): number {
    return this.endOf(unit) - (this.ranges[2 * unit] as number)
  }

  rangesBuffer(): Buffer {
    return Buffer.from(this.ranges.buffer, 0, this.count * 8)
  }

  /** Those of packs are made, the others are the keys of their one chunk. */
  makeKeys(convergence: Buffer, data: Buffer, keys: Buffer): void {
    const packs = [...this.files.keys()].filter((unit) => (this.files[unit]?.length ?? 0) > 1)
    const ranges = Buffer.alloc(packs.length * 8)
    packs.forEach((unit, at) => this.rangesBuffer().copy(ranges, at * 8, unit * 8, unit * 8 + 8))
    const made = Buffer.alloc(packs.length * keyAndIdBytes)
    if (packs.length > 0) chunkKeys(convergence, data, ranges, made)
    for (const [unit, [first = 0]] of this.files.entries())
      keys.copy(this.keys, unit * keyAndIdBytes, first * keyAndIdBytes, (first + 1) * keyAndIdBytes)
    packs.forEach((unit, at) =>
      made.copy(this.keys, unit * keyAndIdBytes, at * keyAndIdBytes, (at + 1) * keyAndIdBytes),
    )
  }

  /** After it was sealed. */
  refOf(unit: number): ChunkRef {
    const at = unit * chunkRowBytes
    return {
      name: this.rows.subarray(at, at + hashBytes),
      key: this.keys.subarray(unit * keyAndIdBytes, unit * keyAndIdBytes + hashBytes),
      plainBytes: this.bytesOf(unit),
      sealedBytes: this.rows.readUInt32LE(at + hashBytes),
    }
  }
}
