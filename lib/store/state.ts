/**
 * What a volume remembers between snapshots, in tables of the store's database, keyed by inode numbers: where every
 * directory and file stood in the last snapshot, what changed since, and which chunks are here. All of it can be lost
 * without losing a backup: the next snapshot then compares everything.
 *
 * Tables of a volume, named `<volume id hex>/<table>`; rows little endian:
 *
 *     directories  inode -> [0..8) parent's inode, 0 for the root [8..16) birth time ns i64, 0 where there is none
 *                  [16..52) node reference [52..76) totals: names, bytes, busy; then the name
 *     files        inode -> its names in the last snapshot, each: parent's inode u64, length u16, name
 *     dirty        inode -> dirty.ts
 *     names        directory's inode u64 big endian, name -> [0..8) generation as in dirty.ts [8..16) inode that the name
 *                  led to, or does: a name to be looked at, in a directory that the last snapshot knows
 *     early        inode -> [0..8) birth time ns i64, then an entry (format/entry.ts): the file as it was read after the last
 *                  snapshot, and before the next; the blocks that it names are in use (read-ahead.ts)
 *     points       sequence number of a head -> time of the newest snapshot that it names, ms since 1970; the last few
 *     chunks       chunk id -> block name 32, sealed length u32
 *     parts, packs   small files that are here, by their content (parts.ts)
 *     made         number, from 1 -> block name of a node that came in: in their order, so that those of one snapshot stand on
 *                  one page of the index. A name may stand in it twice, when its block was damaged and came again
 *     nodes        block name of a node -> nothing: the same, from versions before `made`; no new ones come
 *     excludes     1 -> what is set to be left out (exclusions.ts has these four)
 *     rules        directory's inode -> its .kithignore as it was applied, and whether it is a cache
 *     leftOut      directory's inode u64 big endian, name -> why it is left out
 *     leftOutCounts  1 -> rows of leftOut by reason
 *     snapshots    number, from 1 -> snapshot list node (format/snapshot-list.ts) with this one record
 */
import { type Database, encodings, type Encoding, type Table } from '../blocks/database.js'
import { Reader, Writer } from '../format/bytes.js'
import {
  entryBytes,
  readEntry,
  readNodeRef,
  writeEntry,
  writeNodeRef,
  type FileEntry,
  type Totals,
} from '../format/node.js'
import type { NodeRef } from '../format/seal.js'
import { decodeSnapshotNode, encodeSnapshotNode, type SnapshotRecord } from '../format/snapshot-list.js'
import { damaged } from '../format/bytes.js'
import { type Dirty, dirtyEncoding } from './dirty.js'
import {
  countsEncoding,
  type LeftOutCounts,
  reasonEncoding,
  rulesEncoding,
  type RulesRow,
  settingsEncoding,
} from './exclusions.js'
import { packEncoding, type PackRow, partEncoding, type PartRow } from './parts.js'
import type { ExcludeSettings, LeftOutReason } from './rules.js'

/** A name in a directory, by the directory's inode. */
export interface Location {
  parent: bigint
  name: Buffer
}

export interface DirectoryRow extends Location {
  /** Tells a directory from a later one with the same inode number. */
  btimeNs: bigint
  node: NodeRef
  totals: Totals
}

export interface ChunkRow {
  name: Buffer
  sealedBytes: number
}

const directoryEncoding: Encoding<DirectoryRow> = {
  encode(row) {
    const out = new Writer(76 + row.name.length).u64(row.parent).i64(row.btimeNs)
    writeNodeRef(out, row.node)
    out.number(row.totals.files).number(row.totals.bytes).number(row.totals.busy)
    return out.raw(row.name).finish()
  },
  decode(bytes) {
    const from = new Reader(bytes, 'directory row')
    const parent = from.u64()
    const btimeNs = from.i64()
    const node = readNodeRef(from)
    const totals = { files: from.number(), bytes: from.number(), busy: from.number() }
    return { parent, btimeNs, node, totals, name: from.slice(from.left) }
  },
}

const locationsEncoding: Encoding<Location[]> = {
  encode(locations) {
    const out = new Writer(64)
    for (const { parent, name } of locations) out.u64(parent).u16(name.length).raw(name)
    return out.finish()
  },
  decode(bytes) {
    const from = new Reader(bytes, 'file row')
    const locations: Location[] = []
    while (from.left > 0) locations.push({ parent: from.u64(), name: from.slice(from.u16()) })
    return locations
  },
}

/** What was read of a file since the last snapshot. */
export interface EarlyRow {
  /** Tells the file from a later one with the same inode number. */
  btimeNs: bigint
  entry: FileEntry
}

const earlyEncoding: Encoding<EarlyRow> = {
  encode({ btimeNs, entry }) {
    const out = new Writer(8 + entryBytes(entry)).i64(btimeNs)
    writeEntry(out, entry)
    return out.finish()
  },
  decode(bytes) {
    const from = new Reader(bytes, 'early row')
    const btimeNs = from.i64()
    const entry = readEntry(from)
    from.end()
    if (entry.type !== 'file') throw from.damaged('it is of no file')
    return { btimeNs, entry }
  },
}

/** A name that came, went or leads elsewhere. */
export interface NameRow {
  generation: number
  ino: bigint
}

const nameKey: Encoding<Location> = {
  encode: ({ parent, name }) => Buffer.concat([encodings.bigint.encode(parent), name]),
  decode: (bytes) => ({ parent: bytes.readBigUInt64BE(0), name: bytes.subarray(8) }),
}

const nameEncoding: Encoding<NameRow> = {
  encode: ({ generation, ino }) => new Writer(16).number(generation).u64(ino).finish(),
  decode(bytes) {
    const from = new Reader(bytes, 'name row')
    return { generation: from.number(), ino: from.u64() }
  },
}

const chunkEncoding: Encoding<ChunkRow> = {
  encode: (row) => new Writer(36).raw(row.name).u32(row.sealedBytes).finish(),
  decode(bytes) {
    const from = new Reader(bytes, 'chunk row')
    return { name: from.slice(32), sealedBytes: from.u32() }
  },
}

const recordEncoding: Encoding<SnapshotRecord> = {
  encode: (record) => encodeSnapshotNode({ kind: 'snapshots', level: 0, records: [record] }),
  decode(bytes) {
    const node = decodeSnapshotNode(bytes)
    const record = 'records' in node ? node.records[0] : undefined
    if (!record) throw damaged('snapshot row', 'it holds no record')
    return record
  },
}

export class VolumeState {
  readonly directories: Table<bigint, DirectoryRow>
  readonly files: Table<bigint, Location[]>
  readonly dirty: Table<bigint, Dirty>
  readonly names: Table<Location, NameRow>
  readonly early: Table<bigint, EarlyRow>
  readonly points: Table<number, number>
  readonly chunks: Table<Buffer, ChunkRow>
  readonly parts: Table<Buffer, PartRow>
  readonly packs: Table<Buffer, PackRow>
  readonly made: Table<number, Buffer>
  readonly nodes: Table<Buffer, Buffer>
  readonly excludes: Table<number, ExcludeSettings>
  readonly rules: Table<bigint, RulesRow>
  readonly leftOut: Table<Location, LeftOutReason>
  readonly leftOutCounts: Table<number, LeftOutCounts>
  readonly snapshots: Table<number, SnapshotRecord>

  constructor(db: Database, id: Buffer) {
    const name = (table: string) => `${id.toString('hex')}/${table}`
    const spread = { spread: true }
    this.directories = db.table(name('directories'), encodings.bigint, directoryEncoding, spread)
    this.files = db.table(name('files'), encodings.bigint, locationsEncoding, spread)
    this.dirty = db.table(name('dirty'), encodings.bigint, dirtyEncoding)
    this.names = db.table(name('names'), nameKey, nameEncoding)
    this.early = db.table(name('early'), encodings.bigint, earlyEncoding)
    this.points = db.table(name('points'), encodings.number, encodings.number)
    this.chunks = db.table(name('chunks'), encodings.bytes, chunkEncoding, spread)
    this.parts = db.table(name('parts'), encodings.bytes, partEncoding, spread)
    this.packs = db.table(name('packs'), encodings.bytes, packEncoding, spread)
    this.made = db.table(name('made'), encodings.number, encodings.bytes)
    this.nodes = db.table(name('nodes'), encodings.bytes, encodings.bytes)
    this.excludes = db.table(name('excludes'), encodings.number, settingsEncoding)
    this.rules = db.table(name('rules'), encodings.bigint, rulesEncoding)
    this.leftOut = db.table(name('leftOut'), nameKey, reasonEncoding)
    this.leftOutCounts = db.table(name('leftOutCounts'), encodings.number, countsEncoding)
    this.snapshots = db.table(name('snapshots'), encodings.number, recordEncoding)
  }

  /** Inside a transaction. */
  clear(): void {
    this.directories.clear()
    this.files.clear()
    this.dirty.clear()
    this.names.clear()
    this.early.clear()
    this.points.clear()
    this.chunks.clear()
    this.parts.clear()
    this.packs.clear()
    this.made.clear()
    this.nodes.clear()
    this.excludes.clear()
    this.rules.clear()
    this.leftOut.clear()
    this.leftOutCounts.clear()
    this.snapshots.clear()
  }
}
