/**
 * Frames between the daemon and kith-fuse, over <state>/bridge.sock. Little endian:
 *
 *     [0..4)   bytes of the payload, at most 1 MiB + 4096 - 16
 *     [4..6)   type
 *     [6..8)   0
 *     [8..16)  id: chosen by the asking side, repeated in the answer; 0 where no answer comes
 *     [16..)   payload
 *
 * Types and payloads (text: length u16, bytes; path: count u16, that many texts, from `.snapshots` down):
 *
 *      1 hello      from kith-fuse: version u32, pid u32, session u64, device u64 and inode u64 of the directory under
 *                   the mount, kith-fuse's descriptor of it u32, 0 u32. Then from the daemon: version u32, 0 u32
 *      2 sync       empty; answer: records in the log by then u64
 *      3 stop       empty; answer: count u32, that many texts: the files that are open
 *      4 status     empty; answer: written, taken, freed, lost, session u64; open files u32; waiting requests u32
 *      5 invalidate empty; answer: empty
 *      6 answer     errno u32, 0 u32, then the answer itself
 *      7 wake       from kith-fuse, empty, no answer
 *      8 replaced   from kith-fuse, empty, no answer: another daemon greeted
 *     16 lookup     path, text name; answer: attributes, text canonical name (empty: the same)
 *     17 getattr    path; answer: attributes
 *     18 readdir    path, text after; answer: count u32, 1 at the end of the directory else 0 u32, then per entry:
 *                   attributes, text name, text canonical name
 *     19 read       path, offset u64, length u32; answer: the bytes
 *     20 readlink   path; answer: the target's bytes
 *     21 getxattr   path, text name; answer: the value
 *     22 listxattr  path; answer: the names, each with a NUL after it
 *     23 seek       path, offset u64, 0 for data or 1 for a hole u32; answer: where that begins u64 (ENXIO: nowhere)
 *     24 files      path of a directory, text name, at most so many u32; answer: the file of that name and those after it,
 *                   as far as they have at most 64 KiB: text name, length u32, the bytes
 *
 * Attributes, 72 bytes:
 *
 *     [0..8) ino  [8..16) size  [16..24) blocks of 512  [24..32) mtime, seconds, i64  [32..36) its nanoseconds
 *     [36..40) mode with type  [40..44) nlink  [44..48) uid  [48..52) gid  [52..56) number of xattrs
 *     [56..64) rdev  [64..72) 0
 *
 * The other side is native/kith-fuse/bridge.cc and snapshots.cc, snapshots_read.cc and snapshots_directories.cc.
 */
import { KithError } from '../base/errors.js'
import { Reader, type Writer } from './bytes.js'

export const bridgeVersion = 1
export const frameHeaderBytes = 16
export const maxPayloadBytes = (1 << 20) + 4096 - 16
/** The most that one read asks for. */
export const maxReadBytes = 1 << 20

/** Files up to this size are sent whole, and ahead. */
export const smallFileBytes = 64 * 1024

export const frameTypes = {
  hello: 1,
  sync: 2,
  stop: 3,
  status: 4,
  invalidate: 5,
  answer: 6,
  wake: 7,
  replaced: 8,
  lookup: 16,
  getattr: 17,
  readdir: 18,
  read: 19,
  readlink: 20,
  getxattr: 21,
  listxattr: 22,
  seek: 23,
  files: 24,
} as const

export interface Frame {
  type: number
  id: bigint
  payload: Buffer
}

export function encodeFrame(type: number, id: bigint, ...payload: Buffer[]): Buffer {
  const header = Buffer.alloc(frameHeaderBytes)
  const length = payload.reduce((sum, part) => sum + part.length, 0)
  if (length > maxPayloadBytes)
    throw new KithError('protocol', 'a message to kith-fuse exceeds its bound; report this')
  header.writeUInt32LE(length, 0)
  header.writeUInt16LE(type, 4)
  header.writeBigUInt64LE(id, 8)
  return Buffer.concat([header, ...payload])
}

/** Cuts a stream into frames. Holds at most one unfinished frame. */
export class FrameSplitter {
  #parts: Buffer[] = []
  #length = 0
  /** bytes that must be there before anything more can be cut off */
  #needed = frameHeaderBytes

  /** The frames that end within `bytes`. Throws KithError `protocol` at the first one that breaks the layout. */
  push(bytes: Buffer): Frame[] {
    this.#parts.push(bytes)
    this.#length += bytes.length
    if (this.#length < this.#needed) return []
    let rest = this.#parts.length === 1 ? bytes : Buffer.concat(this.#parts)
    const frames: Frame[] = []
    this.#needed = frameHeaderBytes
    while (rest.length >= frameHeaderBytes) {
      const length = rest.readUInt32LE(0)
      if (length > maxPayloadBytes || rest.readUInt16LE(6) !== 0)
        throw new KithError('protocol', 'kith-fuse sent a malformed frame; mount the directory again')
      this.#needed = frameHeaderBytes + length
      if (rest.length < this.#needed) break
      frames.push({
        type: rest.readUInt16LE(4),
        id: rest.readBigUInt64LE(8),
        payload: rest.subarray(frameHeaderBytes, this.#needed),
      })
      rest = rest.subarray(this.#needed)
      this.#needed = frameHeaderBytes
    }
    this.#parts = rest.length > 0 ? [rest] : []
    this.#length = rest.length
    return frames
  }
}

export interface ServerHello {
  version: number
  pid: number
  session: bigint
  rootDev: bigint
  rootIno: bigint
  rootFd: number
}

export function decodeServerHello(payload: Buffer): ServerHello {
  const from = new Reader(payload, 'greeting of kith-fuse')
  const hello = {
    version: from.u32(),
    pid: from.u32(),
    session: from.u64(),
    rootDev: from.u64(),
    rootIno: from.u64(),
    rootFd: from.u32(),
  }
  from.zero(4)
  from.end()
  return hello
}

export function encodeDaemonHello(): Buffer {
  const payload = Buffer.alloc(8)
  payload.writeUInt32LE(bridgeVersion, 0)
  return encodeFrame(frameTypes.hello, 0n, payload)
}

/** An answer in two parts, to be sent one after the other: the body may be long, and is not copied. */
export function encodeAnswer(id: bigint, errno: number, body: Buffer): [head: Buffer, body: Buffer] {
  const length = 8 + body.length
  if (length > maxPayloadBytes)
    throw new KithError('protocol', 'an answer to kith-fuse exceeds its bound; report this')
  const head = Buffer.alloc(frameHeaderBytes + 8)
  head.writeUInt32LE(length, 0)
  head.writeUInt16LE(frameTypes.answer, 4)
  head.writeBigUInt64LE(id, 8)
  head.writeUInt32LE(errno, frameHeaderBytes)
  return [head, body]
}

export function decodeAnswer(payload: Buffer): { errno: number; body: Buffer } {
  const from = new Reader(payload, 'answer of kith-fuse')
  const errno = from.u32()
  from.zero(4)
  return { errno, body: from.slice(from.left) }
}

export function readText(from: Reader): Buffer {
  return from.slice(from.u16())
}

export function writeText(out: Writer, text: Buffer): void {
  out.u16(text.length).raw(text)
}

/** A path below `.snapshots`: none for itself. */
export function readPath(from: Reader): Buffer[] {
  const count = from.u16()
  const path: Buffer[] = []
  for (let i = 0; i < count; i++) path.push(readText(from))
  return path
}

export function writePath(out: Writer, path: readonly Buffer[]): void {
  out.u16(path.length)
  for (const name of path) writeText(out, name)
}

export interface BridgeAttributes {
  ino: bigint
  size: number
  /** of 512 bytes */
  blocks: number
  mtimeNs: bigint
  /** with the type */
  mode: number
  nlink: number
  uid: number
  gid: number
  /** how many */
  xattrs: number
  rdev: bigint
}

const second = 1_000_000_000n

export function writeAttributes(out: Writer, attributes: BridgeAttributes): void {
  const nanoseconds = ((attributes.mtimeNs % second) + second) % second
  out.u64(attributes.ino).number(attributes.size).number(attributes.blocks)
  out.i64((attributes.mtimeNs - nanoseconds) / second).u32(Number(nanoseconds))
  out.u32(attributes.mode).u32(attributes.nlink).u32(attributes.uid).u32(attributes.gid)
  out.u32(attributes.xattrs).u64(attributes.rdev).zero(8)
}

export function readAttributes(from: Reader): BridgeAttributes {
  const [ino, size, blocks] = [from.u64(), from.number(), from.number()]
  const mtimeNs = from.i64() * second + BigInt(from.u32())
  const [mode, nlink, uid, gid, xattrs] = [from.u32(), from.u32(), from.u32(), from.u32(), from.u32()]
  const rdev = from.u64()
  from.zero(8)
  return { ino, size, blocks, mtimeNs, mode, nlink, uid, gid, xattrs, rdev }
}

export function decodeStop(body: Buffer): Buffer[] {
  const from = new Reader(body, 'answer of kith-fuse')
  const count = from.u32()
  const open: Buffer[] = []
  for (let i = 0; i < count; i++) open.push(readText(from))
  from.end()
  return open
}
