/**
 * `npm run bench -- seal`: what a core does of the way from a file's bytes to the shards of partners: key, compress and
 * encrypt, lay out as a stripe, code, seal for each partner, name. Rates are bytes of the file by seconds of the processor, over
 * all threads, so that work off the event loop counts. Incompressible bytes: nothing gets smaller on the way.
 */
import { seeded } from '../lib/base/random.js'
import { codeFor } from '../lib/codes/codes.js'
import type { Code } from '../lib/codes/types.js'
import { hash } from '../lib/format/hash.js'
import { deriveIdentity, partnershipKey } from '../lib/format/keys.js'
import { chunkKeys, chunkRowBytes, keyAndIdBytes, recordOverhead, sealChunks } from '../lib/format/seal.js'
import { elementBytesFor } from '../lib/format/stripe.js'
import { openShard, sealShards, shardBytes, type ShardRef } from '../lib/format/shard.js'
import { median } from './measure.js'

export interface SealScale {
  megabytes: number
  rounds: number
}

const chunkBytes = 128 * 1024
const elementBytes = 512 * 1024
const secret = Buffer.alloc(32, 1)

const codes: readonly Code[] = [
  codeFor('parity', 2, 1),
  codeFor('parity', 10, 1),
  codeFor('reed-solomon', 2, 1),
  codeFor('reed-solomon', 3, 3),
  codeFor('reed-solomon', 4, 4),
  codeFor('reed-solomon', 6, 3),
  codeFor('reed-solomon', 12, 8),
  codeFor('reed-solomon', 64, 32),
  codeFor('tornado', 64, 32),
]

/** The bytes of a part of a file, and the memory that its sealed chunks go to, as a worker of the store has them. */
class Portion {
  readonly data: Buffer
  readonly records: Buffer
  private readonly ranges: Buffer
  private readonly keys: Buffer
  private readonly count: number

  constructor(bytes: number) {
    const random = seeded(1)
    this.count = Math.ceil(bytes / chunkBytes)
    this.data = Buffer.alloc(this.count * chunkBytes)
    for (let i = 0; i < this.data.length; i += 4) this.data.writeUInt32LE(random(), i)
    this.ranges = Buffer.alloc(this.count * 8)
    for (let i = 0; i < this.count; i++) {
      this.ranges.writeUInt32LE(i * chunkBytes, i * 8)
      this.ranges.writeUInt32LE((i + 1) * chunkBytes, i * 8 + 4)
    }
    this.keys = Buffer.alloc(this.count * keyAndIdBytes)
    this.records = Buffer.alloc(this.data.length + this.count * recordOverhead)
  }

  /** Keys, compression, encryption and names of all chunks; returns the bytes of their records. */
  seal(): number {
    chunkKeys(secret, this.data, this.ranges, this.keys)
    const rows = Buffer.alloc(this.count * chunkRowBytes)
    const ids = Buffer.alloc(this.count * 32)
    const chunks = { data: this.data, ranges: this.ranges, keys: this.keys, rows }
    return sealChunks(chunks, { records: this.records, ids })[1]
  }
}

/** Data elements for all of `bytes`, stripe by stripe; those of the last are no longer than the striper makes them. */
function stripesOf(bytes: Buffer, code: Code): Buffer[][] {
  const stripes: Buffer[][] = []
  const whole = code.data * elementBytes
  for (let at = 0; at < bytes.length; at += whole) {
    const length = Math.min(elementBytes, elementBytesFor(Math.min(bytes.length - at, whole), code.data))
    stripes.push(
      Array.from({ length: code.data }, (_, i) => {
        const from = at + i * length
        const part = bytes.subarray(from, from + length)
        return part.length === length ? part : Buffer.concat([part, Buffer.alloc(length - part.length)])
      }),
    )
  }
  return stripes
}

const owner = deriveIdentity(Buffer.alloc(32, 2))

function shardOf(code: Code, stripe: number, index: number, bytes = elementBytes): ShardRef {
  const partner = hash('kith bench partner', Buffer.from([index]))
  const id = hash('kith bench stripe', Buffer.from([stripe & 0xff]))
  const key = partnershipKey(owner.kek, partner)
  return { key, owner: owner.id, partner, stripe: id, code: code.name, index, elementBytes: bytes }
}

async function sealStripe(code: Code, number: number, elements: readonly Buffer[]): Promise<Buffer[]> {
  const refs = elements.map((_, index) => shardOf(code, number, index, elements[0]?.length))
  return (await sealShards(refs, elements)).map(({ bytes }) => bytes)
}

/** So much is worked on before it counts: memory is used again from when the collector has come by (lib/base/memory.ts). */
const warmBytes = 512 * 2 ** 20

/** MB/s by the processor's time: the median of the rounds. */
async function rate(bytes: number, rounds: number, work: () => Promise<unknown>): Promise<string> {
  const rates: number[] = []
  for (let warmed = 0; warmed < warmBytes; warmed += bytes) await work()
  for (let round = 0; round < rounds; round++) {
    const before = process.cpuUsage()
    await work()
    const { user, system } = process.cpuUsage(before)
    rates.push(bytes / (user + system))
  }
  return median(rates).toFixed(0).padStart(8)
}

async function benchCode(portion: Portion, code: Code, rounds: number): Promise<string> {
  const bytes = portion.data.length
  const stripes = stripesOf(portion.records.subarray(0, portion.seal()), code)
  const parities = await Promise.all(stripes.map((data) => code.encode(data)))
  const whole = stripes.map((data, i) => [...data, ...(parities[i] ?? [])])
  const lost = Array.from({ length: code.data + code.parity - code.needed }, (_, i) => i)
  const coded = await rate(bytes, rounds, async () => {
    for (const data of stripes) await code.encode(data)
  })
  const decoded = await rate(bytes, rounds, async () => {
    for (const all of whole)
      await code.decode(all.map((element, i) => (lost.includes(i) ? undefined : element)))
  })
  const sealed = await rate(bytes, rounds, async () => {
    for (const [i, all] of whole.entries()) await sealStripe(code, i, all)
  })
  const all = await rate(bytes, rounds, async () => {
    for (const [i, data] of stripesOf(portion.records.subarray(0, portion.seal()), code).entries()) {
      await sealStripe(code, i, [...data, ...(await code.encode(data))])
    }
  })
  const { stored, repair } = await traffic(code, whole[0] ?? [])
  const name = `${code.name} ${code.data}+${code.parity}`
  return `${name.padEnd(22)}${coded}${decoded}${sealed}${all}${stored.padStart(9)}${repair.padStart(11)}`
}

/** What a stripe takes at partners, and what is read and sent to make one lost shard again, by the bytes of the shard. */
async function traffic(code: Code, elements: readonly Buffer[]): Promise<{ stored: string; repair: string }> {
  const shards = await sealStripe(code, 0, elements)
  const read = shards.slice(1, 1 + code.needed)
  const opened = read.map((shard, i) => openShard(shardOf(code, 0, i + 1, elements[0]?.length), shard))
  const held = elements.map((_, i) => opened[i - 1])
  const [made] = await code.make(held, [0])
  if (!made?.equals(elements[0] ?? Buffer.alloc(0))) throw new Error('the lost shard came back wrong')
  const bytes = (of: readonly Buffer[]): number => of.reduce((sum, shard) => sum + shard.length, 0)
  const again = bytes(read) + shardBytes(elementBytes)
  return {
    stored: `${(bytes(shards) / (code.data * elementBytes)).toFixed(3)}x`,
    repair: `${(again / shardBytes(elementBytes)).toFixed(1)}x`,
  }
}

export async function benchSeal(
  { megabytes, rounds }: SealScale,
  say: (line: string) => void,
): Promise<void> {
  const portion = new Portion(megabytes * 1024 * 1024)
  say(`seal: MB/s of a core, of ${megabytes} MiB of incompressible bytes; chunks of 128 KiB, elements of 512`)
  const inner = await rate(portion.data.length, rounds, async () => portion.seal())
  say(`key, compress, encrypt, name${inner} MB/s`)
  say('')
  say(`${''.padEnd(22)}  encode  decode    seal     all   stored     repair`)
  for (const code of codes) say(await benchCode(portion, code, rounds))
  say('')
  say(
    'encode, decode: coding alone, decode without as many data elements as may be lost; seal: the outer seal and the',
  )
  say(
    'names of all shards; all: from the bytes of the file to named shards. stored: at partners, by the bytes of the',
  )
  say(
    'file. repair: read from others and sent for one lost shard, where the owner has lost its own blocks, by its bytes.',
  )
}
