/** The three lists of a volume, as the edits of lists.ts see them: directories, files, and the snapshot list. */
import { assert } from '../base/errors.js'
import {
  directoryChildBytes,
  encodeDirectoryNode,
  encodeFileNode,
  entryBytes,
  extentBytes,
  extentItemBytes,
  extentKey,
  fileChildBytes,
  type DirectoryChild,
  type DirectoryNode,
  type Entry,
  type Extent,
  type FileChild,
  type FileNode,
} from '../format/node.js'
import type { NodeRef } from '../format/seal.js'
import {
  compareSnapshots,
  encodeSnapshotNode,
  recordItemBytes,
  recordKey,
  snapshotChildBytes,
  type SnapshotChild,
  type SnapshotNode,
  type SnapshotRecord,
} from '../format/snapshot-list.js'
import type { Intake } from './intake.js'
import type { ListKind } from './lists.js'
import type { Nodes } from './nodes.js'

/** Where nodes are read from, and where new ones go. */
export interface NodeAccess {
  nodes: Nodes
  intake: Intake
}

async function store(
  { nodes, intake }: NodeAccess,
  plain: Buffer,
  node: DirectoryNode | FileNode | SnapshotNode,
): Promise<NodeRef> {
  const ref = await intake.addNode(plain)
  nodes.remember(ref, node, plain.length)
  return ref
}

export type DirectoryPart = Entry | DirectoryChild

/** An entry has a type; a child has none. */
const isEntry = (part: DirectoryPart): part is Entry => 'type' in part

/** A directory's entries, by name. */
export function directoryList(access: NodeAccess): ListKind<Buffer, DirectoryPart> {
  return {
    async load(ref) {
      const node = await access.nodes.directory(ref)
      return { level: node.level, parts: 'entries' in node ? node.entries : node.children }
    },
    async save(level, parts) {
      const made = directoryNode(level, parts)
      const node = await store(access, encodeDirectoryNode(made), made)
      const count =
        'entries' in made ? parts.length : made.children.reduce((sum, child) => sum + child.entries, 0)
      const end = parts.at(-1)
      return { node, entries: count, last: end ? nameOf(end) : Buffer.alloc(0) }
    },
    refOf(child) {
      assert(!isEntry(child), 'only children stand for nodes')
      return child.node
    },
    keyOf: nameOf,
    compare: Buffer.compare,
    bytesOf: (part) => (isEntry(part) ? entryBytes(part) : directoryChildBytes(part)),
    boundaryOf: nameOf,
  }
}

function directoryNode(level: number, parts: DirectoryPart[]): DirectoryNode {
  const isLeaf = level === 0
  for (const part of parts) assert(isEntry(part) === isLeaf, 'a level holds parts of one kind')
  return isLeaf
    ? { kind: 'directory', level: 0, entries: parts as Entry[] }
    : { kind: 'directory', level, children: parts as DirectoryChild[] }
}

function nameOf(part: DirectoryPart): Buffer {
  return isEntry(part) ? part.name : part.last
}

/** A piece of a file, with the offset where it ends: overwriting bytes leaves the keys of all others as they are. */
export type FilePart = { extent: Extent; end: number } | { child: FileChild; end: number }

export function fileList(access: NodeAccess): ListKind<number, FilePart> {
  return {
    async load(ref, start = 0) {
      const node = await access.nodes.file(ref)
      let end = start
      const parts: FilePart[] =
        'extents' in node
          ? node.extents.map((extent) => ({ extent, end: (end += extentBytes(extent)) }))
          : node.children.map((child) => ({ child, end: (end += child.bytes) }))
      return { level: node.level, parts }
    },
    async save(level, parts) {
      const extents = parts.flatMap((part) => ('extent' in part ? [part.extent] : []))
      const children = parts.flatMap((part) => ('child' in part ? [part.child] : []))
      assert(level === 0 ? children.length === 0 : extents.length === 0, 'a level holds parts of one kind')
      const made: FileNode =
        level === 0 ? { kind: 'file', level: 0, extents } : { kind: 'file', level, children }
      const node = await store(access, encodeFileNode(made), made)
      const bytes = parts.reduce((sum, part) => sum + partBytes(part), 0)
      return { child: { node, bytes }, end: parts.at(-1)?.end ?? 0 }
    },
    refOf(part) {
      assert('child' in part, 'only children stand for nodes')
      return part.child.node
    },
    keyOf: (part) => part.end,
    compare: (a, b) => a - b,
    bytesOf: (part) => ('extent' in part ? extentItemBytes(part.extent) : fileChildBytes),
    boundaryOf: (part) => ('extent' in part ? extentKey(part.extent) : part.child.node.name),
  }
}

function partBytes(part: FilePart): number {
  return 'extent' in part ? extentBytes(part.extent) : part.child.bytes
}

export type SnapshotPart = SnapshotRecord | SnapshotChild
type Instant = { time: number; ordinal: number }

const isRecord = (part: SnapshotPart): part is SnapshotRecord => 'id' in part

export function snapshotList(access: NodeAccess): ListKind<Instant, SnapshotPart> {
  return {
    async load(ref) {
      const node = await access.nodes.snapshots(ref)
      return { level: node.level, parts: 'records' in node ? node.records : node.children }
    },
    async save(level, parts) {
      const records = parts.filter(isRecord)
      const children = parts.filter((part): part is SnapshotChild => !isRecord(part))
      assert(level === 0 ? children.length === 0 : records.length === 0, 'a level holds parts of one kind')
      const made: SnapshotNode =
        level === 0 ? { kind: 'snapshots', level: 0, records } : { kind: 'snapshots', level, children }
      const node = await store(access, encodeSnapshotNode(made), made)
      const count = level === 0 ? records.length : children.reduce((sum, child) => sum + child.records, 0)
      const end = parts.at(-1)
      const { time, ordinal } = end ? instantOf(end) : { time: 0, ordinal: 1 }
      return { node, records: count, lastTime: time, lastOrdinal: ordinal }
    },
    refOf(part) {
      assert(!isRecord(part), 'only children stand for nodes')
      return part.node
    },
    keyOf: instantOf,
    compare: compareSnapshots,
    bytesOf: (part) => (isRecord(part) ? recordItemBytes(part) : snapshotChildBytes),
    boundaryOf(part) {
      const { time, ordinal } = instantOf(part)
      return recordKey(time, ordinal)
    },
  }
}

function instantOf(part: SnapshotPart): Instant {
  return isRecord(part) ? part : { time: part.lastTime, ordinal: part.lastOrdinal }
}
