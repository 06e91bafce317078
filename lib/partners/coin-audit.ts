/**
 * The owner's side of a coin flip (format/coin.ts). A flip is in the book before the partner hears of it, with the partner's
 * answer before anything is revealed, and leaves it only when its blocks were asked for. So an owner that is killed goes on
 * with the same flip, and a partner that learns what is drawn and hangs up gets the same draw again: hanging up is no way
 * round a bad draw. At the fifth time its blocks count as missing.
 */
import { asKithError } from '../base/errors.js'
import { randomBytes } from '../base/random.js'
import { coinNonce, commitment, drawnWindows, maxDrawn, spreadOver, windowRange } from '../format/coin.js'
import type { Book, OpenFlip } from './book.js'
import type { OwnedBlocks, Peer } from './types.js'

export interface Draw {
  /** of our blocks, those that the coin chose */
  names: Buffer[]
  /** name as hex -> the partner's proof; none: it hung up once too often */
  answer: Map<string, Buffer> | 'none'
  /** under which the proofs are made */
  nonce: Buffer
}

interface Parts {
  book: Book
  blocks: OwnedBlocks
}

/** Times that a partner may go away between learning what is drawn and answering. */
const mostBrokenOff = 5

/**
 * @returns `refused` when the partner flips no coin with us
 * @throws KithError when the partner is gone
 */
export async function drawTogether({ book, blocks }: Parts, peer: Peer): Promise<Draw | 'refused'> {
  const flip = book.openFlip(peer.key) ?? (await begun({ book, blocks }, peer))
  const r2 = flip.r2 ?? (await answered(book, flip, peer))
  if (!r2) return 'refused'
  const names = namesDrawn(blocks, flip, r2, book.progress(peer.key).cursor)
  const nonce = coinNonce(flip.r1, r2)
  if (flip.brokenOff >= mostBrokenOff) {
    await book.setFlip(peer.key, undefined)
    return { names, answer: 'none', nonce }
  }
  await book.setFlip(peer.key, { ...flip, r2, brokenOff: flip.brokenOff + 1 })
  const answer = await revealed(flip, peer)
  await book.setFlip(peer.key, undefined)
  return { names, answer, nonce }
}

async function begun({ book, blocks }: Parts, peer: Peer): Promise<OpenFlip> {
  const spread = spreadOver(blocks.countTo(book.progress(peer.key).cursor))
  const flip: OpenFlip = { r1: randomBytes(32), spread, r2: undefined, brokenOff: 0 }
  await book.setFlip(peer.key, flip)
  return flip
}

async function answered(book: Book, flip: OpenFlip, peer: Peer): Promise<Buffer | undefined> {
  try {
    const { r2 } = await peer.request('flip', { committed: commitment(flip.r1, flip.spread) })
    await book.setFlip(peer.key, { ...flip, r2 })
    return r2
  } catch (error) {
    if (isGone(peer, error)) throw error
    return undefined
  }
}

/** A partner that answers with a refusal proves nothing. */
async function revealed(flip: OpenFlip, peer: Peer): Promise<Map<string, Buffer>> {
  try {
    const { drawn } = await peer.request('reveal', { r1: flip.r1, spread: flip.spread })
    return new Map(drawn.map(({ name, proof }) => [name.toString('hex'), proof]))
  } catch (error) {
    if (isGone(peer, error)) throw error
    return new Map()
  }
}

function isGone(peer: Peer, error: unknown): boolean {
  return peer.closed || asKithError(error).code === 'noPartners'
}

function namesDrawn(blocks: OwnedBlocks, flip: OpenFlip, r2: Buffer, cursor: number): Buffer[] {
  const names: Buffer[] = []
  for (const window of drawnWindows(flip.r1, r2, flip.spread)) {
    const room = maxDrawn - names.length
    if (room === 0) break
    for (const { name, sequence } of blocks.within(windowRange(window, flip.spread.bits), room))
      if (sequence <= cursor) names.push(name)
  }
  return names
}
