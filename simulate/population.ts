/**
 * The nodes of a simulated network, and what they store: images of operating systems in several versions, applications, and data
 * of their own. Popularity falls as 1 / rank, versions change a part of their blocks each, and new ones are used more than old.
 */
import { seeded } from '../lib/base/random.js'
import { boundOf, byRank, sketchEntry, sketchEntries } from '../lib/format/sketch.js'
import { shortened } from '../lib/planning/sketch.js'
import type { Candidate, Hours, Sketch } from '../lib/planning/types.js'
import { blockNameOf, blockSize, fraction } from './blocks.js'

export type Random = () => number

const versions = 8
const imageBlocks = 160
/** of its blocks, those that a version changes */
const changedByVersion = 0.15
const regions = ['eu', 'us-east', 'us-west', 'asia', 'south']
const gib = 2 ** 30
const hourMs = 3_600_000

export interface Node {
  readonly id: string
  readonly joins: number
  /** ms of the simulation; Infinity: stays */
  readonly leaves: number
  /** all blocks of it, and what travels */
  readonly whole: Sketch
  readonly sketch: Sketch
  readonly site: number
  readonly facts: Omit<Candidate, 'holds' | 'distance' | 'roundTrip'>
}

/** Entries by the block's source and index; each is hashed once. */
class Library {
  private readonly known = new Map<number, { entry: number; bytes: number }>()
  private readonly key = Buffer.alloc(32, 11)

  constructor(private readonly random: Random) {}

  block(source: number, index: number): { entry: number; bytes: number } {
    const at = source * 65_536 + index
    let block = this.known.get(at)
    if (!block) {
      const bytes = blockSize(this.random)
      block = { entry: sketchEntry(this.key, blockNameOf(source, index), bytes), bytes }
      this.known.set(at, block)
    }
    return block
  }
}

export interface PopulationOptions {
  nodes: number
  /** images of operating systems, and applications */
  images: number
  applications: number
  seed: number
  /** all nodes join within so long */
  joinMs: number
  /** of the nodes that are there, as many leave in a day */
  leavesADay: number
}

export function population(options: PopulationOptions): Node[] {
  const { nodes, seed, joinMs, leavesADay } = options
  const random = seeded(seed)
  const library = new Library(random)
  return Array.from({ length: nodes }, (_, n) => {
    const joins = joinMs * fraction(random)
    const stays = (-Math.log(1 - fraction(random)) / leavesADay) * 24 * hourMs
    const { whole, system, architecture } = contents(library, options, random, n)
    return {
      id: n.toString(16).padStart(8, '0'),
      joins,
      leaves: joins + stays,
      whole,
      sketch: shortened(whole, sketchEntries),
      // Of some sites several people take part.
      site: random() % (nodes * 3),
      facts: {
        ...circumstances(random, n),
        id: n.toString(16).padStart(8, '0'),
        system,
        architecture,
        invited: false,
        belief: 1,
      },
    }
  })
}

function contents(
  library: Library,
  { images, applications }: PopulationOptions,
  random: Random,
  node: number,
): { whole: Sketch; system: string; architecture: string } {
  const blocks: { entry: number; bytes: number }[] = []
  const image = ranked(random, images)
  const version = versions - 1 - Math.min(versions - 1, Math.floor(-1.6 * Math.log(1 - fraction(random))))
  for (let i = 0; i < imageBlocks; i++)
    blocks.push(library.block(image, i * versions + since(image, i, version)))
  for (let taken = 2 + (random() % 8); taken > 0; taken--) {
    const application = ranked(random, applications)
    const release = random() % 3
    for (let i = 0; i < 8 + (application % 24); i++)
      blocks.push(library.block(1000 + application * 4 + release, i))
  }
  // Own data: as much as a tenth of the rest, or twice as much.
  const own = Math.ceil(blocks.length * Math.exp(-2.3 + 3 * fraction(random)))
  for (let i = 0; i < own; i++) blocks.push(library.block(10_000 + node, i))
  const bytes = blocks.reduce((sum, block) => sum + block.bytes, 0)
  const entries = [...new Set(blocks.map(({ entry }) => entry))].sort(byRank)
  return {
    whole: { bytes, blocks: entries.length, entries, bound: boundOf(entries, Infinity) },
    system: ['linux', 'linux', 'darwin', 'freebsd'][image % 4] ?? 'linux',
    architecture: image % 3 === 0 ? 'arm64' : 'x64',
  }
}

/** The version in which the image's block took the form that it has in `version`: the same in every run. */
function since(image: number, block: number, version: number): number {
  for (let changed = version; changed > 0; changed--)
    if (fraction(seeded(image * 1_000_003 + block * 101 + changed)) < changedByVersion) return changed
  return 0
}

/** 0 to count - 1, the first the most frequent: 1 / rank. */
function ranked(random: Random, count: number): number {
  const all = Math.log(count + 1)
  return Math.min(count - 1, Math.floor(Math.exp(fraction(random) * all)) - 1)
}

function circumstances(random: Random, node: number) {
  const region = random() % regions.length
  const kept = random() % 4
  return {
    prefix: `${node % 211}.${random() % 256}.${random() % 256}.0/24`,
    region: regions[region] ?? null,
    circles: [],
    hours: week(random, region * 5),
    bandwidth: 250_000 * Math.exp(4 * fraction(random)),
    space: gib * (20 + (random() % 200)),
    record: { kept, reneged: 0, days: kept * 60 },
  }
}

/** A third is always on; the others in the day of their zone, more or less long. */
function week(random: Random, zone: number): Hours {
  const length = random() % 3 === 0 ? 24 : 6 + (random() % 14)
  const start = (zone + 7 + (random() % 6)) % 24
  return Array.from({ length: 168 }, (_, hour) => (((hour % 24) - start + 24) % 24 < length ? 0.95 : 0.02))
}

/** On line as by its hours; the same answer for the whole hour. */
export function isOnline(node: Node, now: number): boolean {
  if (now < node.joins || now >= node.leaves) return false
  const hour = Math.floor(now / hourMs)
  const surely = node.facts.hours?.[hour % 168] ?? 0
  return fraction(seeded(Number.parseInt(node.id, 16) * 4099 + hour)) < surely
}
