/**
 * How much of the time too few of a stripe's elements are within reach, against the closed form: nodes that neither fail nor are
 * replaced, looked at in random instants of the years, each time another set of them. There the closed form applies: all are within
 * reach with the same chance, and nothing that happens to one happens to another.
 */
import { seeded } from '../lib/base/random.js'
import { type Shape, unreachable } from '../lib/planning/placement.js'
import { fraction } from './blocks.js'
import { dayMs, Node, yearMs } from './lives.js'

/** Until it does not matter any more that all began on the same day. */
const warmUpMs = 200 * dayMs

export interface InstantsOptions {
  readonly shapes: readonly Shape[]
  readonly availability: number
  readonly seed: number
  readonly nodes: number
  readonly looks: number
}

export interface InstantsResult {
  readonly shape: Shape
  /** of the looks, those with too few; and what the closed form says */
  readonly share: number
  readonly expected: number
  /** 95 % of such experiments have what is true between these (Wilson) */
  readonly low: number
  readonly high: number
}

export function simulateInstants(options: InstantsOptions): InstantsResult[] {
  const { shapes, availability, seed, nodes, looks } = options
  const forMs = 10 * yearMs
  const lives = { forMs, seed, failures: 0, availability, sites: 1, disasters: 0 }
  const all = Array.from({ length: nodes }, (_, n) => new Node(n, 0, 0, lives, Infinity))
  const random = seeded(seed + 13)
  const times = Array.from({ length: looks }, () => warmUpMs + fraction(random) * (forMs - warmUpMs))
  times.sort((a, b) => a - b)
  const few = shapes.map(() => 0)
  for (const now of times)
    for (const [i, { data, parity }] of shapes.entries()) {
      const drawn = new Set<number>()
      while (drawn.size < data + parity) drawn.add(Math.floor(fraction(random) * nodes))
      let online = 0
      for (const n of drawn) if (all[n]?.isOnline(now)) online++
      if (online < data) few[i] = (few[i] ?? 0) + 1
    }
  return shapes.map((shape, i) => {
    const { data, parity } = shape
    const expected = unreachable(Array<number>(data + parity).fill(availability), data)
    const share = (few[i] ?? 0) / looks
    return { shape, share, expected, ...wilson(share, looks) }
  })
}

/** The 95 % interval of a share that was seen in so many looks. */
function wilson(share: number, looks: number): { low: number; high: number } {
  const z = 1.96
  const middle = (share + z ** 2 / (2 * looks)) / (1 + z ** 2 / looks)
  const half =
    (z / (1 + z ** 2 / looks)) * Math.sqrt((share * (1 - share)) / looks + z ** 2 / (4 * looks ** 2))
  return { low: Math.max(0, middle - half), high: Math.min(1, middle + half) }
}

export function isInside({ expected, low, high }: InstantsResult): boolean {
  // A share of 0 has 0 as its lower end, up to rounding.
  return expected >= low - 1e-12 && expected <= high
}
