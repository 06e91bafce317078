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
 *     22  headPut    a signed head (format/head.ts)
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
 *     34  generation empty
 *     35  madeWith   16 bytes, others when the vault is another: the asker's key, hashed under a secret of the vault (vault/flips.ts)
 *     40  pactNewest number u64: of the newest agreement that the asker has; 0: none
 *     41  pactGiven  newest (wire-agreement.ts): what is newer, and whether it was ended
 *     42  pactTerms  empty
 *     43  pactWishes wishes (wire-agreement.ts)
 *     44  pactOffer  an agreement with the asker's signature (agreement.ts)
 *     45  pactAnswer answer (wire-agreement.ts)
 *     46  pactEnd    a signed ending (agreement.ts)
 *     47  pactEnded  empty
 *     50  flip       commitment 32 (coin.ts)
 *     51  flipped    r2 32
 *     52  reveal     r1 32 | spread (wire-flip.ts)
 *     53  drawn      blocks and proofs (wire-flip.ts)
 *     60  poolQuery  query (wire-pool.ts), by strangers of the open pool
 *     61  poolFacts  answer (wire-pool.ts)
 *     62  probe      nonce 32 | parts of blocks (wire-pool.ts)
 *     63  shown      proofs of them (wire-pool.ts)
 *     64  getParts   parts of blocks (wire-parts.ts)
 *     65  parts      as blocks, for each part
 *     70  away       an announced absence (wire-away.ts)
 *     71  awayTaken  until u64: what the partner takes of it, ms since 1970; 0: nothing
 *     72  fellowsPut a signed list of partners (wire-fellows.ts), to be kept
 *     73  fellowsKept number u64 of the list that is kept now
 *     74  fellowsGet empty: the list that the asker gave to keep
 *     75  fellowsGiven that list, or nothing
 *     76  seen       owner 32, about whom the asker wants to know
 *     77  seenAge    ms since it was last on line u64; 0: it is now
 *     78  attest     empty
 *     79  attested   what the partner says of the asker, and what others said of the partner (wire-attestation.ts)
 *     80  missed     partner 32, of the receiver: it asked the sender after the receiver
 *     81  missedTold empty
 * names: count u16 | count x 32 bytes.
 */
import { asKithError, type ErrorCode, KithError } from '../base/errors.js'
import { agreementBytes, endingBytes } from './agreement.js'
import { Reader, Writer } from './bytes.js'
import { hashBytes, keyedHash, publicKeyBytes } from './hash.js'
import { maxHeadBytes } from './head.js'
import { volumeIdBytes } from './keys.js'
import { maxSealedBytes } from './seal.js'
import {
  answerBytes,
  newestBytes,
  readAnswer,
  readNewest,
  readWishes,
  wishesBytes,
  writeAnswer,
  writeNewest,
  writeWishes,
} from './wire-agreement.js'
import { attestationsBytes, readAttestations, writeAttestations } from './wire-attestation.js'
import { absenceBytes } from './wire-away.js'
import { fellowListBytes } from './wire-fellows.js'
import { drawnBytes, readDrawn, readSpread, spreadBytes, writeDrawn, writeSpread } from './wire-flip.js'
import type {
  Frame,
  Hello,
  NamedBlock,
  Replies,
  ReplyFrame,
  RequestFrame,
  RequestKind,
  Requests,
} from './wire-messages.js'
import {
  poolAnswerBytes,
  probeBytes,
  queryBytes,
  readPoolAnswer,
  readPoolQuery,
  readProbe,
  readShown,
  shownBytes,
  writePoolAnswer,
  writePoolQuery,
  writeProbe,
  writeShown,
} from './wire-pool.js'
import { partsBytes, readParts, writeParts } from './wire-parts.js'

export const wireProtocol = 'kith/partner/1'
export const wireVersion = 1
/** Capability bit: this node lends space. */
export const lendsSpace = 1
/** Capability bit: this node makes agreements. One that does not is served without. */
export const makesAgreements = 2
/** Capability bit: this node proves possession of parts of blocks (probe). What one that does not claims is believed. */
export const provesParts = 4
/** Capability bit: this node takes announced absences. */
export const hearsAbsences = 8
/** Capability bit: this node gives parts of blocks back. */
export const givesParts = 16
/** Capability bit: this node keeps lists of partners' partners, and answers for them. */
export const keepsFellows = 32
/** Capability bit: this node tells one vault of its own from the next. */
export const tellsGeneration = 64
/** Capability bit: this node attests how others keep their agreements, and shows what was said of it. */
export const attestsRecords = 128
/** Capability bit: this node wants to know which of its partners ask after it. */
export const heedsConcerns = 256

export const nonceBytes = 32
export const generationBytes = 16
export const maxHeads = 16
export const maxOffered = 1024
export const maxAsked = 64
export const maxNameBytes = 64
export const maxErrorBytes = 200
/** Of blocks in one frame together: one of the largest, or several small ones. */
export const maxBatchBytes = maxSealedBytes
const headerBytes = 5

export type { ProvenBlock } from './wire-flip.js'
export type * from './wire-messages.js'

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
  generation: { request: 34, reply: 35 },
  release: { request: 32, reply: 33 },
  pactNewest: { request: 40, reply: 41 },
  pactTerms: { request: 42, reply: 43 },
  pactOffer: { request: 44, reply: 45 },
  pactEnd: { request: 46, reply: 47 },
  flip: { request: 50, reply: 51 },
  reveal: { request: 52, reply: 53 },
  poolQuery: { request: 60, reply: 61 },
  probe: { request: 62, reply: 63 },
  getParts: { request: 64, reply: 65 },
  away: { request: 70, reply: 71 },
  fellowsPut: { request: 72, reply: 73 },
  fellowsGet: { request: 74, reply: 75 },
  seen: { request: 76, reply: 77 },
  attest: { request: 78, reply: 79 },
  missed: { request: 80, reply: 81 },
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
  [34, 0],
  [35, generationBytes],
  [40, 8],
  [41, newestBytes],
  [42, 0],
  [43, wishesBytes],
  [44, agreementBytes],
  [45, answerBytes],
  [46, endingBytes],
  [47, 0],
  [50, hashBytes],
  [51, hashBytes],
  [52, hashBytes + spreadBytes],
  [53, drawnBytes],
  [60, queryBytes],
  [61, poolAnswerBytes],
  [62, probeBytes],
  [63, shownBytes],
  [64, partsBytes],
  [65, maxBatchBody],
  [70, absenceBytes],
  [71, 8],
  [72, fellowListBytes],
  [73, 8],
  [74, 0],
  [75, fellowListBytes],
  [76, publicKeyBytes],
  [77, 8],
  [78, 0],
  [79, attestationsBytes],
  [80, publicKeyBytes],
  [81, 0],
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

function count(body: Reader, value: number, most: number, leastEach: number): number {
  if (value > most || value * leastEach > body.left) throw violation('a count is out of bounds')
  return value
}

function readNames(body: Reader, most: number): Buffer[] {
  return Array.from({ length: count(body, body.u16(), most, hashBytes) }, () => body.slice(hashBytes))
}

function readSized(body: Reader, most: number): Buffer {
  const length = body.u32()
  if (length > most) throw violation('a length is out of bounds')
  return body.slice(length)
}

function rest(body: Reader): Buffer {
  return body.slice(body.left)
}

function writer(number: number, id: number, bodyBytes = 64): Writer {
  return new Writer(headerBytes + bodyBytes).u8(number).u32(id)
}

function writeNames(out: Writer, names: readonly Buffer[]): Writer {
  out.u16(names.length)
  for (const name of names) out.raw(name)
  return out
}

/** Cut at a character, so that what remains is still UTF-8. */
function utf8(text: string, most: number): Buffer {
  let out = text
  while (Buffer.byteLength(out) > most) out = Array.from(out).slice(0, -1).join('')
  return Buffer.from(out)
}

export function encodeHello({ version, capabilities, name }: Hello): Buffer {
  return writer(numbers.hello, 0).u16(version).u32(capabilities).raw(utf8(name, maxNameBytes)).finish()
}

export function encodeCredit(bytes: number): Buffer {
  return writer(numbers.credit, 0).u32(bytes).finish()
}

export function encodeError(id: number, code: ErrorCode, text: string): Buffer {
  const number = Math.max(errorNumbers.indexOf(code), 1)
  return writer(numbers.error, id).u8(number).raw(utf8(text, maxErrorBytes)).finish()
}

/** @param blocks at most `maxAsked`, together at most `maxBatchBytes` */
/** The frame in parts, one after the other; the blocks are not copied. */
export function encodePut(blocks: readonly NamedBlock[]): Buffer[] {
  const parts = [writer(numbers.put, 0, 2).u16(blocks.length).finish()]
  for (const { name, bytes } of blocks) {
    const head = new Writer(hashBytes + 4).raw(name).u32(bytes.length).finish()
    parts.push(head, bytes)
  }
  return parts
}

const writeRequest: { [K in RequestKind]: (out: Writer, message: Requests[K]) => Writer } = {
  offer: (out, { names }) => writeNames(out, names),
  commit: (out) => out,
  headPut: (out, { head }) => out.raw(head),
  headGet: (out, { volume }) => (volume === undefined ? out : out.raw(volume)),
  get: (out, { names }) => writeNames(out, names),
  prove: (out, { nonce, names }) => writeNames(out.raw(nonce), names),
  held: (out) => out,
  generation: (out) => out,
  release: (out, { request }) => out.raw(request),
  pactNewest: (out, { number }) => out.number(number),
  pactTerms: (out) => out,
  pactOffer: (out, { offer }) => out.raw(offer),
  pactEnd: (out, { ending }) => out.raw(ending),
  flip: (out, { committed }) => out.raw(committed),
  reveal: (out, { r1, spread }) => writeSpread(out.raw(r1), spread),
  poolQuery: writePoolQuery,
  probe: writeProbe,
  getParts: writeParts,
  away: (out, { notice }) => out.raw(notice),
  fellowsPut: (out, { list }) => out.raw(list),
  fellowsGet: (out) => out,
  seen: (out, { owner }) => out.raw(owner),
  attest: (out) => out,
  missed: (out, { partner }) => out.raw(partner),
}

function writeMissing(out: Writer, { missing }: Replies['offer']): Writer {
  const bits = Buffer.alloc(Math.ceil(missing.length / 8))
  missing.forEach((lacks, i) => {
    if (lacks) bits[i >> 3] = (bits[i >> 3] ?? 0) | (1 << (i & 7))
  })
  return out.u16(missing.length).raw(bits)
}

function writeHeads(out: Writer, { heads }: Replies['headGet']): Writer {
  out.u8(heads.length)
  for (const head of heads) out.u32(head.length).raw(head)
  return out
}

function writeBlocks(out: Writer, { blocks }: Replies['get']): Writer {
  out.u8(blocks.length)
  for (const block of blocks) {
    if (block === 'absent') out.u8(0)
    else if (block === 'later') out.u8(2)
    else out.u8(1).u32(block.length).raw(block)
  }
  return out
}

const writeReply: { [K in RequestKind]: (out: Writer, message: Replies[K]) => Writer } = {
  offer: writeMissing,
  commit: (out, { blocks, bytes }) => out.u32(blocks).number(bytes),
  headPut: (out) => out,
  headGet: writeHeads,
  get: writeBlocks,
  prove: (out, { proofs }) => writeShown(out, proofs),
  generation: (out, { generation }) => out.raw(generation),
  held: (out, { bytes, blocks, releaseNumber }) => out.number(bytes).number(blocks).number(releaseNumber),
  release: (out, { blocks, bytes }) => out.number(blocks).number(bytes),
  pactNewest: writeNewest,
  pactTerms: writeWishes,
  pactOffer: writeAnswer,
  pactEnd: (out) => out,
  flip: (out, { r2 }) => out.raw(r2),
  reveal: (out, { drawn }) => writeDrawn(out, drawn),
  poolQuery: writePoolAnswer,
  probe: (out, { proofs }) => writeShown(out, proofs),
  getParts: writeBlocks,
  away: (out, { until }) => out.number(until),
  fellowsPut: (out, { number }) => out.number(number),
  fellowsGet: (out, { list }) => out.raw(list),
  seen: (out, { ageMs }) => out.number(ageMs),
  attest: writeAttestations,
  missed: (out) => out,
}

export function encodeRequest<K extends RequestKind>(kind: K, id: number, message: Requests[K]): Buffer {
  return writeRequest[kind](writer(pairs[kind].request, id), message).finish()
}

export function encodeReply<K extends RequestKind>(kind: K, id: number, message: Replies[K]): Buffer {
  return writeReply[kind](writer(pairs[kind].reply, id), message).finish()
}

const decodeRequestBody: { [K in RequestKind]: (body: Reader) => Requests[K] } = {
  offer: (body) => ({ names: readNames(body, maxOffered) }),
  commit: () => ({}),
  headPut: (body) => ({ head: rest(body) }),
  headGet: (body) => (body.left === 0 ? {} : { volume: body.slice(volumeIdBytes) }),
  get: (body) => ({ names: readNames(body, maxAsked) }),
  prove: (body) => ({ nonce: body.slice(nonceBytes), names: readNames(body, maxAsked) }),
  held: () => ({}),
  generation: () => ({}),
  release: (body) => ({ request: rest(body) }),
  pactNewest: (body) => ({ number: body.number() }),
  pactTerms: () => ({}),
  pactOffer: (body) => ({ offer: body.slice(agreementBytes) }),
  pactEnd: (body) => ({ ending: body.slice(endingBytes) }),
  flip: (body) => ({ committed: body.slice(hashBytes) }),
  reveal: (body) => ({ r1: body.slice(hashBytes), spread: readSpread(body) }),
  poolQuery: readPoolQuery,
  probe: readProbe,
  getParts: readParts,
  away: (body) => ({ notice: body.slice(absenceBytes) }),
  fellowsPut: (body) => ({ list: rest(body) }),
  fellowsGet: () => ({}),
  seen: (body) => ({ owner: body.slice(publicKeyBytes) }),
  attest: () => ({}),
  missed: (body) => ({ partner: body.slice(publicKeyBytes) }),
}

function decodeMissing(body: Reader): { missing: boolean[] } {
  const length = count(body, body.u16(), maxOffered, 0)
  const bits = body.slice(Math.ceil(length / 8))
  return { missing: Array.from({ length }, (_, i) => (((bits[i >> 3] ?? 0) >> (i & 7)) & 1) === 1) }
}

function decodeBlocks(body: Reader): { blocks: (Buffer | 'absent' | 'later')[] } {
  const length = count(body, body.u8(), maxAsked, 1)
  const blocks = Array.from({ length }, () => {
    const status = body.u8()
    if (status > 2) throw violation('an unknown status')
    if (status === 1) return readSized(body, maxSealedBytes)
    return status === 0 ? 'absent' : 'later'
  })
  return { blocks }
}

function decodeHeads(body: Reader): { heads: Buffer[] } {
  const length = count(body, body.u8(), maxHeads, 4)
  return { heads: Array.from({ length }, () => readSized(body, maxHeadBytes)) }
}

const decodeReplyBody: { [K in RequestKind]: (body: Reader) => Replies[K] } = {
  offer: decodeMissing,
  commit: (body) => ({ blocks: body.u32(), bytes: body.number() }),
  headPut: () => ({}),
  headGet: decodeHeads,
  get: decodeBlocks,
  prove: (body) => ({ proofs: readShown(body) }),
  generation: (body) => ({ generation: body.slice(generationBytes) }),
  held: (body) => ({ bytes: body.number(), blocks: body.number(), releaseNumber: body.number() }),
  release: (body) => ({ blocks: body.number(), bytes: body.number() }),
  pactNewest: readNewest,
  pactTerms: readWishes,
  pactOffer: readAnswer,
  pactEnd: () => ({}),
  flip: (body) => ({ r2: body.slice(hashBytes) }),
  reveal: (body) => ({ drawn: readDrawn(body) }),
  poolQuery: readPoolAnswer,
  probe: (body) => ({ proofs: readShown(body) }),
  getParts: decodeBlocks,
  away: (body) => ({ until: body.number() }),
  fellowsPut: (body) => ({ number: body.number() }),
  fellowsGet: (body) => ({ list: rest(body) }),
  seen: (body) => ({ ageMs: body.number() }),
  attest: readAttestations,
  missed: () => ({}),
}

function decodePut(body: Reader): NamedBlock[] {
  const length = count(body, body.u16(), maxAsked, hashBytes + 4)
  return Array.from({ length }, () => ({
    name: body.slice(hashBytes),
    bytes: readSized(body, maxSealedBytes),
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
    return { type: 'error', id, code, text: rest(body).toString('utf8') }
  }
  const hello = { version: body.u16(), capabilities: body.u32(), name: rest(body).toString('utf8') }
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
  const body = new Reader(bytes.subarray(headerBytes), 'message')
  try {
    const decoded = decodeBody(number, bytes.readUInt32LE(1), body)
    body.end()
    return decoded
  } catch (error) {
    throw asKithError(error).code === 'damaged' ? violation('a message is malformed') : error
  }
}

/**
 * What a holder answers to a challenge for one block: only who has the bytes can compute it, only after the nonce is
 * known, and it is of no use to another holder.
 */
export function possessionProof(nonce: Buffer, holder: Buffer, sealed: Buffer): Buffer {
  return keyedHash(nonce, 'kith possession', holder, sealed)
}
