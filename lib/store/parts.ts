/**
 * The index of small files in packs: a pack is one chunk that holds several of them, so that they cost one block together
 * and compress together. Whoever meets a file whose content is here already refers to the same part. Rows of the
 * tables `parts` and `packs` (state.ts), little endian:
 *
 *     parts   first 16 bytes of the content's chunk id -> [0..8) key of the pack's row [8..11) offset [11..14) length
 *             [14..18) check
 *     packs   first 8 bytes of the block's name -> [0..32) its name [32..36) sealed length [36..40) plain length
 *             [40..72) the pack's chunk key, masked [72..76) check
 *
 * The check is the beginning of a hash of key and row: a row on which the disk flipped a bit would have files refer to
 * bytes of others. One that fails it counts for nothing, and is written anew when its file is met again.
 *
 * Short rows, since a million files make a million of them. The id is of a keyed hash of the content, so nobody without
 * the volume's secret can make two contents of one id, and among a billion files chance does it once in 10^20 volumes.
 * A pack whose first 8 bytes are those of another's name gets no rows: its files are only not found again.
 *
 * The key of a pack opens other files than the one that is looked for, so it is not told by a content's id. It is kept
 * under a mask that the volume's node key gives: who has that can open the directory nodes, where the same key stands.
 */
import { Reader, Writer } from '../format/bytes.js'
import type { PartExtent } from '../format/entry.js'
import { hash, keyedHash } from '../format/hash.js'
import type { ChunkRef } from '../format/seal.js'
import type { Encoding } from '../blocks/database.js'

export const partIdBytes = 16
/** A row of `parts` behind its key, as native/seal/portion.cc makes it. */
export const partRowBytes = partIdBytes + 18
const packIdBytes = 8

export interface PartRow {
  pack: Buffer
  offset: number
  bytes: number
  check: number
}

export interface PackRow {
  name: Buffer
  sealedBytes: number
  plainBytes: number
  maskedKey: Buffer
  check: number
}

/** A file of a pack that is to be found again. */
export interface PackedFile {
  /** chunk id of its content */
  id: Buffer
  offset: number
  bytes: number
}

export const partEncoding: Encoding<PartRow> = {
  encode(row) {
    const out = Buffer.allocUnsafe(18)
    writePart(out, row)
    out.writeUInt32LE(row.check, 14)
    return out
  },
  decode(row) {
    const from = new Reader(row, 'part row')
    const pack = from.slice(packIdBytes)
    const [offset, bytes] = [from.slice(3).readUIntLE(0, 3), from.slice(3).readUIntLE(0, 3)]
    const check = from.u32()
    from.end()
    return { pack, offset, bytes, check }
  },
}

export const packEncoding: Encoding<PackRow> = {
  encode: (row) => new Writer(76).raw(packBytes(row)).u32(row.check).finish(),
  decode(row) {
    const from = new Reader(row, 'pack row')
    const found = {
      name: from.slice(32),
      sealedBytes: from.u32(),
      plainBytes: from.u32(),
      maskedKey: from.slice(32),
      check: from.u32(),
    }
    from.end()
    return found
  },
}

export function partId(id: Buffer): Buffer {
  return id.subarray(0, partIdBytes)
}

export function packId(name: Buffer): Buffer {
  return name.subarray(0, packIdBytes)
}

export function packRow(nodeKey: Buffer, { name, key, sealedBytes, plainBytes }: ChunkRef): PackRow {
  const row = { name, sealedBytes, plainBytes, maskedKey: masked(nodeKey, name, key) }
  return { ...row, check: checkOf(packId(name), packBytes(row)) }
}

/** @param id key of the row */
export function partRow(id: Buffer, row: Omit<PartRow, 'check'>): PartRow {
  return { ...row, check: checkOf(id, partBytes(row)) }
}

/** Whether the row is as it was written, under this key. */
export function isSoundPart(id: Buffer, row: PartRow): boolean {
  return row.check === checkOf(id, partBytes(row))
}

export function isSoundPack(id: Buffer, row: PackRow): boolean {
  return packId(row.name).equals(id) && row.check === checkOf(id, packBytes(row))
}

/** The part that two sound rows mean; undefined where they do not fit each other. */
export function partOf(nodeKey: Buffer, part: PartRow, pack: PackRow): PartExtent | undefined {
  const { name, sealedBytes, plainBytes, maskedKey } = pack
  const { offset, bytes } = part
  if (bytes === 0 || offset + bytes > plainBytes || bytes === plainBytes) return undefined
  const key = masked(nodeKey, name, maskedKey)
  return { kind: 'part', chunk: { name, key, plainBytes, sealedBytes }, offset, bytes }
}

function masked(nodeKey: Buffer, name: Buffer, key: Buffer): Buffer {
  const mask = keyedHash(nodeKey, 'kith pack mask', name)
  return mask.map((byte, i) => byte ^ (key[i] ?? 0)) as Buffer
}

function partBytes(row: Omit<PartRow, 'check'>): Buffer {
  const out = Buffer.allocUnsafe(14)
  writePart(out, row)
  return out
}

function writePart(out: Buffer, { pack, offset, bytes }: Omit<PartRow, 'check'>): void {
  out.set(pack)
  out.writeUIntLE(offset, 8, 3)
  out.writeUIntLE(bytes, 11, 3)
}

function packBytes({ name, sealedBytes, plainBytes, maskedKey }: Omit<PackRow, 'check'>): Buffer {
  return new Writer(72).raw(name).u32(sealedBytes).u32(plainBytes).raw(maskedKey).finish()
}

function checkOf(id: Buffer, row: Buffer): number {
  return hash('kith part row', id, row).readUInt32LE(0)
}
