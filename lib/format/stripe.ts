/**
 * Stripes: chunk blocks, laid end to end, as shards at as many partners (lib/codes, shard.ts), and the pages by which a new
 * machine finds them. Pure.
 *
 * A stripe, in the owner's table and in pages:
 *
 *     [0]       version, 1
 *     [1]       code: as in a shard (shard.ts)
 *     [2]       data elements, m
 *     [3]       parity elements, k
 *     [4..8)    bytes of an element, L, u32
 *     [8..10)   blocks, u16
 *     [10..12)  0
 *     blocks    each: name 32, sealed bytes u32; the first begins at 0, each where the one before ends; zeros follow, to m * L
 *     shards    m + k, by the number of the element: partner 32, name of the shard 32
 *
 * The stripe's id is the hash of all before the shards, under `kith stripe`: it fixes every byte of every element.
 *
 * Pages are sealed as nodes (seal.ts) under a key that follows from the phrase, so that partners hold them like any block.
 * The root is named by the placement head: a head (head.ts) whose volume id is the first 16 bytes of the hash of the owner's
 * public key under `kith placement`, which no volume has. A page, before it is sealed:
 *
 *     [0]       version, 1
 *     [1]       level; 0: stripes, above: pages of the level below
 *     [2..4)    0
 *     [4..8)    entries, u32
 *     entries   level 0: number of the stripe u64, the stripe; above: name of the page 32, its sealed bytes u32
 */
import type { CodeName } from '../codes/types.js'
import { slabs } from '../base/memory.js'
import { assert } from '../base/errors.js'
import { Reader, Writer } from './bytes.js'
import { readNodeRef, writeNodeRef } from './entry.js'
import { hash, hashBytes, keyedHash, publicKeyBytes } from './hash.js'
import { volumeIdBytes } from './keys.js'
import { maxPlainBytes, maxSealedBytes, type NodeRef } from './seal.js'
import { maxElementBytes } from './shard.js'

const version = 1
const headBytes = 12
/** What the table costs for a stripe stays small beside it. */
export const maxStripeBlocks = 1024
/** A page of the lowest level is closed when it has so much: most of what changes is in the last. */
export const pageBytes = 128 * 1024
export const pageEntries = 16_000
/** Elements are whole words of the codes. */
const elementStep = 64

/** Numbers are part of the format: never reuse one. */
const codes: readonly (CodeName | undefined)[] = [undefined, 'reed-solomon', 'parity']

export interface StripedBlock {
  name: Buffer
  bytes: number
}

export interface ShardAt {
  /** public key */
  partner: Buffer
  /** of the shard's bytes */
  name: Buffer
}

/** What fixes the bytes of a stripe. */
export interface StripeContent {
  code: CodeName
  /** m */
  data: number
  /** k */
  parity: number
  /** L */
  elementBytes: number
  blocks: StripedBlock[]
}

export interface Stripe extends StripeContent {
  /** by the number of the element */
  shards: ShardAt[]
}

export interface NumberedStripe extends Stripe {
  number: number
}

/** Where no volume is: the id of the placement head. */
export function placementVolume(owner: Buffer): Buffer {
  return hash('kith placement', owner).subarray(0, volumeIdBytes)
}

/** Seals the pages. */
export function placementKey(kek: Buffer): Buffer {
  return keyedHash(kek, 'kith placement pages')
}

/**
 * Bytes of an element when `total` bytes are spread over `data` of them: by Padmé, so that lengths tell little of what is
 * inside, and at most 12 % is padding.
 */
export function elementBytesFor(total: number, data: number): number {
  assert(total > 0 && total <= data * maxElementBytes, 'a stripe holds what fits its elements')
  const least = Math.max(Math.ceil(total / data), elementStep)
  const exponent = Math.floor(Math.log2(least))
  const step = Math.max(elementStep, 2 ** (exponent - Math.floor(Math.log2(exponent)) - 1))
  return Math.min(Math.ceil(least / step) * step, maxElementBytes)
}

function writeContent(out: Writer, { code, data, parity, elementBytes, blocks }: StripeContent): Writer {
  assert(blocks.length > 0 && blocks.length <= maxStripeBlocks, 'a stripe has 1 to 1024 blocks')
  out.u8(version).u8(codes.indexOf(code)).u8(data).u8(parity).u32(elementBytes).u16(blocks.length).zero(2)
  for (const { name, bytes } of blocks) out.raw(name).u32(bytes)
  return out
}

function sizeOf({ data, parity, blocks }: StripeContent): number {
  return headBytes + blocks.length * (hashBytes + 4) + (data + parity) * (publicKeyBytes + hashBytes)
}

export function stripeId(content: StripeContent): Buffer {
  return hash('kith stripe', writeContent(new Writer(sizeOf(content)), content).finish())
}

function writeStripe(out: Writer, stripe: Stripe): Writer {
  assert(stripe.shards.length === stripe.data + stripe.parity, 'a shard for each element')
  writeContent(out, stripe)
  for (const { partner, name } of stripe.shards) out.raw(partner).raw(name)
  return out
}

export function encodeStripe(stripe: Stripe): Buffer {
  return writeStripe(new Writer(sizeOf(stripe)), stripe).finish()
}

function readStripe(from: Reader): Stripe {
  if (from.u8() !== version) throw from.damaged('its version is unknown; a newer kith wrote it')
  const code = codes[from.u8()]
  if (code === undefined) throw from.damaged('its code is unknown; a newer kith wrote it')
  const data = from.u8()
  const parity = from.u8()
  const elementBytes = from.u32()
  const count = from.u16()
  from.zero(2)
  const isBounded = elementBytes > 0 && elementBytes <= maxElementBytes && count <= maxStripeBlocks
  if (data === 0 || parity === 0 || count === 0 || !isBounded) throw from.damaged('a field is out of bounds')
  const blocks: StripedBlock[] = []
  let total = 0
  for (let i = 0; i < count; i++) {
    const name = Buffer.from(from.slice(hashBytes))
    const bytes = from.u32()
    if (bytes === 0 || bytes > maxSealedBytes) throw from.damaged('the length of a block is out of bounds')
    total += bytes
    blocks.push({ name, bytes })
  }
  if (total > data * elementBytes) throw from.damaged('its blocks are longer than its elements')
  const shards = Array.from({ length: data + parity }, () => {
    return { partner: Buffer.from(from.slice(publicKeyBytes)), name: Buffer.from(from.slice(hashBytes)) }
  })
  return { code, data, parity, elementBytes, blocks, shards }
}

/** Throws KithError `damaged`. */
export function decodeStripe(bytes: Buffer): Stripe {
  const from = new Reader(bytes, 'stripe')
  const stripe = readStripe(from)
  from.end()
  return stripe
}

/** Where a block lies among the data elements, end to end; undefined when it is not in the stripe. */
export function placeIn(stripe: StripeContent, name: Buffer): { offset: number; bytes: number } | undefined {
  let offset = 0
  for (const block of stripe.blocks) {
    if (block.name.equals(name)) return { offset, bytes: block.bytes }
    offset += block.bytes
  }
  return undefined
}

/** Blocks, in the stripe's order, as its data elements. */
export function elementsOf({ data, elementBytes }: StripeContent, blocks: readonly Buffer[]): Buffer[] {
  const elements = slabs(data, elementBytes)
  let at = 0
  for (const bytes of blocks) {
    for (let from = 0; from < bytes.length;) {
      const element = elements[Math.floor(at / elementBytes)]
      assert(element, 'the blocks fit the elements')
      const copied = bytes.copy(element, at % elementBytes, from)
      from += copied
      at += copied
    }
  }
  elements.forEach((element, i) =>
    element.fill(0, Math.min(Math.max(at - i * elementBytes, 0), elementBytes)),
  )
  return elements
}

export type Page =
  | { level: 0; stripes: NumberedStripe[] }
  /** level above 0 */
  | { level: number; pages: NodeRef[] }

/** What a stripe takes in a page. */
export function bytesInPage(stripe: StripeContent): number {
  return 8 + sizeOf(stripe)
}

export function encodePage(page: Page): Buffer {
  const out = new Writer(pageBytes).u8(version).u8(page.level).zero(2)
  if ('stripes' in page) {
    out.u32(page.stripes.length)
    for (const stripe of page.stripes) writeStripe(out.number(stripe.number), stripe)
  } else {
    out.u32(page.pages.length)
    for (const ref of page.pages) writeNodeRef(out, ref)
  }
  const bytes = out.finish()
  assert(bytes.length <= maxPlainBytes, 'a page fits a block')
  return bytes
}

/** Throws KithError `damaged`. */
export function decodePage(bytes: Buffer): Page {
  const from = new Reader(bytes, 'placement page')
  if (from.u8() !== version) throw from.damaged('its version is unknown; a newer kith wrote it')
  const level = from.u8()
  from.zero(2)
  const count = from.u32()
  const entryBytes = level === 0 ? headBytes : hashBytes
  if (count * entryBytes > from.left) throw from.damaged('a count is out of bounds')
  const page: Page =
    level === 0
      ? {
          level,
          stripes: Array.from({ length: count }, () => ({ number: from.number(), ...readStripe(from) })),
        }
      : { level, pages: Array.from({ length: count }, () => readNodeRef(from)) }
  from.end()
  return page
}
