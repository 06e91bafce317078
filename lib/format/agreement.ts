/**
 * Agreements: what two nodes promise each other, one document that both signed. Of a pair the one with the highest
 * number holds. An offer is the same document with one signature; whoever signs second binds both. An ending is signed by
 * one side alone, and takes back the agreement with its number.
 *
 * Agreement, 340 bytes:
 *
 *     [0]         version, 1
 *     [1..4)      0
 *     [4..36)     first: the smaller of the two Ed25519 public keys
 *     [36..68)    second: the larger
 *     [68..76)    number, u64: higher than that of every earlier agreement of the pair; from 1
 *     [76..84)    made, ms since 1970: u64
 *     [84..92)    until, ms since 1970: u64; 0: until one side ends it
 *     [92..100)   ms since 1970 by when the second to sign must have done so: u64
 *     [100..156)  terms of the first, [156..212) of the second
 *     [212..276)  signature of the first over [0..212), namespace `kith agreement`; in an offer of the second's, zero
 *     [276..340)  signature of the second; in an offer of the first's, zero
 *
 * Terms of a side, 56 bytes: what that side promises to the other.
 *
 *     [0..8)      bytes of sealed blocks that it holds for the other, with 512 for each block: u64, below 2^53
 *     [8..29)     hours on line (week.ts)   [29..32) 0
 *     [32..40)    bytes a second that it takes in at least: u64; 0: no promise
 *     [40..44)    seconds from one audit of the other to the next, at most: u32
 *     [44..48)    grace u32: seconds that it may be out of reach and keep the agreement
 *     [48..52)    commitment u32: seconds for which restores are not honoured; 0, or more than the grace
 *     [52..56)    notice u32: seconds that it keeps what it holds after the end
 *
 * Ending, 148 bytes:
 *
 *     [0] version, 1   [1..4) 0   [4..36) key of who ends it   [36..68) key of the other   [68..76) number u64
 *     [76..84) ms since 1970 u64   [84..148) signature of who ends it over [0..84), namespace `kith agreement end`
 */
import { assert, KithError } from '../base/errors.js'
import { Reader, Writer } from './bytes.js'
import { hash, hashBytes, type KeyPair, publicKeyBytes, sign, signatureBytes, verify } from './hash.js'
import { weekBytes } from './week.js'

/** What a block costs of a quota beside its bytes: its rows in the index. Else a flood of tiny blocks would cost nothing. */
export const blockOverhead = 512
export const termsBytes = 56
export const agreementBytes = 340
export const endingBytes = 148
const version = 1
const signedBytes = 212
const endingSignedBytes = 84
const unsigned = Buffer.alloc(signatureBytes)

/** What one side promises. Times are in seconds. */
export interface Terms {
  holds: number
  /** 168 bits: week.ts */
  hours: Buffer
  bandwidth: number
  audit: number
  grace: number
  commitment: number
  notice: number
}

export interface Agreement {
  /** the smaller key */
  first: Buffer
  second: Buffer
  number: number
  /** ms since 1970, as all times here; `until` 0: open-ended */
  made: number
  until: number
  signBy: number
  /** of the first, of the second */
  terms: readonly [Terms, Terms]
}

export interface Ending {
  by: Buffer
  other: Buffer
  number: number
  time: number
}

/** Which of the two this key is; undefined: neither. */
export function sideOf(
  { first, second }: Pick<Agreement, 'first' | 'second'>,
  key: Buffer,
): 0 | 1 | undefined {
  return key.equals(first) ? 0 : key.equals(second) ? 1 : undefined
}

/** The keys in the order of the document, and the terms with them. */
export function pairOf(
  one: { key: Buffer; terms: Terms },
  other: { key: Buffer; terms: Terms },
): Pick<Agreement, 'first' | 'second' | 'terms'> {
  const [a, b] = Buffer.compare(one.key, other.key) < 0 ? [one, other] : [other, one]
  return { first: a.key, second: b.key, terms: [a.terms, b.terms] }
}

export function writeTerms(out: Writer, terms: Terms): Writer {
  assert(terms.hours.length === weekBytes, 'a week has 21 bytes')
  out.number(terms.holds).raw(terms.hours).zero(3).number(terms.bandwidth)
  return out.u32(terms.audit).u32(terms.grace).u32(terms.commitment).u32(terms.notice)
}

/** @throws KithError damaged */
export function readTerms(from: Reader): Terms {
  const holds = from.number()
  const hours = from.slice(weekBytes)
  from.zero(3)
  const terms = {
    holds,
    hours,
    bandwidth: from.number(),
    audit: from.u32(),
    grace: from.u32(),
    commitment: from.u32(),
    notice: from.u32(),
  }
  const { commitment, grace } = terms
  if (commitment !== 0 && commitment <= grace)
    throw from.damaged('the commitment is not longer than the grace')
  return terms
}

/** The agreement with the signature of one side. */
export function encodeOffer(agreement: Agreement, signer: KeyPair): Buffer {
  const { first, second, terms } = agreement
  assert(Buffer.compare(first, second) < 0, 'the smaller key comes first')
  const side = sideOf(agreement, signer.publicKey)
  assert(side !== undefined, 'who signs is a side of it')
  const out = new Writer(agreementBytes).u8(version).zero(3).raw(first).raw(second)
  out.number(agreement.number).number(agreement.made).number(agreement.until).number(agreement.signBy)
  writeTerms(writeTerms(out, terms[0]), terms[1])
  const body = out.finish()
  const signature = sign(signer.secretKey, 'kith agreement', body)
  return Buffer.concat(side === 0 ? [body, signature, unsigned] : [body, unsigned, signature])
}

/** The document with both signatures, of an offer that decodes. */
export function countersign(offer: Buffer, signer: KeyPair): Buffer {
  const { agreement, by } = decodeOffer(offer)
  const side = sideOf(agreement, signer.publicKey)
  assert(side !== undefined && side !== by, 'an offer is signed by the other side')
  const bytes = Buffer.from(offer)
  sign(signer.secretKey, 'kith agreement', bytes.subarray(0, signedBytes)).copy(bytes, signatureAt(side))
  return bytes
}

/** @throws KithError denied unless it is well formed and one side, and only that, signed it */
export function decodeOffer(bytes: Buffer): { agreement: Agreement; by: 0 | 1 } {
  const agreement = decodeBody(bytes, 'offer of an agreement')
  const by = signatureOf(bytes, 0).equals(unsigned) ? 1 : 0
  const isAlone = signatureOf(bytes, by === 0 ? 1 : 0).equals(unsigned)
  if (!isAlone || !isSigned(bytes, agreement, by)) throw forged('offer of an agreement')
  return { agreement, by }
}

/** @throws KithError denied unless it is well formed and both sides signed it */
export function decodeAgreement(bytes: Buffer): Agreement {
  const agreement = decodeBody(bytes, 'agreement')
  if (!isSigned(bytes, agreement, 0) || !isSigned(bytes, agreement, 1)) throw forged('agreement')
  return agreement
}

/** Whether both say the same, whoever signed them. */
export function isSameBody(one: Buffer, other: Buffer): boolean {
  return one.subarray(0, signedBytes).equals(other.subarray(0, signedBytes))
}

/** Names a document that both signed. */
export function agreementHash(bytes: Buffer): Buffer {
  return hash('kith agreement hash', bytes)
}

export function encodeEnding({ other, number, time }: Omit<Ending, 'by'>, by: KeyPair): Buffer {
  const out = new Writer(endingBytes).u8(version).zero(3).raw(by.publicKey).raw(other)
  const body = out.number(number).number(time).finish()
  return Buffer.concat([body, sign(by.secretKey, 'kith agreement end', body)])
}

/** @throws KithError denied unless it is well formed and signed by who it names */
export function decodeEnding(bytes: Buffer): Ending {
  const what = 'end of an agreement'
  return strictly(what, () => {
    const from = new Reader(bytes, what)
    if (bytes.length !== endingBytes || from.u8() !== version) throw forged(what)
    from.zero(3)
    const ending = {
      by: from.slice(publicKeyBytes),
      other: from.slice(publicKeyBytes),
      number: from.number(),
      time: from.number(),
    }
    const body = bytes.subarray(0, endingSignedBytes)
    if (!verify(ending.by, 'kith agreement end', body, from.slice(signatureBytes))) throw forged(what)
    return ending
  })
}

function decodeBody(bytes: Buffer, what: string): Agreement {
  return strictly(what, () => {
    const from = new Reader(bytes, what)
    if (bytes.length !== agreementBytes || from.u8() !== version) throw forged(what)
    from.zero(3)
    const [first, second] = [from.slice(hashBytes), from.slice(hashBytes)]
    const agreement: Agreement = {
      first,
      second,
      number: from.number(),
      made: from.number(),
      until: from.number(),
      signBy: from.number(),
      terms: [readTerms(from), readTerms(from)],
    }
    if (Buffer.compare(first, second) >= 0 || agreement.number === 0) throw forged(what)
    return agreement
  })
}

function strictly<T>(what: string, decode: () => T): T {
  try {
    return decode()
  } catch (error) {
    throw error instanceof KithError && error.code === 'damaged' ? forged(what) : error
  }
}

const signatureAt = (side: 0 | 1) => signedBytes + side * signatureBytes

function signatureOf(bytes: Buffer, side: 0 | 1): Buffer {
  return bytes.subarray(signatureAt(side), signatureAt(side) + signatureBytes)
}

function isSigned(bytes: Buffer, agreement: Agreement, side: 0 | 1): boolean {
  const key = side === 0 ? agreement.first : agreement.second
  return verify(key, 'kith agreement', bytes.subarray(0, signedBytes), signatureOf(bytes, side))
}

function forged(what: string): KithError {
  return new KithError('denied', `the ${what} is malformed or a signature does not verify`)
}
