/**
 * Snapshots built in memory out of real nodes and sealed blocks, without the store: from a directory, or from entries
 * that no directory could have. Chunks are cut at fixed places. Blocks can be damaged, and are then refused as a
 * partner's would be.
 */
import { constants, readSync } from 'node:fs'
import * as posix from '../../lib/base/posix.js'
import {
  cutDirectoryChildren,
  cutEntries,
  cutExtents,
  cutFileChildren,
  encodeDirectoryNode,
  encodeFileNode,
  maxDirectExtents,
  maxInlineBytes,
  totalsOf,
  type Attributes,
  type DirectoryChild,
  type DirectoryEntry,
  type Entry,
  type Extent,
  type FileChild,
  type FileEntry,
  type SymlinkEntry,
  type Totals,
} from '../../lib/format/node.js'
import { chunkKey, sealChunk, sealNode, type NodeRef } from '../../lib/format/seal.js'
import { TreeReader } from '../../lib/store/tree-reader.js'

const chunkBytes = 256 * 1024
const { S_IFMT, S_IFREG, S_IFDIR, S_IFLNK, S_IFIFO, S_IFSOCK, S_IFCHR } = constants

export class BuiltSnapshot {
  readonly blocks = new Map<string, Buffer>()
  readonly keys = { convergence: Buffer.alloc(32, 1), node: Buffer.alloc(32, 2), gear: Buffer.alloc(32, 3) }
  /** names of the blocks asked for, in order */
  readonly asked: string[] = []
  readonly reader = new TreeReader({
    blocks: {
      get: (name) => {
        this.asked.push(name.toString('hex'))
        return Promise.resolve(this.blocks.get(name.toString('hex')))
      },
    },
    keys: this.keys,
    snapshots: () => undefined,
  })

  /** The directory at `path` with all that is in it. */
  async directoryAt(path: string): Promise<DirectoryEntry> {
    const fd = posix.openRoot(path)
    try {
      const attributes = attributesOf(Buffer.alloc(0), posix.statFd(fd), posix.xattrsFd(fd))
      return this.directory(attributes, await this.#children(fd))
    } finally {
      posix.close(fd)
    }
  }

  directory(attributes: Attributes, entries: Entry[]): DirectoryEntry {
    const sorted = [...entries].sort((a, b) => Buffer.compare(a.name, b.name))
    const totals: Totals = { files: 0, bytes: 0, busy: 0 }
    for (const entry of sorted) {
      const add = totalsOf(entry)
      totals.files += add.files
      totals.bytes += add.bytes
      totals.busy += add.busy
    }
    const groups = sorted.length === 0 ? [[]] : cutEntries(sorted)
    let nodes: DirectoryChild[] = groups.map((group) => ({
      node: this.#node(encodeDirectoryNode({ kind: 'directory', level: 0, entries: group })),
      entries: group.length,
      last: group.at(-1)?.name ?? Buffer.alloc(0),
    }))
    for (let level = 1; nodes.length > 1; level++)
      nodes = cutDirectoryChildren(nodes, level).map((children) => ({
        node: this.#node(encodeDirectoryNode({ kind: 'directory', level, children })),
        entries: children.reduce((sum, child) => sum + child.entries, 0),
        last: children.at(-1)?.last ?? Buffer.alloc(0),
      }))
    return { ...attributes, type: 'directory', node: only(nodes).node, totals }
  }

  file(attributes: Attributes, content: Buffer): FileEntry {
    const file = { ...attributes, type: 'file' as const, size: content.length }
    if (content.length <= maxInlineBytes) return { ...file, content: { kind: 'inline', bytes: content } }
    const extents: Extent[] = []
    for (let at = 0; at < content.length; at += chunkBytes)
      extents.push(this.#chunk(content.subarray(at, at + chunkBytes)))
    return this.#fileOf(file, extents)
  }

  #fileOf(file: Attributes & { type: 'file' }, extents: Extent[]): FileEntry {
    if (extents.length <= maxDirectExtents) return { ...file, content: { kind: 'extents', extents } }
    let nodes: FileChild[] = cutExtents(extents).map((group) => ({
      node: this.#node(encodeFileNode({ kind: 'file', level: 0, extents: group })),
      bytes: group.reduce((sum, e) => sum + (e.kind === 'chunk' ? e.chunk.plainBytes : e.bytes), 0),
    }))
    for (let level = 1; nodes.length > 1; level++)
      nodes = cutFileChildren(nodes, level).map((children) => ({
        node: this.#node(encodeFileNode({ kind: 'file', level, children })),
        bytes: children.reduce((sum, child) => sum + child.bytes, 0),
      }))
    return { ...file, content: { kind: 'list', node: only(nodes).node } }
  }

  #node(plain: Buffer): NodeRef {
    const { ref, bytes } = sealNode(this.keys.node, plain)
    this.blocks.set(ref.name.toString('hex'), bytes)
    return ref
  }

  #chunk(plain: Buffer): Extent {
    const { ref, bytes } = sealChunk(chunkKey(this.keys.convergence, plain), plain)
    this.blocks.set(ref.name.toString('hex'), bytes)
    return { kind: 'chunk', chunk: ref }
  }

  async #children(dirFd: number): Promise<Entry[]> {
    const entries: Entry[] = []
    for (const { name, stat } of await posix.readDirectory(dirFd)) {
      const attributes = attributesOf(name, stat, posix.xattrsAt(dirFd, name))
      const type = stat.mode & S_IFMT
      if (type === S_IFDIR) {
        const fd = posix.openDirectoryAt(dirFd, name)
        try {
          entries.push(this.directory(attributes, await this.#children(fd)))
        } finally {
          posix.close(fd)
        }
      } else if (type === S_IFREG) {
        entries.push(this.#fileAt(dirFd, attributes))
      } else if (type === S_IFLNK) {
        entries.push({ ...attributes, type: 'symlink', target: posix.readlinkAt(dirFd, name) })
      } else if (type === S_IFIFO || type === S_IFSOCK) {
        entries.push({ ...attributes, type: type === S_IFIFO ? 'fifo' : 'socket' })
      } else {
        entries.push({ ...attributes, type: type === S_IFCHR ? 'character' : 'block', rdev: stat.rdev })
      }
    }
    return entries
  }

  #fileAt(dirFd: number, attributes: Attributes): FileEntry {
    const fd = posix.openAt(dirFd, attributes.name, constants.O_RDONLY)
    try {
      if (attributes.size <= maxInlineBytes) return this.file(attributes, readAt(fd, 0, attributes.size))
      const extents: Extent[] = []
      for (let at = 0; at < attributes.size;) {
        const next = posix.seekData(fd, at)
        const data = next < 0 ? attributes.size : next
        if (data > at) extents.push({ kind: 'hole', bytes: data - at })
        const hole = next < 0 ? data : posix.seekHole(fd, data)
        for (at = data; at < hole; at += chunkBytes)
          extents.push(this.#chunk(readAt(fd, at, Math.min(chunkBytes, hole - at))))
        at = hole
      }
      return this.#fileOf({ ...attributes, type: 'file' }, extents)
    } finally {
      posix.close(fd)
    }
  }
}

function readAt(fd: number, at: number, length: number): Buffer {
  const bytes = Buffer.alloc(length)
  if (readSync(fd, bytes, 0, length, at) !== length) throw new Error('the file is shorter than it was')
  return bytes
}

function only<T>(list: T[]): T {
  const [first] = list
  if (first === undefined || list.length > 1) throw new Error('one item is expected')
  return first
}

function attributesOf(name: Buffer, stat: posix.FileStat, xattrs: posix.Xattr[]): Attributes {
  return {
    name,
    mode: stat.mode & 0o7777,
    uid: stat.uid,
    gid: stat.gid,
    mtimeNs: stat.mtimeNs,
    ctimeNs: stat.ctimeNs,
    ino: stat.ino,
    nlink: stat.nlink,
    size: stat.size,
    xattrs: [...xattrs].sort(([a], [b]) => Buffer.compare(a, b)),
    busy: false,
  }
}

let nextIno = 1n

/** Attributes for an entry made by hand. */
export function made(name: string | Buffer, more: Partial<Attributes> = {}): Attributes {
  return {
    name: Buffer.from(name),
    mode: 0o644,
    uid: process.geteuid?.() ?? 0,
    gid: process.getegid?.() ?? 0,
    mtimeNs: 1_700_000_000_000_000_001n,
    ctimeNs: 0n,
    ino: nextIno++,
    nlink: 1,
    size: 0,
    xattrs: [],
    busy: false,
    ...more,
  }
}

export function madeSymlink(name: string, target: string): SymlinkEntry {
  return { ...made(name), type: 'symlink', target: Buffer.from(target) }
}
