import t from 'tap'
import { seeded } from '../../lib/base/random.js'
import {
  mayChoose,
  meetingPlaces,
  metInRound,
  nextRoundMs,
  placesOfNode,
  whomToMeet,
} from '../../lib/planning/search.js'
import { sketchOf } from '../../lib/planning/sketch.js'
import { blockNameOf } from '../../simulate/blocks.js'

const key = Buffer.alloc(32, 5)
const blocks = (source: number, count: number) =>
  Array.from({ length: count }, (_, i) => ({ name: blockNameOf(source, i), bytes: 50_000 + i }))

t.test('nodes with blocks in common meet, and others do not', (t) => {
  let met = 0
  for (let n = 0; n < 80; n++) {
    // Half of what either has is in common.
    const common = blocks(3 * n, 400)
    const [one, other] = [1, 2].map((i) =>
      meetingPlaces(sketchOf([...common, ...blocks(3 * n + i, 200)], key)),
    )
    t.equal(one?.length, placesOfNode)
    if (one?.some((place) => other?.includes(place))) met++
    const stranger = meetingPlaces(sketchOf(blocks(3 * n + 1000, 600), key))
    if (one?.some((place) => stranger.includes(place))) t.fail('strangers met')
  }
  t.ok(met > 68, `${met} of 80 pairs met; 15 of 16 are expected`)
  t.same(meetingPlaces(sketchOf([], key)), [])
  t.equal(meetingPlaces(sketchOf(blocks(1, 1), key)).length, 1)
  const common = sketchOf(blocks(1, 300), Buffer.alloc(32, 6))
  t.notOk(meetingPlaces(common).some((place) => meetingPlaces(sketchOf(blocks(1, 300), key)).includes(place)))
  t.end()
})

t.test('who was found at most places is met first, and some are by chance', (t) => {
  const found = new Map(Array.from({ length: 50 }, (_, n) => [n, n < 6 ? 3 : n % 2]))
  const met = whomToMeet(found, seeded(2))
  t.equal(met.length, metInRound)
  t.equal(new Set(met).size, metInRound)
  t.same(met.slice(0, 6).sort(), [0, 1, 2, 3, 4, 5])
  t.same(whomToMeet(new Map([['a', 1]]), seeded(2)), ['a'])
  t.same(whomToMeet(new Map(), seeded(2)), [])
  t.end()
})

t.test('rounds become rarer, and rare once all is well', (t) => {
  const wait = (rounds: number, vain: number, lacking: number) => nextRoundMs({ rounds, vain, lacking }, 0.5)
  t.same(
    [0, 1, 2].map((rounds) => wait(rounds, 0, 5)),
    [2000, 4000, 8000],
  )
  t.equal(wait(1000, 1000, 1), 10 * 60_000)
  t.equal(wait(3, 20, 0), 24 * 3_600_000)
  t.ok(wait(3, 0, 0) < 60_000, 'a set that just got better may get better still')
  t.ok(
    nextRoundMs({ rounds: 0, vain: 0, lacking: 1 }, 0) < nextRoundMs({ rounds: 0, vain: 0, lacking: 1 }, 1),
  )
  t.notOk(mayChoose({ rounds: 1 }, 100))
  t.ok(mayChoose({ rounds: 1 }, 3), 'where there are few')
  t.ok(mayChoose({ rounds: 5 }, 100), 'or after some rounds')
  t.end()
})
