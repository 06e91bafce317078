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
  bytesOfExtent,
  type DirectoryEntry,
  type Entry,
  type FileContent,
  type FileEntry,
} from '../format/node.js'
import type { ChunkRef, NodeRef } from '../format/seal.js'
import { snapshotName, type SnapshotRecord } from '../format/snapshot-list.js'
import { ListCursor } from './list-cursor.js'
import { WeightedCache } from './lru.js'
import { fetchChunk, Nodes } from './nodes.js'
import { findSnapshot } from './snapshot-info.js'
import { findEntry, type Piece, walkLeaves, walkPieces } from './tree-walk.js'

export type { Piece } from './tree-walk.js'

export interface TreeReaderOptions {
  blocks: BlockReader
  keys: VolumeKeys
  /** The snapshot list of the newest head, asked at each use; undefined while there is no snapshot. */
  snapshots: () => NodeRef | undefined
}

/** Plaintext of the chunks kept for the reads to come, which are mostly sequential and small: of packs, some sixty. */
const cachedChunkBytes = 16 * 1024 * 1024

export class TreeReader {
  private readonly nodes: Nodes
  private readonly chunks = new WeightedCache<Buffer>(cachedChunkBytes, (plain) => plain.length)
  private known: { root: Buffer; records: SnapshotRecord[]; byName: Map<string, SnapshotRecord> } | undefined

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
    const byName = new Map(records.map((record) => [snapshotName(record.time, record.ordinal), record]))
    this.known = { root: root.name, records, byName }
    return records
  }

  /**
   * The root directory of the snapshot that `name` means: exact instant, local day, or `latest`.
   * @throws KithError notFound
   */
  async snapshot(name: string): Promise<DirectoryEntry> {
    const records = await this.records()
    return (this.known?.byName.get(name) ?? findSnapshot(records, name)).root
  }

  /** The entry with this name, or undefined. @throws KithError notFound when `directory` is none */
  async lookup(directory: Entry, name: Buffer): Promise<Entry | undefined> {
    return findEntry(this.nodes, directoryRef(directory), name)
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
    yield* walkLeaves(this.nodes, directoryRef(directory), after)
  }

  /** A place in the directory's list, at its beginning: for comparing lists without reading what they share. */
  cursor(directory: DirectoryEntry): Promise<ListCursor> {
    return ListCursor.open(this.nodes, directory.node)
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
        this.chunk(extent.chunk).then((chunk) => {
          const plain = bytesOfExtent(extent, chunk)
          const from = Math.max(offset - start, 0)
          plain.copy(out, start + from - offset, from, Math.min(plain.length, end - start))
        }),
      )
    }
    await Promise.all(reads)
    return out
  }

  /** The extents that overlap [from, to), in order; inline files have none. */
  pieces(file: Entry, from = 0, to = Infinity): AsyncGenerator<Piece> {
    return walkPieces(this.nodes, fileOf(file), from, to)
  }

  /** The plaintext of a chunk, verified. It is shared: do not change it. */
  chunk(ref: ChunkRef): Promise<Buffer> {
    return this.chunks.through(ref.name.toString('latin1') + ref.key.toString('latin1'), () =>
      fetchChunk(this.options.blocks, ref),
    )
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
