/**
 * Nodes: the records that snapshots are made of, each the plaintext of one sealed block. Layout:
 *
 *     [0]      version, 1; 2 in leaves of the snapshot list
 *     [1]      kind: 1 directory, 2 file list, 3 snapshot list (snapshot-list.ts)
 *     [2]      level: 0 a leaf, 1 to 7 an index over nodes of the level below
 *     [3]      0
 *     [4..8)   number of items, u32
 *     [8..)    items:
 *       directory leaf    entries (entry.ts), ascending by name
 *       directory index   node reference 36, entries below u64, length u16 and bytes of the last name below; ascending
 *       file list leaf    extents
 *       file list index   node reference 36, bytes below u64
 *
 * Lists of any length are cut into nodes by their content, so that a change re-writes the nodes around it and no others:
 * a node ends after an item whose key hashes to a multiple of 64 or 128 in the 32-bit word of its level. The key of an
 * entry, and of a directory index item, is its (last) name; of an extent its chunk's name; of a file index item the name
 * of the child. Only when a node would pass 256 KiB or 4096 items is it cut elsewhere; the next boundary is again one of
 * content. The root of a list is the single node of its highest level; a list without items is an empty leaf.
 */
import { assert } from '../base/errors.js'
import { Reader, Writer } from './bytes.js'
import {
  entryBytes,
  extentItemBytes,
  isName,
  keepEntries,
  maxEntryBytes,
  readEntry,
  readExtents,
  readNodeRef,
  spanOf,
  writeEntries,
  writeExtent,
  writeNodeRef,
  type Entry,
  type Extent,
} from './entry.js'
import { hash } from './hash.js'
import { maxPlainBytes, type NodeRef } from './seal.js'

export * from './entry.js'

export interface DirectoryChild {
  node: NodeRef
  /** entries below */
  entries: number
  /** the last name below: the child holds the names after its left neighbour's last up to this one */
  last: Buffer
}

export interface FileChild {
  node: NodeRef
  /** bytes of the file below */
  bytes: number
}

export type DirectoryNode =
  | { kind: 'directory'; level: 0; entries: Entry[] }
  | { kind: 'directory'; level: number; children: DirectoryChild[] }

export type FileNode =
  { kind: 'file'; level: 0; extents: Extent[] } | { kind: 'file'; level: number; children: FileChild[] }

export const nodeVersion = 1
export const nodeKinds = { directory: 1, file: 2, snapshots: 3 } as const
export type NodeKind = keyof typeof nodeKinds
/** The words of a 32-byte hash, one per level, bound the height. 64^7 items are more than any disk holds. */
export const maxLevel = 7
/** A node is cut before an item that would take it past this, unless the node is empty. */
export const softNodeBytes = 256 * 1024
export const maxNodeItems = 4096

/** Average items in a node: leaves of directories and files, and indexes over them. */
const leafMask = 127
const indexMask = 63

/**
 * Decides where the nodes of one level end. For each item, in order:
 *
 *     if (cutter.before(itemBytes)) close the node
 *     append the item
 *     if (cutter.after(key)) close the node
 *
 * and close what is left at the end. Within a node the decision depends on its own items only, so that a list may be
 * cut again from any node's start; once a new boundary meets an old one, everything behind it is unchanged.
 */
export class NodeCutter {
  #bytes = 0
  #items = 0

  constructor(readonly level: number) {
    assert(level <= maxLevel, 'lists have at most eight levels')
  }

  before(itemBytes: number): boolean {
    const full = this.#items > 0 && (this.#bytes + itemBytes > softNodeBytes || this.#items >= maxNodeItems)
    if (full) this.#reset()
    this.#bytes += itemBytes
    this.#items++
    return full
  }

  after(key: Buffer): boolean {
    const ends = isBoundary(key, this.level)
    if (ends) this.#reset()
    return ends
  }

  #reset(): void {
    this.#bytes = 0
    this.#items = 0
  }
}

/** Whether a node of this level ends after the item with this key (see above for what an item's key is). */
export function isBoundary(key: Buffer, level: number): boolean {
  const word = hash('kith list boundary', key).readUInt32LE(level * 4)
  return (word & (level === 0 ? leafMask : indexMask)) === 0
}

export function entryKey(entry: Entry): Buffer {
  return entry.name
}

/** Holes of equal length have equal keys; they are rare, and a run of them is one hole. */
export function extentKey(extent: Extent): Buffer {
  if (extent.kind !== 'hole') return extent.chunk.name
  const key = Buffer.alloc(8)
  key.writeBigUInt64LE(BigInt(extent.bytes))
  return key
}

/** Cuts a whole level: each item lands in exactly one group, in order. */
export function cutItems<T>(
  items: Iterable<T>,
  level: number,
  bytesOf: (item: T) => number,
  keyOf: (item: T) => Buffer,
): T[][] {
  const cutter = new NodeCutter(level)
  const groups: T[][] = []
  let group: T[] = []
  for (const item of items) {
    if (cutter.before(bytesOf(item))) {
      groups.push(group)
      group = []
    }
    group.push(item)
    if (cutter.after(keyOf(item))) {
      groups.push(group)
      group = []
    }
  }
  if (group.length > 0) groups.push(group)
  return groups
}

/** Ascending entries as the entry lists of leaves. */
export function cutEntries(entries: Iterable<Entry>): Entry[][] {
  return cutItems(entries, 0, entryBytes, entryKey)
}

export function cutExtents(extents: Iterable<Extent>): Extent[][] {
  return cutItems(extents, 0, extentItemBytes, extentKey)
}

/** @param level of the index nodes to be made, 1 or more */
export function cutDirectoryChildren(children: Iterable<DirectoryChild>, level: number): DirectoryChild[][] {
  return cutItems(children, level, directoryChildBytes, (child) => child.last)
}

/** @param level of the index nodes to be made, 1 or more */
export function cutFileChildren(children: Iterable<FileChild>, level: number): FileChild[][] {
  return cutItems(
    children,
    level,
    () => fileChildBytes,
    (child) => child.node.name,
  )
}

/** Encoded length of an item, for the cutter; so is the next. */
export function directoryChildBytes(child: DirectoryChild): number {
  return 46 + child.last.length
}

export const fileChildBytes = 44

const nodeHeadBytes = 8

/** The first 8 bytes of every node. @param capacity bytes that the whole node will have, as far as is known */
export function startNode(
  kind: NodeKind,
  level: number,
  items: number,
  { version = nodeVersion, capacity = 4096 }: { version?: number; capacity?: number } = {},
): Writer {
  assert(level <= maxLevel && items <= maxNodeItems, 'nodes are cut by NodeCutter')
  const out = new Writer(capacity)
  return out.u8(version).u8(nodeKinds[kind]).u8(level).u8(0).u32(items)
}

export function finishNode(out: Writer): Buffer {
  assert(out.length <= maxPlainBytes, 'a node fits a block')
  return out.finish()
}

/** Reads the first 8 bytes. Throws KithError `damaged` unless it is a node of this kind, of a version up to `newest`. */
export function openNodeReader(
  bytes: Buffer,
  kind: NodeKind,
  newest = nodeVersion,
): { from: Reader; version: number; level: number; items: number } {
  const from = new Reader(bytes, `${kind} node`)
  if (bytes.length > maxPlainBytes) throw from.damaged('it is too long')
  const version = from.u8()
  if (version < nodeVersion || version > newest)
    throw from.damaged('its version is unknown; a newer kith wrote it')
  if (from.u8() !== nodeKinds[kind]) throw from.damaged('it is a record of another kind')
  const level = from.u8()
  from.zero(1)
  const items = from.u32()
  if (level > maxLevel || items > maxNodeItems) throw from.damaged('it exceeds its bounds')
  if (level > 0 && items === 0) throw from.damaged('an index is empty')
  return { from, version, level, items }
}

export function encodeDirectoryNode(node: DirectoryNode): Buffer {
  if ('entries' in node) {
    const { entries } = node
    // Of the very length: what grows is allocated and copied several times, which costs more than all else here.
    const capacity = entries.reduce((sum, entry) => sum + entryBytes(entry), nodeHeadBytes)
    const out = startNode('directory', 0, entries.length, { capacity })
    writeEntries(out, entries)
    const bytes = finishNode(out)
    keepEntries(entries, bytes, nodeHeadBytes)
    return bytes
  }
  const { children } = node
  const capacity = children.reduce((sum, child) => sum + directoryChildBytes(child), nodeHeadBytes)
  const out = startNode('directory', node.level, children.length, { capacity })
  for (const child of node.children) {
    writeNodeRef(out, child.node)
    out.number(child.entries).u16(child.last.length).raw(child.last)
  }
  return finishNode(out)
}

/** Strict: throws KithError `damaged` unless the names are good and strictly ascending and every field is in bounds. */
export function decodeDirectoryNode(bytes: Buffer): DirectoryNode {
  const { from, level, items } = openNodeReader(bytes, 'directory')
  let last: Buffer | undefined
  const ascend = (name: Buffer): void => {
    if (last && Buffer.compare(last, name) >= 0) throw from.damaged('names are out of order')
    last = name
  }
  if (level === 0) {
    const entries: Entry[] = []
    for (let i = 0; i < items; i++) {
      const entry = readEntry(from)
      ascend(entry.name)
      entries.push(entry)
    }
    from.end()
    return { kind: 'directory', level: 0, entries }
  }
  const children: DirectoryChild[] = []
  for (let i = 0; i < items; i++) {
    const child = { node: readNodeRef(from), entries: from.number(), last: from.slice(from.u16()) }
    if (!isName(child.last) || child.entries === 0) throw from.damaged('an index item is impossible')
    ascend(child.last)
    children.push(child)
  }
  from.end()
  return { kind: 'directory', level, children }
}

export function encodeFileNode(node: FileNode): Buffer {
  if ('extents' in node) {
    const out = startNode('file', 0, node.extents.length)
    for (const extent of node.extents) writeExtent(out, extent)
    return finishNode(out)
  }
  const out = startNode('file', node.level, node.children.length)
  for (const child of node.children) {
    writeNodeRef(out, child.node)
    out.number(child.bytes)
  }
  return finishNode(out)
}

/** Strict: throws KithError `damaged` unless every extent is possible and the sum of bytes is an exact number. */
export function decodeFileNode(bytes: Buffer): FileNode {
  const { from, level, items } = openNodeReader(bytes, 'file')
  const node: FileNode =
    level === 0
      ? { kind: 'file', level: 0, extents: readExtents(from, items) }
      : { kind: 'file', level, children: readFileChildren(from, items) }
  from.end()
  if (!Number.isSafeInteger(fileNodeBytes(node))) throw from.damaged('its bytes exceed any file')
  return node
}

function readFileChildren(from: Reader, count: number): FileChild[] {
  const children: FileChild[] = []
  for (let i = 0; i < count; i++) {
    const child = { node: readNodeRef(from), bytes: from.number() }
    if (child.bytes === 0) throw from.damaged('an index item is empty')
    children.push(child)
  }
  return children
}

/** Bytes of the file below this node: whoever follows a reference checks that its node spans what the parent said. */
export function fileNodeBytes(node: FileNode): number {
  if ('extents' in node) return spanOf(node.extents)
  return node.children.reduce((sum, child) => sum + child.bytes, 0)
}

/** Entries below this node, and its last name; to be compared with what the parent said. */
export function directoryNodeSpan(node: DirectoryNode): { entries: number; last: Buffer | undefined } {
  if ('entries' in node) return { entries: node.entries.length, last: node.entries.at(-1)?.name }
  const entries = node.children.reduce((sum, child) => sum + child.entries, 0)
  return { entries, last: node.children.at(-1)?.last }
}

assert(maxEntryBytes + softNodeBytes <= maxPlainBytes, 'the largest node fits a block')
