/**
 * Looks for blocks in segment files without believing the index: first where it says, whatever the record's header holds,
 * then wherever a record with the name begins, also one that was left behind by a rewrite. What is given is what its
 * name says. One segment at a time is held in memory.
 */
import { hash } from '../format/hash.js'
import { stopIfAborted } from './examine.js'
import { decodeHeader, headerBytes, segmentBytes, type Segments } from './segments.js'

/** Where the index places a block. */
export interface Said {
  name: Buffer
  segment: number
  offset: number
  bytes: number
}

export type Take = (name: Buffer, bytes: Buffer) => Promise<void>

const magic = Buffer.from('KBLK', 'ascii')
const isBlock = (name: Buffer, bytes: Buffer) => hash('kith block', bytes).equals(name)

export async function salvageInPlace(segments: Segments, said: readonly Said[], take: Take): Promise<void> {
  for (const { name, segment, offset, bytes } of said) {
    const data = await segments.read(segment, offset + headerBytes, bytes).catch(() => undefined)
    if (data && isBlock(name, data)) await take(name, data)
  }
}

/** @param wanted names as latin1; what is taken goes out of it */
export async function salvageAnywhere(
  segments: Segments,
  wanted: Set<string>,
  take: Take,
  signal?: AbortSignal,
): Promise<void> {
  for (const { id, length } of segments.list()) {
    stopIfAborted(signal)
    if (wanted.size === 0) return
    const bytes = await segments.read(id, 0, Math.min(length, segmentBytes)).catch(() => Buffer.alloc(0))
    for (let at = bytes.indexOf(magic); at >= 0; at = bytes.indexOf(magic, at + 1)) {
      const header = decodeHeader(bytes.subarray(at))
      if (!header || !wanted.has(header.name.toString('latin1'))) continue
      const data = bytes.subarray(at + headerBytes, at + headerBytes + header.bytes)
      if (!isBlock(header.name, data)) continue
      wanted.delete(header.name.toString('latin1'))
      await take(Buffer.from(header.name), Buffer.from(data))
    }
  }
}
