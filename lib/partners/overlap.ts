/**
 * What two nodes have in common, before they are partners: our sketch for candidates (format/sketch.ts), our answers to theirs,
 * and the proof of what they claim. A claim is free, so it counts only after the candidate has shown parts of blocks that it
 * cannot have without the blocks.
 *
 * In the open pool everybody knows the key of the sketches; a name in them is that of a sealed block, under keys of its owner's.
 */
import type { Clock } from '../base/clock.js'
import { sleep } from '../base/clock.js'
import { KithError } from '../base/errors.js'
import { randomBytes } from '../base/random.js'
import { hash } from '../format/hash.js'
import { decodeSketch, encodeSketch, sketchEntry, type Sketch } from '../format/sketch.js'
import { maxRangeBytes, rangeProof } from '../format/wire-pool.js'
import { answerTo, detailEntries, isAnswer, isHeld, Sampler } from '../planning/sketch.js'
import type { OwnedBlocks, Peer } from './types.js'

/** Blocks that a candidate shows; who has half of what it claims is found out with 1 - 2^-16. */
export const probedBlocks = 16
/** A sketch is made anew after so long; in between, questions cost nothing. */
const freshMs = 10 * 60_000
const page = 1000
const poolKey = hash('kith open pool sketch')

interface Listed {
  since(sequence: number, limit: number): { sequence: number; name: Buffer; bytes: number }[]
}

export class Overlap {
  private made: { own: Promise<Sketch>; vault: Promise<Sketch>; at: number } | undefined

  constructor(
    private readonly own: Pick<OwnedBlocks, 'since' | 'get'>,
    private readonly vault: Listed,
    private readonly clock: Clock,
  ) {}

  /** Of our own blocks, as it is sent to candidates. */
  sketch(): Promise<Sketch> {
    return this.sketches().own
  }

  /** Of what we hold for others, in detail. */
  vaultSketch(): Promise<Sketch> {
    return this.sketches().vault
  }

  /** The answer to a candidate's sketch, by what we hold for others. @throws KithError protocol */
  async answer(sketch: Buffer): Promise<Buffer> {
    if (sketch.length === 0) return Buffer.alloc(0)
    try {
      return answerTo(decodeSketch(sketch), await this.sketches().vault)
    } catch (error) {
      if (!(error instanceof KithError) || error.code !== 'damaged') throw error
      throw new KithError('protocol', `the partner broke the protocol: ${error.message}`)
    }
  }

  /**
   * Whether a candidate has what its answer claims.
   * @returns 0..1: how far its answer is to be believed
   */
  async prove(peer: Peer, sketch: Sketch, holds: Buffer): Promise<number> {
    if (!isAnswer(sketch, holds)) return 0
    const claimed = new Set(sketch.entries.filter((_, i) => isHeld(holds, i)))
    if (claimed.size === 0) return 1
    const blocks: { name: Buffer; bytes: Buffer }[] = []
    for (const name of await this.namesOf(claimed)) {
      const bytes = await this.own.get(name)
      if (bytes) blocks.push({ name, bytes })
    }
    return (await proven(peer, blocks)).every(Boolean) ? 1 : 0
  }

  private sketches(): { own: Promise<Sketch>; vault: Promise<Sketch> } {
    const now = this.clock.monotonic()
    if (this.made && now - this.made.at < freshMs) return this.made
    const own = this.sample(this.own, new Sampler(poolKey))
    const vault = this.sample(this.vault, new Sampler(poolKey, detailEntries))
    this.made = { own, vault, at: now }
    return this.made
  }

  private async sample(blocks: Listed, sampler: Sampler): Promise<Sketch> {
    await this.each(blocks, (name, bytes) => sampler.add(name, bytes))
    return sampler.sketch()
  }

  /** Names of our blocks with these entries: some of them, by chance. */
  private async namesOf(entries: ReadonlySet<number>): Promise<Buffer[]> {
    const names: Buffer[] = []
    await this.each(this.own, (name, bytes) => {
      if (entries.has(sketchEntry(poolKey, name, bytes))) names.push(Buffer.from(name))
    })
    return shuffled(names).slice(0, probedBlocks)
  }

  /** Page by page, so that nobody waits for the whole. */
  private async each(blocks: Listed, take: (name: Buffer, bytes: number) => void): Promise<void> {
    let rows = blocks.since(0, page)
    for (; rows.length > 0; rows = blocks.since(rows.at(-1)?.sequence ?? Infinity, page)) {
      for (const { name, bytes } of rows) take(name, bytes)
      await sleep(this.clock, 0)
    }
  }
}

export function encodedSketch(sketch: Sketch): Buffer {
  return sketch.blocks === 0 ? Buffer.alloc(0) : encodeSketch(sketch)
}

/**
 * Has a peer prove that it holds these blocks: of each a random part, under a nonce of this one question.
 * @param blocks at most `maxProbed`, as we have them
 * @returns for each whether it was proven
 */
export async function proven(
  peer: Peer,
  blocks: readonly { name: Buffer; bytes: Buffer }[],
): Promise<boolean[]> {
  if (blocks.length === 0) return []
  const nonce = randomBytes(32)
  const ranges = blocks.map(({ name, bytes }) => ({ name, ...randomPart(bytes.length) }))
  const { proofs } = await peer.request('probe', { nonce, ranges })
  return blocks.map(({ bytes }, i) => {
    const range = ranges[i]
    return range !== undefined && (proofs[i]?.equals(rangeProof(nonce, peer.key, range, bytes)) ?? false)
  })
}

function randomPart(bytes: number): { offset: number; length: number } {
  const length = Math.min(bytes, maxRangeBytes)
  return { offset: randomBytes(4).readUInt32LE(0) % (bytes - length + 1), length }
}

export function shuffled<T>(items: readonly T[]): T[] {
  return items
    .map((item) => ({ item, rank: randomBytes(6).readUIntLE(0, 6) }))
    .sort((a, b) => a.rank - b.rank)
    .map(({ item }) => item)
}
