import t from 'tap'
import { defaults } from '../../lib/daemon/config.js'
import { limitUpAt } from '../../lib/daemon/limit.js'

/** Wednesday, 18 November 2026, in this machine's zone. */
const at = (hour: number, day = 18) => new Date(2026, 10, day, hour, 30).getTime()

t.test('a bound, always or by the hours of the week', (t) => {
  t.equal(limitUpAt(defaults, at(12)), undefined)
  const limited = { ...defaults, limitUpBytes: 5000 }
  t.equal(limitUpAt(limited, at(3)), 5000)
  const byHours = { ...limited, limitUpHours: 'mon-fri 8-18, sun 0-1' }
  for (const [hour, day, bytes] of [
    [8, 18, 5000],
    [17, 18, 5000],
    [18, 18, undefined],
    [7, 18, undefined],
    [12, 21, undefined],
    [0, 22, 5000],
    [1, 22, undefined],
  ] as const)
    t.equal(limitUpAt(byHours, at(hour, day)), bytes, `${day}, ${hour}`)
  t.equal(limitUpAt({ ...defaults, limitUpHours: 'mon 0-1' }, at(0)), undefined)
  t.end()
})
