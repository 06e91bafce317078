/**
 * Snapshots made of real nodes and chunks, sealed, kept in memory: for tests that read snapshots and need no store. A
 * block can be taken away or spoilt.
 */
import {
  cutDirectoryChildren,
  cutEntries,
  cutExtents,
  cutFileChildren,
  directoryNodeSpan,
  encodeDirectoryNode,
  encodeFileNode,
  extentBytes,
  fileNodeBytes,
  totalsOf,
  type DirectoryChild,
  type DirectoryEntry,
  type Entry,
  type Extent,
  type FileChild,
  type FileContent,
  type Totals,
} from '../../lib/format/node.js'
import { newVolumeKeys } from '../../lib/format/keys.js'
import { chunkKey, sealChunk, sealNode, type NodeRef } from '../../lib/format/seal.js'
import { encodeSnapshotNode, snapshotName, type SnapshotRecord } from '../../lib/format/snapshot-list.js'
import type { SnapshotCatalog, SnapshotListing } from '../../lib/mount/types.js'
import { TreeReader } from '../../lib/store/tree-reader.js'

const chunkBytes = 64 * 1024

export type Attributes = Partial<Omit<Entry, 'name' | 'type'>>
/** What a directory holds: by name; a Buffer or number of zeros is a file, an array a list of data and holes. */
export interface Tree {
  [name: string]: Item
}
export interface Item {
  file?: Buffer | (Buffer | number)[]
  directory?: Tree
  link?: string
  fifo?: true
  device?: bigint
  attributes?: Attributes
}

export class MemoryVolume implements SnapshotCatalog {
  readonly keys = newVolumeKeys()
  readonly blocks = new Map<string, Buffer>()
  readonly records: SnapshotRecord[] = []
  #list: NodeRef | undefined
  #lastIno = 1000n
  readonly #reader = new TreeReader({
    blocks: { get: (name) => Promise.resolve(this.blocks.get(name.toString('hex'))) },
    keys: this.keys,
    snapshots: () => this.#list,
  })

  list(): SnapshotListing[] {
    return this.records.map(({ id, time, ordinal }) => ({
      name: snapshotName(time, ordinal),
      id: id.toString('hex'),
      time,
    }))
  }

  reader(): TreeReader {
    return this.#reader
  }

  /** Adds a snapshot taken at `time`, the newest; names of its entries as latin1, so that any byte can be given. */
  take(time: number, tree: Tree): string {
    const ordinal = this.records.filter((record) => record.time === time).length + 1
    const id = Buffer.alloc(16)
    id.writeDoubleLE(time, 0)
    id.writeUInt8(ordinal, 8)
    const root = { ...this.#directory(Buffer.alloc(0), { directory: tree }) }
    this.records.push({ id, time, ordinal, bytesNew: 0, pinned: false, tags: [], root })
    this.#list = this.#node(encodeSnapshotNode({ kind: 'snapshots', level: 0, records: this.records }))
    return snapshotName(time, ordinal)
  }

  #node(plain: Buffer): NodeRef {
    const { ref, bytes } = sealNode(this.keys.node, plain)
    this.blocks.set(ref.name.toString('hex'), bytes)
    return ref
  }

  #attributes(name: Buffer, { attributes }: Item, size: number) {
    return {
      name,
      mode: 0o644,
      uid: 0,
      gid: 0,
      mtimeNs: 1_700_000_000_123_456_789n,
      ctimeNs: 1_700_000_000_123_456_789n,
      ino: ++this.#lastIno,
      nlink: 1,
      size,
      xattrs: [] as [Buffer, Buffer][],
      busy: false,
      ...attributes,
    }
  }

  #entry(name: Buffer, item: Item): Entry {
    if (item.directory) return this.#directory(name, item)
    if (item.link !== undefined)
      return {
        ...this.#attributes(name, item, item.link.length),
        type: 'symlink',
        target: Buffer.from(item.link),
      }
    if (item.fifo) return { ...this.#attributes(name, item, 0), type: 'fifo' }
    if (item.device !== undefined)
      return { ...this.#attributes(name, item, 0), type: 'character', rdev: item.device }
    const parts = Array.isArray(item.file) ? item.file : [item.file ?? Buffer.alloc(0)]
    const size = parts.reduce<number>((sum, part) => sum + (typeof part === 'number' ? part : part.length), 0)
    return { ...this.#attributes(name, item, size), type: 'file', content: this.#content(parts, size) }
  }

  #directory(name: Buffer, item: Item): DirectoryEntry {
    const entries = Object.entries(item.directory ?? {})
      .map(([child, what]) => this.#entry(Buffer.from(child, 'latin1'), what))
      .sort((a, b) => Buffer.compare(a.name, b.name))
    const totals: Totals = { files: 0, bytes: 0, busy: 0 }
    for (const entry of entries) {
      const { files, bytes, busy } = totalsOf(entry)
      totals.files += files
      totals.bytes += bytes
      totals.busy += busy
    }
    let refs = cutEntries(entries).map((group) =>
      this.#directoryChild({ kind: 'directory', level: 0, entries: group }),
    )
    for (let level = 1; refs.length > 1; level++)
      refs = cutDirectoryChildren(refs, level).map((children) =>
        this.#directoryChild({ kind: 'directory', level, children }),
      )
    const node =
      refs[0]?.node ?? this.#node(encodeDirectoryNode({ kind: 'directory', level: 0, entries: [] }))
    return {
      ...this.#attributes(name, item, 4096),
      mode: item.attributes?.mode ?? 0o755,
      type: 'directory',
      node,
      totals,
    }
  }

  #directoryChild(node: Parameters<typeof encodeDirectoryNode>[0]): DirectoryChild {
    const { entries, last } = directoryNodeSpan(node)
    return { node: this.#node(encodeDirectoryNode(node)), entries, last: last ?? Buffer.alloc(0) }
  }

  #content(parts: (Buffer | number)[], size: number): FileContent {
    const [only] = parts
    if (size <= 512 && parts.length === 1 && Buffer.isBuffer(only)) return { kind: 'inline', bytes: only }
    const extents: Extent[] = []
    for (const part of parts) {
      if (typeof part === 'number') extents.push({ kind: 'hole', bytes: part })
      else
        for (let at = 0; at < part.length; at += chunkBytes) {
          const plain = part.subarray(at, at + chunkBytes)
          const { ref, bytes } = sealChunk(chunkKey(this.keys.convergence, plain), plain)
          this.blocks.set(ref.name.toString('hex'), bytes)
          extents.push({ kind: 'chunk', chunk: ref })
        }
    }
    if (extents.length <= 8) return { kind: 'extents', extents }
    let children: FileChild[] = cutExtents(extents).map((group) => ({
      node: this.#node(encodeFileNode({ kind: 'file', level: 0, extents: group })),
      bytes: group.reduce((sum, extent) => sum + extentBytes(extent), 0),
    }))
    for (let level = 1; children.length > 1; level++)
      children = cutFileChildren(children, level).map((below) => {
        const node = { kind: 'file', level, children: below } as const
        return { node: this.#node(encodeFileNode(node)), bytes: fileNodeBytes(node) }
      })
    const root = children[0]
    if (!root) throw new Error('a list has extents')
    return { kind: 'list', node: root.node }
  }
}
