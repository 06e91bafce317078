/**
 * An attestation: what one partner says of how another keeps its agreements with it. Signed, dated and bound to both. It is made for
 * whom it is about, who shows it to strangers; so a bad one is never shown, and the lack of good ones is what tells.
 *
 *     [0] version, 1   [1..4) 0   [4..36) key of who says it   [36..68) key of whom it is about
 *     [68..76) made, ms since 1970 u64   [76..78) days since it is known u16
 *     [78..80) agreements kept u16   [80..82) agreements broken u16   [82..84) 0
 *     [84..148) signature of who says it over [0..84), namespace `kith attestation`
 *
 * The reply that brings them (wire.ts):
 *
 *     [0] 1: an attestation about the asker follows; 0: none   then      count u8, at most 16, and so many about who replies
 */
import { assert, KithError } from '../base/errors.js'
import { Reader, Writer } from './bytes.js'
import { type KeyPair, publicKeyBytes, sign, signatureBytes, verify } from './hash.js'

export interface Attestation {
  by: Buffer
  about: Buffer
  /** ms since 1970 */
  made: number
  /** whole days since it is known to who says it */
  days: number
  /** agreements that it kept, the one that stands among them, and that it broke */
  kept: number
  reneged: number
}

/** Each as it came: whoever reads it decodes it. */
export interface Attestations {
  /** about the asker; undefined: nothing is said of it */
  own: Buffer | undefined
  /** about who replies */
  shown: Buffer[]
}

export const attestationBytes = 148
export const maxShown = 16
export const attestationsBytes = 2 + (maxShown + 1) * attestationBytes
const signedBytes = 84
const version = 1
const most = 0xffff

/** Numbers that do not fit are cut to the largest that does. */
export function encodeAttestation(said: Omit<Attestation, 'by'>, by: KeyPair): Buffer {
  const body = new Writer(attestationBytes).u8(version).zero(3).raw(by.publicKey).raw(said.about)
  body.number(said.made)
  for (const count of [said.days, said.kept, said.reneged]) body.u16(Math.min(Math.floor(count), most))
  const bytes = body.zero(2).finish()
  return Buffer.concat([bytes, sign(by.secretKey, 'kith attestation', bytes)])
}

/** @throws KithError denied unless it is well formed, about another, and signed by who it names */
export function decodeAttestation(bytes: Buffer): Attestation {
  const bad = new KithError('denied', 'the attestation is malformed or its signature does not verify')
  if (bytes.length !== attestationBytes) throw bad
  try {
    const from = new Reader(bytes, 'attestation')
    if (from.u8() !== version) throw bad
    from.zero(3)
    const [by, about] = [from.slice(publicKeyBytes), from.slice(publicKeyBytes)]
    const said = { by, about, made: from.number(), days: from.u16(), kept: from.u16(), reneged: from.u16() }
    from.zero(2)
    const isSigned = verify(
      by,
      'kith attestation',
      bytes.subarray(0, signedBytes),
      from.slice(signatureBytes),
    )
    if (by.equals(about) || !isSigned) throw bad
    return said
  } catch (error) {
    throw error instanceof KithError && error.code === 'damaged' ? bad : error
  }
}

export function writeAttestations(out: Writer, { own, shown }: Attestations): Writer {
  assert(shown.length <= maxShown, 'few attestations are shown')
  out.u8(own ? 1 : 0)
  if (own) out.raw(own)
  out.u8(shown.length)
  for (const one of shown) out.raw(one)
  return out
}

/** @throws KithError damaged */
export function readAttestations(from: Reader): Attestations {
  const flag = from.u8()
  if (flag > 1) throw from.damaged('an unknown status')
  const own = flag === 1 ? from.slice(attestationBytes) : undefined
  const count = from.u8()
  if (count > maxShown || count * attestationBytes > from.left) throw from.damaged('a count is out of bounds')
  return { own, shown: Array.from({ length: count }, () => from.slice(attestationBytes)) }
}
