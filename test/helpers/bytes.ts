/** Seeded bytes, mutations of records, and golden fixtures: what the tests of every codec need. */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { fileURLToPath } from 'node:url'
import { KithError } from '../../lib/base/errors.js'

type Random = () => number

/** `length` bytes from a seeded generator. */
export function seededBytes(random: Random, length: number): Buffer {
  const bytes = Buffer.alloc(Math.ceil(length / 4) * 4)
  for (let i = 0; i < length; i += 4) bytes.writeUInt32LE(random(), i)
  return bytes.subarray(0, length)
}

/** A copy of `bytes` with one to four seeded faults: flips, extremes, cuts, repetitions, insertions. */
export function mutate(random: Random, bytes: Buffer): Buffer {
  let mutated = Buffer.from(bytes)
  for (let faults = 1 + (random() % 4); faults > 0; faults--) mutated = fault(random, mutated)
  return mutated
}

function fault(random: Random, bytes: Buffer): Buffer<ArrayBuffer> {
  const copy = Buffer.from(bytes)
  if (copy.length < 8) return Buffer.concat([copy, seededBytes(random, 1 + (random() % 8))])
  const at = random() % copy.length
  const span = 1 + (random() % Math.min(64, copy.length - at))
  const rest = copy.subarray(at + span)
  switch (random() % 8) {
    case 0:
      copy[at] = (copy[at] ?? 0) ^ (1 << (random() % 8))
      return copy
    case 1:
      copy[at] = random() & 0xff
      return copy
    case 2:
      copy.writeUInt32LE([0, 1, 0x7fffffff, 0xffffffff][random() % 4] ?? 0, Math.min(at, copy.length - 4))
      return copy
    case 3:
      return copy.subarray(0, at)
    case 4:
      return Buffer.concat([copy.subarray(0, at), rest])
    case 5:
      return Buffer.concat([copy.subarray(0, at + span), copy.subarray(at, at + span), rest])
    case 6:
      return Buffer.concat([copy.subarray(0, at), seededBytes(random, span), copy.subarray(at)])
    default:
      copy.copy(copy, random() % copy.length, at, at + span)
      return copy
  }
}

/**
 * Runs `decode` on `count` seeded mutations of `samples`. Each must throw a KithError of code `damaged`, or decode to a
 * value that `encode` gives back byte for byte. Returns what went otherwise, at most ten, for a test to find empty.
 */
export function fuzzCodec<T>(
  random: Random,
  samples: readonly Buffer[],
  count: number,
  decode: (bytes: Buffer) => T,
  encode: (value: T) => Buffer,
): string[] {
  const wrong: string[] = []
  for (let i = 0; i < count && wrong.length < 10; i++) {
    const bytes = mutate(random, samples[i % samples.length] ?? Buffer.alloc(0))
    try {
      if (!encode(decode(bytes)).equals(bytes))
        wrong.push(`${i}: not canonical: ${bytes.toString('hex', 0, 400)}`)
    } catch (error) {
      if (!(error instanceof KithError && error.code === 'damaged')) wrong.push(`${i}: ${String(error)}`)
    }
  }
  return wrong
}

/**
 * The bytes of test/fixtures/NAME.hex: what an earlier kith wrote, which every later one must read. A missing fixture is
 * written from `make` when KITH_WRITE_FIXTURES is set; an existing one is never overwritten.
 */
export function golden(name: string, make: () => Buffer): Buffer {
  const file = fileURLToPath(new URL(`../../../test/fixtures/${name}.hex`, import.meta.url))
  if (!existsSync(file) && process.env.KITH_WRITE_FIXTURES !== undefined) {
    mkdirSync(dirname(file), { recursive: true })
    const lines =
      make()
        .toString('hex')
        .match(/.{1,100}/g) ?? []
    writeFileSync(file, `${lines.join('\n')}\n`)
  }
  return Buffer.from(readFileSync(file, 'utf8').replace(/\s/g, ''), 'hex')
}
