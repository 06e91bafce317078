import t from 'tap'
import { seeded } from '../../lib/base/random.js'
import { drawnWindows, maxBits, spreadOver } from '../../lib/format/coin.js'
import { seededBytes } from '../helpers/bytes.js'
import { cheatedFlips, evenness } from '../helpers/coin-flips.js'
import { some } from '../helpers/stripes.js'

t.test('100,000 flips are even, whichever side is biased or breaks off', (t) => {
  const { counts, second, skewed } = cheatedFlips(seeded(62), 100_000)
  for (const [sides, windows] of counts) {
    t.ok(evenness(windows) > 0.01, `${sides}: p = ${evenness(windows).toFixed(3)}`)
  }
  t.equal(second, 0, 'no other commitment is taken before the first is revealed')
  t.ok(evenness(skewed) < 0.001, 'one that may try again now and then is seen by this test')
  t.end()
})

/** Blocks of an owner, by the windows of one spread that their names lie in. */
function windowsOf(names: readonly Buffer[], bits: number): Map<number, number[]> {
  const within = new Map<number, number[]>()
  names.forEach((name, i) => {
    const window = name.readUInt32BE(0) >>> (maxBits - bits)
    within.set(window, [...(within.get(window) ?? []), i])
  })
  return within
}

/** In how many of `trials` a partner without these blocks is asked for one of them by the `most` first challenges. */
function caught(random: () => number, count: number, most: number, trials: number, drop: Drop): number {
  const names = Array.from({ length: count }, () => seededBytes(random, 32)).sort(Buffer.compare)
  const spread = spreadOver(count)
  const within = windowsOf(names, spread.bits)
  let found = 0
  for (let trial = 0; trial < trials; trial++) {
    const lost = new Set(drop(random, names))
    let asked = 0
    let isFound = false
    while (asked < most && !isFound) {
      for (const window of drawnWindows(seededBytes(random, 32), seededBytes(random, 32), spread)) {
        for (const i of within.get(window) ?? []) {
          if (asked++ >= most) break
          isFound ||= lost.has(i)
        }
      }
    }
    if (isFound) found++
  }
  return found
}

type Drop = (random: () => number, names: readonly Buffer[]) => number[]

const anyOf =
  (share: number): Drop =>
  (random, names) =>
    some(random, names.length, names.length * share)

/** Those right behind others: where drawing points, not windows, would hit least. */
const crowdedOf =
  (share: number): Drop =>
  (_random, names) => {
    const gap = (i: number): number => (names[i]?.readUInt32BE(0) ?? 0) - (names[i - 1]?.readUInt32BE(0) ?? 0)
    return [...names.keys()].sort((a, b) => gap(a) - gap(b)).slice(0, names.length * share)
  }

for (const [what, drop] of [
  ['any blocks', anyOf],
  ['blocks with narrow gaps before their names', crowdedOf],
] as const) {
  t.test(`who keeps 90 % is caught within 44 challenges, who keeps 99 % within 459: ${what}`, (t) => {
    const random = seeded(63)
    const tenth = caught(random, 500, 44, 10_000, drop(0.1))
    t.ok(tenth >= 9900, `90 %: ${tenth} of 10,000`)
    const hundredth = caught(random, 500, 459, 5000, drop(0.01))
    t.ok(hundredth >= 4950, `99 %: ${hundredth} of 5,000`)
    t.end()
  })
}
