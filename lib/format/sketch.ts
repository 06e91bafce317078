/**
 * Overlap sketches: what a node shows of the blocks that it has, so that another can estimate how many bytes both have. A sample
 * of block names under a key of the circle (or pool): who lacks the key learns from it the totals, and nothing of the blocks.
 *
 * Of each block there is a *tag*, the first 5 bytes (big endian) of the keyed hash of its name, namespace `kith sketch`, and the
 * *class* of its size, with 8 classes to each power of two. Its rank is (tag + 1) / bytes of its class; the blocks with the lowest
 * ranks are the sample. Whoever has a block computes the same rank, so that two samples are of the same random order, in which
 * large blocks come early in proportion to their bytes (priority sampling; Duffield, Lund, Thorup 2007).
 *
 * Sketch, 24 to 2046 bytes:
 *
 *     [0]        version, 1   [1] 0
 *     [2..4)     entries n, u16: at most 337; fewer only when these are all blocks
 *     [4..12)    sealed bytes of all blocks u64   [12..20) blocks u64   [20..24) 0
 *     [24..)     n times, by rising rank (where equal, by tag): [0..5) tag, big endian   [5] class u8, not 0
 *
 * Answer to a sketch, (n + 7) / 8 bytes: bit i % 8 of byte i / 8 is set when the one who answers has the block of entry i.
 */
import { assert } from '../base/errors.js'
import { Reader, Writer } from './bytes.js'
import { keyedHash } from './hash.js'

export const sketchEntries = 337
const version = 1
const headBytes = 24
const entryBytes = 6
export const maxSketchBytes = headBytes + sketchEntries * entryBytes
const lastClass = 239

export interface Sketch {
  /** of all blocks, whether in the sample or not */
  readonly bytes: number
  readonly blocks: number
  /** tag * 256 + class of each block in the sample, by rising rank */
  readonly entries: readonly number[]
  /** Every block with a rank below this is in the sample; Infinity: all blocks are. */
  readonly bound: number
}

/** The entry of a block of `bytes` sealed bytes. */
export function sketchEntry(key: Buffer, name: Buffer, bytes: number): number {
  return keyedHash(key, 'kith sketch', name).readUIntBE(0, 5) * 256 + sizeClass(bytes)
}

/** Bytes that stand for all sizes of the entry's class: at most 1/16 from the true size. */
export function entryWeight(entry: number): number {
  const sized = entry % 256
  if (sized < 8) return sized
  const step = 2 ** ((sized >> 3) - 1)
  return (8 + (sized & 7)) * step + (step - 1) / 2
}

export function entryRank(entry: number): number {
  return (Math.floor(entry / 256) + 1) / entryWeight(entry)
}

/** The order of entries in a sketch. */
export function byRank(a: number, b: number): number {
  return entryRank(a) - entryRank(b) || a - b
}

function sizeClass(bytes: number): number {
  assert(bytes > 0, 'no block is empty')
  if (bytes >= 2 ** 32) return lastClass
  if (bytes < 8) return bytes
  const power = 31 - Math.clz32(bytes)
  return (power - 2) * 8 + ((bytes >>> (power - 3)) & 7)
}

/** @param sketch with at most `sketchEntries` entries */
export function encodeSketch({ bytes, blocks, entries }: Sketch): Buffer {
  assert(entries.length <= sketchEntries, 'a sketch that travels is short')
  const out = new Writer(maxSketchBytes).u8(version).zero(1).u16(entries.length)
  out.number(bytes).number(blocks).zero(4)
  for (const entry of entries) {
    const at = Buffer.alloc(entryBytes)
    at.writeUIntBE(entry, 0, entryBytes)
    out.raw(at)
  }
  return out.finish()
}

/** @throws KithError damaged */
export function decodeSketch(encoded: Buffer): Sketch {
  const from = new Reader(encoded, 'sketch')
  if (from.u8() !== version) throw from.damaged('its version is unknown')
  from.zero(1)
  const count = from.u16()
  if (count > sketchEntries) throw from.damaged('it is too long')
  const [bytes, blocks] = [from.number(), from.number()]
  from.zero(4)
  if (blocks < count || bytes < blocks) throw from.damaged('it counts fewer blocks or bytes than it shows')
  if (count < Math.min(blocks, sketchEntries)) throw from.damaged('it shows fewer blocks than there are')
  const entries: number[] = []
  for (let i = 0; i < count; i++) {
    const entry = from.slice(entryBytes).readUIntBE(0, entryBytes)
    const [sized, last] = [entry % 256, entries.at(-1)]
    if (sized === 0 || sized > lastClass) throw from.damaged('a size is none')
    if (last !== undefined && byRank(last, entry) >= 0) throw from.damaged('it is out of order')
    entries.push(entry)
  }
  from.end()
  return { bytes, blocks, entries, bound: boundOf(entries, sketchEntries) }
}

/** What a sample of at most `limit` entries is complete below. */
export function boundOf(entries: readonly number[], limit: number): number {
  const last = entries.at(-1)
  return last === undefined || entries.length < limit ? Infinity : entryRank(last)
}
