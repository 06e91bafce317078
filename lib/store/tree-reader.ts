/**
 * Reads snapshots: finds one by name, walks directories, reads files. The blocks may be here or come from partners;
 * everything is verified on its way, against its reference and against what its parent said of it, so that a wrong,
 * swapped or truncated block is an error and never a wrong byte. Caches are bounded.
 */
import type { BlockReader } from '../blocks/block-store.js'
import { KithError } from '../base/errors.js'
import { damaged } from '../format/bytes.js'
import type { VolumeKeys } from '../format/keys.js'
import {
  directoryNodeSpan,
  extentBytes,
  fileNodeBytes,
  type DirectoryChild,
  type DirectoryEntry,
  type DirectoryNode,
  type Entry,
  type Extent,
  type FileContent,
  type FileEntry,
} from '../format/node.js'
import type { ChunkRef, NodeRef } from '../format/seal.js'
import type { SnapshotRecord } from '../format/snapshot-list.js'
import { WeightedCache } from './lru.js'
import { fetchChunk, Nodes } from './nodes.js'
import { findSnapshot } from './snapshot-info.js'

export interface TreeReaderOptions {
  blocks: BlockReader
  keys: VolumeKeys
  /** The snapshot list of the newest head, asked at each use; undefined while there is no snapshot. */
  snapshots: () => NodeRef | undefined
}

/** Plaintext of the chunks kept for the reads to come, which are mostly sequential and small. */
const cachedChunkBytes = 16 * 1024 * 1024

/** A piece of a file: where it starts, and what is there. */
export interface Piece {
  offset: number
  extent: Extent
}

export class TreeReader {
  private readonly nodes: Nodes
  private readonly chunks = new WeightedCache<Buffer>(cachedChunkBytes, (plain) => plain.length)
  private known: { root: Buffer; records: SnapshotRecord[] } | undefined

  constructor(private readonly options: TreeReaderOptions) {
    this.nodes = new Nodes(options.blocks, options.keys.node)
  }

  /** All snapshots of the volume, oldest first. */
  async records(): Promise<SnapshotRecord[]> {
    const root = this.options.snapshots()
    if (!root) return []
    if (this.known?.root.equals(root.name)) return this.known.records
    const records: SnapshotRecord[] = []
    await this.collectRecords(root, records)
    this.known = { root: root.name, records }
    return records
  }

  /**
   * The root directory of the snapshot that `name` means: exact instant, local day, or `latest`.
   * @throws KithError notFound
   */
  async snapshot(name: string): Promise<DirectoryEntry> {
    return findSnapshot(await this.records(), name).root
  }

  /** The entry with this name, or undefined. @throws KithError notFound when `directory` is none */
  async lookup(directory: Entry, name: Buffer): Promise<Entry | undefined> {
    let node = await this.nodes.directory(directoryRef(directory))
    while (!('entries' in node)) {
      const child = firstFrom(node.children, (item) => item.last, name, false)
      if (!child) return undefined
      node = await this.directoryChild(node.level, child)
    }
    const entry = firstFrom(node.entries, (item) => item.name, name, false)
    return entry?.name.equals(name) ? entry : undefined
  }

  /** The entry at a path of names below a directory, without following links. @throws KithError notFound */
  async resolve(directory: Entry, path: readonly Buffer[]): Promise<Entry> {
    let entry = directory
    for (const name of path) {
      const next = entry.type === 'directory' ? await this.lookup(entry, name) : undefined
      if (!next) throw new KithError('notFound', `no ${JSON.stringify(name.toString())} in this snapshot`)
      entry = next
    }
    return entry
  }

  /** Entries in the order of their names' bytes: those after `after`, at most `limit`. */
  async list(directory: Entry, after?: Buffer, limit = Infinity): Promise<Entry[]> {
    const entries: Entry[] = []
    for await (const batch of this.batches(directory, after)) {
      for (const entry of batch) if (entries.length < limit) entries.push(entry)
      if (entries.length >= limit) break
    }
    return entries
  }

  /** The same, leaf by leaf: for directories of any size in bounded memory. */
  async *batches(directory: Entry, after?: Buffer): AsyncGenerator<Entry[]> {
    yield* this.leaves(await this.nodes.directory(directoryRef(directory)), after)
  }

  /** Bytes [offset, offset + length) of the file, fewer where it ends. */
  async read(file: Entry, offset: number, length: number): Promise<Buffer> {
    const end = Math.min(offset + length, fileOf(file).size)
    if (end <= offset) return Buffer.alloc(0)
    const out = Buffer.alloc(end - offset)
    const reads: Promise<void>[] = []
    if (fileOf(file).content.kind === 'inline') {
      inlineBytes(fileOf(file).content).copy(out, 0, offset, end)
      return out
    }
    for await (const { offset: start, extent } of this.pieces(file, offset, end)) {
      if (extent.kind === 'hole') continue
      reads.push(
        this.chunk(extent.chunk).then((plain) => {
          const from = Math.max(offset - start, 0)
          plain.copy(out, start + from - offset, from, Math.min(plain.length, end - start))
        }),
      )
    }
    await Promise.all(reads)
    return out
  }

  /** The extents that overlap [from, to), in order; inline files have none. */
  async *pieces(file: Entry, from = 0, to = Infinity): AsyncGenerator<Piece> {
    const { content, size } = fileOf(file)
    if (content.kind === 'inline') return
    if (content.kind === 'extents') {
      let offset = 0
      for (const extent of content.extents) {
        if (offset < to && offset + extentBytes(extent) > from) yield { offset, extent }
        offset += extentBytes(extent)
      }
      return
    }
    yield* this.listPieces(content.node, size, undefined, 0, from, to)
  }

  /** The plaintext of a chunk, verified. It is shared: do not change it. */
  chunk(ref: ChunkRef): Promise<Buffer> {
    return this.chunks.through(ref.name.toString('latin1') + ref.key.toString('latin1'), () =>
      fetchChunk(this.options.blocks, ref),
    )
  }

  /** The entries after `after` of a node and all below it. */
  private async *leaves(node: DirectoryNode, after: Buffer | undefined): AsyncGenerator<Entry[]> {
    if ('entries' in node) {
      const { entries } = node
      const start = after ? indexFrom(entries, (entry) => entry.name, after, true) : 0
      if (start < entries.length) yield start === 0 ? entries : entries.slice(start)
      return
    }
    const start = after ? indexFrom(node.children, (child) => child.last, after, true) : 0
    for (const [i, child] of node.children.slice(start).entries()) {
      yield* this.leaves(await this.directoryChild(node.level, child), i === 0 ? after : undefined)
    }
  }

  private async directoryChild(level: number, child: DirectoryChild): Promise<DirectoryNode> {
    const node = await this.nodes.directory(child.node)
    const { entries, last } = directoryNodeSpan(node)
    if (node.level !== level - 1 || entries !== child.entries || !last?.equals(child.last)) {
      throw damaged('directory node', 'it is not what its parent says')
    }
    return node
  }

  private async *listPieces(
    ref: NodeRef,
    bytes: number,
    level: number | undefined,
    start: number,
    from: number,
    to: number,
  ): AsyncGenerator<Piece> {
    const node = await this.nodes.file(ref)
    if (fileNodeBytes(node) !== bytes || (level !== undefined && node.level !== level)) {
      throw damaged('file node', 'it is not what its parent says')
    }
    let offset = start
    if ('extents' in node) {
      for (const extent of node.extents) {
        if (offset < to && offset + extentBytes(extent) > from) yield { offset, extent }
        offset += extentBytes(extent)
      }
      return
    }
    for (const child of node.children) {
      if (offset < to && offset + child.bytes > from) {
        yield* this.listPieces(child.node, child.bytes, node.level - 1, offset, from, to)
      }
      offset += child.bytes
    }
  }

  private async collectRecords(ref: NodeRef, into: SnapshotRecord[], level?: number): Promise<void> {
    const node = await this.nodes.snapshots(ref)
    if (level !== undefined && node.level !== level) {
      throw damaged('snapshots node', 'it is not what its parent says')
    }
    if ('records' in node) {
      for (const record of node.records) into.push(record)
      return
    }
    for (const child of node.children) await this.collectRecords(child.node, into, node.level - 1)
  }
}

function directoryRef(entry: Entry): NodeRef {
  if (entry.type !== 'directory') throw new KithError('notFound', 'this is no directory')
  return entry.node
}

function fileOf(entry: Entry): FileEntry {
  if (entry.type !== 'file') throw new KithError('notFound', 'this is no file')
  return entry
}

function inlineBytes(content: FileContent): Buffer {
  return content.kind === 'inline' ? content.bytes : Buffer.alloc(0)
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

function firstFrom<T>(
  items: readonly T[],
  keyOf: (item: T) => Buffer,
  key: Buffer,
  beyond: boolean,
): T | undefined {
  return items[indexFrom(items, keyOf, key, beyond)]
}
