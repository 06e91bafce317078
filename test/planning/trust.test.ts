import t from 'tap'
import { entrusted, isNewcomer, reliability, withHeard } from '../../lib/planning/trust.js'
import type { Candidate, Heard } from '../../lib/planning/types.js'

const nothing = { kept: 0, reneged: 0, days: 0 }
const heard = (some: Partial<Heard>): Heard => ({ kept: 1, reneged: 0, days: 100, knownDays: 200, ...some })
const stranger = (record: Candidate['record']): Candidate => ({
  ...{ id: 'a', invited: false, holds: null, belief: 1, distance: 'far', roundTrip: null, prefix: null },
  ...{ region: null, system: null, architecture: null, circles: [], hours: null, bandwidth: null },
  ...{ space: 2 ** 40, record },
})

t.test('who is vouched for is no newcomer, and is entrusted with more', (t) => {
  const known = withHeard(nothing, [heard({ days: 60 })])
  t.same(known, { kept: 1, reneged: 0, days: 60 })
  t.ok(isNewcomer(stranger(nothing)))
  t.notOk(isNewcomer(stranger(known)))
  t.ok(reliability(known) > reliability(nothing))
  const policy = { newcomerBytes: 2 ** 30 }
  t.equal(entrusted(stranger(known), policy), 2 ** 34)
  t.end()
})

t.test('a word counts for one agreement and for no more days than its giver is known', (t) => {
  const much = withHeard(nothing, [heard({ kept: 60_000, days: 9_000, knownDays: 20 })])
  t.same(much, { kept: 1, reneged: 0, days: 20 })
  const seen = { kept: 2, reneged: 1, days: 400 }
  t.same(withHeard(seen, [heard({})]), { kept: 3, reneged: 1, days: 400 })
  t.same(withHeard(seen, []), seen)
  t.end()
})

t.test('who says that agreements were broken is believed that, and praises nothing by it', (t) => {
  t.same(withHeard(nothing, [heard({ kept: 5, reneged: 2 })]), { kept: 0, reneged: 1, days: 0 })
  t.same(withHeard(nothing, [heard({ kept: 0 })]), nothing, 'one that was not kept yet is none')
  t.end()
})
