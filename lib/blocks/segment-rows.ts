/** Rows of the tables `blocks` and `segments` (block-store.ts has their layouts). */
import type { Encoding } from './database.js'

export interface Place {
  segment: number
  /** Of the record, header included. */
  offset: number
  /** Of the sealed bytes. */
  bytes: number
}

export interface Row extends Place {
  sequence: number
}

/** Segments are numbered from 1; rows of evicted blocks say 0. */
export const evictedSegment = 0

export function isEvicted({ segment }: Place): boolean {
  return segment === evictedSegment
}

/** Of evicted blocks, kept in the table `counters`. */
export interface Sum {
  blocks: number
  bytes: number
}

export const rowEncoding: Encoding<Row> = {
  encode(row) {
    const bytes = Buffer.allocUnsafe(20)
    bytes.writeBigUInt64LE(BigInt(row.sequence), 0)
    bytes.writeUInt32LE(row.segment, 8)
    bytes.writeUInt32LE(row.offset, 12)
    bytes.writeUInt32LE(row.bytes, 16)
    return bytes
  },
  decode: (bytes) => ({
    sequence: Number(bytes.readBigUInt64LE(0)),
    segment: bytes.readUInt32LE(8),
    offset: bytes.readUInt32LE(12),
    bytes: bytes.readUInt32LE(16),
  }),
}

export interface SegmentRow {
  /** Committed. */
  length: number
  /** Of records that the index names, headers included. */
  live: number
}

export const segmentEncoding: Encoding<SegmentRow> = {
  encode(row) {
    const bytes = Buffer.allocUnsafe(16)
    bytes.writeBigUInt64LE(BigInt(row.length), 0)
    bytes.writeBigUInt64LE(BigInt(row.live), 8)
    return bytes
  },
  decode: (bytes) => ({
    length: Number(bytes.readBigUInt64LE(0)),
    live: Number(bytes.readBigUInt64LE(8)),
  }),
}
