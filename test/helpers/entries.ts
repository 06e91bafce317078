/** Entries of every kind, with the extremes of each field, made from a seeded generator. */
import type { ChunkRef, NodeRef } from '../../lib/format/seal.js'
import type { Attributes, DirectoryEntry, Entry, Extent, FileEntry, Xattr } from '../../lib/format/entry.js'
import { seededBytes } from './bytes.js'

type Random = () => number

export function someNodeRef(random: Random): NodeRef {
  return { name: seededBytes(random, 32), sealedBytes: 60 + (random() % 100_000) }
}

export function someChunkRef(random: Random): ChunkRef {
  const plainBytes = 1 + (random() % 262_144)
  return {
    name: seededBytes(random, 32),
    key: seededBytes(random, 32),
    plainBytes,
    sealedBytes: plainBytes + 48,
  }
}

/** A name of 1 to 255 bytes of any value that a file name may have. */
export function someName(random: Random): Buffer {
  const length = random() % 8 === 0 ? 255 : 1 + (random() % 40)
  const name = seededBytes(random, length).map((byte) => (byte === 0 || byte === 0x2f ? 0x61 : byte))
  return Buffer.from(name[0] === 0x2e ? name.fill(0x62, 0, 1) : name)
}

export function someAttributes(random: Random, name = someName(random)): Attributes {
  const count = random() % 4 === 0 ? random() % 4 : 0
  const xattrs: Xattr[] = Array.from({ length: count }, (_, i) => [
    Buffer.from(`user.${i}`),
    seededBytes(random, random() % 100),
  ])
  return {
    name,
    mode: random() % 0o10000,
    uid: random(),
    gid: random(),
    mtimeNs: BigInt(random()) * 1_000_000_007n - 2_000_000_000_000_000_000n,
    ctimeNs: BigInt(random()) * 1_000_000_009n,
    ino: (BigInt(random()) << 32n) | BigInt(random()),
    nlink: random(),
    size: 0,
    xattrs,
    busy: random() % 5 === 0,
  }
}

export function someExtents(random: Random, count: number): Extent[] {
  return Array.from({ length: count }, (_, i) =>
    i % 2 === 1 && random() % 3 === 0
      ? { kind: 'hole', bytes: 1 + random() * 2 }
      : { kind: 'chunk', chunk: someChunkRef(random) },
  )
}

/** A small file in a pack. */
export function somePartFile(random: Random, name = someName(random)): FileEntry {
  const chunk = { ...someChunkRef(random), plainBytes: 2000 + (random() % 262_144) }
  const bytes = 1 + (random() % 1000)
  const offset = random() % (chunk.plainBytes - bytes)
  const content: FileEntry['content'] = { kind: 'extents', extents: [{ kind: 'part', chunk, offset, bytes }] }
  return { ...someAttributes(random, name), type: 'file', size: bytes, content }
}

export function someDirectory(random: Random, name = someName(random)): DirectoryEntry {
  const totals = { files: random(), bytes: random() * 65_536, busy: random() % 3 }
  return {
    ...someAttributes(random, name),
    type: 'directory',
    size: random(),
    node: someNodeRef(random),
    totals,
  }
}

export function someEntry(random: Random, name = someName(random)): Entry {
  const attributes = someAttributes(random, name)
  switch (random() % 8) {
    case 0:
      return someDirectory(random, name)
    case 1: {
      const target = Buffer.from(`/absolute/\xff/${random()}`, 'latin1')
      return { ...attributes, type: 'symlink', size: target.length, target }
    }
    case 2:
      return { ...attributes, type: random() % 2 ? 'fifo' : 'socket' }
    case 3:
      return { ...attributes, type: random() % 2 ? 'character' : 'block', rdev: BigInt(random()) << 20n }
    case 4:
      return {
        ...attributes,
        type: 'file',
        size: 2 ** 40,
        content: { kind: 'list', node: someNodeRef(random) },
      }
    case 5: {
      const extents = someExtents(random, 1 + (random() % 8))
      const size = extents.reduce((sum, e) => sum + (e.kind === 'hole' ? e.bytes : e.chunk.plainBytes), 0)
      return { ...attributes, type: 'file', size, content: { kind: 'extents', extents } }
    }
    default: {
      const bytes = seededBytes(random, random() % 513)
      return { ...attributes, type: 'file', size: bytes.length, content: { kind: 'inline', bytes } }
    }
  }
}

/** `count` entries with distinct names, ascending. */
export function someEntries(random: Random, count: number): Entry[] {
  const names = new Map<string, Buffer>()
  while (names.size < count) {
    const name = someName(random)
    names.set(name.toString('latin1'), name)
  }
  return [...names.values()].sort(Buffer.compare).map((name) => someEntry(random, name))
}
