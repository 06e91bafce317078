/**
 * What the snapshotter and its worker threads say to each other. A job is some entries of one directory; descriptors are
 * shared by the threads of a process, so that the directory goes along as a number.
 *
 *     main -> worker   job      entries to be read
 *     worker -> main   ask      ids of the chunks found: which are here already?
 *     main -> worker   answer   for each id its row
 *     worker -> main   blocks   the sealed chunks that were not
 *     worker -> main   done     an outcome for each entry; or failed
 *
 * Asking comes before sealing, so that a known chunk costs no compression. Several rounds for a large file.
 *
 * Layouts, little endian. Bytes in buffers of their own, since a message clones or moves whole buffers:
 *
 *     job       convergence secret 32, gear secret 32, each item: number u32, flags u8 (1 last try, 2 with spans),
 *               length u16 and bytes of its name; with spans: size u64, count u32, each: from u64, until u64,
 *               count of ends u32, ends u64
 *     ids       32 bytes each
 *     rows      block name 32, sealed length u32 (0: not here)
 *     blocks    each: chunk id 32, block name 32, length u32, sealed bytes
 *     results   each: item u32, outcome u8 (0 entry, 1 changed while it was read, 2 gone, 3 unreadable), then
 *               entry       entry (format/entry.ts), number of spans u32, each span: from u64, to u64,
 *                           number of extents u32, extents. With spans the content in the entry is void: they are
 *                           of a file with many extents, or of one that was not read as a whole
 *               unreadable  length u8, error code
 */
import { Reader, Writer } from '../format/bytes.js'
import { readEntry, readExtents, writeEntry, writeExtent, type Entry, type Extent } from '../format/entry.js'

/** Bytes of a file to be cut again, for a file of which only ranges changed. */
export interface SpanRequest {
  /** A place where a chunk starts. */
  from: number
  /** Everything up to here changed. */
  until: number
  /** Ends of the old chunks at or behind `until`, ascending: cutting stops where it meets one. */
  ends: number[]
}

export interface SealItem {
  index: number
  name: Buffer
  /** Bytes that the file must have, when only spans of it are to be read; with spans only. */
  size?: number
  spans?: SpanRequest[]
  /** The last try: if it changes again, it is taken as it was read, marked busy. */
  last: boolean
}

export interface JobMessage {
  kind: 'job'
  job: number
  dirFd: number
  /** keys and items */
  request: Uint8Array
}

export interface AnswerMessage {
  kind: 'answer'
  job: number
  /** Undefined: the job is off. */
  rows: Uint8Array | undefined
}

export type ToWorker = JobMessage | AnswerMessage

export type FromWorker =
  | { kind: 'ask'; job: number; ids: Uint8Array }
  | { kind: 'blocks'; job: number; blocks: Uint8Array }
  | { kind: 'done'; job: number; results: Uint8Array }
  | { kind: 'failed'; job: number; why: string }

export interface Span {
  from: number
  to: number
  extents: Extent[]
}

export interface SealRequest {
  convergence: Buffer
  gear: Buffer
  items: SealItem[]
}

const lastFlag = 1
const spansFlag = 2

export function encodeRequest({ convergence, gear, items }: SealRequest): Buffer {
  const out = new Writer(ownBytes).raw(convergence).raw(gear)
  for (const { index, name, last, size = 0, spans } of items) {
    out.u32(index).u8((last ? lastFlag : 0) | (spans ? spansFlag : 0))
    out.u16(name.length).raw(name)
    if (!spans) continue
    out.number(size).u32(spans.length)
    for (const { from, until, ends } of spans) {
      out.number(from).number(until).u32(ends.length)
      for (const end of ends) out.number(end)
    }
  }
  return out.finish()
}

export function decodeRequest(bytes: Buffer): SealRequest {
  const from = new Reader(bytes, 'seal request')
  const request: SealRequest = { convergence: from.slice(32), gear: from.slice(32), items: [] }
  while (from.left > 0) {
    const index = from.u32()
    const flags = from.u8()
    const item: SealItem = { index, name: from.slice(from.u16()), last: (flags & lastFlag) !== 0 }
    request.items.push(item)
    if ((flags & spansFlag) === 0) continue
    item.size = from.number()
    item.spans = []
    for (let left = from.u32(); left > 0; left--) {
      const span: SpanRequest = { from: from.number(), until: from.number(), ends: [] }
      for (let ends = from.u32(); ends > 0; ends--) span.ends.push(from.number())
      item.spans.push(span)
    }
  }
  return request
}

export type SealResult = { index: number } & (
  | { outcome: 'entry'; entry: Entry; spans: Span[] }
  | { outcome: 'changed' }
  | { outcome: 'gone' }
  | { outcome: 'unreadable'; why: string }
)

const outcomes = ['entry', 'changed', 'gone', 'unreadable'] as const

/** From this size on Node gives a buffer memory of its own, which can move to another thread. */
export const ownBytes = 4096

/** The buffer behind bytes from another thread, without copying. */
export function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
}

export function encodeResults(results: readonly SealResult[]): Buffer {
  const out = new Writer(ownBytes)
  for (const result of results) {
    out.u32(result.index).u8(outcomes.indexOf(result.outcome))
    if (result.outcome === 'unreadable') {
      const why = Buffer.from(result.why.slice(0, 200), 'latin1')
      out.u8(why.length).raw(why)
    } else if (result.outcome === 'entry') {
      writeEntry(out, result.entry)
      out.u32(result.spans.length)
      for (const span of result.spans) {
        out.number(span.from).number(span.to).u32(span.extents.length)
        for (const extent of span.extents) writeExtent(out, extent)
      }
    }
  }
  return out.finish()
}

export function decodeResults(bytes: Buffer): SealResult[] {
  const from = new Reader(bytes, 'seal result')
  const results: SealResult[] = []
  while (from.left > 0) {
    const index = from.u32()
    const outcome = outcomes[from.u8()]
    if (outcome === 'entry') {
      const entry = readEntry(from)
      const spans: Span[] = []
      for (let left = from.u32(); left > 0; left--) {
        spans.push({ from: from.number(), to: from.number(), extents: readExtents(from, from.u32()) })
      }
      results.push({ index, outcome, entry, spans })
    } else if (outcome === 'unreadable') {
      results.push({ index, outcome, why: from.slice(from.u8()).toString('latin1') })
    } else if (outcome) {
      results.push({ index, outcome })
    } else throw from.damaged('it has an unknown outcome')
  }
  return results
}
