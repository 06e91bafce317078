import t from 'tap'
import { seeded } from '../../lib/base/random.js'
import {
  hasRules,
  planRetention,
  wallClock,
  type Retained,
  type RetentionPolicy,
} from '../../lib/store/retention.js'

const hour = 3_600_000
const day = 24 * hour
const utc = wallClock('UTC')
const at = (text: string) => Date.parse(text)

function plain(time: number, marks: Partial<Retained> = {}): Retained {
  return { time, pinned: false, tags: [], ...marks }
}

function kept(times: readonly string[], policy: RetentionPolicy, wallTime = utc): string[] {
  const snapshots = times.map((text) => plain(at(text)))
  const decisions = planRetention(snapshots, policy, wallTime)
  return times.filter((_, i) => decisions[i]?.keep)
}

t.test('each rule keeps the last of its newest periods', (t) => {
  const times = [
    '2022-12-31T12:00:00Z',
    '2023-06-01T12:00:00Z',
    '2024-01-01T12:00:00Z',
    '2024-01-28T12:00:00Z',
    '2024-01-29T09:00:00Z',
    '2024-01-29T12:00:00Z',
    '2024-01-31T12:00:00Z',
    '2024-02-01T10:10:00Z',
    '2024-02-01T10:50:00Z',
    '2024-02-01T11:10:00Z',
  ]
  const last = (n: number) => times.slice(-n)
  t.same(kept(times, { last: 3 }), last(3))
  t.same(kept(times, { hourly: 2 }), [times[8], times[9]])
  t.same(kept(times, { daily: 3 }), [times[5], times[6], times[9]])
  t.same(kept(times, { weekly: 2 }), [times[3], times[9]], 'Sunday ends a week')
  t.same(kept(times, { monthly: 2 }), [times[6], times[9]])
  t.same(kept(times, { yearly: 3 }), [times[0], times[1], times[9]])
  t.same(kept(times, { withinMs: day }), [times[6], ...last(3)])
  t.same(kept(times, { yearly: 2, daily: 2 }), [times[1], times[6], times[9]], 'rules add up')
  t.same(kept(times, { last: 100 }), times)
  t.same(kept([], { last: 1 }), [])
  t.end()
})

t.test('weeks are those of ISO 8601', (t) => {
  for (const [text, week] of [
    ['2021-01-03T12:00:00Z', '2020-W53'],
    ['2021-01-04T12:00:00Z', '2021-W01'],
    ['2024-12-30T12:00:00Z', '2025-W01'],
    ['2026-11-26T12:00:00Z', '2026-W48'],
  ] as const) {
    const [decision] = planRetention([plain(at(text))], { weekly: 1 }, utc)
    t.ok(decision?.reasons.includes(`weekly ${week}`), `${text}: ${decision?.reasons.join()}`)
  }
  t.end()
})

t.test('no rule, the newest, pins and tags', (t) => {
  const snapshots = [
    plain(1 * day, { pinned: true }),
    plain(2 * day, { tags: ['release', 'x'] }),
    plain(3 * day, { tags: ['x'] }),
    plain(4 * day),
    plain(5 * day),
  ]
  const reasons = (policy: RetentionPolicy) => planRetention(snapshots, policy, utc).map((d) => d.reasons)
  t.ok(
    planRetention(snapshots, {}, utc).every(({ keep }) => keep),
    'without rules all stay',
  )
  t.ok(planRetention(snapshots, { last: 0, tags: [] }, utc).every(({ keep }) => keep))
  t.notOk(hasRules({ last: 0, tags: [] }))
  t.same(reasons({ tags: ['release'] }), [['pinned'], ['tag release'], [], [], ['newest']])
  t.same(reasons({ last: 2 }), [['pinned'], [], [], ['last'], ['newest', 'last']])
  t.end()
})

t.test('days and hours of a time zone, also when its clock is set', (t) => {
  const night = ['2024-06-01T21:30:00Z', '2024-06-01T22:30:00Z']
  t.same(kept(night, { daily: 2 }), [night[1]], 'one day in London time')
  t.same(kept(night, { daily: 2 }, wallClock('Europe/Berlin')), night, 'two in Berlin')
  // 02:00 to 03:00 comes twice on 2024-10-27, and on 2024-03-31 not at all.
  const autumn = ['2024-10-27T00:30:00Z', '2024-10-27T01:30:00Z', '2024-10-27T02:30:00Z']
  t.same(kept(autumn, { hourly: 5 }, wallClock('Europe/Berlin')), autumn)
  const spring = ['2024-03-31T00:30:00Z', '2024-03-31T01:30:00Z']
  t.same(kept(spring, { hourly: 5 }, wallClock('Europe/Berlin')), spring)
  t.same(kept(autumn, { daily: 5 }, wallClock('Europe/Berlin')), [autumn[2]], 'a day of 25 hours is one')
  const [decision] = planRetention(
    [plain(at('2024-06-01T03:45:00Z'))],
    { hourly: 1 },
    wallClock('Asia/Kathmandu'),
  )
  t.same(decision?.reasons, ['newest', 'hourly 2024-06-01 09:00+0545'])
  for (const time of [0, 1_700_000_000_000, at('2024-10-27T01:30:00Z')]) {
    t.same(wallClock()(time), wallClock(Intl.DateTimeFormat().resolvedOptions().timeZone)(time))
  }
  t.end()
})

t.test('clocks that jump', (t) => {
  const daily = Array.from({ length: 60 }, (_, i) => plain(at('2026-01-01T12:00:00Z') + i * day))
  const count = (list: readonly Retained[], policy: RetentionPolicy) =>
    planRetention(list, policy, utc).filter(({ keep }) => keep).length
  const month = { withinMs: 30 * day }
  t.equal(count(daily, month), 31)
  const ahead = [...daily, plain(at('2036-01-01T12:00:00Z'))]
  t.equal(count(ahead, month), 25, 'ten years ahead cost a week of the history, not all of it')
  t.equal(count(ahead, { daily: 30 }), 30, 'rules that count cost nothing')
  // Back again: the list goes on just after its last instant.
  const stuck = [...ahead, ...[1, 2, 3].map((i) => plain(at('2036-01-01T12:00:00Z') + i))]
  t.equal(count(stuck, month), 27)
  t.end()
})

t.test('seeded policies: what is kept never shrinks with a larger rule, and the newest stays', (t) => {
  const next = seeded(8)
  const wrong: string[] = []
  for (let round = 0; round < 300; round++) {
    let time = at('2020-01-01T00:00:00Z') + (next() % 1000) * hour
    const list = Array.from({ length: 1 + (next() % 60) }, () => {
      time += (next() % 40) * hour * (next() % 4)
      return plain(time, { pinned: next() % 9 === 0, tags: next() % 5 === 0 ? ['a'] : [] })
    })
    const rules = ['last', 'hourly', 'daily', 'weekly', 'monthly', 'yearly'] as const
    const rule = rules[next() % rules.length] ?? 'last'
    const n = 1 + (next() % 10)
    const few = planRetention(list, { [rule]: n }, utc)
    const more = planRetention(list, { [rule]: n + 1, withinMs: (next() % 100) * day, tags: ['a'] }, utc)
    if (few.some(({ keep }, i) => keep && !more[i]?.keep)) wrong.push(`round ${round}: lost by a larger rule`)
    if (!few.at(-1)?.keep) wrong.push(`round ${round}: the newest went`)
    if (list.some(({ pinned }, i) => pinned && !few[i]?.keep)) wrong.push(`round ${round}: a pinned one went`)
    const periods = few.flatMap(({ reasons }) => reasons.filter((reason) => reason.startsWith(rule)))
    if (periods.length > n || (periods.length < n && few.some(({ keep }) => !keep) && rule === 'last'))
      wrong.push(`round ${round}: ${periods.length} of ${n} periods`)
  }
  t.same(wrong, [])
  t.end()
})
