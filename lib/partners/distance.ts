/**
 * How far away a partner is, by its address and by the time of a round trip to it. Pure.
 *
 * near: the same network or site, so that a restore from there is quick, and a fire there is our fire. far: another place.
 */
import { isIP } from 'node:net'
import type { Distance } from '../planning/types.js'

/** Round trips as long as this leave the site, whatever the address says, ms; busy machines answer late, too. */
const farMs = 60
/** Between private networks of one site, ms. */
const siteMs = 10

/** The /24 (IPv4) or /48 (IPv6) of an address as text; null where it says nothing: loopback, no address. */
export function prefixOf(host: string | undefined): string | null {
  const address = plain(host)
  const kind = isIP(address)
  if (kind === 0 || isLoopback(address)) return null
  if (kind === 4) return `${address.split('.').slice(0, 3).join('.')}.0/24`
  return `${groups(address).slice(0, 3).join(':')}::/48`
}

/**
 * @param own addresses of this machine
 * @param rtt ms; undefined or 0: not measured, or shorter than 1 ms
 */
export function distanceOf(
  host: string | undefined,
  own: readonly string[],
  rtt: number | undefined,
): Distance {
  const address = plain(host)
  if (isIP(address) === 0) return null
  if (isLoopback(address)) return 'near'
  if (rtt !== undefined && rtt >= farMs) return 'far'
  const prefix = prefixOf(address)
  if (own.some((mine) => prefixOf(mine) === prefix)) return 'near'
  return isPrivate(address) && (rtt ?? 0) < siteMs ? 'near' : 'far'
}

/** An IPv4 address in IPv6 clothes is what it is. */
function plain(host: string | undefined): string {
  return (host ?? '').replace(/^::ffff:(?=\d+\.)/i, '').replace(/%.*$/, '')
}

function isLoopback(address: string): boolean {
  return address.startsWith('127.') || address === '::1'
}

/** RFC 1918, RFC 4193, link-local. */
function isPrivate(address: string): boolean {
  return (
    /^(10\.|192\.168\.|172\.(1[6-9]|2\d|3[01])\.|169\.254\.)/.test(address) ||
    /^(f[cd]|fe[89ab])/i.test(address)
  )
}

/** The eight groups of an IPv6 address, without leading zeros. */
function groups(address: string): string[] {
  const [head = '', tail] = address.toLowerCase().split('::')
  const before = head === '' ? [] : head.split(':')
  const after = tail === undefined || tail === '' ? [] : tail.split(':')
  const missing = tail === undefined ? 0 : Math.max(0, 8 - before.length - after.length)
  const all = [...before, ...Array.from({ length: missing }, () => '0'), ...after]
  return all.map((group) => Number.parseInt(group, 16).toString(16))
}
