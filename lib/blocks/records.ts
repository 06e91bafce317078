/** Records on their way into segments: what is gathered in memory for them, and whether one is what its name says. */
import { hash } from '../format/hash.js'
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

/** Whether a record is the one that the index means, byte for byte. */
export function matches(record: Buffer, name: Buffer, place: Place): boolean {
  const header = decodeHeader(record)
  if (!header || header.bytes !== place.bytes || !header.name.equals(name)) return false
  return hash('kith block', record.subarray(headerBytes)).equals(name)
}
