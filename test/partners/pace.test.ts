import t from 'tap'
import { Pace } from '../../lib/partners/pace.js'
import { Hand } from '../helpers/hand-clock.js'

const never = () => false

t.test('what goes out in a minute is what the bound says, whoever sends', async (t) => {
  const clock = new Hand()
  const pace = new Pace(clock, () => 10_000)
  const sent = [0, 0, 0]
  let over = false
  const senders = sent.map(async (_, i) => {
    for (let round = 0; round < 1000 && !over; round++) {
      await pace.take(2500, () => over)
      if (!over) sent[i] = (sent[i] ?? 0) + 2500
    }
  })
  await new Promise((resolve) => setImmediate(resolve)) // all have asked
  await clock.pass(60_000)
  over = true
  pace.wake()
  await Promise.all(senders)
  const sum = sent.reduce((a, b) => a + b)
  t.ok(sum <= 610_000 && sum > 500_000, `${sum} bytes in a minute`)
  t.ok(Math.max(...sent) - Math.min(...sent) <= 2500, `by turns: ${sent.join(', ')}`)
})

t.test('a bound that comes and goes', async (t) => {
  const clock = new Hand()
  let rate: number | undefined
  const pace = new Pace(clock, () => rate)
  t.equal(pace.portion, Infinity)
  await pace.take(1e9, never)
  await pace.take(1e9, never)
  rate = 1000
  t.equal(pace.portion, 64 * 1024)
  await pace.take(1e9, never)
  let isDone = false
  const next = pace.take(1, never).then(() => (isDone = true))
  await clock.pass(3600_000)
  t.notOk(isDone, 'a million seconds to go')
  rate = undefined
  await clock.pass(1000)
  await next
  rate = 1e9
  t.equal(pace.portion, 2.5e8)
})

t.test('who is gone waits no longer, and owes nothing', async (t) => {
  const clock = new Hand()
  const pace = new Pace(clock, () => 1000)
  await pace.take(5000, never)
  let isGone = false
  const waiting = pace.take(1e9, () => isGone)
  const behind = pace.take(1, never)
  isGone = true
  pace.wake()
  await waiting
  await clock.pass(6000)
  await behind
  t.pass('the next one had its turn')
})
