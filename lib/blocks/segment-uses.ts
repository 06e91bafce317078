/**
 * In which order segments were last used: begun, or read from by somebody who wanted the content of a file. Nodes are read
 * by every snapshot and by every look into one; they tell nothing about the files beside them.
 *
 * Table `uses`: segment -> a number that grew with each use, u64. Written when blocks are evicted, and lost by a crash
 * since: then the order is an older one, which costs at most a block fetched again. A row of number 0, one byte long, is no
 * use of a segment (recent.ts).
 */
import type { Database, Table } from './database.js'
import { encodings } from './database.js'

/** No segment has this number. Versions from before recent.ts read 8 bytes of each row, and find one. */
const refusedSegment = 0
export const refusal = {
  table: 'uses',
  key: encodings.number.encode(refusedSegment),
  value: Buffer.from([1]),
}

export class SegmentUses {
  private readonly rows: Table<number, number>
  private readonly uses = new Map<number, number>()
  private readonly unsaved = new Set<number>()
  private newest = 0

  constructor(db: Database) {
    this.rows = db.table('uses', encodings.number, encodings.number)
    for (const { key, value } of this.rows.range({ start: refusedSegment + 1 })) {
      this.uses.set(key, value)
      this.newest = Math.max(this.newest, value)
    }
  }

  touch(segment: number): void {
    if (this.uses.get(segment) === this.newest && this.newest > 0) return
    this.uses.set(segment, ++this.newest)
    this.unsaved.add(segment)
  }

  /** The segments given, the least recently used first; of those never used, the oldest. */
  inOrder<T extends { segment: number }>(segments: readonly T[]): T[] {
    const use = ({ segment }: T) => this.uses.get(segment) ?? 0
    return [...segments].sort((a, b) => use(a) - use(b) || a.segment - b.segment)
  }

  /** Inside a transaction: what changed since the last time, without the segments that are gone. */
  save(isThere: (segment: number) => boolean): void {
    for (const segment of this.unsaved)
      if (isThere(segment)) this.rows.put(segment, this.uses.get(segment) ?? 0)
    this.unsaved.clear()
    for (const segment of [...this.uses.keys()]) {
      if (isThere(segment)) continue
      this.uses.delete(segment)
      this.rows.remove(segment)
    }
  }
}
