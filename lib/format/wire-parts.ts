/**
 * Parts of blocks that an owner reads back (wire.ts has the numbers): a file in a stripe lies in a few pieces of a shard (shard.ts),
 * each of which has its own tag.
 *
 *     parts    count u8 (<= 64) | count x (block name 32 | offset u32 | length u32), together at most one of the largest blocks
 *
 * The reply is that of `get`: for each part its bytes, or that they are not there.
 */
import type { Reader, Writer } from './bytes.js'
import { hashBytes } from './hash.js'
import { maxSealedBytes } from './seal.js'

export const maxParts = 64
export const partsBytes = 1 + maxParts * (hashBytes + 8)

/** Part of a block as it is stored. */
export interface BlockPart {
  name: Buffer
  offset: number
  length: number
}

export function writeParts(out: Writer, { parts }: { parts: readonly BlockPart[] }): Writer {
  out.u8(parts.length)
  for (const { name, offset, length } of parts) out.raw(name).u32(offset).u32(length)
  return out
}

/** @throws KithError damaged */
export function readParts(from: Reader): { parts: BlockPart[] } {
  const count = from.u8()
  if (count > maxParts) throw from.damaged('too many parts are asked for')
  let sum = 0
  const parts = Array.from({ length: count }, () => {
    const part = { name: from.slice(hashBytes), offset: from.u32(), length: from.u32() }
    sum += part.length
    if (part.length === 0 || part.offset > maxSealedBytes || sum > maxSealedBytes)
      throw from.damaged('a part is out of bounds')
    return part
  })
  return { parts }
}
