import t from 'tap'
import { isDue, type Known, type Schedule } from '../../lib/daemon/schedule.js'

const minute = 60_000
const hour = 60 * minute
const day = 24 * hour
const noon = new Date(2026, 5, 15, 12, 0).getTime()

function known(change: Partial<Known> = {}): Known {
  return {
    changed: true,
    now: noon,
    lastSnapshot: noon - hour / 2,
    monotonic: 10 * day,
    mounted: 0,
    taken: 10 * day - hour / 2,
    quietSince: 10 * day,
    ...change,
  }
}
const due = (rules: Schedule, change: Partial<Known> = {}) => isDue(rules, hour, known(change))
/** So long after the last snapshot, both clocks agreeing. */
const after = (ms: number) => ({ now: noon, lastSnapshot: noon - ms, taken: 10 * day - ms })

t.test('by interval', async (t) => {
  t.notOk(due({}, after(hour - 1)))
  t.ok(due({}, after(hour)))
  t.notOk(due({}, { ...after(hour), changed: false }), 'nothing changed, nothing taken')
  t.ok(due({ everyMinutes: 5 }, after(5 * minute)))
  t.notOk(due({ everyMinutes: 120 }, after(hour)))
  t.notOk(due({ everyMinutes: null }, after(30 * day)), 'not by interval')
})

t.test('after quiet', async (t) => {
  const rules = { everyMinutes: null, quietMinutes: 10 }
  t.notOk(due(rules, { quietSince: 10 * day - 10 * minute + 1 }))
  t.ok(due(rules, { quietSince: 10 * day - 10 * minute }))
  t.notOk(due(rules, { quietSince: 0, changed: false }))
})

t.test('at fixed times, and what was missed', async (t) => {
  const rules = { everyMinutes: null, at: ['03:00', '12:00'] }
  t.ok(due(rules, after(minute)), 'the last one was before noon')
  t.notOk(due(rules, { ...after(0), now: noon + 1, lastSnapshot: noon }), 'the last one was at noon')
  t.notOk(due(rules, { ...after(minute), now: noon - 1, lastSnapshot: noon - 1 - minute }))
  const slept = { now: noon + 2 * hour, lastSnapshot: noon - hour, taken: 10 * day - minute }
  t.ok(due(rules, slept), 'the machine slept over noon')
  t.ok(due(rules, { ...slept, taken: undefined, mounted: 10 * day - 2 * minute }), 'it was off')
  const night = new Date(2026, 5, 16, 2, 0).getTime()
  t.ok(
    due({ everyMinutes: null, at: ['23:00'] }, { now: night, lastSnapshot: noon, taken: 9 * day }),
    "yesterday's",
  )
})

t.test('after a start', async (t) => {
  const started = { taken: undefined, mounted: 10 * day - minute }
  t.ok(due({}, { ...started, lastSnapshot: undefined }), 'the first of all, a minute after mounting')
  t.notOk(due({}, { ...started, lastSnapshot: undefined, mounted: 10 * day - minute + 1 }))
  t.notOk(due({}, started), 'half an hour ago there was one')
  t.ok(due({}, { ...started, lastSnapshot: noon - 2 * hour }), 'one was missed')
})

t.test('a clock that jumps', async (t) => {
  t.notOk(due({}, { now: noon - day, lastSnapshot: noon, taken: 10 * day - hour + 1 }), 'back by a day')
  t.ok(due({}, { now: noon - day, lastSnapshot: noon, taken: 10 * day - hour }), 'the interval goes on')
  t.ok(due({}, { now: noon - day, lastSnapshot: noon, taken: undefined }), 'back, and the daemon began anew')
  t.ok(due({}, { now: noon + day, lastSnapshot: noon, taken: 10 * day - 1 }), 'forward: one too many')
  const at = { everyMinutes: null, at: ['12:00'] }
  const back = { now: noon - hour, lastSnapshot: noon + 1 }
  t.notOk(due(at, { ...back, taken: 10 * day - minute }))
  t.ok(due(at, { ...back, now: noon, taken: 10 * day - hour - minute }), 'noon comes again')
})
