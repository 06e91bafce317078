/**
 * What strangers of the open pool say to each other before they agree (wire.ts has the numbers), and the proof of possession of
 * a part of a block.
 *
 *     facts    what a node says of itself: bytes that it would hold u64 | bytes that it wants held u64 | hours on line 21
 *              (week.ts) | system, architecture, region: each u8 length <= 32 and UTF-8
 *     query    facts | length u16, a sketch of the blocks to place (sketch.ts) or nothing
 *     answer   facts | length u8, the answer to the sketch or nothing
 *     probe    nonce 32 | count u8 (<= 64) | count x (block name 32 | offset u32 | length u16, 1 to 1024)
 *     shown    count u8 | count x (status u8: 0 absent, 1 here | if 1: proof 32)
 *
 * The proof of a part of a block: keyedHash(nonce, 'kith possession range', holder 32, name 32, offset u32, length u16, bytes).
 * It binds the holder, so that it is of no use to another; nothing of the bytes follows from it.
 */
import { Writer, type Reader } from './bytes.js'
import { hashBytes, keyedHash } from './hash.js'
import { maxSketchBytes } from './sketch.js'
import { weekBytes } from './week.js'

export const maxProbed = 64
export const maxRangeBytes = 1024
export const maxLabelBytes = 32
const maxHeldBytes = 64
export const factsBytes = 16 + weekBytes + 3 * (1 + maxLabelBytes)
export const queryBytes = factsBytes + 2 + maxSketchBytes
export const poolAnswerBytes = factsBytes + 1 + maxHeldBytes
const nonceBytes = 32
export const probeBytes = nonceBytes + 1 + maxProbed * (hashBytes + 6)
export const shownBytes = 1 + maxProbed * (1 + hashBytes)

export interface Facts {
  /** bytes that it would hold for the other */
  space: number
  /** bytes that it wants held */
  wants: number
  hours: Buffer
  /** as process.platform and process.arch name them; '' is not told */
  system: string
  architecture: string
  region: string
}

/** A part of a block. */
export interface BlockRange {
  name: Buffer
  offset: number
  length: number
}

export interface PoolQuery {
  facts: Facts
  /** empty: none */
  sketch: Buffer
}

export interface PoolAnswer {
  facts: Facts
  /** empty: no answer to the sketch */
  holds: Buffer
}

export interface Probe {
  nonce: Buffer
  ranges: BlockRange[]
}

export function rangeProof(nonce: Buffer, holder: Buffer, range: BlockRange, sealed: Buffer): Buffer {
  const { name, offset, length } = range
  const place = new Writer(6).u32(offset).u16(length).finish()
  const part = sealed.subarray(offset, offset + length)
  return keyedHash(nonce, 'kith possession range', holder, name, place, part)
}

export function writePoolQuery(out: Writer, { facts, sketch }: PoolQuery): Writer {
  return writeFacts(out, facts).u16(sketch.length).raw(sketch)
}

export function readPoolQuery(from: Reader): PoolQuery {
  const facts = readFacts(from)
  const length = from.u16()
  if (length > maxSketchBytes) throw from.damaged('a sketch is too long')
  return { facts, sketch: from.slice(length) }
}

export function writePoolAnswer(out: Writer, { facts, holds }: PoolAnswer): Writer {
  return writeFacts(out, facts).u8(holds.length).raw(holds)
}

export function readPoolAnswer(from: Reader): PoolAnswer {
  const facts = readFacts(from)
  const length = from.u8()
  if (length > maxHeldBytes) throw from.damaged('an answer is too long')
  return { facts, holds: from.slice(length) }
}

export function writeProbe(out: Writer, { nonce, ranges }: Probe): Writer {
  out.raw(nonce).u8(ranges.length)
  for (const { name, offset, length } of ranges) out.raw(name).u32(offset).u16(length)
  return out
}

export function readProbe(from: Reader): Probe {
  const nonce = from.slice(nonceBytes)
  const count = from.u8()
  if (count > maxProbed) throw from.damaged('too many blocks are asked for')
  const ranges = Array.from({ length: count }, () => {
    const range = { name: from.slice(hashBytes), offset: from.u32(), length: from.u16() }
    if (range.length === 0 || range.length > maxRangeBytes) throw from.damaged('a part is too long')
    return range
  })
  return { nonce, ranges }
}

export function writeShown(out: Writer, proofs: readonly (Buffer | undefined)[]): Writer {
  out.u8(proofs.length)
  for (const proof of proofs) {
    if (proof === undefined) out.u8(0)
    else out.u8(1).raw(proof)
  }
  return out
}

export function readShown(from: Reader): (Buffer | undefined)[] {
  const count = from.u8()
  if (count > maxProbed) throw from.damaged('too many proofs')
  return Array.from({ length: count }, () => {
    const status = from.u8()
    if (status > 1) throw from.damaged('an unknown status')
    return status === 1 ? from.slice(hashBytes) : undefined
  })
}

function writeFacts(out: Writer, { space, wants, hours, system, architecture, region }: Facts): Writer {
  out.number(space).number(wants).raw(hours)
  for (const label of [system, architecture, region]) {
    const bytes = Buffer.from(label, 'utf8')
    const short = bytes.length > maxLabelBytes ? Buffer.alloc(0) : bytes
    out.u8(short.length).raw(short)
  }
  return out
}

function readFacts(from: Reader): Facts {
  const [space, wants, hours] = [from.number(), from.number(), from.slice(weekBytes)]
  const label = () => {
    const length = from.u8()
    if (length > maxLabelBytes) throw from.damaged('a label is too long')
    // Without control and formatting characters, which could deceive on a terminal.
    return from.slice(length).toString('utf8').replace(/\p{C}/gu, '')
  }
  return { space, wants, hours, system: label(), architecture: label(), region: label() }
}
