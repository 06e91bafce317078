/**
 * What the snapshotter and its worker threads say to each other. A job is some entries, of any directories; descriptors
 * are shared by the threads of a process, so that a directory goes along as a number.
 *
 *     main -> worker   job      entries to be read
 *     worker -> main   ask      ids of the chunks and small files found: which are here already?
 *     main -> worker   answer   for each id its row
 *     worker -> main   blocks   the sealed chunks that were not
 *     worker -> main   done     an outcome for each entry; or failed
 *
 * Asking comes before sealing, so that a known chunk costs no compression. Several rounds for much data.
 *
 * Layouts, little endian. Bytes in buffers of their own, since a message clones or moves whole buffers:
 *
 *     job       convergence secret 32, gear secret 32, each item: number u32, flags u8 (1 last try, 2 with spans,
 *               4 a regular file by its last status), its directory's descriptor u32, length u16 and bytes of its name;
 *               with spans: length u32 of what follows: size u64, count u32, each: from u64, until u64,
 *               count of ends u32, ends u64. native/posix/intake.cc reads items, too
 *     ids       each: chunk id 32, length u32 of a small file whose content that is, else 0
 *     rows      each: block name 32, sealed length u32 (0: not here); then for each, of a pack in which the file is: plain
 *               length u32 (0: it is a chunk of its own), key 32, offset u32
 *     blocks    `count` chunk ids of 32 bytes, then as many records as a segment has them (blocks/segments.ts)
 *     packs     of those blocks the ones that hold small files, each: block name 32, key 32, plain length u32, sealed length
 *               u32, number of files u32, each file: key and row of the table `parts` (parts.ts)
 *     results   each: item u32, outcome u8 (0 entry, 1 changed while it was read, 2 gone, 3 unreadable), then
 *               entry       entry (format/entry.ts), number of spans u32, each span: from u64, to u64,
 *                           number of extents u32, extents. With spans the content in the entry is void: they are
 *                           of a file with many extents, or of one that was not read as a whole
 *               unreadable  length u8, error code
 */
import { Reader, Writer } from '../format/bytes.js'
import { readEntry, readExtents, type Entry, type Extent } from '../format/entry.js'
import type { ChunkRef } from '../format/seal.js'
import { partRowBytes } from './parts.js'

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
  /** Of its directory; stays open until the job is done. */
  dirFd: number
  name: Buffer
  /** By its last status. */
  regular: boolean
  /** Bytes that the file must have, when only spans of it are to be read; with spans only. */
  size?: number
  spans?: SpanRequest[]
  /** The last try: if it changes again, it is taken as it was read, marked busy. */
  last: boolean
}

export interface JobMessage {
  kind: 'job'
  job: number
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
  | { kind: 'blocks'; job: number; count: number; blocks: Uint8Array; packs: Uint8Array }
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
  items: readonly SealItem[]
}

const lastFlag = 1
const spansFlag = 2
const regularFlag = 4
/** Where the items of a request begin. */
export const itemsAt = 64

export function encodeRequest({ convergence, gear, items }: SealRequest): Buffer {
  const out = new Writer(ownBytes).raw(convergence).raw(gear)
  for (const { index, dirFd, name, last, regular, size = 0, spans } of items) {
    out.u32(index).u8((last ? lastFlag : 0) | (spans ? spansFlag : 0) | (regular ? regularFlag : 0))
    out.u32(dirFd).u16(name.length).raw(name)
    if (!spans) continue
    out.u32(spans.reduce((sum, { ends }) => sum + 20 + 8 * ends.length, 12))
    out.number(size).u32(spans.length)
    for (const { from, until, ends } of spans) {
      out.number(from).number(until).u32(ends.length)
      for (const end of ends) out.number(end)
    }
  }
  return out.finish()
}

export function gearOf(request: Buffer): Buffer {
  return request.subarray(32, itemsAt)
}

/** The item at `at` of a request, and where the next one begins. */
export function decodeItem(request: Buffer, at: number): { item: SealItem; next: number } {
  const from = new Reader(request.subarray(at), 'seal request')
  const index = from.u32()
  const flags = from.u8()
  const dirFd = from.u32()
  const name = from.slice(from.u16())
  const [last, regular] = [(flags & lastFlag) !== 0, (flags & regularFlag) !== 0]
  const item: SealItem = { index, dirFd, name, last, regular }
  if ((flags & spansFlag) === 0) return { item, next: at + from.at }
  from.u32()
  item.size = from.number()
  item.spans = []
  for (let left = from.u32(); left > 0; left--) {
    const span: SpanRequest = { from: from.number(), until: from.number(), ends: [] }
    for (let ends = from.u32(); ends > 0; ends--) span.ends.push(from.number())
    item.spans.push(span)
  }
  return { item, next: at + from.at }
}

/** Bytes of an id in a question, and of the two parts of its answer. */
export const askBytes = 36
export const rowBytes = 36
export const packRowBytes = 40

/** Of a pack in a message, before the rows of its files. */
export const packHeadBytes = 76

/** @returns with each pack its files' rows, one behind the other */
export function* readPacks(packs: Buffer): Generator<{ ref: ChunkRef; rows: Buffer }> {
  const from = new Reader(packs, 'list of packs')
  while (from.left > 0) {
    const [name, key] = [from.slice(32), from.slice(32)]
    const ref = { name, key, plainBytes: from.u32(), sealedBytes: from.u32() }
    yield { ref, rows: from.slice(from.u32() * partRowBytes) }
  }
}

export type SealResult = { index: number } & (
  | { outcome: 'entry'; entry: Entry; spans: Span[] }
  | { outcome: 'changed' }
  | { outcome: 'gone' }
  | { outcome: 'unreadable'; why: string }
)

const outcomes = ['entry', 'changed', 'gone', 'unreadable'] as const
export const outcomeNumbers = { entry: 0, changed: 1, gone: 2, unreadable: 3 } as const

/** From this size on Node gives a buffer memory of its own, which can move to another thread. */
export const ownBytes = 4096

/** The buffer behind bytes from another thread, without copying. */
export function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
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
