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
 * A block's name is the hash of all its bytes: whoever stores it can check it without a key. All functions are
 * synchronous and share nothing but one (de)compressor per thread: they may run in worker threads.
 */
import sodium from 'sodium-native'
import zstd from 'zstd-napi/binding.js'
import { assert } from '../base/errors.js'
import { damaged } from './bytes.js'
import { hash, hashBytes, keyedHash, type Namespace } from './hash.js'
import { nonceBytes, tagBytes } from './keys.js'

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

const version = 1
const headerBytes = 8
const bodyAt = headerBytes + nonceBytes
const kinds = { chunk: 1, node: 2 } as const
const stored = 0
const compressed = 1
const zeroNonce = Buffer.alloc(nonceBytes)

/** Shorter plaintexts are not worth a try: a zstd frame alone costs about 12 bytes. */
const minCompressBytes = 64

let compressor: InstanceType<typeof zstd.CCtx> | undefined
let decompressor: InstanceType<typeof zstd.DCtx> | undefined
let scratch: Buffer | undefined

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

/** @param key chunkKey of `plain`, which has 1 to maxPlainBytes bytes */
export function sealChunk(
  key: Buffer,
  plain: Buffer,
  level = defaultLevel,
): { ref: ChunkRef; bytes: Buffer } {
  const bytes = seal('chunk', key, plain, level)
  const ref = { name: blockName(bytes), key, plainBytes: plain.length, sealedBytes: bytes.length }
  return { ref, bytes }
}

/** The plaintext of a chunk. Throws KithError `damaged` unless `sealed` is exactly the block that `ref` means. */
export function openChunk(ref: ChunkRef, sealed: Buffer): Buffer {
  return open('chunk', ref.key, ref, sealed, ref.plainBytes)
}

export function sealNode(
  nodeKey: Buffer,
  plain: Buffer,
  level = defaultLevel,
): { ref: NodeRef; bytes: Buffer } {
  const bytes = seal('node', nodeKey, plain, level)
  return { ref: { name: blockName(bytes), sealedBytes: bytes.length }, bytes }
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

function seal(kind: BlockKind, key: Buffer, plain: Buffer, level: number): Buffer {
  assert(plain.length > 0 && plain.length <= maxPlainBytes, 'a block holds 1 byte to 1 MiB')
  const smaller = compress(plain, level)
  const message = smaller ?? plain
  const out = Buffer.allocUnsafe(message.length + sealOverhead)
  out[0] = version
  out[1] = kinds[kind]
  out[2] = smaller ? compressed : stored
  out[3] = 0
  out.writeUInt32LE(plain.length, 4)
  const header = out.subarray(0, headerBytes)
  const nonce = out.subarray(headerBytes, bodyAt)
  const unique = kind === 'chunk' && !smaller
  const namespace: Namespace = kind === 'chunk' ? 'kith chunk nonce' : 'kith node nonce'
  ;(unique ? zeroNonce : keyedHash(key, namespace, header, message)).copy(nonce)
  sodium.crypto_aead_xchacha20poly1305_ietf_encrypt(out.subarray(bodyAt), message, header, null, nonce, key)
  return out
}

function open(
  kind: BlockKind,
  key: Buffer,
  ref: NodeRef,
  sealed: Buffer,
  plainBytes: number | undefined,
): Buffer {
  if (sealed.length !== ref.sealedBytes || !blockName(sealed).equals(ref.name))
    throw damaged(kind, 'it is not the block that was stored')
  const header = blockHeader(sealed)
  if (!header || header.kind !== kind || key.length !== hashBytes) throw damaged(kind, 'its header is wrong')
  if (plainBytes !== undefined && header.plainBytes !== plainBytes) throw damaged(kind, 'its length is wrong')
  const message = Buffer.allocUnsafe(sealed.length - sealOverhead)
  const nonce = sealed.subarray(headerBytes, bodyAt)
  try {
    sodium.crypto_aead_xchacha20poly1305_ietf_decrypt(
      message,
      null,
      sealed.subarray(bodyAt),
      sealed.subarray(0, headerBytes),
      nonce,
      key,
    )
  } catch {
    throw damaged(kind, 'it does not open with its key')
  }
  return sealed[2] === stored ? message : decompress(kind, message, header.plainBytes)
}

/** The zstd frame of `plain`, valid until the next call; undefined when it would not be smaller. */
function compress(plain: Buffer, level: number): Buffer | undefined {
  if (plain.length < minCompressBytes) return undefined
  compressor ??= new zstd.CCtx()
  scratch ??= Buffer.allocUnsafe(zstd.compressBound(maxPlainBytes))
  const length = compressor.compress(scratch, plain, level)
  return length < plain.length ? scratch.subarray(0, length) : undefined
}

/** Never writes beyond `plainBytes`, whatever the frame claims. */
function decompress(kind: BlockKind, frame: Buffer, plainBytes: number): Buffer {
  decompressor ??= new zstd.DCtx()
  const plain = Buffer.allocUnsafe(plainBytes)
  let length: number
  try {
    length = decompressor.decompress(plain, frame)
  } catch {
    throw damaged(kind, 'it does not decompress')
  }
  if (length !== plainBytes) throw damaged(kind, 'it decompresses to another length')
  return plain
}
