/**
 * `npm run bench -- seal`: what a core does of the way from a file's bytes to the shards of partners: key, compress and
 * encrypt, lay out as a stripe, code, seal for each partner, name. Rates are bytes of the file by seconds of the processor, over
 * all threads, so that work off the event loop counts. Incompressible bytes: nothing gets smaller on the way.
 */
import { keepMemory } from '../lib/base/posix.js'
import { seeded } from '../lib/base/random.js'
import { codeFor } from '../lib/codes/codes.js'
import type { Code } from '../lib/codes/types.js'
import { hash, hashBytes } from '../lib/format/hash.js'
import { deriveIdentity, partnershipKey } from '../lib/format/keys.js'
import { Writer } from '../lib/format/bytes.js'
import { recordOverhead } from '../lib/format/seal.js'
import { elementBytesFor } from '../lib/format/stripe.js'
import { openShard, sealShards, shardBytes, type ShardRef } from '../lib/format/shard.js'
import { askBytes, packRowBytes, rowBytes } from '../lib/store/seal-messages.js'
import { Portion } from '../lib/store/portion.js'
import { median } from './measure.js'

export interface SealScale {
  megabytes: number
  rounds: number
}

const chunkBytes = 128 * 1024
/** Of a small file: sixteen share a pack. */
const fileBytes = 16 * 1024
/** What is told with the extent of a small file, whatever it is. */
const head = Buffer.alloc(4)
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

/** What a worker thread of the store does with the bytes of files, 4 MiB after 4 MiB, but for reading and cutting. */
class Intake {
  readonly data: Buffer
  /** All of it, sealed, as segments have it. */
  readonly records: Buffer
  private readonly portion = new Portion(secret)

  /** @param smallBytes of each portion so many are small files, behind the chunks of large ones */
  constructor(
    bytes: number,
    private readonly smallBytes: number,
  ) {
    const random = seeded(1)
    const each = this.portion.memory.length
    this.data = Buffer.alloc(Math.ceil(bytes / each) * each)
    for (let i = 0; i < this.data.length; i += 4) this.data.writeUInt32LE(random(), i)
    this.records = Buffer.alloc(this.data.length + (this.data.length / fileBytes) * recordOverhead)
  }

  /**
   * Keys, packs, compression, encryption, names, references and rows of the index (lib/store/portion.ts).
   * @returns the bytes of the records
   */
  async seal(): Promise<number> {
    const { data, portion, records } = this
    let sealed = 0
    const exchange = {
      // Nothing is known.
      ask: (ids: Buffer) =>
        Promise.resolve(Buffer.alloc((ids.length / askBytes) * (rowBytes + packRowBytes))),
      send: (count: number, blocks: Buffer) => {
        sealed += blocks.copy(records, sealed, count * hashBytes)
      },
      settleFile: () => undefined,
    }
    for (let from = 0; from < data.length; from += portion.memory.length) {
      portion.used = data.copy(portion.memory, 0, from)
      this.add()
      await portion.flush(secret, exchange)
    }
    return sealed
  }

  private add(): void {
    const { portion, smallBytes } = this
    const references = new Writer()
    const small = portion.used - smallBytes
    for (let at = 0; at < small; at += chunkBytes) portion.add(at, at + chunkBytes, references)
    for (let at = small; at < portion.used; at += fileBytes) portion.addFile(at, at + fileBytes, head, head)
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

async function benchCode(intake: Intake, code: Code, rounds: number): Promise<string> {
  const bytes = intake.data.length
  const stripes = stripesOf(intake.records.subarray(0, await intake.seal()), code)
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
    for (const [i, data] of stripesOf(intake.records.subarray(0, await intake.seal()), code).entries()) {
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
  // As kithd does.
  keepMemory()
  const bytes = megabytes * 1024 * 1024
  say(`seal: MB/s of a core, of ${megabytes} MiB of incompressible bytes; chunks of 128 KiB, elements of 512`)
  say('key, pack, compress, encrypt, name, refer to:')
  const portionBytes = 4 * 2 ** 20
  const half = new Intake(bytes, portionBytes / 2)
  for (const [what, intake] of [
    ['chunks', new Intake(bytes, 0)],
    ['files of 16 KiB, in packs', new Intake(bytes, portionBytes)],
    ['half of each', half],
  ] as const)
    say(`${what.padEnd(28)}${await rate(intake.data.length, rounds, () => intake.seal())}`)
  say('')
  say(`${''.padEnd(22)}  encode  decode    seal     all   stored     repair`)
  for (const code of codes) say(await benchCode(half, code, rounds))
  say('')
  say(
    'encode, decode: coding alone, decode without as many data elements as may be lost; seal: the outer seal and the',
  )
  say(
    'names of all shards; all: from the bytes of files, half of them in packs, to named shards. stored: at partners, by',
  )
  say(
    'the bytes of the files. repair: read from others and sent for one lost shard, where the owner has lost its own blocks, by its bytes.',
  )
}
