/**
 * Partners' partners: what an owner gives each of its partners to keep, so that a new machine that reaches one partner finds the
 * others, and partners can ask each other when the owner was last there. Signed by the owner, bound to the partner, and numbered;
 * the highest number wins.
 *
 *     [0] version, 1   [1] fellows f, at most 4   [2..4) 0   [4..36) owner   [36..68) partner
 *     [68..76) number u64, grows with every list   [76..84) made, ms since 1970 u64
 *     fellows   f times: key 32 | length u8, at most 25, and an address list (partners/addresses.ts); ascending by key
 *     then      length u32, and the sealed list of all partners
 *     last 64   signature of the owner over all before it, namespace `kith fellows`
 *
 * The sealed list, which only the owner can read: nonce 24, XChaCha20-Poly1305, tag 16, under keyedHash(KEK, `kith partner list`);
 * associated data `kith partner list`, owner 32, number u64. Its plaintext, with zeros to the next multiple of 1024, so that its
 * length tells little:
 *
 *     [0..2) partners u16, at most 256, ascending by key; each: key 32 | number of the agreement u64 (0: none) | its end, ms since
 *     1970 u64 (0: open) | length u8 and an address list
 *
 * What a partner learns in the clear is least: at most four others, its neighbours when all partners stand in a ring by their keys.
 * That relation goes both ways, so who is asked about an owner knows from its own list whom it may answer.
 */
import { assert, KithError } from '../base/errors.js'
import { Reader, Writer } from './bytes.js'
import { keyedHash, type KeyPair, publicKeyBytes, sign, signatureBytes, verify } from './hash.js'
import { decryptUnder, encryptUnder } from './keys.js'

export const maxFellows = 4
export const maxListed = 256
export const maxAddressBytes = 25
const version = 1
const padTo = 1024
const sealedOverhead = 40
const mostPlain = 2 + maxListed * (publicKeyBytes + 17 + maxAddressBytes)
const maxSealed = sealedOverhead + Math.ceil(mostPlain / padTo) * padTo
export const fellowListBytes =
  84 + maxFellows * (publicKeyBytes + 1 + maxAddressBytes) + 4 + maxSealed + signatureBytes

/** Somebody who holds data of the same owner. */
export interface Fellow {
  key: Buffer
  /** as partners/addresses.ts writes them */
  addresses: Buffer
}

export interface ListedPartner extends Fellow {
  /** of the agreement; 0: none */
  agreement: number
  /** ms since 1970; 0: open */
  until: number
}

export interface FellowList {
  owner: Buffer
  partner: Buffer
  number: number
  made: number
  fellows: Fellow[]
  sealed: Buffer
}

export function encodeFellowList(list: Omit<FellowList, 'owner'>, owner: KeyPair): Buffer {
  const { partner, number, made, fellows, sealed } = list
  assert(fellows.length <= maxFellows && sealed.length <= maxSealed, 'a list has few fellows')
  const out = new Writer().u8(version).u8(fellows.length).zero(2).raw(owner.publicKey).raw(partner)
  out.number(number).number(made)
  for (const fellow of fellows) writeFellow(out, fellow)
  const message = out.u32(sealed.length).raw(sealed).finish()
  return Buffer.concat([message, sign(owner.secretKey, 'kith fellows', message)])
}

/** @throws KithError denied unless it is well formed and signed by the owner that it names */
export function decodeFellowList(bytes: Buffer): FellowList {
  const bad = new KithError('denied', 'the list of partners is malformed or its signature does not verify')
  if (bytes.length > fellowListBytes) throw bad
  try {
    const from = new Reader(bytes, 'list of partners')
    if (from.u8() !== version) throw bad
    const count = from.u8()
    from.zero(2)
    if (count > maxFellows) throw bad
    const [owner, partner] = [from.slice(publicKeyBytes), from.slice(publicKeyBytes)]
    const [number, made] = [from.number(), from.number()]
    const fellows = Array.from({ length: count }, () => readFellow(from))
    const length = from.u32()
    if (!isAscending(fellows) || length > maxSealed) throw bad
    const sealed = from.slice(length)
    const signed = bytes.subarray(0, from.at)
    const signature = from.slice(signatureBytes)
    from.end()
    if (!verify(owner, 'kith fellows', signed, signature)) throw bad
    return { owner, partner, number, made, fellows, sealed }
  } catch (error) {
    throw error instanceof KithError && error.code === 'damaged' ? bad : error
  }
}

/** @param partners ascending by key, at most `maxListed` */
export function sealPartnerList(
  kek: Buffer,
  owner: Buffer,
  number: number,
  partners: readonly ListedPartner[],
): Buffer {
  assert(partners.length <= maxListed && isAscending(partners), 'partners are listed by key, each once')
  const out = new Writer().u16(partners.length)
  for (const { key, agreement, until, addresses } of partners)
    out.raw(key).number(agreement).number(until).u8(addresses.length).raw(addresses)
  out.zero((padTo - (out.length % padTo)) % padTo)
  return encryptUnder(listKey(kek), context(owner, number), out.finish())
}

/** @throws KithError damaged */
export function openPartnerList(kek: Buffer, { owner, number, sealed }: FellowList): ListedPartner[] {
  const plain = decryptUnder(listKey(kek), context(owner, number), sealed, 'list of partners')
  const from = new Reader(plain, 'list of partners')
  const count = from.u16()
  if (count > maxListed) throw from.damaged('it is too long')
  const partners = Array.from({ length: count }, () => {
    const key = from.slice(publicKeyBytes)
    const [agreement, until] = [from.number(), from.number()]
    return { key, agreement, until, addresses: readAddresses(from) }
  })
  if (!isAscending(partners)) throw from.damaged('it is not in order')
  from.zero(from.left)
  return partners
}

function listKey(kek: Buffer): Buffer {
  return keyedHash(kek, 'kith partner list')
}

function context(owner: Buffer, number: number): Buffer {
  return new Writer(64).raw(Buffer.from('kith partner list', 'ascii')).raw(owner).number(number).finish()
}

function writeFellow(out: Writer, { key, addresses }: Fellow): void {
  assert(addresses.length <= maxAddressBytes, 'few addresses are listed')
  out.raw(key).u8(addresses.length).raw(addresses)
}

function readFellow(from: Reader): Fellow {
  return { key: from.slice(publicKeyBytes), addresses: readAddresses(from) }
}

function readAddresses(from: Reader): Buffer {
  const length = from.u8()
  if (length > maxAddressBytes) throw from.damaged('too many addresses')
  return from.slice(length)
}

function isAscending(list: readonly { key: Buffer }[]): boolean {
  return list.every(({ key }, i) => i === 0 || Buffer.compare(list[i - 1]?.key ?? key, key) < 0)
}
