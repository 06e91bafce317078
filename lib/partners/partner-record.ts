/**
 * What is kept of a partner, in table `partners` under its public key (roster.ts):
 *
 *     [0]       version, 1
 *     [1..9)    since, ms since 1970: u64
 *     [9..17)   last seen, ms since 1970: u64
 *     [17]      length of the name, the name (UTF-8, at most 64 bytes)
 *     then      length u16 and an address list (addresses.ts), the newest first
 *     then      count of circles u8, their ids, 32 bytes each
 */
import { assert } from '../base/errors.js'
import { Reader, Writer } from '../format/bytes.js'
import { hashBytes } from '../format/hash.js'
import { maxCircles } from '../format/head.js'
import { decodeAddresses, encodeAddresses, type Address } from './addresses.js'

const version = 1

export interface KnownPartner {
  key: Buffer
  /** hex of the key */
  id: string
  name: string
  /** ms since 1970 */
  since: number
  lastSeen: number
  /** ids of the circles in common when last seen, hex */
  circles: string[]
  addresses: Address[]
}

export function encodePartner(partner: KnownPartner): Buffer {
  const name = Buffer.from(partner.name, 'utf8').subarray(0, 255)
  const addresses = encodeAddresses(partner.addresses)
  assert(partner.circles.length <= maxCircles, 'circles in common are among ours')
  const out = new Writer(128).u8(version).number(partner.since).number(partner.lastSeen)
  out.u8(name.length).raw(name).u16(addresses.length).raw(addresses).u8(partner.circles.length)
  for (const id of partner.circles) out.raw(Buffer.from(id, 'hex'))
  return out.finish()
}

/** @throws KithError damaged */
export function decodePartner(key: Buffer, bytes: Buffer): KnownPartner {
  const from = new Reader(bytes, 'partner record')
  if (from.u8() !== version) throw from.damaged('its version is unknown; a newer kith wrote it')
  const since = from.number()
  const lastSeen = from.number()
  const name = from.slice(from.u8()).toString('utf8')
  const addresses = decodeAddresses(from.slice(from.u16()))
  const circles = Array.from({ length: from.u8() }, () => from.slice(hashBytes).toString('hex'))
  from.end()
  return { key, id: key.toString('hex'), name, since, lastSeen, circles, addresses }
}
