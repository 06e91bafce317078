/** Candidates and worlds of them for the tests of planning: seeded, with true blocks behind the answers. */
import { seeded } from '../../lib/base/random.js'
import { detailEntries, answerTo, sketchOf } from '../../lib/planning/sketch.js'
import type { Candidate, Sketch } from '../../lib/planning/types.js'
import { blockNameOf, blockSize, fraction } from '../../simulate/blocks.js'

const key = Buffer.alloc(32, 3)
const gib = 2 ** 30

/** Somebody who could serve, of whom nothing particular is known. */
export function candidate(id: string, more: Partial<Candidate> = {}): Candidate {
  return {
    id,
    invited: false,
    holds: null,
    belief: 1,
    distance: 'far',
    roundTrip: 80,
    prefix: null,
    region: null,
    system: null,
    architecture: null,
    circles: [],
    hours: null,
    bandwidth: 2_000_000,
    space: 100 * gib,
    record: { kept: 3, reneged: 0, days: 100 },
    ...more,
  }
}

interface Block {
  name: Buffer
  bytes: number
}

export interface World {
  sketch: Sketch
  candidates: Candidate[]
  /** bytes of each of the owner's blocks, and per candidate whether it has it */
  bytes: Float64Array
  has: Uint8Array[]
}

/** An owner with 24 groups of blocks (packages, images), some of each held by the candidates, and private ones. */
export function world(seed: number, count: number): World {
  const random = seeded(seed)
  const blocks: (Block & { group: number })[] = []
  for (let group = 0; group < 24; group++) {
    for (let i = 5 + (random() % 40); i > 0; i--)
      blocks.push({ name: blockNameOf(group, i), bytes: blockSize(random), group })
  }
  const sketch = sketchOf(blocks, key)
  const has: Uint8Array[] = []
  const candidates = Array.from({ length: count }, (_, n) => {
    // Of each group a version of its own: all, half, or nothing, by how much it is like the owner.
    const likeness = fraction(random)
    const versions = Array.from({ length: 24 }, () => (fraction(random) < likeness ? fraction(random) : 0))
    const mine = Uint8Array.from(blocks, ({ group }) => (fraction(random) < (versions[group] ?? 0) ? 1 : 0))
    has.push(mine)
    const held = sketchOf(
      blocks.filter((_, i) => mine[i]),
      key,
      detailEntries,
    )
    const isNear = random() % 5 === 0
    const id = String(n).padStart(4, '0')
    return candidate(id, {
      holds: answerTo(sketch, held),
      distance: isNear ? 'near' : 'far',
      roundTrip: isNear ? 1 : 20 + (random() % 200),
      prefix: `198.51.${random() % (2 * count)}.0/24`,
      region: ['eu', 'us', 'asia'][random() % 3] ?? null,
      system: ['linux', 'freebsd'][random() % 2] ?? null,
      architecture: ['x64', 'arm64'][random() % 2] ?? null,
      hours: hoursFrom(random() % 24, 4 + (random() % 20)),
      bandwidth: 100_000 * (1 + (random() % 100)),
      record: { kept: 1 + (random() % 10), reneged: 0, days: random() % 1000 },
    })
  })
  return { sketch, candidates, bytes: Float64Array.from(blocks, ({ bytes }) => bytes), has }
}

/** On line each day from this hour on (UTC), for so many hours. */
export function hoursFrom(start: number, length: number): number[] {
  return Array.from({ length: 168 }, (_, hour) => (((hour % 24) - start + 24) % 24 < length ? 1 : 0))
}
