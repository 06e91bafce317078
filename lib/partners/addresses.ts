/**
 * Addresses of DHT nodes and partners: parsing what the user gives, storing what was seen, and the bounds on how often
 * somebody may knock.
 *
 * Stored address list (at most 32 entries):
 *
 *     [0] count: u8, then for each entry [0..4) IPv4 address, bytes in network order  [4..6) port: u16
 */
import { isIPv4 } from 'node:net'
import { networkInterfaces } from 'node:os'
import type { Clock } from '../base/clock.js'
import { assert, KithError } from '../base/errors.js'

export interface Address {
  /** dotted IPv4 */
  host: string
  port: number
}

export function ownAddresses(): string[] {
  return Object.values(networkInterfaces()).flatMap((list) => (list ?? []).map(({ address }) => address))
}

export const maxStoredAddresses = 32
const entryBytes = 6

export function encodeAddresses(addresses: readonly Address[]): Buffer {
  const usable = addresses.filter((address) => isIPv4(address.host)).slice(0, maxStoredAddresses)
  const bytes = Buffer.alloc(1 + usable.length * entryBytes)
  bytes[0] = usable.length
  usable.forEach((address, i) => {
    const at = 1 + i * entryBytes
    bytes.set(address.host.split('.').map(Number), at)
    bytes.writeUInt16LE(address.port, at + 4)
  })
  return bytes
}

/** @returns what is well-formed; an empty list for anything else: a cache may be lost, never trusted */
export function decodeAddresses(bytes: Buffer): Address[] {
  const count = bytes[0] ?? 0
  if (count > maxStoredAddresses || bytes.length !== 1 + count * entryBytes) return []
  return Array.from({ length: count }, (_, i) => {
    const at = 1 + i * entryBytes
    return { host: [...bytes.subarray(at, at + 4)].join('.'), port: bytes.readUInt16LE(at + 4) }
  }).filter((address) => address.port > 0)
}

/** The newest address first, without repetition, at most `keep`. */
export function withAddress(known: readonly Address[], address: Address, keep: number): Address[] {
  const others = known.filter((other) => other.host !== address.host || other.port !== address.port)
  return [address, ...others].slice(0, keep)
}

/**
 * Parses `HOST:PORT,...`, as --bootstrap takes it.
 * @throws KithError usage
 */
export function parseBootstrap(text: string): string[] {
  const parts = text
    .split(',')
    .map((part) => part.trim())
    .filter((part) => part.length > 0)
  for (const part of parts) {
    const [host, port, rest] = part.split(':')
    const number = Number(port)
    const portFits = /^\d{1,5}$/.test(port ?? '') && number > 0 && number < 65536
    if (rest !== undefined || !portFits || !host || !/^[A-Za-z0-9.-]{1,253}$/.test(host))
      throw new KithError('usage', `bad bootstrap address '${part}'; give HOST:PORT, several with commas`)
  }
  return parts
}

/** Whether all of these are on this machine; then nothing else needs to reach us. */
export function isLoopback(bootstrap: readonly string[]): boolean {
  return bootstrap.length > 0 && bootstrap.every((part) => /^(127\.|localhost:)/.test(part))
}

/**
 * Bounds how often each of many callers may try: a bucket of `burst` tries for each name, refilled at `perMinute`.
 * Remembers at most `capacity` names; when full, the one that tried least recently is forgotten.
 */
export class Limiter {
  private readonly buckets = new Map<string, { tries: number; at: number }>()

  constructor(
    private readonly clock: Clock,
    private readonly limits: { burst: number; perMinute: number; capacity: number },
  ) {
    assert(limits.capacity > 0, 'a limiter remembers somebody')
  }

  /** Takes one try from the name's bucket; false when it is empty. */
  take(name: string): boolean {
    const { burst, perMinute, capacity } = this.limits
    const now = this.clock.monotonic()
    const bucket = this.buckets.get(name) ?? { tries: burst, at: now }
    this.buckets.delete(name)
    const tries = Math.min(burst, bucket.tries + ((now - bucket.at) / 60_000) * perMinute)
    this.buckets.set(name, { tries: Math.max(0, tries - 1), at: now })
    if (this.buckets.size > capacity) {
      for (const oldest of this.buckets.keys()) {
        this.buckets.delete(oldest)
        break
      }
    }
    return tries >= 1
  }
}
