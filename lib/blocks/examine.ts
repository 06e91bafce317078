/**
 * Is what a block store says of itself so? Two questions: do the index and the segment files agree (`examineIndex`, which
 * reads no data), and is what lies in the segments what its name says (`verifyBlocks`, which reads it).
 *
 * Commits wait while the index is looked through, some seconds for a million blocks, so that what is compared stands still.
 * Bytes are verified beside everything else: a block that is removed or moved meanwhile is no finding.
 *
 * With `fix`, what follows from the rest is written anew: the order table, the sums of segments. Rows of segments of
 * which there is neither a row nor a file are taken away: they name nothing. All else is left as it is.
 */
import { setImmediate } from 'node:timers/promises'
import { KithError } from '../base/errors.js'
import type { BlockStore } from './block-store.js'
import type { Database, Table } from './database.js'
import { isEvicted, type Row, type SegmentRow, type Sum } from './segment-rows.js'
import { headerBytes, maxBlockBytes, type Segments } from './segments.js'

/** What a block store is made of. */
export interface StoreParts {
  db: Database
  index: Table<Buffer, Row>
  order: Table<number, Buffer>
  segmentRows: Table<number, SegmentRow>
  segments: Segments
  counters: Table<string, number>
}

export interface Examined {
  blocks: number
  /** known here, kept by partners only */
  evicted: number
  /** names of blocks that the index places where nothing can be read */
  damaged: Buffer[]
  /** names of those that lie in segments that are gone: known no more once the index is put right */
  nowhere: Buffer[]
  /** what is wrong with the index, one line each */
  problems: string[]
  /** rows written anew or taken away, with `fix` */
  fixed: number
}

export interface Watch {
  signal?: AbortSignal | undefined
  progress?: ((done: number, total: number) => void) | undefined
}

export interface Verified {
  blocks: number
  bytes: number
  damaged: Buffer[]
}

const rowsAtOnce = 2000
const readsAtOnce = 4

export function stopIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw new KithError('cancelled', 'cancelled')
}

interface Findings {
  damaged: Buffer[]
  /** names of rows that name nothing */
  nowhere: Buffer[]
  /** names without their row in the order table */
  unordered: { name: Buffer; sequence: number }[]
}

/** To be run while nothing is committed. */
export async function examineIndex(parts: StoreParts, fix: boolean, watch: Watch = {}): Promise<Examined> {
  const { index, order, segmentRows, segments, counters } = parts
  const rows = new Map([...segmentRows.range()].map(({ key, value }) => [key, value]))
  const files = new Map(segments.list().map(({ id, length }) => [id, length]))
  const sums = new Map<number, number>()
  const reach = new Map<number, number>()
  const found: Findings = { damaged: [], nowhere: [], unordered: [] }
  const total = index.count()
  const evicted: Sum = { blocks: 0, bytes: 0 }
  let blocks = 0
  for await (const batch of index.batches(rowsAtOnce)) {
    stopIfAborted(watch.signal)
    for (const { key: name, value: row } of batch) {
      if (!order.get(row.sequence)?.equals(name)) found.unordered.push({ name, sequence: row.sequence })
      if (isEvicted(row)) {
        // Evicting leaves no offset: a row that has one was not evicted, but is damaged.
        if (row.offset !== 0) found.nowhere.push(name)
        else {
          evicted.blocks++
          evicted.bytes += row.bytes
        }
        continue
      }
      const end = row.offset + headerBytes + row.bytes
      sums.set(row.segment, (sums.get(row.segment) ?? 0) + headerBytes + row.bytes)
      reach.set(row.segment, Math.max(reach.get(row.segment) ?? 0, end))
      const length = Math.min(rows.get(row.segment)?.length ?? 0, files.get(row.segment) ?? 0)
      if (end > length || row.bytes === 0 || row.bytes > maxBlockBytes) found.damaged.push(name)
      if (!rows.has(row.segment) && !files.has(row.segment)) found.nowhere.push(name)
    }
    blocks += batch.length
    watch.progress?.(blocks, total)
  }
  const problems = [...aboutSegments(rows, files, sums)]
  const spare = order.count() - (blocks - found.unordered.length)
  if (found.unordered.length > 0) problems.push(`${found.unordered.length} blocks are not in their order`)
  if (spare > 0) problems.push(`${spare} places in the order of blocks name none`)
  if (found.nowhere.length > 0) problems.push(`${found.nowhere.length} blocks lie in segments that are gone`)
  const isSum = (counters.get('evicted') ?? 0) === evicted.blocks
  if (!isSum || (counters.get('evictedBytes') ?? 0) !== evicted.bytes)
    problems.push('the sum of evicted blocks is wrong')
  const facts = { sums, reach, files, evicted }
  const fixed = fix && problems.length > 0 ? await putRight(parts, found, facts) : 0
  const { damaged, nowhere } = found
  return { blocks: blocks - evicted.blocks, evicted: evicted.blocks, damaged, nowhere, problems, fixed }
}

function* aboutSegments(
  rows: Map<number, SegmentRow>,
  files: Map<number, number>,
  sums: Map<number, number>,
): Generator<string> {
  for (const [id, { length, live }] of rows) {
    const there = files.get(id)
    if (there === undefined && live > 0) yield `segment ${id} is gone`
    else if (there !== undefined && there < length)
      yield `segment ${id} is cut short: ${there} of ${length} bytes`
    if (live !== (sums.get(id) ?? 0)) yield `the sum of segment ${id} is wrong`
  }
}

interface Facts {
  /** of segments: bytes of their records, where the last one ends, the length of the file */
  sums: Map<number, number>
  reach: Map<number, number>
  files: Map<number, number>
  evicted: Sum
}

async function putRight(parts: StoreParts, found: Findings, facts: Facts): Promise<number> {
  const { db, index, order, segmentRows, counters } = parts
  return db.transaction(() => {
    let fixed = 0
    const gone = new Set(found.nowhere.map((name) => name.toString('latin1')))
    for (const name of found.nowhere) {
      const row = index.get(name)
      if (row && order.get(row.sequence)?.equals(name)) order.remove(row.sequence)
      index.remove(name)
      fixed++
    }
    for (const { key: sequence, value: name } of [...order.range()]) {
      if (index.get(name)?.sequence === sequence) continue
      order.remove(sequence)
      fixed++
    }
    for (const [name, sum] of [
      ['evicted', facts.evicted.blocks],
      ['evictedBytes', facts.evicted.bytes],
    ] as const) {
      if ((counters.get(name) ?? 0) === sum) continue
      counters.put(name, sum)
      fixed++
    }
    let next = Math.max(0, ...[...order.keysOf({ reverse: true, limit: 1 })]) + 1
    for (const { name } of found.unordered) {
      const row = index.get(name)
      if (!row || gone.has(name.toString('latin1'))) continue
      // At the end, so that partners are offered it: nobody knows whether they ever were.
      index.put(name, { ...row, sequence: next })
      order.put(next++, name)
      fixed++
    }
    for (const { key: id, value: row } of [...segmentRows.range()]) {
      const live = facts.sums.get(id) ?? 0
      const there = facts.files.get(id) ?? 0
      // A segment that was cut short is as long as it is, when all that lay beyond has found another place.
      const length = there < row.length && (facts.reach.get(id) ?? 0) <= there ? there : row.length
      if (row.live === live && row.length === length) continue
      segmentRows.put(id, { length, live })
      fixed++
    }
    return fixed
  })
}

/** Reads the blocks for which `wanted` says so, in the order in which they came, and compares each with its name. */
export async function verifyBlocks(
  store: BlockStore,
  wanted: (name: Buffer) => boolean,
  { signal, progress }: Watch = {},
): Promise<Verified> {
  const verified: Verified = { blocks: 0, bytes: 0, damaged: [] }
  const last = store.lastSequence
  for (let at = 0; at < last;) {
    const batch = store.since(at, rowsAtOnce)
    at = batch.at(-1)?.sequence ?? last
    const chosen = batch.filter(({ name }) => wanted(name)).map(({ name }) => Buffer.from(name))
    const reader = async () => {
      for (let name = chosen.shift(); name; name = chosen.shift()) {
        stopIfAborted(signal)
        const bytes = await sound(store, name)
        if (bytes === 'damaged') verified.damaged.push(name)
        else if (bytes === undefined)
          continue // removed meanwhile
        else verified.bytes += bytes
        verified.blocks++
        progress?.(verified.bytes, store.bytes)
      }
    }
    await Promise.all(Array.from({ length: readsAtOnce }, reader))
    stopIfAborted(signal)
    await setImmediate()
  }
  return verified
}

/** Those of the blocks that are here and damaged. */
export async function damagedOf(store: BlockStore, names: readonly Buffer[]): Promise<Buffer[]> {
  const damaged: Buffer[] = []
  for (const name of names) if ((await sound(store, name)) === 'damaged') damaged.push(name)
  return damaged
}

/** The length of the block; undefined when it is not here. */
async function sound(store: BlockStore, name: Buffer): Promise<number | 'damaged' | undefined> {
  try {
    return (await store.peek(name))?.length
  } catch (error) {
    if (error instanceof KithError && error.code === 'damaged') return 'damaged'
    throw error
  }
}
