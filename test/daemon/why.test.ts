import t from 'tap'
import { candidateOf, presenceWhy, swapWhy } from '../../lib/daemon/why.js'
import { parseWeek } from '../../lib/format/week.js'
import { seen, unseen } from '../../lib/planning/hours.js'
import type { PactInfo } from '../../lib/partners/agreements.js'
import type { PartnerInfo } from '../../lib/partners/partners.js'

const dayMs = 86_400_000
const now = 1000 * dayMs
const side = {
  holds: 5000,
  hours: parseWeek('mon-sun 8-18'),
  bandwidth: 1000,
  audit: 1,
  grace: 1,
  commitment: 0,
  notice: 1,
}

function partner(more: Partial<PartnerInfo> = {}): PartnerInfo {
  const agreement: PactInfo = {
    standing: 'active',
    number: 1,
    made: 0,
    until: null,
    ours: side,
    theirs: side,
    ended: null,
    noticeLeftMs: null,
  }
  return {
    id: 'ab',
    name: 'anna',
    online: true,
    circles: [],
    since: now - 40 * dayMs,
    lastSeen: now,
    bytesHeld: 300,
    bytesPending: 100,
    bytesHeldForIt: 0,
    lastProof: null,
    distance: 'near',
    roundTrip: 3,
    trouble: [],
    state: {
      name: 'good',
      since: now - 40 * dayMs,
      graceLeftMs: null,
      awayUntil: null,
      committedUntil: null,
      record: { kept: 0, reneged: 0, days: 40 },
    },
    agreement,
    ...more,
  }
}

t.test('what is known of a partner is what selection is told', (t) => {
  const found = candidateOf(partner())
  t.match(found, {
    placed: 0.75,
    distance: 'near',
    roundTrip: 3,
    space: 5000,
    bandwidth: 1000,
    invited: false,
  })
  t.same(found.record, { kept: 1, reneged: 0, days: 40 })
  t.equal(
    found.hours?.reduce((sum, hour) => sum + hour, 0),
    70,
    'the hours of the agreement',
  )
  t.same(candidateOf(partner({ circles: ['friends'] })).invited, true)
  t.same(candidateOf(partner({ trouble: ['lost 3 blocks'] })).record.kept, 0, 'nothing counts as kept then')
  const bare = candidateOf(partner({ agreement: null, bytesHeld: 0, bytesPending: 0 }))
  const broken = partner({
    state: { ...partner().state, name: 'reneged', record: { kept: 2, reneged: 1, days: 3 } },
  })
  t.same(candidateOf(broken).record, { kept: 2, reneged: 1, days: 3 })
  t.match(bare, { space: 0, hours: null, bandwidth: null, record: { kept: 0 } })
  t.notOk('placed' in bare)
  const silent = { ...side, hours: Buffer.alloc(21), bandwidth: 0 }
  const pact = partner().agreement
  t.match(candidateOf(partner({ agreement: pact && { ...pact, theirs: silent } })), {
    hours: null,
    bandwidth: null,
  })
  t.end()
})

t.test('hours that were seen count for more than those that were promised', (t) => {
  let half = unseen
  for (let hour = 0; hour < 14 * 24; hour++)
    half = seen(half, now + hour * 3_600_000, 3_600_000, hour % 2 === 0)
  const { hours } = candidateOf(partner(), half)
  const daily = (hours ?? []).reduce((sum, hour) => sum + hour, 0) / 7
  t.ok(Math.abs(daily - 12) < 0.1, `on line ${daily} h a day, whatever was promised`)
  const promised = Array.from({ length: 168 }, (_, hour) => (hour % 24 >= 8 && hour % 24 < 18 ? 1 : 0))
  t.same(presenceWhy(half, promised), ['was there in 50 % of the time that it promised'])
  t.match(presenceWhy(half, null), [/as they were seen/])
  t.match(presenceWhy(unseen, promised), [/as promised/])
  t.same(presenceWhy(unseen, null), [])
  t.end()
})

t.test('an exchange is told of both', (t) => {
  const names = new Map([
    ['aa', 'anna'],
    ['bb', ''],
  ])
  const swap = { stage: 'filling' as const, begun: now, from: 'aa', to: 'bb', why: ['near', 'far'] }
  t.same(swapWhy('aa', swap, names), ['gives way to bb, once that one holds everything and was tried'])
  t.same(swapWhy('bb', swap, names), [
    'is to take the place of anna (near; far): it is filled and tried first',
  ])
  const moving = { ...swap, stage: 'moving' as const }
  t.match(swapWhy('aa', moving, names), [
    'gives way to bb: what only this one has of your data goes to others first',
  ])
  t.match(swapWhy('bb', moving, names), [/was tried$/])
  t.same(swapWhy('cc', swap, names), [])
  t.same(swapWhy('aa', null, names), [])
  t.end()
})
