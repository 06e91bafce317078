import t from 'tap'
import { parseWeek, isHourIn } from '../../lib/format/week.js'
import {
  expectedHours,
  availabilitySeen,
  hoursSeen,
  type Presence,
  promiseKept,
  seen,
  unseen,
} from '../../lib/planning/hours.js'

const hourMs = 3_600_000
const dayMs = 24 * hourMs
/** Monday, 5 January 1970, 0 h UTC */
const monday = 4 * dayMs

/** Looked at each quarter of an hour of these weeks. */
function watched(weeks: number, isThere: (day: number, hour: number) => boolean, before = unseen): Presence {
  let presence = before
  for (let at = 0; at < weeks * 7 * dayMs; at += hourMs / 4) {
    const there = isThere(Math.floor(at / dayMs) % 7, Math.floor(at / hourMs) % 24)
    presence = seen(presence, monday + at + hourMs / 4, hourMs / 4, there)
  }
  return presence
}

const week = (text: string) =>
  Array.from({ length: 168 }, (_, hour) =>
    isHourIn(parseWeek(text), Math.floor(hour / 24), hour % 24) ? 1 : 0,
  )

t.test('what was seen of a week is what is told of it', (t) => {
  const office = watched(4, (day, hour) => day < 5 && hour >= 8 && hour < 18)
  const hours = hoursSeen(office)
  t.equal(hours?.length, 168)
  for (const [hour, isThere] of week('mon-fri 8-18').entries()) {
    const surely = hours?.[hour] ?? NaN
    if (isThere ? surely < 0.8 : surely > 0.1) t.fail(`hour ${hour}: ${surely}`)
  }
  t.equal(promiseKept(office, week('mon-fri 8-18')), 1)
  t.equal(promiseKept(office, week('mon-fri 8-20')), 50 / 60, 'two of twelve hours missing')
  t.equal(promiseKept(office, null), null)
  t.end()
})

t.test('little says nothing, and what was not looked at counts as usual', (t) => {
  t.equal(hoursSeen(unseen), null)
  t.equal(availabilitySeen(unseen), null)
  t.equal(hoursSeen(seen(unseen, monday, dayMs, true)), null)
  t.equal(promiseKept(seen(unseen, monday, hourMs, true), week('mon-sun 0-24')), null)
  t.same(expectedHours(unseen, week('mon 1-2')), week('mon 1-2'), 'what was promised, then')
  let days = unseen
  for (let day = 1; day <= 4; day++) days = seen(days, monday + day * dayMs, dayMs, day % 2 === 1)
  const hours = hoursSeen(days) ?? []
  t.equal(hours[0], 0.75, 'of Monday, an hour there and one assumed')
  t.equal(hours[24], 0.25)
  t.equal(hours[160], 0.5, 'Sunday was not looked at')
  t.same(expectedHours(days, week('mon 1-2')), hours)
  t.end()
})

t.test('a span is told to each hour that it touches', (t) => {
  const { looked, there } = seen(unseen, monday + 1.5 * hourMs, 2 * hourMs, true)
  t.same([looked[167], looked[0], looked[1], looked[2]], [hourMs / 2, hourMs, hourMs / 2, 0])
  t.same(there, looked)
  t.same(seen(unseen, monday, -5, true), unseen, 'a clock that went back')
  const long = seen(unseen, monday, 99 * dayMs, false)
  t.equal(
    long.looked.reduce((sum, ms) => sum + ms, 0),
    dayMs,
    'what took too long is not believed',
  )
  t.ok(seen(unseen, -5 * dayMs, hourMs, true).looked.includes(hourMs), 'whatever the clock says')
  t.end()
})

t.test('old habits fade', (t) => {
  const night = watched(30, (_, hour) => hour < 6)
  t.ok(Math.abs((availabilitySeen(night) ?? 0) - 0.25) < 0.02, String(availabilitySeen(night)))
  t.ok((hoursSeen(night)?.[3] ?? 0) > 0.9)
  const changed = watched(20, (_, hour) => hour >= 12, night)
  t.ok((hoursSeen(changed)?.[3] ?? 1) < 0.35, String(hoursSeen(changed)?.[3]))
  t.ok((hoursSeen(changed)?.[15] ?? 0) > 0.65)
  t.ok(Math.max(...changed.looked) <= 12 * hourMs)
  t.end()
})
