/**
 * The list of a volume's snapshots: nodes of kind 3 (node.ts has the first 8 bytes), sealed like all nodes. The head
 * names its root. Ascending by instant, then ordinal. Leaves have version 2; those of version 1, which an older kith
 * wrote, are read: their records have no marks, and their root entry begins at 34. Items:
 *
 *     leaf    record:
 *       [0..16)   id, random
 *       [16..24)  time, ms since 1970
 *       [24..26)  ordinal: 1, or n for the nth snapshot taken within the same second
 *       [26..34)  bytes that this snapshot added to the store, sealed
 *       [34]      marks: 1 pinned, other bits 0
 *       [35]      number of tags, at most 32
 *       [36..)    tags, each: length u8, 1 to 64, and bytes; ascending, each once
 *       [..)      root entry (entry.ts): a directory without a name; it holds files, bytes and busy files below
 *     index   node reference 36, records below u64, and of the last record below: time u64, ordinal u16
 *
 * The key by which list nodes end (node.ts) is a record's instant and ordinal, 10 bytes as stored here, in leaf and
 * index. A new snapshot re-writes the last leaf and the indexes above it.
 *
 * A snapshot's exact name is its instant to the second in UTC, `2024-06-01T09-30-00Z`, with `-2`, `-3`, ... for further
 * ones of that second: unique, and sorted by time.
 */
import { assert } from '../base/errors.js'
import { Writer, type Reader } from './bytes.js'
import {
  entryBytes,
  keepEntries,
  readEntry,
  readNodeRef,
  writeEntry,
  writeNodeRef,
  type DirectoryEntry,
} from './entry.js'
import { cutItems, finishNode, nodeVersion, openNodeReader, startNode } from './node.js'
import type { NodeRef } from './seal.js'

export const snapshotIdBytes = 16
export const maxOrdinal = 65_535
/** 9999-12-31T23:59:59.999Z, the last instant whose name has four digits for the year. */
export const maxTime = 253_402_300_799_999

export const maxTags = 32
export const maxTagBytes = 64
/** Of leaves: since version 2 they have marks and tags. */
const leafVersion = 2
const pinnedMark = 1

export interface SnapshotRecord {
  id: Buffer
  /** ms since 1970 */
  time: number
  /** 1 for the first snapshot within its second */
  ordinal: number
  bytesNew: number
  /** no rule forgets it */
  pinned: boolean
  /** ascending, each once; see isTag */
  tags: string[]
  /** the snapshot's root directory; its totals are the snapshot's */
  root: DirectoryEntry
}

export interface SnapshotChild {
  node: NodeRef
  records: number
  lastTime: number
  lastOrdinal: number
}

export type SnapshotNode =
  | { kind: 'snapshots'; level: 0; records: SnapshotRecord[] }
  | { kind: 'snapshots'; level: number; children: SnapshotChild[] }

/** The exact name: `2024-06-01T09-30-00Z`, or with `-ordinal` from the second of a second on. */
export function snapshotName(time: number, ordinal: number): string {
  assert(
    time >= 0 && time <= maxTime && ordinal >= 1 && ordinal <= maxOrdinal,
    'snapshots have nameable times',
  )
  const instant = `${new Date(time).toISOString().slice(0, 19).replaceAll(':', '-')}Z`
  return ordinal === 1 ? instant : `${instant}-${ordinal}`
}

/** The second (ms since 1970) and ordinal that an exact name means; undefined when it is no exact name. */
export function parseSnapshotName(name: string): { second: number; ordinal: number } | undefined {
  const match = /^(\d{4}-\d\d-\d\d)T(\d\d)-(\d\d)-(\d\d)Z(?:-([1-9]\d{0,4}))?$/.exec(name)
  if (!match) return undefined
  const second = Date.parse(`${match[1]}T${match[2]}:${match[3]}:${match[4]}Z`)
  const ordinal = match[5] === undefined ? 1 : Number(match[5])
  if (Number.isNaN(second) || second < 0 || ordinal > maxOrdinal) return undefined
  return snapshotName(second, ordinal) === name ? { second, ordinal } : undefined
}

/** Order of snapshots: by second, then ordinal. Times within one second do not count: the ordinal does. */
export function compareSnapshots(
  a: { time: number; ordinal: number },
  b: { time: number; ordinal: number },
): number {
  return Math.floor(a.time / 1000) - Math.floor(b.time / 1000) || a.ordinal - b.ordinal
}

/** The key by which list nodes end. */
export function recordKey(time: number, ordinal: number): Buffer {
  return new Writer(10).number(time).u16(ordinal).finish()
}

/** What may be a tag: 1 to 64 bytes of UTF-8 without white space, commas and control characters. */
export function isTag(text: string): boolean {
  const bytes = Buffer.byteLength(text)
  return (
    bytes >= 1 && bytes <= maxTagBytes && Buffer.from(text).toString() === text && !/[\s,\p{Cc}]/u.test(text)
  )
}

/** As records hold them: ascending by their bytes, each once. */
export function sortedTags(tags: Iterable<string>): string[] {
  return [...new Set(tags)].sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)))
}

/** Encoded length of a record, for the cutter. */
export function recordItemBytes(record: SnapshotRecord): number {
  return 36 + record.tags.reduce((sum, tag) => sum + 1 + Buffer.byteLength(tag), 0) + entryBytes(record.root)
}

export const snapshotChildBytes = 54

export function cutRecords(records: Iterable<SnapshotRecord>): SnapshotRecord[][] {
  return cutItems(records, 0, recordItemBytes, (record) => recordKey(record.time, record.ordinal))
}

/** @param level of the index nodes to be made, 1 or more */
export function cutSnapshotChildren(children: Iterable<SnapshotChild>, level: number): SnapshotChild[][] {
  return cutItems(
    children,
    level,
    () => snapshotChildBytes,
    (child) => recordKey(child.lastTime, child.lastOrdinal),
  )
}

export function encodeSnapshotNode(node: SnapshotNode): Buffer {
  if ('records' in node) {
    const { records } = node
    const out = startNode('snapshots', 0, records.length, { version: leafVersion })
    const ends = records.map((record) => writeRecord(out, record))
    const bytes = finishNode(out)
    // Each snapshot writes the list's last leaf again.
    for (const [i, { root }] of records.entries())
      keepEntries([root], bytes, (ends[i] as number) - entryBytes(root))
    return bytes
  }
  const out = startNode('snapshots', node.level, node.children.length)
  for (const child of node.children) {
    writeNodeRef(out, child.node)
    out.number(child.records).number(child.lastTime).u16(child.lastOrdinal)
  }
  return finishNode(out)
}

/** @returns where it ends */
function writeRecord(out: Writer, record: SnapshotRecord): number {
  const { tags } = record
  assert(record.id.length === snapshotIdBytes, 'snapshot ids have 16 bytes')
  assert(tags.length <= maxTags && tags.every(isTag), 'tags were checked where they came in')
  out.raw(record.id).number(record.time).u16(record.ordinal).number(record.bytesNew)
  out.u8(record.pinned ? pinnedMark : 0).u8(tags.length)
  for (const tag of tags) out.u8(Buffer.byteLength(tag)).raw(Buffer.from(tag))
  writeEntry(out, record.root)
  return out.length
}

/** Strict: throws KithError `damaged` unless records ascend and every field is in bounds. */
export function decodeSnapshotNode(bytes: Buffer): SnapshotNode {
  const { from, version, level, items } = openNodeReader(bytes, 'snapshots', leafVersion)
  if (level > 0 && version !== nodeVersion)
    throw from.damaged('its version is unknown; a newer kith wrote it')
  let last: { time: number; ordinal: number } | undefined
  const ascend = (time: number, ordinal: number): void => {
    if (time > maxTime || ordinal < 1) throw from.damaged('a snapshot has an impossible time')
    if (last && compareSnapshots(last, { time, ordinal }) >= 0)
      throw from.damaged('snapshots are out of order')
    last = { time, ordinal }
  }
  if (level === 0) {
    const records: SnapshotRecord[] = []
    for (let i = 0; i < items; i++) {
      const record = readRecord(from, version)
      ascend(record.time, record.ordinal)
      records.push(record)
    }
    from.end()
    return { kind: 'snapshots', level: 0, records }
  }
  const children: SnapshotChild[] = []
  for (let i = 0; i < items; i++) {
    const node = readNodeRef(from)
    const child = { node, records: from.number(), lastTime: from.number(), lastOrdinal: from.u16() }
    if (child.records === 0) throw from.damaged('an index item is empty')
    ascend(child.lastTime, child.lastOrdinal)
    children.push(child)
  }
  from.end()
  return { kind: 'snapshots', level, children }
}

function readRecord(from: Reader, version: number): SnapshotRecord {
  const id = from.slice(snapshotIdBytes)
  const time = from.number()
  const ordinal = from.u16()
  const bytesNew = from.number()
  const marks = version === nodeVersion ? 0 : from.u8()
  if (marks > pinnedMark) throw from.damaged('a snapshot has unknown marks')
  const tags = version === nodeVersion ? [] : readTags(from)
  const root = readEntry(from, true)
  if (root.type !== 'directory') throw from.damaged('the root of a snapshot is no directory')
  return { id, time, ordinal, bytesNew, pinned: marks === pinnedMark, tags, root }
}

function readTags(from: Reader): string[] {
  const count = from.u8()
  if (count > maxTags) throw from.damaged('a snapshot has too many tags')
  const tags: string[] = []
  let last: Buffer | undefined
  for (let i = 0; i < count; i++) {
    const bytes = from.slice(from.u8())
    const tag = bytes.toString()
    if (!isTag(tag) || !Buffer.from(tag).equals(bytes)) throw from.damaged('a tag is impossible')
    if (last && Buffer.compare(last, bytes) >= 0) throw from.damaged('tags are out of order')
    last = bytes
    tags.push(tag)
  }
  return tags
}
