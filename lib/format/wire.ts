/**
 * The messages between partners: numbers, bounds and byte layouts of the channel `kith/partner/1`. Pure codec.
 *
 * Both sides may ask; each request is paired with its reply by name and by an id that the asker chooses. All numbers
 * are little endian. A frame is
 *     [0] message number: u8   [1..5) id: u32 (0 where there is none)   [5..) body
 * A body must be used up exactly by its layout, and every count and length is checked against the bytes that are there
 * before anything is allocated for it, so a decoded message is never bigger than the frame that brought it.
 *
 *     no. name       body
 *      1  hello      version u16 | capabilities u32 | display name: rest, UTF-8, <= 64 bytes. Once, first, both ways
 *      2  credit     bytes u32: so much of the sender's window is free again
 *      3  error      code u8 | text: rest, UTF-8, <= 200 bytes. The reply to a request that failed
 *     16  offer      names (<= 1024)
 *     17  missing    one bit a name offered, in order, lowest bit first; set = the holder lacks it: ceil(n / 8) bytes,
 *                    after count u16
 *     18  put        count u16 | count x (name 32 | length u32 | sealed bytes). No reply: the next commit answers for it
 *     20  commit     empty
 *     21  durable    blocks u32 | bytes u64 that this commit made durable
 *     22  headPut    a signed head (format/head.ts), <= 64 KiB
 *     23  headStored empty
 *     24  headGet    empty for every volume, or volume 16
 *     25  heads      count u8 (<= 16) | count x (length u32 | head)
 *     26  get        names (<= 64)
 *     27  blocks     count u8 | count x (status u8: 0 absent, 1 here, 2 left out, ask again | if 1: length u32 | bytes)
 *     28  prove      nonce 32 | names (<= 64)
 *     29  proofs     count u8 | count x (status u8: 0 absent, 1 here | if 1: proof 32)
 *     30  held       empty
 *     31  holding    bytes u64 | blocks u64 | number of the last release u64
 *     32  release    a signed release (format/wire-release.ts)
 *     33  released   blocks u64 | bytes u64 that the owner held before and holds no more
 * names: count u16 | count x 32 bytes.
 */
import { type ErrorCode, KithError } from '../base/errors.js'
import { hashBytes, keyedHash } from './hash.js'

export const wireProtocol = 'kith/partner/1'
export const wireVersion = 1
/** Capability bit: this node lends space. */
export const lendsSpace = 1

export const nonceBytes = 32
export const volumeIdBytes = 16
export const maxBlockBytes = 1024 * 1024 + 64
export const maxHeadBytes = 64 * 1024
export const maxHeads = 16
export const maxOffered = 1024
export const maxAsked = 64
export const maxNameBytes = 64
export const maxErrorBytes = 200
/** Of blocks in one frame together: one of the largest, or several small ones. */
export const maxBatchBytes = maxBlockBytes
const headerBytes = 5

/** Request name -> what it carries. */
export interface Requests {
  offer: { names: Buffer[] }
  commit: Record<never, never>
  headPut: { head: Buffer }
  headGet: { volume?: Buffer }
  get: { names: Buffer[] }
  prove: { nonce: Buffer; names: Buffer[] }
  held: Record<never, never>
  release: { request: Buffer }
}

/** Request name -> what its reply carries. */
export interface Replies {
  /** one a name offered, in order; true: send it */
  offer: { missing: boolean[] }
  commit: { blocks: number; bytes: number }
  headPut: Record<never, never>
  headGet: { heads: Buffer[] }
  /** one a name asked for, in order; `later`: left out for size, ask again */
  get: { blocks: (Buffer | 'absent' | 'later')[] }
  prove: { proofs: (Buffer | undefined)[] }
  held: { bytes: number; blocks: number; releaseNumber: number }
  release: { blocks: number; bytes: number }
}

export type RequestKind = keyof Requests

export interface NamedBlock {
  name: Buffer
  bytes: Buffer
}

export interface Hello {
  version: number
  capabilities: number
  name: string
}

export type RequestFrame = {
  [K in RequestKind]: { type: 'request'; kind: K; id: number; message: Requests[K] }
}[RequestKind]

export type ReplyFrame = {
  [K in RequestKind]: { type: 'reply'; kind: K; id: number; message: Replies[K] }
}[RequestKind]

export type Frame =
  | { type: 'hello'; hello: Hello }
  | { type: 'credit'; bytes: number }
  | { type: 'error'; id: number; code: ErrorCode; text: string }
  | { type: 'put'; blocks: NamedBlock[] }
  | RequestFrame
  | ReplyFrame

/** Causes that may be told to a peer, by their number on the wire. */
const errorNumbers: readonly (ErrorCode | undefined)[] = [
  undefined,
  'internal',
  'denied',
  'noSpace',
  'notFound',
  'damaged',
  'busy',
  'protocol',
  'exists',
  'unsupported',
]

const numbers = { hello: 1, credit: 2, error: 3, put: 18 } as const

const pairs: { [K in RequestKind]: { request: number; reply: number } } = {
  offer: { request: 16, reply: 17 },
  commit: { request: 20, reply: 21 },
  headPut: { request: 22, reply: 23 },
  headGet: { request: 24, reply: 25 },
  get: { request: 26, reply: 27 },
  prove: { request: 28, reply: 29 },
  held: { request: 30, reply: 31 },
  release: { request: 32, reply: 33 },
}

const nameListBytes = (count: number) => 2 + count * hashBytes
const maxBatchBody = 2 + maxAsked * (hashBytes + 5) + maxBatchBytes
const maxHeadsBody = 1 + maxHeads * (4 + maxHeadBytes)

/** Message number -> most bytes of its body. A number that is not here does not exist. */
const bounds = new Map<number, number>([
  [numbers.hello, 6 + maxNameBytes],
  [numbers.credit, 4],
  [numbers.error, 1 + maxErrorBytes],
  [numbers.put, maxBatchBody],
  [16, nameListBytes(maxOffered)],
  [17, 2 + maxOffered / 8],
  [20, 0],
  [21, 12],
  [22, maxHeadBytes],
  [23, 0],
  [24, volumeIdBytes],
  [25, maxHeadsBody],
  [26, nameListBytes(maxAsked)],
  [27, maxBatchBody],
  [28, nonceBytes + nameListBytes(maxAsked)],
  [29, 1 + maxAsked * (1 + hashBytes)],
  [30, 0],
  [31, 24],
  [32, 64 * 1024],
  [33, 16],
])

/** The largest frame there is. */
export const maxFrameBytes = headerBytes + Math.max(...bounds.values())

const requestOf = new Map<number, RequestKind>()
const replyOf = new Map<number, RequestKind>()
for (const kind of Object.keys(pairs) as RequestKind[]) {
  requestOf.set(pairs[kind].request, kind)
  replyOf.set(pairs[kind].reply, kind)
}

function violation(what: string): KithError {
  return new KithError('protocol', `the partner broke the protocol: ${what}`)
}

/** Reads a body field by field; throws a protocol error where bytes are lacking or left over. */
class Reader {
  private at = 0
  constructor(private readonly bytes: Buffer) {}

  get left(): number {
    return this.bytes.length - this.at
  }
  take(length: number): Buffer {
    if (length > this.left) throw violation('a message ends too early')
    this.at += length
    return this.bytes.subarray(this.at - length, this.at)
  }
  u8(): number {
    return this.take(1).readUInt8()
  }
  u16(): number {
    return this.take(2).readUInt16LE()
  }
  u32(): number {
    return this.take(4).readUInt32LE()
  }
  u64(): number {
    const value = this.take(8).readBigUInt64LE()
    if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw violation('a number is out of bounds')
    return Number(value)
  }
  text(most: number): string {
    if (this.left > most) throw violation('a text is too long')
    return this.take(this.left).toString('utf8')
  }
  count(value: number, most: number, leastEach: number): number {
    if (value > most || value * leastEach > this.left) throw violation('a count is out of bounds')
    return value
  }
  names(most: number): Buffer[] {
    const count = this.count(this.u16(), most, hashBytes)
    return Array.from({ length: count }, () => this.take(hashBytes))
  }
  sized(most: number): Buffer {
    const length = this.u32()
    if (length > most) throw violation('a length is out of bounds')
    return this.take(length)
  }
  end(): void {
    if (this.left !== 0) throw violation('a message has bytes left over')
  }
}

function u8(value: number): Buffer {
  return Buffer.from([value])
}
function u16(value: number): Buffer {
  const out = Buffer.allocUnsafe(2)
  out.writeUInt16LE(value)
  return out
}
function u32(value: number): Buffer {
  const out = Buffer.allocUnsafe(4)
  out.writeUInt32LE(value)
  return out
}
function u64(value: number): Buffer {
  const out = Buffer.allocUnsafe(8)
  out.writeBigUInt64LE(BigInt(value))
  return out
}

function frame(number: number, id: number, body: readonly Buffer[]): Buffer {
  const header = Buffer.allocUnsafe(headerBytes)
  header.writeUInt8(number, 0)
  header.writeUInt32LE(id, 1)
  return Buffer.concat([header, ...body])
}

/** Cut at a character, so that what remains is still UTF-8. */
function utf8(text: string, most: number): Buffer {
  let out = text
  while (Buffer.byteLength(out) > most) out = Array.from(out).slice(0, -1).join('')
  return Buffer.from(out)
}

export function encodeHello(hello: Hello): Buffer {
  return frame(numbers.hello, 0, [
    u16(hello.version),
    u32(hello.capabilities),
    utf8(hello.name, maxNameBytes),
  ])
}

export function encodeCredit(bytes: number): Buffer {
  return frame(numbers.credit, 0, [u32(bytes)])
}

export function encodeError(id: number, code: ErrorCode, text: string): Buffer {
  const number = Math.max(errorNumbers.indexOf(code), 1)
  return frame(numbers.error, id, [u8(number), utf8(text, maxErrorBytes)])
}

/** @param blocks at most `maxAsked`, together at most `maxBatchBytes` */
export function encodePut(blocks: readonly NamedBlock[]): Buffer {
  const parts = blocks.flatMap(({ name, bytes }) => [name, u32(bytes.length), bytes])
  return frame(numbers.put, 0, [u16(blocks.length), ...parts])
}

const encodeRequestBody: { [K in RequestKind]: (message: Requests[K]) => Buffer[] } = {
  offer: ({ names }) => [u16(names.length), ...names],
  commit: () => [],
  headPut: ({ head }) => [head],
  headGet: ({ volume }) => (volume === undefined ? [] : [volume]),
  get: ({ names }) => [u16(names.length), ...names],
  prove: ({ nonce, names }) => [nonce, u16(names.length), ...names],
  held: () => [],
  release: ({ request }) => [request],
}

const encodeReplyBody: { [K in RequestKind]: (message: Replies[K]) => Buffer[] } = {
  offer: ({ missing }) => {
    const bits = Buffer.alloc(Math.ceil(missing.length / 8))
    missing.forEach((lacks, i) => {
      if (lacks) bits[i >> 3] = (bits[i >> 3] ?? 0) | (1 << (i & 7))
    })
    return [u16(missing.length), bits]
  },
  commit: ({ blocks, bytes }) => [u32(blocks), u64(bytes)],
  headPut: () => [],
  headGet: ({ heads }) => [u8(heads.length), ...heads.flatMap((head) => [u32(head.length), head])],
  get: ({ blocks }) => [
    u8(blocks.length),
    ...blocks.flatMap((block) => {
      if (block === 'absent') return [u8(0)]
      return block === 'later' ? [u8(2)] : [u8(1), u32(block.length), block]
    }),
  ],
  prove: ({ proofs }) => [
    u8(proofs.length),
    ...proofs.flatMap((proof) => (proof === undefined ? [u8(0)] : [u8(1), proof])),
  ],
  held: ({ bytes, blocks, releaseNumber }) => [u64(bytes), u64(blocks), u64(releaseNumber)],
  release: ({ blocks, bytes }) => [u64(blocks), u64(bytes)],
}

export function encodeRequest<K extends RequestKind>(kind: K, id: number, message: Requests[K]): Buffer {
  return frame(pairs[kind].request, id, encodeRequestBody[kind](message))
}

export function encodeReply<K extends RequestKind>(kind: K, id: number, message: Replies[K]): Buffer {
  return frame(pairs[kind].reply, id, encodeReplyBody[kind](message))
}

const decodeRequestBody: { [K in RequestKind]: (body: Reader) => Requests[K] } = {
  offer: (body) => ({ names: body.names(maxOffered) }),
  commit: () => ({}),
  headPut: (body) => ({ head: body.take(body.left) }),
  headGet: (body) => (body.left === 0 ? {} : { volume: body.take(volumeIdBytes) }),
  get: (body) => ({ names: body.names(maxAsked) }),
  prove: (body) => ({ nonce: body.take(nonceBytes), names: body.names(maxAsked) }),
  held: () => ({}),
  release: (body) => ({ request: body.take(body.left) }),
}

function decodeMissing(body: Reader): { missing: boolean[] } {
  const count = body.u16()
  if (count > maxOffered) throw violation('a count is out of bounds')
  const bits = body.take(Math.ceil(count / 8))
  return { missing: Array.from({ length: count }, (_, i) => (((bits[i >> 3] ?? 0) >> (i & 7)) & 1) === 1) }
}

function decodeBlocks(body: Reader): { blocks: (Buffer | 'absent' | 'later')[] } {
  const count = body.count(body.u8(), maxAsked, 1)
  const blocks = Array.from({ length: count }, () => {
    const status = body.u8()
    if (status > 2) throw violation('an unknown status')
    if (status === 1) return body.sized(maxBlockBytes)
    return status === 0 ? 'absent' : 'later'
  })
  return { blocks }
}

function decodeProofs(body: Reader): { proofs: (Buffer | undefined)[] } {
  const count = body.count(body.u8(), maxAsked, 1)
  const proofs = Array.from({ length: count }, () => {
    const status = body.u8()
    if (status > 1) throw violation('an unknown status')
    return status === 1 ? body.take(hashBytes) : undefined
  })
  return { proofs }
}

function decodeHeads(body: Reader): { heads: Buffer[] } {
  const count = body.count(body.u8(), maxHeads, 4)
  return { heads: Array.from({ length: count }, () => body.sized(maxHeadBytes)) }
}

const decodeReplyBody: { [K in RequestKind]: (body: Reader) => Replies[K] } = {
  offer: decodeMissing,
  commit: (body) => ({ blocks: body.u32(), bytes: body.u64() }),
  headPut: () => ({}),
  headGet: decodeHeads,
  get: decodeBlocks,
  prove: decodeProofs,
  held: (body) => ({ bytes: body.u64(), blocks: body.u64(), releaseNumber: body.u64() }),
  release: (body) => ({ blocks: body.u64(), bytes: body.u64() }),
}

function decodePut(body: Reader): NamedBlock[] {
  const count = body.count(body.u16(), maxAsked, hashBytes + 4)
  return Array.from({ length: count }, () => ({
    name: body.take(hashBytes),
    bytes: body.sized(maxBlockBytes),
  }))
}

function decodeBody(number: number, id: number, body: Reader): Frame {
  const request = requestOf.get(number)
  if (request !== undefined) {
    return { type: 'request', kind: request, id, message: decodeRequestBody[request](body) } as RequestFrame
  }
  const reply = replyOf.get(number)
  if (reply !== undefined) {
    return { type: 'reply', kind: reply, id, message: decodeReplyBody[reply](body) } as ReplyFrame
  }
  if (number === numbers.put) return { type: 'put', blocks: decodePut(body) }
  if (number === numbers.credit) return { type: 'credit', bytes: body.u32() }
  if (number === numbers.error) {
    const code = errorNumbers[body.u8()]
    if (code === undefined) throw violation('an unknown error code')
    return { type: 'error', id, code, text: body.text(maxErrorBytes) }
  }
  const hello = { version: body.u16(), capabilities: body.u32(), name: body.text(maxNameBytes) }
  return { type: 'hello', hello }
}

/**
 * Buffers in the result are views of `bytes`.
 * @throws KithError `protocol` for anything but a whole, well-formed frame
 */
export function decodeFrame(bytes: Buffer): Frame {
  if (bytes.length < headerBytes) throw violation('a frame without a header')
  const number = bytes.readUInt8(0)
  const bound = bounds.get(number)
  if (bound === undefined) throw violation(`no message has the number ${number}`)
  if (bytes.length - headerBytes > bound) throw violation(`message ${number} is too long`)
  const body = new Reader(bytes.subarray(headerBytes))
  const decoded = decodeBody(number, bytes.readUInt32LE(1), body)
  body.end()
  return decoded
}

/**
 * What a holder answers to a challenge for one block: only who has the bytes can compute it, only after the nonce is
 * known, and it is of no use to another holder.
 */
export function possessionProof(nonce: Buffer, holder: Buffer, sealed: Buffer): Buffer {
  return keyedHash(nonce, 'kith possession', holder, sealed)
}
