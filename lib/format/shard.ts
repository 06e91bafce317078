/**
 * Shards: one element of a stripe (lib/codes) as one partner holds it. Elements are ciphertext already (seal.ts); the outer
 * seal is there so that a partner cannot answer for another from a shard that both could make. A shard is a block like
 * others: it is named by the hash of all its bytes. Layout:
 *
 *     [0]            version, 1
 *     [1]            kind: 3 shard
 *     [2]            code: 1 reed-solomon, 2 parity, 3 tornado
 *     [3]            number of the element in its stripe
 *     [4..8)         bytes of the element, L, u32
 *     [8..32)        nonce
 *     [32..32+L)     XChaCha20 of the element
 *     [32+L..)       for each 64 KiB of ciphertext, the last of them shorter, its Poly1305, 16 bytes
 *
 * With K the key of the partnership (keys.ts), and keyed hashes (hash.ts) under these namespaces:
 *
 *     shard key      K, `kith shard key`: owner 32, partner 32, stripe id 32, bytes [0..8)
 *     nonce          shard key, `kith shard nonce`: nothing; the first 24 bytes
 *     key of a tag   shard key, `kith shard piece`: number of the piece u32
 *
 * So a tag covers owner, partner, stripe, element, offset and version: a piece that is changed, moved, cut, or of another
 * shard does not open, and each piece opens without the others, for reads of a range.
 *
 * A shard made again is the same block. Nonce and Poly1305 keys are for one message only, and they meet one: the stripe id is
 * a hash over the names, lengths and order of the blocks, so it fixes every byte of every element. Blocks are verified by
 * their names before they are coded. Were that broken, the partner that got both shards would know how two ciphertexts
 * differ, and could forge a tag of that one shard, which the block's own seal inside would not let pass.
 */
import { createRequire } from 'node:module'
import { assert } from '../base/errors.js'
import { slabs } from '../base/memory.js'
import { nativeFile } from '../base/native-files.js'
import type { CodeName } from '../codes/types.js'
import { damaged } from './bytes.js'
import { hashBytes } from './hash.js'
import { keyBytes, nonceBytes } from './keys.js'

interface Addon {
  /** keys, contexts, indexes and names lie one after the other */
  sealShards(
    keys: Buffer,
    contexts: Buffer,
    code: number,
    indexes: Buffer,
    elements: readonly Buffer[],
    outs: readonly Buffer[],
    names: Buffer,
  ): Promise<void>
  openShard(key: Buffer, context: Buffer, code: number, index: number, shard: Buffer, out: Buffer): boolean
  openPiece(
    key: Buffer,
    context: Buffer,
    code: number,
    index: number,
    lengthAndPiece: Buffer,
    sealed: Buffer,
    out: Buffer,
  ): boolean
}

const addon = createRequire(import.meta.url)(nativeFile('seal.node')) as Addon

/** Numbers are part of the format: never reuse one. */
const codeNumbers: Readonly<Record<CodeName, number>> = { 'reed-solomon': 1, parity: 2, tornado: 3 }

const headBytes = 8 + nonceBytes
export const pieceBytes = 64 * 1024
const tagBytes = 16
/** A shard is no longer than a block may be (seal.ts, maxSealedBytes). */
export const maxElementBytes = 1024 * 1024 - 4096

/** Which shard it is. */
export interface ShardRef {
  /** partnershipKey of owner and partner: secret */
  key: Buffer
  /** public keys, 32 bytes each */
  owner: Buffer
  partner: Buffer
  /** 32 bytes: fixes code, lengths, and the blocks in their order */
  stripe: Buffer
  code: CodeName
  /** number of the element */
  index: number
  /** L */
  elementBytes: number
}

/** Length of the shard of an element. */
export function shardBytes(elementBytes: number): number {
  return headBytes + elementBytes + pieces(elementBytes) * tagBytes
}

function pieces(elementBytes: number): number {
  return Math.ceil(elementBytes / pieceBytes)
}

export interface SealedShard {
  name: Buffer
  bytes: Buffer
}

/** Seals an element of ref.elementBytes, which must not change before the promise settles. Off the event loop. */
export async function sealShard(ref: ShardRef, element: Buffer): Promise<SealedShard> {
  const [shard] = await sealShards([ref], [element])
  assert(shard, 'one shard for one element')
  return shard
}

/** The same for several elements of one code: faster than one by one from three on. */
export async function sealShards(
  refs: readonly ShardRef[],
  elements: readonly Buffer[],
): Promise<SealedShard[]> {
  const [first] = refs
  if (!first) return []
  assert(refs.length === elements.length, 'a reference for each element')
  refs.forEach(({ code, elementBytes }, i) => {
    assert(code === first.code, 'the shards are of one code')
    assert(elements[i]?.length === elementBytes, 'the element is as long as its shard says')
  })
  const contexts = Buffer.concat(refs.map(contextOf))
  const outs = elements.flatMap((element) => slabs(1, shardBytes(element.length)))
  const names = Buffer.alloc(refs.length * hashBytes)
  const keys = Buffer.concat(refs.map(({ key }) => key))
  const indexes = Buffer.from(refs.map(({ index }) => index))
  await addon.sealShards(keys, contexts, codeNumbers[first.code], indexes, elements, outs, names)
  return outs.map((bytes, i) => {
    return { name: Buffer.from(names.subarray(i * hashBytes, (i + 1) * hashBytes)), bytes }
  })
}

/** The element of a shard. Throws KithError `damaged` when it is not that very shard, whole. */
export function openShard(ref: ShardRef, shard: Buffer): Buffer {
  const context = contextOf(ref)
  const element = Buffer.allocUnsafeSlow(ref.elementBytes)
  if (!addon.openShard(ref.key, context, codeNumbers[ref.code], ref.index, shard, element)) {
    throw damaged('shard', 'it is not the one that was sent to this partner')
  }
  return element
}

/** Where the pieces that hold `bytes` bytes of the element from `offset` on lie in the shard: each with its tag. */
export function piecesFor(
  elementBytes: number,
  offset: number,
  bytes: number,
): { piece: number; cipher: [start: number, end: number]; tag: [start: number, end: number] }[] {
  assert(offset >= 0 && bytes > 0 && offset + bytes <= elementBytes, 'the range lies in the element')
  const first = Math.floor(offset / pieceBytes)
  const last = Math.floor((offset + bytes - 1) / pieceBytes)
  return Array.from({ length: last - first + 1 }, (_, i) => {
    const piece = first + i
    const start = headBytes + piece * pieceBytes
    const tag = headBytes + elementBytes + piece * tagBytes
    const end = Math.min(start + pieceBytes, headBytes + elementBytes)
    return { piece, cipher: [start, end], tag: [tag, tag + tagBytes] }
  })
}

/** The bytes of one piece of the element. Throws KithError `damaged` when they are not those of this shard and place. */
export function openPiece(ref: ShardRef, piece: number, cipher: Buffer, tag: Buffer): Buffer {
  const context = contextOf(ref)
  const place = Buffer.alloc(8)
  place.writeUInt32LE(ref.elementBytes, 0)
  place.writeUInt32LE(piece, 4)
  const out = Buffer.allocUnsafe(cipher.length)
  const sealed = Buffer.concat([cipher, tag])
  const fits = cipher.length > 0 && cipher.length <= pieceBytes && tag.length === tagBytes
  if (!fits || !addon.openPiece(ref.key, context, codeNumbers[ref.code], ref.index, place, sealed, out)) {
    throw damaged('shard', 'a piece of it is not the one that was sent to this partner')
  }
  return out
}

/** What a reference says is the owner's own: a mistake in it is ours. */
function contextOf({ key, owner, partner, stripe, index, elementBytes }: ShardRef): Buffer {
  assert(
    [key, owner, partner, stripe].every((bytes) => bytes.length === keyBytes),
    'key, owner, partner and stripe have 32 bytes',
  )
  assert(index >= 0 && index < 256, 'a stripe has 256 elements at most')
  assert(elementBytes > 0 && elementBytes <= maxElementBytes, 'an element has 1 byte to 1020 KiB')
  return Buffer.concat([owner, partner, stripe])
}
