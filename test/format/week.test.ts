import t from 'tap'
import { parseWeek, weekBytes, weekText, withinWeek } from '../../lib/format/week.js'

t.test('hours are read and written', (t) => {
  for (const text of ['mon-fri 8-18, sat-sun 0-24', 'wed 23-24', 'mon 0-1, mon 2-3, tue-sun 5-6'])
    t.equal(weekText(parseWeek(text)), text)
  t.equal(weekText(parseWeek('Sun 3-4,mon 1-2')), 'mon 1-2, sun 3-4')
  t.equal(weekText(parseWeek('mon 0-12, mon 12-24')), 'mon 0-24')
  t.equal(weekText(Buffer.alloc(weekBytes)), '')
  t.equal(weekText(Buffer.alloc(weekBytes, 0xff)), 'mon-sun 0-24')
  t.same(parseWeek('mon 0-1')[0], 1)
  t.same(parseWeek('sun 23-24')[20], 128)
  t.end()
})

t.test('what is no hours is refused by its name', (t) => {
  for (const text of [
    '',
    'mon',
    'mon 8',
    'mon 8-8',
    'mon 18-8',
    'mon 0-25',
    'fri-mon 1-2',
    'abc 1-2',
    'mon 1-2;tue 1-2',
  ])
    t.throws(() => parseWeek(text), { code: 'usage', message: /bad hours/ }, text)
  t.end()
})

t.test('whether hours are within others', (t) => {
  t.ok(withinWeek(parseWeek('mon 9-10'), parseWeek('mon-fri 8-18')))
  t.notOk(withinWeek(parseWeek('sat 9-10'), parseWeek('mon-fri 8-18')))
  t.ok(withinWeek(Buffer.alloc(weekBytes), Buffer.alloc(weekBytes)))
  t.end()
})
