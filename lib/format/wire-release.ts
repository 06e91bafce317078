/**
 * A release: an owner's signed request to one partner to hold something no longer. It is bound to the owner, to the
 * partner, to the volume and to a number that only grows, so that it can neither be forged, nor replayed, nor be used
 * at another partner.
 *
 *     [0] version = 1   [1] kind (1 blocks, 2 volume, 3 everything, 4 drop)   [2..4) 0
 *     [4..36) owner   [36..68) partner   [68..84) volume (zero for everything and drop)   [84..92) number u64
 *     [92..96) count u32   [96..96+32 count) block names, for kinds 1 and 4 only
 *     [..+64) signature of the owner over all before it, namespace `kith release`
 */
import { KithError } from '../base/errors.js'
import { hashBytes, type KeyPair, publicKeyBytes, sign, signatureBytes, verify } from './hash.js'
import { volumeIdBytes } from './keys.js'

/**
 * blocks: those named. volume: its head. everything: all heads and all blocks of the owner. drop: those named; with no name, it
 * only uses up a number. The holder holds all of it back for a while, and calls off what the owner offers again meanwhile.
 */
export type ReleaseKind = 'blocks' | 'volume' | 'everything' | 'drop'

export interface Release {
  kind: ReleaseKind
  owner: Buffer
  partner: Buffer
  volume: Buffer
  number: number
  names: Buffer[]
}

export const maxReleaseNames = 1024
const fixedBytes = 96
const kinds: readonly (ReleaseKind | undefined)[] = [undefined, 'blocks', 'volume', 'everything', 'drop']

export function encodeRelease(release: Omit<Release, 'owner'>, owner: KeyPair): Buffer {
  const fixed = Buffer.alloc(fixedBytes)
  fixed.writeUInt8(1, 0)
  fixed.writeUInt8(kinds.indexOf(release.kind), 1)
  owner.publicKey.copy(fixed, 4)
  release.partner.copy(fixed, 36)
  release.volume.copy(fixed, 68)
  fixed.writeBigUInt64LE(BigInt(release.number), 84)
  fixed.writeUInt32LE(release.names.length, 92)
  const message = Buffer.concat([fixed, ...release.names])
  return Buffer.concat([message, sign(owner.secretKey, 'kith release', message)])
}

/** @throws KithError `denied` unless it is well formed and signed by the owner it names */
export function decodeRelease(bytes: Buffer): Release {
  const bad = () =>
    new KithError('denied', 'the release request is malformed or its signature does not verify')
  const end = bytes.length - signatureBytes
  if (end < fixedBytes || bytes.readUInt8(0) !== 1 || bytes.readUInt16LE(2) !== 0) throw bad()
  const kind = kinds[bytes.readUInt8(1)]
  const count = bytes.readUInt32LE(92)
  const number = bytes.readBigUInt64LE(84)
  if (kind === undefined || count > maxReleaseNames || end !== fixedBytes + count * hashBytes) throw bad()
  const named = kind === 'blocks' || kind === 'drop'
  if ((!named && count !== 0) || number > BigInt(Number.MAX_SAFE_INTEGER)) throw bad()
  const owner = bytes.subarray(4, 4 + publicKeyBytes)
  if (!verify(owner, 'kith release', bytes.subarray(0, end), bytes.subarray(end))) throw bad()
  const names = Array.from({ length: count }, (_, i) =>
    bytes.subarray(fixedBytes + i * hashBytes, fixedBytes + (i + 1) * hashBytes),
  )
  return {
    kind,
    owner,
    partner: bytes.subarray(36, 36 + publicKeyBytes),
    volume: bytes.subarray(68, 68 + volumeIdBytes),
    number: Number(number),
    names,
  }
}

/**
 * Whether a holder may act on a request: signed by the owner that asks, meant for this partner, and not used before.
 * @param last number of the last release of that owner which was accepted
 * @throws KithError `denied`
 */
export function acceptRelease(request: Buffer, owner: Buffer, partner: Buffer, last: number): Release {
  const release = decodeRelease(request)
  if (!release.owner.equals(owner)) throw new KithError('denied', 'the release is signed by another owner')
  if (!release.partner.equals(partner)) {
    throw new KithError('denied', 'the release is meant for another partner')
  }
  if (release.number <= last) {
    throw new KithError('denied', 'the release was used before: its number is not higher than the last')
  }
  return release
}
