import t from 'tap'
import { verdictOn } from '../../lib/planning/reclaim.js'

const dayMs = 86_400_000
const terms = { grace: 30 * 86_400, notice: 10 * 86_400, leastMs: 0 }

t.test('kept through the grace, warned of through the notice, then expired; friends are kept longer', (t) => {
  const kinds = (leastMs: number) =>
    [0, 29, 30, 39, 40, 364, 365].map((days) => verdictOn({ ...terms, leastMs, silentMs: days * dayMs }).kind)
  t.same(kinds(0), ['kept', 'kept', 'warned', 'warned', 'expired', 'expired', 'expired'])
  t.same(kinds(365 * dayMs), ['kept', 'kept', 'warned', 'warned', 'warned', 'warned', 'expired'])
  t.same(verdictOn({ ...terms, silentMs: 31 * dayMs }), { kind: 'warned', leftMs: 9 * dayMs })
  t.end()
})

t.test('while others of its partners see it, it is kept, but for no more than another term', (t) => {
  const kind = (days: number, elsewhere: number) =>
    verdictOn({ ...terms, silentMs: days * dayMs, elsewhereMs: elsewhere * dayMs }).kind
  t.same([kind(41, 0), kind(41, 39), kind(41, 40), kind(41, 41)], ['warned', 'warned', 'expired', 'expired'])
  t.same([kind(79, 0), kind(80, 0)], ['warned', 'expired'], 'their word alone does not keep it for ever')
  t.equal(kind(10, 0), 'kept')
  t.equal(kind(35, 100), 'warned', 'it brings nothing forward')
  t.end()
})
