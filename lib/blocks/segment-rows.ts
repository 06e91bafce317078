/** Rows of the table `segments` (block-store.ts has their layout). */
import type { Encoding } from './database.js'

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
