/**
 * Ways through a snapshot's lists. Every node is compared with what its parent said of it, so that a swapped one is
 * found even where it is a good node in itself.
 */
import { damaged } from '../format/bytes.js'
import {
  directoryNodeSpan,
  extentBytes,
  fileNodeBytes,
  type DirectoryChild,
  type DirectoryNode,
  type Entry,
  type Extent,
  type FileEntry,
} from '../format/node.js'
import type { NodeRef } from '../format/seal.js'
import type { Nodes } from './nodes.js'

/** The entry `name` of the directory list at `ref`. */
export async function findEntry(nodes: Nodes, ref: NodeRef, name: Buffer): Promise<Entry | undefined> {
  let node = await nodes.directory(ref)
  while (!('entries' in node)) {
    const child = node.children[indexFrom(node.children, (item) => item.last, name, false)]
    if (!child) return undefined
    node = await directoryChild(nodes, node.level, child)
  }
  const entry = node.entries[indexFrom(node.entries, (item) => item.name, name, false)]
  return entry?.name.equals(name) ? entry : undefined
}

/** The entries after `after`, leaf by leaf. */
export async function* walkLeaves(nodes: Nodes, ref: NodeRef, after?: Buffer): AsyncGenerator<Entry[]> {
  yield* leavesBelow(nodes, await nodes.directory(ref), after)
}

async function* leavesBelow(
  nodes: Nodes,
  node: DirectoryNode,
  after: Buffer | undefined,
): AsyncGenerator<Entry[]> {
  if ('entries' in node) {
    const { entries } = node
    const start = after ? indexFrom(entries, (entry) => entry.name, after, true) : 0
    if (start < entries.length) yield start === 0 ? entries : entries.slice(start)
    return
  }
  const start = after ? indexFrom(node.children, (child) => child.last, after, true) : 0
  for (const [i, child] of node.children.slice(start).entries()) {
    const below = await directoryChild(nodes, node.level, child)
    yield* leavesBelow(nodes, below, i === 0 ? after : undefined)
  }
}

export async function directoryChild(
  nodes: Nodes,
  level: number,
  child: DirectoryChild,
): Promise<DirectoryNode> {
  const node = await nodes.directory(child.node)
  const { entries, last } = directoryNodeSpan(node)
  if (node.level !== level - 1 || entries !== child.entries || !last?.equals(child.last)) {
    throw damaged('directory node', 'it is not what its parent says')
  }
  return node
}

/** A piece of a file: where it starts, and what is there. */
export interface Piece {
  offset: number
  extent: Extent
}

/** The pieces that overlap [from, to), in order; inline files have none. */
export async function* walkPieces(
  nodes: Nodes,
  { content, size }: FileEntry,
  from = 0,
  to = Infinity,
): AsyncGenerator<Piece> {
  if (content.kind === 'inline') return
  if (content.kind === 'list') {
    yield* listPieces(nodes, { ref: content.node, bytes: size, level: undefined, start: 0 }, from, to)
    return
  }
  yield* piecesOf(content.extents, 0, from, to)
}

function* piecesOf(extents: readonly Extent[], start: number, from: number, to: number): Generator<Piece> {
  let offset = start
  for (const extent of extents) {
    const end = offset + extentBytes(extent)
    if (offset < to && end > from) yield { offset, extent }
    offset = end
  }
}

interface FileSubtree {
  ref: NodeRef
  bytes: number
  level: number | undefined
  start: number
}

async function* listPieces(
  nodes: Nodes,
  { ref, bytes, level, start }: FileSubtree,
  from: number,
  to: number,
): AsyncGenerator<Piece> {
  const node = await nodes.file(ref)
  if (fileNodeBytes(node) !== bytes || (level !== undefined && node.level !== level)) {
    throw damaged('file node', 'it is not what its parent says')
  }
  if ('extents' in node) {
    yield* piecesOf(node.extents, start, from, to)
    return
  }
  let offset = start
  for (const child of node.children) {
    if (offset < to && offset + child.bytes > from) {
      const below = { ref: child.node, bytes: child.bytes, level: node.level - 1, start: offset }
      yield* listPieces(nodes, below, from, to)
    }
    offset += child.bytes
  }
}

/** Index of the first item whose key is at or (with `beyond`) after `key`; the items' keys ascend. */
function indexFrom<T>(items: readonly T[], keyOf: (item: T) => Buffer, key: Buffer, beyond: boolean): number {
  let low = 0
  let high = items.length
  while (low < high) {
    const middle = (low + high) >>> 1
    const order = Buffer.compare(keyOf(items[middle] as T), key)
    if (order < 0 || (beyond && order === 0)) low = middle + 1
    else high = middle
  }
  return low
}
