/**
 * What the messages of a coin flip carry (coin.ts has how it goes; wire.ts the numbers).
 *
 *     spread   bits u8 (<= 32) | draws u16 (1 to 2048)
 *     drawn    count u8 (<= 128) | count x (name 32 | proof 32)
 */
import type { Reader, Writer } from './bytes.js'
import { maxBits, maxDrawn, maxDraws, type Spread } from './coin.js'
import { hashBytes } from './hash.js'

/** A block, and the proof that the holder has it. */
export interface ProvenBlock {
  name: Buffer
  proof: Buffer
}

export const spreadBytes = 3
export const drawnBytes = 1 + maxDrawn * 2 * hashBytes

export function writeSpread(out: Writer, { bits, draws }: Spread): Writer {
  return out.u8(bits).u16(draws)
}

export function readSpread(body: Reader): Spread {
  const spread = { bits: body.u8(), draws: body.u16() }
  if (spread.bits > maxBits || spread.draws === 0 || spread.draws > maxDraws)
    throw body.damaged('a draw is out of bounds')
  return spread
}

export function writeDrawn(out: Writer, drawn: readonly ProvenBlock[]): Writer {
  out.u8(drawn.length)
  for (const { name, proof } of drawn) out.raw(name).raw(proof)
  return out
}

export function readDrawn(body: Reader): ProvenBlock[] {
  const length = body.u8()
  if (length > maxDrawn || length * 2 * hashBytes > body.left)
    throw body.damaged('more is drawn than there can be')
  return Array.from({ length }, () => ({ name: body.slice(hashBytes), proof: body.slice(hashBytes) }))
}
