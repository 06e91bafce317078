import t from 'tap'
import { gini, simulateMatching } from '../../simulate/matching.js'
import { linePlot } from '../../simulate/plot.js'
import { ModelPool } from '../../simulate/pool.js'
import { seeded } from '../../lib/base/random.js'

const hourMs = 3_600_000
const scaledDown = {
  nodes: 200,
  images: 4,
  applications: 15,
  seed: 3,
  joinMs: 4 * hourMs,
  leavesADay: 0.05,
  forMs: 8 * hourMs,
  byChance: false,
}

t.test('nodes find good partners, soon, and none of them carries it all', (t) => {
  const found = simulateMatching(scaledDown)
  t.ok(found.withOne > 0.85, `${found.withOne} have at least one good partner`)
  t.ok(found.withFive > 0.72, `${found.withFive} have at least five`)
  t.ok(found.fullMs.ninetyFifth < 10 * 60_000, `a full set within ${found.fullMs.ninetyFifth} ms`)
  t.ok(found.fullMs.never < 0.01)
  t.ok(found.gini < 0.3, `load is spread: ${found.gini}`)
  t.ok((found.loads.at(-1) ?? 0) <= 12, 'nobody takes in more than it would')
  t.ok(found.searchMessages < 20_000, `${found.searchMessages} messages`)

  const byChance = simulateMatching({ ...scaledDown, nodes: 40, forMs: 4 * hourMs, byChance: true })
  const meeting = simulateMatching({ ...scaledDown, nodes: 40, forMs: 4 * hourMs })
  t.same(
    simulateMatching({ ...scaledDown, nodes: 40, forMs: 4 * hourMs }),
    meeting,
    'the same from the same seed',
  )
  t.notSame(byChance, meeting)
  t.end()
})

t.test('the modelled pool answers as a DHT does, with a few of many', (t) => {
  const pool = new ModelPool(seeded(1))
  for (let node = 0; node < 10; node++) pool.announce('few', node)
  for (let node = 0; node < 5000; node++) pool.announce('many', node)
  pool.announce('few', 3)
  pool.withdraw('few', 0)
  pool.withdraw('few', 77)
  t.same([...pool.lookup('few')].sort(), [1, 2, 3, 4, 5, 6, 7, 8, 9])
  const seen = pool.lookup('many').size
  t.ok(seen > 300 && seen <= 400, `${seen} of 5000`)
  t.equal(pool.lookup('none').size, 0)
  t.end()
})

t.test('how unevenly something is spread', (t) => {
  t.equal(gini([3, 3, 3]), 0)
  t.equal(gini([0, 0, 0, 8]), 0.75)
  t.equal(gini([0, 0]), 0)
  t.end()
})

t.test('a plot is whole SVG', (t) => {
  const text = linePlot([
    {
      title: 'T',
      across: 'x',
      series: [
        {
          name: 'one',
          points: [
            [0, 0],
            [10, 100],
          ],
        },
      ],
    },
  ])
  t.match(text, /^<svg [^>]*>[^]*<\/svg>\n$/)
  t.match(text, /points="48.0,232.0 592.0,48.0"/)
  t.end()
})
