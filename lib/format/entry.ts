/**
 * Entries: what a directory node says of one name. Layout:
 *
 *     [0]       type: 1 file, 2 directory, 3 symlink, 4 fifo, 5 socket, 6 character device, 7 block device
 *     [1]       flags: bit 0 busy (the file was being written through every try to read it at rest)
 *     [2..4)    mode, the 07777 bits
 *     [4..8)    uid
 *     [8..12)   gid
 *     [12..20)  mtime, ns since 1970, i64
 *     [20..28)  ctime, ns since 1970, i64 (what a scan compares after kith was away; never restored)
 *     [28..36)  inode number, u64
 *     [36..40)  link count, u32
 *     [40..48)  size in bytes
 *     [48..50)  length of the name; [50..52) number of xattrs
 *     [52..)    name; then each xattr: name length u8, value length u32, name, value; then by type:
 *       file       [0] 1 inline: the bytes (size tells how many; at most 512)
 *                  [0] 2 extents: count u8 (at most 8), extents
 *                  [0] 3 list: node reference of a file list (size tells how many bytes it spans)
 *       directory  node reference, then below it: names that are no directories u64, their bytes u64, busy files u64
 *       symlink    length u16, target
 *       devices    device number u64
 *     node reference   name 32, sealed length u32
 *     chunk reference  name 32, key 32, plain length u32, sealed length u32
 *     extent           [0] 1 chunk: chunk reference; [0] 2 hole: length u64, zeros that no block holds
 *                      [0] 3 part: chunk reference, offset u32, length u32: those bytes of the chunk's plaintext
 *
 * A part is the whole content of a small file: one chunk, a pack, holds several files behind each other. It stands alone
 * in an entry and never in a file list, within its pack, and is less than all of it (that would be a chunk).
 *
 * One value has one encoding: the decoder refuses unsorted or repeated xattrs, unused bits, empty extents, neighbouring
 * holes, and sizes that do not add up, so that equal directories are equal nodes. Names and targets are bytes.
 */
import { assert, KithError } from '../base/errors.js'
import type { Reader, Writer } from './bytes.js'
import { hashBytes } from './hash.js'
import { maxPlainBytes, maxSealedBytes, minSealedBytes, type ChunkRef, type NodeRef } from './seal.js'

export const maxNameBytes = 255
export const maxTargetBytes = 4095
export const maxInlineBytes = 512
export const maxDirectExtents = 8
export const maxXattrNameBytes = 255
export const maxXattrValueBytes = 65_536
export const maxXattrs = 4096
/** An entry must fit a node with room to spare; only the sum of xattrs can come near. */
export const maxEntryBytes = 768 * 1024

/** A small file within a pack. */
export interface PartExtent {
  kind: 'part'
  chunk: ChunkRef
  offset: number
  bytes: number
}

export type Extent = { kind: 'chunk'; chunk: ChunkRef } | { kind: 'hole'; bytes: number } | PartExtent

export type FileContent =
  { kind: 'inline'; bytes: Buffer } | { kind: 'extents'; extents: Extent[] } | { kind: 'list'; node: NodeRef }

/** Sums over everything below a directory. A name of a hard-linked file counts each time. */
export interface Totals {
  files: number
  bytes: number
  busy: number
}

export type Xattr = [name: Buffer, value: Buffer]

export interface Attributes {
  /** bytes of one path component; empty in the root entry of a snapshot, and only there */
  name: Buffer
  /** permission bits, 07777 */
  mode: number
  uid: number
  gid: number
  mtimeNs: bigint
  ctimeNs: bigint
  ino: bigint
  nlink: number
  size: number
  /** sorted bytewise by name */
  xattrs: Xattr[]
  busy: boolean
}

export interface FileEntry extends Attributes {
  type: 'file'
  content: FileContent
}
export interface DirectoryEntry extends Attributes {
  type: 'directory'
  node: NodeRef
  totals: Totals
}
export interface SymlinkEntry extends Attributes {
  type: 'symlink'
  target: Buffer
}
export interface PipeEntry extends Attributes {
  type: 'fifo' | 'socket'
}
export interface DeviceEntry extends Attributes {
  type: 'character' | 'block'
  rdev: bigint
}
export type Entry = FileEntry | DirectoryEntry | SymlinkEntry | PipeEntry | DeviceEntry
export type EntryType = Entry['type']

const types: EntryType[] = ['file', 'directory', 'symlink', 'fifo', 'socket', 'character', 'block']
const busyFlag = 1
const inlineContent = 1
const extentContent = 2
const listContent = 3
const chunkExtent = 1
const holeExtent = 2
const partExtent = 3

/** What an entry adds to the totals of its directory. */
export function totalsOf(entry: Entry): Totals {
  if (entry.type === 'directory') return entry.totals
  return { files: 1, bytes: entry.size, busy: entry.busy ? 1 : 0 }
}

export function extentBytes(extent: Extent): number {
  return extent.kind === 'chunk' ? extent.chunk.plainBytes : extent.bytes
}

/** What the extent means of its chunk's plaintext. */
export function bytesOfExtent(extent: Exclude<Extent, { kind: 'hole' }>, plain: Buffer): Buffer {
  return extent.kind === 'part' ? plain.subarray(extent.offset, extent.offset + extent.bytes) : plain
}

/** The length that writeExtent gives. */
export function extentItemBytes(extent: Extent): number {
  return { hole: 9, chunk: 73, part: 81 }[extent.kind]
}

/** A class whose constructor gives back the object that it is given, so that a subclass adds private fields to it. */
const Given = function (given: object) {
  return given
} as unknown as new (given: object) => object

/**
 * Where the bytes of an entry are that it was read from, or was written as, in private fields of it: a copy of the entry,
 * which may differ, has none. Entries are immutable, so that a directory in which one entry changed is written again mostly by
 * copying. (A WeakMap would be clearer and does the same at ten times the cost, which the millions of entries of a first
 * backup show.)
 */
class Encoded extends Given {
  #bytes: Buffer
  #start: number
  #end: number

  private constructor(entry: Entry, bytes: Buffer, start: number, end: number) {
    super(entry)
    this.#bytes = bytes
    this.#start = start
    this.#end = end
  }

  /** The entry is written as `bytes` from `start` to `end`. */
  static keep(entry: Entry, bytes: Buffer, start: number, end: number): void {
    if (!(#bytes in entry)) {
      new Encoded(entry, bytes, start, end)
      return
    }
    const known = entry as unknown as Encoded
    known.#bytes = bytes
    known.#start = start
    known.#end = end
  }

  static lengthOf(entry: Entry): number | undefined {
    if (!(#bytes in entry)) return undefined
    const known = entry as unknown as Encoded
    return known.#end - known.#start
  }

  /** Of the entries from `first` on, those whose bytes follow one another; no bytes when there is none to begin with. */
  static runAt(entries: readonly Entry[], first: number): { next: number; bytes: Buffer | undefined } {
    const begin = entries[first]
    if (!begin || !(#bytes in begin)) return { next: first, bytes: undefined }
    const known = begin as unknown as Encoded
    const bytes = known.#bytes
    let end = known.#end
    let next = first + 1
    for (; next < entries.length; next++) {
      const entry = entries[next] as Entry
      if (!(#bytes in entry)) break
      const following = entry as unknown as Encoded
      if (following.#bytes !== bytes || following.#start !== end) break
      end = following.#end
    }
    return { next, bytes: bytes.subarray(known.#start, end) }
  }
}

/** The length that writeEntry will give. */
export function entryBytes(entry: Entry): number {
  const known = Encoded.lengthOf(entry)
  if (known !== undefined) return known
  let bytes = 52 + entry.name.length
  for (const [name, value] of entry.xattrs) bytes += 5 + name.length + value.length
  if (entry.type === 'file') return bytes + contentBytes(entry.content)
  if (entry.type === 'directory') return bytes + hashBytes + 4 + 24
  if (entry.type === 'symlink') return bytes + 2 + entry.target.length
  return entry.type === 'character' || entry.type === 'block' ? bytes + 8 : bytes
}

function contentBytes(content: FileContent): number {
  if (content.kind === 'inline') return 1 + content.bytes.length
  if (content.kind === 'list') return 1 + hashBytes + 4
  return content.extents.reduce((sum, extent) => sum + extentItemBytes(extent), 2)
}

/**
 * Appends an entry. Throws KithError `unsupported` when the file is outside the format's bounds (the one case that a
 * real directory can reach: xattrs of more than 768 KiB together).
 */
export function writeEntry(out: Writer, entry: Entry): void {
  const { bytes: known } = Encoded.runAt([entry], 0)
  if (known) {
    out.raw(known)
    return
  }
  const size = entryBytes(entry)
  if (size > maxEntryBytes || entry.xattrs.length > maxXattrs)
    throw new KithError('unsupported', 'the extended attributes of one file exceed 768 KiB; remove some')
  assert(entry.name.length <= maxNameBytes, 'names have at most 255 bytes')
  const start = out.length
  out.u8(types.indexOf(entry.type) + 1)
  out.u8(entry.busy ? busyFlag : 0)
  out.u16(entry.mode & 0o7777)
  out.u32(entry.uid).u32(entry.gid)
  out.i64(entry.mtimeNs).i64(entry.ctimeNs).u64(entry.ino)
  out.u32(entry.nlink).number(entry.size)
  out.u16(entry.name.length).u16(entry.xattrs.length).raw(entry.name)
  for (const [name, value] of entry.xattrs) out.u8(name.length).u32(value.length).raw(name).raw(value)
  if (entry.type === 'file') writeContent(out, entry.content)
  else if (entry.type === 'directory') writeDirectory(out, entry)
  else if (entry.type === 'symlink') out.u16(entry.target.length).raw(entry.target)
  else if (entry.type === 'character' || entry.type === 'block') out.u64(entry.rdev)
  assert(out.length - start === size, 'an entry has the length that was computed')
}

/** Appends entries; those whose bytes lie one after the other, as in the node that they come from, are one copy. */
export function writeEntries(out: Writer, entries: readonly Entry[]): void {
  for (let at = 0; at < entries.length;) {
    const { next, bytes } = Encoded.runAt(entries, at)
    if (bytes) out.raw(bytes)
    else writeEntry(out, entries[at] as Entry)
    at = bytes ? next : at + 1
  }
}

/** The next time they are written they are a copy of these bytes, which hold them from `start` on and do not change any more. */
export function keepEntries(entries: readonly Entry[], bytes: Buffer, start: number): void {
  let at = start
  for (const entry of entries) {
    const end = at + entryBytes(entry)
    Encoded.keep(entry, bytes, at, end)
    at = end
  }
}

function writeDirectory(out: Writer, entry: DirectoryEntry): void {
  writeNodeRef(out, entry.node)
  out.number(entry.totals.files).number(entry.totals.bytes).number(entry.totals.busy)
}

function writeContent(out: Writer, content: FileContent): void {
  if (content.kind === 'inline') {
    out.u8(inlineContent).raw(content.bytes)
  } else if (content.kind === 'list') {
    writeNodeRef(out.u8(listContent), content.node)
  } else {
    out.u8(extentContent).u8(content.extents.length)
    for (const extent of content.extents) writeExtent(out, extent)
  }
}

export function writeExtent(out: Writer, extent: Extent): void {
  if (extent.kind === 'hole') {
    out.u8(holeExtent).number(extent.bytes)
    return
  }
  const { name, key, plainBytes, sealedBytes } = extent.chunk
  assert(name.length === hashBytes && key.length === hashBytes, 'names and keys have 32 bytes')
  out.u8(extent.kind === 'part' ? partExtent : chunkExtent)
  out.raw(name).raw(key).u32(plainBytes).u32(sealedBytes)
  if (extent.kind === 'part') out.u32(extent.offset).u32(extent.bytes)
}

/** Of a chunk's extent. */
export const chunkExtentBytes = 73

/** Stands where the extent of a chunk will be that is not sealed yet. */
export function writeChunkExtent(out: Writer, plainBytes: number): void {
  out
    .u8(chunkExtent)
    .zero(2 * hashBytes)
    .u32(plainBytes)
    .u32(0)
}

/** Room for an extent of any kind. */
export const extentSlotBytes = chunkExtentBytes + 8

/** Length of the extent that begins at `at`, of a chunk or a part. */
export function extentBytesAt(bytes: Buffer, at: number): number {
  return bytes[at] === partExtent ? extentSlotBytes : chunkExtentBytes
}

/** Content of so many extents, which follow. */
export function writeExtentsHead(out: Writer, count: number): void {
  out.u8(extentContent).u8(count)
}

export function writeInlineContent(out: Writer, bytes: Buffer): void {
  out.u8(inlineContent).raw(bytes)
}

export function writeNodeRef(out: Writer, ref: NodeRef): void {
  assert(ref.name.length === hashBytes, 'names have 32 bytes')
  out.raw(ref.name).u32(ref.sealedBytes)
}

/** Reads one entry; `root` for the entry of a snapshot's root, a directory without a name. */
export function readEntry(from: Reader, root = false): Entry {
  const start = from.at
  const type = types[from.u8() - 1]
  if (type === undefined) throw from.damaged('an entry has an unknown type')
  const flags = from.u8()
  const mode = from.u16()
  if ((flags & ~busyFlag) !== 0 || mode > 0o7777) throw from.damaged('an entry has unknown flags')
  const uid = from.u32()
  const gid = from.u32()
  const mtimeNs = from.i64()
  const ctimeNs = from.i64()
  const ino = from.u64()
  const nlink = from.u32()
  const size = from.number()
  const nameLength = from.u16()
  const xattrCount = from.u16()
  if (nameLength > maxNameBytes || xattrCount > maxXattrs) throw from.damaged('an entry exceeds its bounds')
  const name = from.slice(nameLength)
  if (root ? nameLength !== 0 || type !== 'directory' : !isName(name))
    throw from.damaged('an entry has a bad name')
  const xattrs = readXattrs(from, xattrCount)
  const busy = (flags & busyFlag) !== 0
  const entry = readRest(from, type, {
    name,
    mode,
    uid,
    gid,
    mtimeNs,
    ctimeNs,
    ino,
    nlink,
    size,
    xattrs,
    busy,
  })
  if (from.at - start > maxEntryBytes) throw from.damaged('an entry exceeds its bounds')
  Encoded.keep(entry, from.bytes, start, from.at)
  return entry
}

function readRest(from: Reader, type: EntryType, attributes: Attributes): Entry {
  switch (type) {
    case 'file': {
      const { name, mode, uid, gid, mtimeNs, ctimeNs, ino, nlink, size, xattrs, busy } = attributes
      const content = readContent(from, size)
      // Most entries are files; one by one costs a tenth of what `...attributes` does.
      return { name, mode, uid, gid, mtimeNs, ctimeNs, ino, nlink, size, xattrs, busy, type, content }
    }
    case 'directory': {
      const node = readNodeRef(from)
      return {
        ...attributes,
        type,
        node,
        totals: { files: from.number(), bytes: from.number(), busy: from.number() },
      }
    }
    case 'symlink': {
      const length = from.u16()
      if (length > maxTargetBytes) throw from.damaged('a link target is too long')
      const target = from.slice(length)
      if (target.includes(0)) throw from.damaged('a link target holds a NUL')
      return { ...attributes, type, target }
    }
    case 'character':
    case 'block':
      return { ...attributes, type, rdev: from.u64() }
    default:
      return { ...attributes, type }
  }
}

/** A component of a path: 1 to 255 bytes, no slash, no NUL, neither `.` nor `..`. */
export function isName(name: Buffer): boolean {
  if (name.length === 0 || name.length > maxNameBytes) return false
  if (name.includes(0) || name.includes(0x2f)) return false
  return !(name[0] === 0x2e && (name.length === 1 || (name.length === 2 && name[1] === 0x2e)))
}

function readXattrs(from: Reader, count: number): Xattr[] {
  const xattrs: Xattr[] = []
  let last: Buffer | undefined
  for (let i = 0; i < count; i++) {
    const nameLength = from.u8()
    const valueLength = from.u32()
    if (nameLength === 0 || valueLength > maxXattrValueBytes)
      throw from.damaged('an xattr exceeds its bounds')
    const name = from.slice(nameLength)
    if (name.includes(0)) throw from.damaged('the name of an xattr holds a NUL')
    if (last && Buffer.compare(last, name) >= 0) throw from.damaged('xattrs are out of order')
    last = name
    xattrs.push([name, from.slice(valueLength)])
  }
  return xattrs
}

function readContent(from: Reader, size: number): FileContent {
  switch (from.u8()) {
    case inlineContent:
      if (size > maxInlineBytes) throw from.damaged('inline content is too long')
      return { kind: 'inline', bytes: from.slice(size) }
    case extentContent: {
      const count = from.u8()
      if (count === 0 || count > maxDirectExtents) throw from.damaged('an entry has a bad number of extents')
      const extents = readExtents(from, count, count === 1)
      if (spanOf(extents) !== size) throw from.damaged('the extents of a file do not add up to its size')
      return { kind: 'extents', extents }
    }
    case listContent:
      return { kind: 'list', node: readNodeRef(from) }
    default:
      throw from.damaged('a file has an unknown kind of content')
  }
}

/** Sum of the extents' lengths; may exceed exact numbers only where a decoder then refuses it. */
export function spanOf(extents: readonly Extent[]): number {
  return extents.reduce((sum, extent) => sum + extentBytes(extent), 0)
}

/** @param parts whether they may be parts of packs */
export function readExtents(from: Reader, count: number, parts = false): Extent[] {
  const extents: Extent[] = []
  for (let i = 0; i < count; i++) {
    const extent = readExtent(from)
    if (extent.kind === 'part' && !parts) throw from.damaged('a part of a pack stands among others')
    if (extent.kind === 'hole' && extents.at(-1)?.kind === 'hole')
      throw from.damaged('two holes are neighbours')
    extents.push(extent)
  }
  return extents
}

function readExtent(from: Reader): Extent {
  const kind = from.u8()
  if (kind === holeExtent) {
    const bytes = from.number()
    if (bytes === 0) throw from.damaged('an extent is empty')
    return { kind: 'hole', bytes }
  }
  if (kind !== chunkExtent && kind !== partExtent) throw from.damaged('an extent has an unknown kind')
  const chunk = {
    name: from.slice(hashBytes),
    key: from.slice(hashBytes),
    plainBytes: from.u32(),
    sealedBytes: from.u32(),
  }
  if (chunk.plainBytes === 0 || chunk.plainBytes > maxPlainBytes || !isSealedLength(chunk.sealedBytes))
    throw from.damaged('a chunk has an impossible length')
  if (kind === chunkExtent) return { kind: 'chunk', chunk }
  const offset = from.u32()
  const bytes = from.u32()
  if (bytes === 0 || bytes === chunk.plainBytes || offset + bytes > chunk.plainBytes)
    throw from.damaged('a part exceeds its pack')
  return { kind: 'part', chunk, offset, bytes }
}

export function readNodeRef(from: Reader): NodeRef {
  const ref = { name: from.slice(hashBytes), sealedBytes: from.u32() }
  if (!isSealedLength(ref.sealedBytes)) throw from.damaged('a node has an impossible length')
  return ref
}

function isSealedLength(length: number): boolean {
  return length > minSealedBytes && length <= maxSealedBytes
}
