/**
 * Making and comparing overlap sketches (layout: format/sketch.ts).
 *
 * A sketch of 2 KB travels; the node that answers it compares it with a *detailed* one of its own blocks, which it keeps. The
 * estimate is made of the entries below the lower of both bounds, where both samples are complete: an entry there with weight w
 * stands for max(w, 1 / bound) bytes, as it came in with probability min(1, w * bound). The share is a ratio of two such sums,
 * so that it lies in 0..1 whatever the sketches say.
 */
import { assert } from '../base/errors.js'
import {
  boundOf,
  byRank,
  entryRank,
  entryWeight,
  type Sketch,
  sketchEntries,
  sketchEntry,
} from '../format/sketch.js'

/** Entries of a detailed sketch: enough to answer for a node with a 390th of our bytes as well as for one of our size. */
export const detailEntries = 2 ** 17

/** Half of the width of a 95 % interval, in standard errors. */
const sigmas = 1.96
/** Of the sizes within a class about the one that stands for them, as a part of it: they are up to 1/16 off, evenly. */
const classSpread = 1 / 16 / Math.sqrt(3)
/** rank is (tag + 1) / weight with tags below this */
const tags = 2 ** 40

export interface Overlap {
  /** 0..1 of the bytes of the first that the second has, too */
  readonly share: number
  /** The true share is within this of it in 95 of 100 cases. */
  readonly error: number
  /** share as bytes */
  readonly bytes: number
}

/** Takes in blocks, one by one or in portions, and keeps those of the lowest rank. */
export class Sampler {
  private kept: number[] = []
  private bound = Infinity
  private bytes = 0
  private blocks = 0

  /** @param key 32 bytes, of the circle or pool */
  constructor(
    private readonly key: Buffer,
    private readonly limit: number = sketchEntries,
  ) {}

  /** Each block once. @param bytes sealed */
  add(name: Buffer, bytes: number): void {
    this.bytes += bytes
    this.blocks++
    const entry = sketchEntry(this.key, name, bytes)
    if (entryRank(entry) > this.bound) return
    this.kept.push(entry)
    if (this.kept.length >= 2 * this.limit + 64) this.cut()
  }

  sketch(): Sketch {
    this.cut()
    const entries = this.kept.slice()
    return { bytes: this.bytes, blocks: this.blocks, entries, bound: boundOf(entries, this.limit) }
  }

  private cut(): void {
    this.kept = lowest(this.kept, this.limit)
    this.bound = boundOf(this.kept, this.limit)
  }
}

export function sketchOf(
  blocks: Iterable<{ name: Buffer; bytes: number }>,
  key: Buffer,
  limit: number = sketchEntries,
): Sketch {
  const sampler = new Sampler(key, limit)
  for (const { name, bytes } of blocks) sampler.add(name, bytes)
  return sampler.sketch()
}

/** A detailed sketch cut down to one that travels. */
export function shortened(sketch: Sketch, limit: number = sketchEntries): Sketch {
  if (sketch.entries.length < limit) return sketch
  const entries = sketch.entries.slice(0, limit)
  return { ...sketch, entries, bound: boundOf(entries, limit) }
}

/** How much of the first the second has. Where both are of the same blocks under different keys, nothing matches. */
export function overlap(of: Sketch, other: Sketch): Overlap {
  const has = new Set(other.entries)
  return estimate(of, Math.min(of.bound, other.bound), (entry) => (has.has(entry) ? 1 : 0))
}

/** The same from an answer, of one who compared all entries. */
export function answered(sketch: Sketch, answer: Buffer): Overlap {
  return estimate(sketch, sketch.bound, (_, i) => (isHeld(answer, i) ? 1 : 0))
}

/** 0..1 of the sketch's bytes for which the entry's `held` (0..1) speaks, with its error. */
export function estimate(
  sketch: Sketch,
  bound: number,
  held: (entry: number, index: number) => number,
): Overlap {
  let [all, shared, spread, rounding] = [0, 0, 0, 0]
  let count = 0
  for (const [i, entry] of sketch.entries.entries()) {
    if (entryRank(entry) >= bound) break
    const { stands, chance } = standing(entry, bound)
    all += stands
    shared += stands * held(entry, i)
    spread += (1 - chance) * stands * stands
    rounding += (classSpread * stands) ** 2
    count++
  }
  if (count === 0) return unknown(sketch)
  const share = Math.min(1, shared / all)
  // Of few samples that all agree, nothing certain follows: as if two more had been seen of either kind.
  const smoothed = (share * count + 2) / (count + 4)
  const variance = smoothed * (1 - smoothed) * spread + share * (1 - share) * rounding
  const error = Math.min(1, (sigmas * Math.sqrt(variance)) / all)
  return { share, error, bytes: Math.min(sketch.bytes, Math.round(share * sketch.bytes)) }
}

/** Bytes that an entry stands for in a sample below the bound, and the chance with which it came in. */
export function standing(entry: number, bound: number): { stands: number; chance: number } {
  const weight = entryWeight(entry)
  const chance = Math.min(1, (weight * bound) / tags)
  return { stands: weight / chance, chance }
}

/** The answer to a sketch by one with these blocks. Beyond the bound of `mine` it says no: it does not know. */
export function answerTo(sketch: Sketch, mine: Sketch): Buffer {
  const has = new Set(mine.entries)
  const answer = Buffer.alloc((sketch.entries.length + 7) >> 3)
  for (const [i, entry] of sketch.entries.entries())
    if (has.has(entry)) answer[i >> 3] = (answer[i >> 3] ?? 0) | (1 << (i & 7))
  return answer
}

export function isHeld(answer: Buffer, index: number): boolean {
  return (((answer[index >> 3] ?? 0) >> (index & 7)) & 1) === 1
}

/** Whether bytes from outside can be an answer to the sketch. */
export function isAnswer(sketch: Sketch, answer: Buffer): boolean {
  const count = sketch.entries.length
  if (answer.length !== (count + 7) >> 3) return false
  return count % 8 === 0 || (answer.at(-1) ?? 0) >> (count % 8) === 0
}

/** The sketch of the blocks that one or both have; what both have is estimated for the totals. */
export function merged(one: Sketch, other: Sketch, limit: number = sketchEntries): Sketch {
  const bound = Math.min(one.bound, other.bound)
  const union = [...new Set([...one.entries, ...other.entries])].filter((entry) => entryRank(entry) <= bound)
  const entries = lowest(union, limit)
  const twice = overlap(one, other).share
  const totals = (kind: 'bytes' | 'blocks') => {
    const least = Math.max(one[kind], other[kind])
    return Math.max(least, Math.round(one[kind] + other[kind] - twice * one[kind]))
  }
  const isWhole = entries.length < limit && bound === Infinity
  const last = entries.at(-1)
  assert(isWhole || last !== undefined, 'a bound is that of an entry')
  const cut = entries.length === limit ? entryRank(last ?? 0) : bound
  return { bytes: totals('bytes'), blocks: totals('blocks'), entries, bound: isWhole ? Infinity : cut }
}

function lowest(entries: readonly number[], limit: number): number[] {
  return [...new Set(entries)].sort(byRank).slice(0, limit)
}

function unknown(sketch: Sketch): Overlap {
  return sketch.blocks === 0 ? { share: 0, error: 0, bytes: 0 } : { share: 0, error: 1, bytes: 0 }
}
