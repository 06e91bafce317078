/**
 * An announced absence: a node's signed word to one partner until when it is out of reach. It is bound to both and dated; an older
 * one than the last is refused.
 *
 *     [0] version, 1   [1..4) 0   [4..36) key of who is away   [36..68) key of the partner
 *     [68..76) made, ms since 1970 u64   [76..84) until, ms since 1970 u64; 0: it is back
 *     [84..148) signature of who is away over [0..84), namespace `kith away`
 */
import { KithError } from '../base/errors.js'
import { Reader, Writer } from './bytes.js'
import { type KeyPair, publicKeyBytes, sign, signatureBytes, verify } from './hash.js'

export interface Absence {
  who: Buffer
  partner: Buffer
  made: number
  until: number
}

export const absenceBytes = 148
const signedBytes = 84
const version = 1

export function encodeAbsence({ partner, made, until }: Omit<Absence, 'who'>, who: KeyPair): Buffer {
  const body = new Writer(absenceBytes).u8(version).zero(3).raw(who.publicKey).raw(partner)
  const bytes = body.number(made).number(until).finish()
  return Buffer.concat([bytes, sign(who.secretKey, 'kith away', bytes)])
}

/** @throws KithError denied unless it is well formed and signed by who it names */
export function decodeAbsence(bytes: Buffer): Absence {
  const bad = new KithError('denied', 'the announced absence is malformed or its signature does not verify')
  if (bytes.length !== absenceBytes) throw bad
  try {
    const from = new Reader(bytes, 'announced absence')
    if (from.u8() !== version) throw bad
    from.zero(3)
    const [who, partner] = [from.slice(publicKeyBytes), from.slice(publicKeyBytes)]
    const absence = { who, partner, made: from.number(), until: from.number() }
    if (!verify(who, 'kith away', bytes.subarray(0, signedBytes), from.slice(signatureBytes))) throw bad
    return absence
  } catch (error) {
    throw error instanceof KithError && error.code === 'damaged' ? bad : error
  }
}
