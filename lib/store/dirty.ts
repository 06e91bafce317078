/**
 * What is known to have changed since the last snapshot, by inode. Row, little endian:
 *
 *     [0..8)    generation, u64: grows with every record, so that a snapshot takes away only what it started from
 *     [8]       flags: 1 attributes, 2 names (any of a directory's), 4 whole (all data), 8 open
 *     [9]       number of ranges, at most 64
 *     [10..)    each range: start u64, end u64; ascending, apart from each other
 *
 * `open` means that the inode may change without further records, until one says that it is closed. Inode 0 stands for
 * the whole tree: everything must be compared.
 */
import type { Change } from '../format/changes.js'
import { Reader, Writer } from '../format/bytes.js'
import type { Encoding } from '../blocks/database.js'
import type { Location } from './state.js'
import type { PendingChanges } from './types.js'

export interface DirtyRange {
  start: number
  /** Number.MAX_SAFE_INTEGER: to the end of the file, wherever that is */
  end: number
}

export interface Dirty {
  generation: number
  attributes: boolean
  names: boolean
  whole: boolean
  open: boolean
  ranges: DirtyRange[]
}

/** The row that stands for the whole tree. */
export const everythingIno = 0n
const maxRanges = 64
const toEnd = Number.MAX_SAFE_INTEGER

const flagBits = { attributes: 1, names: 2, whole: 4, open: 8 } as const
type Flag = keyof typeof flagBits
const flagNames = Object.keys(flagBits) as Flag[]

export function clean(): Dirty {
  return {
    generation: 0,
    attributes: false,
    names: false,
    whole: false,
    open: false,
    ranges: [],
  }
}

/** Whether the bytes of the file are known to have changed. */
export function dataChanged(dirty: Dirty | undefined): boolean {
  return dirty !== undefined && (dirty.whole || dirty.ranges.length > 0)
}

/** Bytes that the log tells were written; what is only known as "whole" counts by its ranges, if it has any. */
function dirtyBytes(dirty: Dirty): number {
  return dirty.ranges.reduce((sum, { start, end }) => sum + (end === toEnd ? 0 : end - start), 0)
}

/**
 * What is left to know of an inode after a snapshot took it in; undefined: nothing. One that is open stays watched.
 */
export function afterSnapshot(taken: Dirty): Dirty | undefined {
  return taken.open ? { ...clean(), generation: taken.generation, open: true } : undefined
}

/** Whether there is more to it than being open. */
function isPending(dirty: Dirty): boolean {
  return dirty.attributes || dirty.names || dataChanged(dirty)
}

/** What the rows come to. */
export function pendingOf(rows: Iterable<{ key: bigint; value: Dirty }>): PendingChanges {
  const pending = { inodes: 0, bytes: 0, open: 0, everything: false }
  for (const { key, value } of rows) {
    if (key === everythingIno) pending.everything = true
    if (value.open) pending.open++
    if (key !== everythingIno && isPending(value)) {
      pending.inodes++
      pending.bytes += dirtyBytes(value)
    }
  }
  return pending
}

/** What changes come to: rows as they are now, and names to be looked at with the inodes they lead to, or did. */
export interface Merged {
  rows: Map<bigint, Dirty>
  names: (Location & { ino: bigint })[]
}

/**
 * Merges records with the rows that are stored; a row keeps its generation, 0 where there was none.
 * @param isNoted whether one more name of that directory is noted by itself, after so many others of these records
 */
export function mergeChanges(
  changes: readonly Change[],
  stored: (ino: bigint) => Dirty | undefined,
  isNoted: (parent: bigint, others: number) => boolean,
): Merged {
  const merged: Merged = { rows: new Map(), names: [] }
  const { rows, names } = merged
  const rowOf = (ino: bigint): Dirty => {
    const row = rows.get(ino) ?? stored(ino) ?? clean()
    rows.set(ino, row)
    return row
  }
  const noteName = (parent: bigint, name: Buffer, ino: bigint): boolean => {
    if (!isNoted(parent, names.length)) return false
    names.push({ parent, name, ino })
    return true
  }
  for (const change of changes) mergeChange(change, rowOf, noteName)
  // Inode 0 stands for everything; a record that names no inode says nothing of one.
  rows.delete(everythingIno)
  return merged
}

/**
 * Merges a record into the rows it concerns.
 * @param noteName takes in which name of a directory changed; false where all its names must be looked at
 */
function mergeChange(
  change: Change,
  rowOf: (ino: bigint) => Dirty,
  noteName: (parent: bigint, name: Buffer, ino: bigint) => boolean,
): void {
  const row = rowOf(change.ino)
  switch (change.kind) {
    case 'data':
      addRange(row, change.offset, change.offset + change.length)
      break
    case 'truncate':
      addRange(row, change.offset, toEnd)
      break
    case 'attributes':
      row.attributes = true
      break
    case 'names':
      // The link count and ctime of the named inode changed, too, which its other names must show.
      row.attributes = true
      rowOf(change.parent).attributes = true
      if (!change.name || !noteName(change.parent, change.name, change.ino)) rowOf(change.parent).names = true
      break
    case 'open':
      row.open = true
      break
    case 'close':
      row.whole = true
      row.open = false
      break
  }
}

/** Adds [start, end) and joins what touches; past the bound the two nearest neighbours become one. */
function addRange(row: Dirty, start: number, end: number): void {
  let from = Math.max(0, start)
  let to = Math.min(end, toEnd)
  if (!(from < to)) return
  const apart: DirtyRange[] = []
  for (const range of row.ranges) {
    if (range.end < from || range.start > to) {
      apart.push(range)
      continue
    }
    from = Math.min(from, range.start)
    to = Math.max(to, range.end)
  }
  apart.push({ start: from, end: to })
  apart.sort((a, b) => a.start - b.start)
  while (apart.length > maxRanges) joinNearest(apart)
  row.ranges = apart
}

function joinNearest(ranges: DirtyRange[]): void {
  let best = 0
  let gap = Infinity
  for (let i = 0; i + 1 < ranges.length; i++) {
    const distance = (ranges[i + 1] as DirtyRange).start - (ranges[i] as DirtyRange).end
    if (distance < gap) {
      gap = distance
      best = i
    }
  }
  const [left, right] = ranges.slice(best, best + 2) as [DirtyRange, DirtyRange]
  ranges.splice(best, 2, { start: left.start, end: right.end })
}

export const dirtyEncoding: Encoding<Dirty> = {
  encode(row) {
    const out = new Writer(10 + row.ranges.length * 16).number(row.generation)
    out.u8(flagNames.reduce((bits, flag) => bits | (row[flag] ? flagBits[flag] : 0), 0))
    out.u8(row.ranges.length)
    for (const { start, end } of row.ranges) out.number(start).number(end)
    return out.finish()
  },
  decode(bytes) {
    const from = new Reader(bytes, 'dirty row')
    const row = clean()
    row.generation = from.number()
    const bits = from.u8()
    for (const flag of flagNames) row[flag] = (bits & flagBits[flag]) !== 0
    const count = from.u8()
    for (let i = 0; i < count; i++) row.ranges.push({ start: from.number(), end: from.number() })
    from.end()
    return row
  },
}
