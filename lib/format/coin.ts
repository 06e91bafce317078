/**
 * The coin flip of an audit: owner and holder choose together which blocks are asked for. The owner cannot aim, the holder
 * cannot foresee. Pure.
 *
 *     owner: r1 at random    -- flip: commitment(r1, spread) ------>   r2 = answerTo(its secret, owner, commitment)
 *                            <- flipped: r2 -----------------------
 *                            -- reveal: r1, spread --------------->   the commitment is that of the flip?
 *                            <- drawn: blocks of the windows, each with its proof under coinNonce(r1, r2)
 *
 * Neither can try again: the same commitment gets the same r2, the holder takes no second commitment of an owner before the
 * first is revealed (vault/flips.ts), and the owner keeps a draw that was broken off, and asks for the same again
 * (partners/audit.ts).
 *
 * What is drawn are windows: all names that begin with certain bits. Both sides find them by a range of their index, without
 * agreeing on a numbering of the blocks, and a block that only one of them knows shifts no other. There are some eight windows
 * to a block, so that each block is drawn with the same chance however the names lie; drawing points and taking the next name
 * would favour names behind wide gaps, and a holder could drop those behind narrow ones.
 *
 * The scheme of three messages is that of the cooperative backup design (Lillibridge et al., USENIX 2003, section 3).
 */
import { assert } from '../base/errors.js'
import { hash, hashBytes, keyedHash } from './hash.js'

/** How a draw is spread over the names. */
export interface Spread {
  /** Bits that the names in a window have in common, 0 to 32. */
  bits: number
  /** Windows drawn; some may be the same. */
  draws: number
}

export const maxBits = 32
/** spreadOver asks for fewer. */
export const maxDraws = 2048
/** Blocks that a draw is made for. 44 find a tenth lost with 99 %; chance gives fewer than that once in 250 draws. */
export const drawnBlocks = 64
/** Most blocks in one answer; chance would give more once in 10^11 draws. */
export const maxDrawn = 128

const windowsPerBlock = 8

/** The spread that finds some drawnBlocks of `count` blocks; all of them when they fit one answer. */
export function spreadOver(count: number): Spread {
  if (count <= maxDrawn) return { bits: 0, draws: 1 }
  const bits = Math.min(maxBits, Math.ceil(Math.log2(count * windowsPerBlock)))
  // Windows drawn twice find nothing new.
  const draws = Math.ceil(-Math.log(1 - drawnBlocks / count) * 2 ** bits)
  return { bits, draws: Math.min(maxDraws, draws) }
}

/** What the owner binds itself to; r1 has 32 random bytes, and hides the rest. */
export function commitment(r1: Buffer, { bits, draws }: Spread): Buffer {
  assert(r1.length === hashBytes, 'r1 has 32 bytes')
  return hash('kith coin commitment', r1, u32(bits), u32(draws))
}

/** The holder's r2: nobody else can tell it, and the same flip gets the same. */
export function answerTo(secret: Buffer, owner: Buffer, committed: Buffer): Buffer {
  return keyedHash(secret, 'kith coin answer', owner, committed)
}

/** Under this nonce the drawn blocks are proven (wire.ts, possessionProof). */
export function coinNonce(r1: Buffer, r2: Buffer): Buffer {
  return hash('kith coin nonce', r1, r2)
}

/** The windows drawn, each once, in the order in which they are answered. */
export function drawnWindows(r1: Buffer, r2: Buffer, { bits, draws }: Spread): number[] {
  const drawn = new Set<number>()
  for (let i = 0; i < draws; i += 8) {
    const bytes = keyedHash(r1, 'kith coin draw', r2, u32(i))
    for (let j = 0; j < Math.min(8, draws - i); j++) {
      drawn.add(bits === 0 ? 0 : bytes.readUInt32BE(j * 4) >>> (maxBits - bits))
    }
  }
  return [...drawn]
}

/** The names in a window: from `start` on, and before `end`; without `end`, to the last. Bytewise. */
export function windowRange(window: number, bits: number): { start: Buffer; end?: Buffer } {
  const width = 2 ** (maxBits - bits)
  const start = Buffer.alloc(4)
  start.writeUInt32BE(window * width)
  const after = (window + 1) * width
  if (after > 0xffffffff) return { start }
  const end = Buffer.alloc(4)
  end.writeUInt32BE(after)
  return { start, end }
}

function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32LE(value)
  return bytes
}
