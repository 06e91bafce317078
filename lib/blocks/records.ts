/** Records on their way into segments: what is gathered in memory for them, and whether one is what its name says. */
import type { Place } from './segment-rows.js'
import { decodeHeader, headerBytes } from './segments.js'

export interface Pending extends Place {
  name: Buffer
  /** Until it is written to the segment; not to be kept, since its memory is used again. */
  data: Buffer | undefined
}

/** Records that follow one another in a segment and are not written yet. */
export interface Run {
  segment: number
  offset: number
  bytes: number
  /** The bytes, header and block of each record in turn, cut anywhere. */
  parts: Buffer[]
  blocks: Pending[]
}

export const idOf = (name: Buffer) => name.toString('latin1')
export const recordBytes = (place: { bytes: number }) => headerBytes + place.bytes

export const sealedOf = (record: Buffer) => record.subarray(headerBytes)

/** Whether a record says that it is the one that the index means. */
export function isMeant(record: Buffer, name: Buffer, place: Place): boolean {
  const header = decodeHeader(record)
  return header?.bytes === place.bytes && header.name.equals(name)
}
