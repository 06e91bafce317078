/**
 * Sealed blocks: what the store keeps, what travels, and what partners hold. Layout:
 *
 *     [0]       version, 1
 *     [1]       kind: 1 chunk (bytes of a file), 2 node (directories, lists)
 *     [2]       compression: 0 none, 1 one zstd frame
 *     [3]       0
 *     [4..8)    length of the plaintext, u32
 *     [8..32)   nonce
 *     [32..)    XChaCha20-Poly1305 of the plaintext (compressed or not), with the tag of 16 bytes at its end;
 *               the associated data is bytes [0..8)
 *
 * A chunk's key is the keyed hash of its plaintext under the convergence secret, so that equal chunks become equal
 * blocks; a node's key is the volume's. Both keys may meet one plaintext in two compressed forms (another level,
 * another zstd), and two messages must never share key and nonce. So the nonce is a keyed hash of the very message
 * that is encrypted. One case needs no hash: an uncompressed chunk has nonce 0, since its message is the plaintext
 * that its key was made from.
 *
 * A block's name is the hash of all its bytes: whoever stores it can check it without a key. All functions but one are
 * synchronous, and share nothing but one (de)compressor per thread: they may run in worker threads. The work is done by
 * native/seal, with the libsodium and the zstd of the system; the batches make no JavaScript object for a chunk.
 */
import { createRequire } from 'node:module'
import { assert, type KithError } from '../base/errors.js'
import { Gathering } from '../base/gathering.js'
import { nativeFile } from '../base/native-files.js'
import { damaged } from './bytes.js'
import { hash, hashBytes, keyedHash } from './hash.js'
import { nonceBytes, tagBytes } from './keys.js'

interface Addon {
  keys(convergence: Buffer, data: Buffer, ranges: Buffer, out: Buffer): void
  sealPortion(
    convergence: Buffer,
    data: Buffer,
    ranges: Buffer,
    files: Buffer,
    keys: Buffer,
    rows: Buffer,
    level: number,
    out: Buffer,
    ids: Buffer,
    packs: Buffer,
    extents: Buffer,
  ): [number, number, number]
  openChunks(keysAndNames: Buffer, sealed: Buffer[], plain: Buffer[], faults: Buffer): Promise<void>
  names(sealed: readonly Buffer[], out: Buffer): void
  seal(kind: number, key: Buffer, plain: Buffer, level: number, out: Buffer, name: Buffer): number
  open(kind: number, key: Buffer, name: Buffer, sealed: Buffer, plainBytes: number): Buffer | number
}

const addon = createRequire(import.meta.url)(nativeFile('seal.node')) as Addon

export const maxPlainBytes = 1024 * 1024
export const sealOverhead = 8 + nonceBytes + tagBytes
export const maxSealedBytes = maxPlainBytes + sealOverhead
export const minSealedBytes = sealOverhead

/** zstd level for chunks and nodes when nothing else is asked for. */
export const defaultLevel = 3

/** Where a chunk of a file is kept, and the key that opens it. */
export interface ChunkRef {
  /** 32 bytes: hash of the sealed block */
  name: Buffer
  /** 32 bytes: secret; only ever stored inside a sealed node */
  key: Buffer
  plainBytes: number
  sealedBytes: number
}

/** Where a node is kept. The volume's node key opens it. */
export interface NodeRef {
  /** 32 bytes: hash of the sealed block */
  name: Buffer
  sealedBytes: number
}

export type BlockKind = 'chunk' | 'node'

/** Of a sealed block, to tell its kind. */
export const kindBytes = 2

const version = 1
const kinds = { chunk: 1, node: 2 } as const
const stored = 0
const compressed = 1

/** What a sealed block says that it is, by its first bytes; undefined for neither. Nothing is verified. */
export function blockKind(sealed: Buffer): BlockKind | undefined {
  const kind = sealed.length >= kindBytes && sealed[0] === version ? sealed[1] : 0
  return kind === kinds.chunk ? 'chunk' : kind === kinds.node ? 'node' : undefined
}

/** The key of a chunk: a keyed hash of its plaintext under the convergence secret (the owner's, or the circle's). */
export function chunkKey(convergence: Buffer, plain: Buffer): Buffer {
  return keyedHash(convergence, 'kith chunk key', plain)
}

/** The key of a chunk in the chunk index: tells that a chunk is known without giving away its key. */
export function chunkId(key: Buffer): Buffer {
  return hash('kith chunk id', key)
}

/** The name of a sealed block. */
export function blockName(sealed: Buffer): Buffer {
  return hash('kith block', sealed)
}

/** The names of several: those of four blocks at a time cost less than two alone. */
export function blockNames(sealed: readonly Buffer[]): Buffer[] {
  const names = Buffer.allocUnsafe(sealed.length * hashBytes)
  addon.names(sealed, names)
  return sealed.map((_, i) => names.subarray(i * hashBytes, (i + 1) * hashBytes))
}

/** @param key chunkKey of `plain`, which has 1 to maxPlainBytes bytes */
export function sealChunk(
  key: Buffer,
  plain: Buffer,
  level = defaultLevel,
): { ref: ChunkRef; bytes: Buffer } {
  const { name, bytes } = seal('chunk', key, plain, level)
  return { ref: { name, key, plainBytes: plain.length, sealedBytes: bytes.length }, bytes }
}

/** The plaintext of a chunk. Throws KithError `damaged` unless `sealed` is exactly the block that `ref` means. */
export function openChunk(ref: ChunkRef, sealed: Buffer): Buffer {
  return open('chunk', ref.key, ref, sealed, ref.plainBytes)
}

interface Opening {
  ref: ChunkRef
  sealed: Buffer
}

/** Chunks that are opened by one thread, one after the other. */
const opening = new Gathering<Opening, Buffer>(openChunks, {
  items: 32,
  bytes: 1024 * 1024,
  bytesOf: ({ ref }) => ref.plainBytes,
})

/** What is opened in less time than it takes to have a thread do it. */
const openedHereBytes = 8 * 1024

/** openChunk, of large chunks in the thread pool; `sealed` must not change meanwhile. */
export async function openChunkAside(ref: ChunkRef, sealed: Buffer): Promise<Buffer> {
  const isSound = sealed.length === ref.sealedBytes && ref.plainBytes <= maxPlainBytes
  const isNamed = ref.key.length === hashBytes && ref.name.length === hashBytes
  // What is unsound is refused there.
  if (!isSound || !isNamed || ref.plainBytes <= openedHereBytes) return openChunk(ref, sealed)
  return opening.add({ ref, sealed })
}

async function openChunks(openings: Opening[]): Promise<(Buffer | Error)[]> {
  const keysAndNames = Buffer.concat(openings.flatMap(({ ref }) => [ref.key, ref.name]))
  const plain = openings.map(({ ref }) => Buffer.allocUnsafeSlow(ref.plainBytes))
  const faults = Buffer.alloc(openings.length)
  await addon.openChunks(
    keysAndNames,
    openings.map(({ sealed }) => sealed),
    plain,
    faults,
  )
  return plain.map((bytes, i) => (faults[i] === 0 ? bytes : notOpened('chunk', faults[i] as number)))
}

export function sealNode(
  nodeKey: Buffer,
  plain: Buffer,
  level = defaultLevel,
): { ref: NodeRef; bytes: Buffer } {
  const { name, bytes } = seal('node', nodeKey, plain, level)
  return { ref: { name, sealedBytes: bytes.length }, bytes }
}

/** The plaintext of a node. Throws KithError `damaged` unless `sealed` is exactly the block that `ref` means. */
export function openNode(nodeKey: Buffer, ref: NodeRef, sealed: Buffer): Buffer {
  return open('node', nodeKey, ref, sealed, undefined)
}

/** What a holder without keys can tell of a block: undefined unless its header and length fit the layout. */
export function blockHeader(sealed: Buffer): { kind: BlockKind; plainBytes: number } | undefined {
  if (sealed.length < minSealedBytes || sealed.length > maxSealedBytes) return undefined
  if (sealed[0] !== version || sealed[3] !== 0) return undefined
  const kind = sealed[1] === kinds.chunk ? 'chunk' : sealed[1] === kinds.node ? 'node' : undefined
  const plainBytes = sealed.readUInt32LE(4)
  const messageBytes = sealed.length - sealOverhead
  if (kind === undefined || plainBytes > maxPlainBytes) return undefined
  if (
    sealed[2] === stored
      ? messageBytes !== plainBytes
      : sealed[2] !== compressed || messageBytes >= plainBytes
  )
    return undefined
  return { kind, plainBytes }
}

/** Bytes for each range in the out buffer of `chunkKeys`: its key 32, its id 32. */
export const keyAndIdBytes = 2 * hashBytes
/** What the record of a sealed chunk has beyond the plaintext: its segment's header, too (blocks/segments.ts). */
export const recordOverhead = 40 + sealOverhead

/** Keys and ids of the chunks that `ranges` (pairs of u32: start and end in `data`) stand for, to `out`. */
export function chunkKeys(convergence: Buffer, data: Buffer, ranges: Buffer, out: Buffer): void {
  addon.keys(convergence, data, ranges, out)
}

/** Chunks of one memory, and small files, ascending; by `files`, a byte for each, 1 for a small file. */
export interface PortionChunks {
  data: Buffer
  ranges: Buffer
  files: Buffer
  /** that chunkKeys gave */
  keys: Buffer
  /** an answer (lib/store/seal-messages.ts) */
  rows: Buffer
}

export interface PortionOut {
  records: Buffer
  ids: Buffer
  /** 110 bytes for each chunk: packs with the rows of their files (lib/store/seal-messages.ts) */
  packs: Buffer
  /** `extentSlotBytes` for each chunk: its extent (format/entry.ts) */
  extents: Buffer
}

/**
 * Seals what is not known of a portion (lib/store/portion.ts), equal chunks once. Moves bytes of small files within `data`. Records,
 * as a segment has them, go to `records` one after the other (recordOverhead and the plaintext for each chunk at most),
 * their ids to `ids`.
 * @returns how many blocks were sealed, and the bytes of their records and of the packs
 */
export function sealPortion(
  convergence: Buffer,
  { data, ranges, files, keys, rows }: PortionChunks,
  { records, ids, packs, extents }: PortionOut,
  level = defaultLevel,
): [sealed: number, recordBytes: number, packBytes: number] {
  return addon.sealPortion(convergence, data, ranges, files, keys, rows, level, records, ids, packs, extents)
}

/** What small blocks are sealed into, one after the other: memory of their own is of their own length. */
const small = Buffer.allocUnsafeSlow(32 * 1024)

function seal(kind: BlockKind, key: Buffer, plain: Buffer, level: number): { name: Buffer; bytes: Buffer } {
  assert(plain.length > 0 && plain.length <= maxPlainBytes, 'a block holds 1 byte to 1 MiB')
  const name = Buffer.allocUnsafe(hashBytes)
  const room = plain.length + sealOverhead
  const out = room <= small.length ? small : Buffer.allocUnsafeSlow(room)
  const length = addon.seal(kinds[kind], key, plain, level, out, name)
  // What a smaller block leaves free is not kept with it.
  return { name, bytes: out !== small && length === room ? out : Buffer.from(out.subarray(0, length)) }
}

/** By the number that native/seal returns. */
const faults = [
  '',
  'it is not the block that was stored',
  'its header is wrong',
  'its length is wrong',
  'it does not open with its key',
  'it does not decompress',
  'it decompresses to another length',
]

function open(
  kind: BlockKind,
  key: Buffer,
  ref: NodeRef,
  sealed: Buffer,
  plainBytes: number | undefined,
): Buffer {
  if (sealed.length !== ref.sealedBytes) throw damaged(kind, 'it is not the block that was stored')
  if (key.length !== hashBytes) throw damaged(kind, 'its key is wrong')
  const plain = addon.open(kinds[kind], key, ref.name, sealed, plainBytes ?? -1)
  if (typeof plain === 'number') throw notOpened(kind, plain)
  return plain
}

function notOpened(kind: BlockKind, fault: number): KithError {
  return damaged(kind, faults[fault] ?? 'it does not open')
}
