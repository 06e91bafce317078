/** The owner's side of a release: asks one partner, by a signed and numbered request, to hold something no longer. */
import type { KeyPair } from '../format/hash.js'
import { volumeIdBytes } from '../format/keys.js'
import { encodeRelease, maxReleaseNames } from '../format/wire-release.js'
import type { Book } from './book.js'
import type { Peer } from './types.js'

/** `volume`: its head, and with the last head of an owner all blocks. */
export type ReleaseWhat = 'everything' | { volume: Buffer } | { volume: Buffer; blocks: Buffer[] }

/**
 * Tells the partner that these blocks, at most maxReleaseNames, are needed no more: it holds the drop back for a while, and
 * calls it off when one of them is offered again.
 * @param lastThere the number of the last release that the partner has accepted
 */
export async function requestDrop(
  peer: Peer,
  owner: KeyPair,
  book: Book,
  names: Buffer[],
  lastThere: number,
): Promise<void> {
  const number = await book.nextRelease(peer.key, lastThere)
  // The answer may be lost on the way: less held at the next session is then no damage.
  await book.counted(peer.key, { blocks: 0, bytes: 0 })
  const volume = Buffer.alloc(volumeIdBytes)
  const request = encodeRelease({ kind: 'drop', partner: peer.key, volume, number, names }, owner)
  await peer.request('release', { request })
  await book.counted(peer.key, await peer.request('held', {}))
}

/**
 * What is released must be gone from the owner's store before, or it would be sent again.
 * @returns what the partner let go of, by its own count
 */
export async function requestRelease(
  peer: Peer,
  owner: KeyPair,
  book: Book,
  what: ReleaseWhat,
): Promise<{ blocks: number; bytes: number }> {
  const before = await peer.request('held', {})
  // The answer may be lost on the way: less held at the next session is then no damage.
  await book.counted(peer.key, { blocks: 0, bytes: 0 })
  const total = { blocks: 0, bytes: 0 }
  const lists = typeof what === 'object' && 'blocks' in what ? pages(what.blocks) : [[]]
  let number = before.releaseNumber
  for (const names of lists) {
    number = await book.nextRelease(peer.key, number)
    const kind = what === 'everything' ? what : 'blocks' in what ? 'blocks' : 'volume'
    const volume = what === 'everything' ? Buffer.alloc(volumeIdBytes) : what.volume
    const request = encodeRelease({ kind, partner: peer.key, volume, number, names }, owner)
    const released = await peer.request('release', { request })
    total.blocks += released.blocks
    total.bytes += released.bytes
    if (kind === 'volume') await book.headLost(peer.key, volume)
  }
  const after = await peer.request('held', {})
  if (after.blocks === 0) await book.emptied(peer.key)
  else await book.counted(peer.key, after)
  return total
}

function pages(names: readonly Buffer[]): Buffer[][] {
  const count = Math.ceil(names.length / maxReleaseNames)
  return Array.from({ length: count }, (_, i) => names.slice(i * maxReleaseNames, (i + 1) * maxReleaseNames))
}
