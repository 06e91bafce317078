/**
 * Cuts files into chunks: FastCDC in WebAssembly (native/fastcdc), under a gear table that only the volume's gear secret
 * gives, so that the lengths of chunks do not tell which known file they belong to at a glance (docs/threat-model.md has
 * what still leaks). The caller reads a file straight into the chunker's memory; nothing is copied on the way.
 *
 * Memory of the instance: [0..2048) gear table, 256 u64; [2048..4096) the same doubled; [4096..65536) ends of chunks,
 * u32; [65536..) data, 4 MiB. Gear table: keyedHash(gear secret, `kith gear table`, i as u32) for i = 0..63, 32 bytes each.
 *
 * One Chunker per thread and volume; it has no state between calls but its memory.
 */
import { readFileSync } from 'node:fs'
import { assert } from '../base/errors.js'
import { nativeFile } from '../base/native-files.js'
import { keyedHash } from './hash.js'

export interface ChunkSizes {
  /** no end is looked for before this many bytes; only the last chunk of a file is shorter */
  min: number
  /** a power of two: where the strict mask gives way to the loose one */
  average: number
  max: number
}

/** Chosen by measurement: docs/benchmarks.md, "Chunk sizes". */
export const defaultSizes: ChunkSizes = { min: 16 * 1024, average: 64 * 1024, max: 256 * 1024 }

const tableBytes = 2048
const cutsAt = 4096
const dataAt = 65_536
const dataBytes = 4 * 1024 * 1024
const pages = (dataAt + dataBytes) / 65_536
const smallestMin = 1024

/**
 * The strict mask has this many bits more than the average asks for, the loose one as many fewer. Two bits level the
 * lengths more, but let an insertion run on: in 1,000 insertions of up to 12 bytes 7 moved more than three cuts, with
 * one bit none did, at equal deduplication.
 */
const normalisation = 1

type CutFunction = (
  from: number,
  length: number,
  end: number,
  min: number,
  normal: number,
  max: number,
  strict: bigint,
  loose: bigint,
) => number

let compiled: WebAssembly.Module | undefined

export class Chunker {
  /** Where file bytes are read to: 4 MiB. */
  readonly memory: Buffer
  readonly sizes: ChunkSizes
  readonly #ends: Uint32Array
  readonly #cut: CutFunction
  readonly #strict: bigint
  readonly #loose: bigint

  /** @param gearSecret 32 bytes; equal secrets and sizes give equal cuts of equal bytes */
  constructor(gearSecret: Buffer, sizes: ChunkSizes = defaultSizes) {
    checkSizes(sizes)
    this.sizes = sizes
    const memory = new WebAssembly.Memory({ initial: pages, maximum: pages })
    compiled ??= new WebAssembly.Module(readFileSync(nativeFile('fastcdc.wasm')))
    const instance = new WebAssembly.Instance(compiled, { env: { memory } })
    this.#cut = instance.exports.cut as CutFunction
    this.#ends = new Uint32Array(memory.buffer, cutsAt, (dataAt - cutsAt) / 4)
    this.memory = Buffer.from(memory.buffer, dataAt, dataBytes)
    writeGearTable(Buffer.from(memory.buffer, 0, 2 * tableBytes), gearSecret)
    const bits = Math.log2(sizes.average)
    this.#strict = mask(bits + normalisation)
    this.#loose = mask(bits - normalisation)
  }

  /**
   * The ends of the chunks in memory[from, length), ascending; valid until the next call. With `end` the last one is
   * `length` itself; without, the bytes behind the last end (fewer than sizes.max) belong to a chunk that is not
   * complete: move them to the front of the memory and read on behind them. Cuts are the same however the bytes arrive.
   */
  cut(length: number, end: boolean, from = 0): Uint32Array {
    assert(from >= 0 && from <= length && length <= dataBytes, 'the bytes lie in the memory')
    const { min, average, max } = this.sizes
    const count = this.#cut(from, length, end ? 1 : 0, min, average, max, this.#strict, this.#loose)
    return this.#ends.subarray(0, count)
  }
}

function checkSizes({ min, average, max }: ChunkSizes): void {
  assert(
    min >= smallestMin && min < average && average < max && max <= dataBytes / 4,
    'sizes ascend, within bounds',
  )
  assert(
    Number.isInteger(Math.log2(average)) && min % 2 === 0 && max % 2 === 0,
    'the average is a power of two',
  )
}

/** `bits` ones below bit 63, which the two-byte roll loses: high bits, since they depend on the most bytes. */
function mask(bits: number): bigint {
  return ((1n << BigInt(bits)) - 1n) << BigInt(63 - bits)
}

function writeGearTable(table: Buffer, secret: Buffer): void {
  const index = Buffer.alloc(4)
  for (let i = 0; i < tableBytes / 32; i++) {
    index.writeUInt32LE(i)
    keyedHash(secret, 'kith gear table', index).copy(table, i * 32)
  }
  for (let i = 0; i < tableBytes; i += 8)
    table.writeBigUInt64LE(BigInt.asUintN(64, table.readBigUInt64LE(i) << 1n), tableBytes + i)
}
