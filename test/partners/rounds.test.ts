import t from 'tap'
import { Rounds } from '../../lib/partners/rounds.js'

/** Each round waits until it is let go. */
function held() {
  const waiting: ((error?: Error) => void)[] = []
  const errors: unknown[] = []
  const round = () =>
    new Promise<void>((resolve, reject) => waiting.push((error) => (error ? reject(error) : resolve())))
  const rounds = new Rounds(round, (error) => errors.push(error))
  const next = async (error?: Error) => {
    waiting.shift()?.(error)
    await new Promise((resolve) => setImmediate(resolve))
  }
  return { rounds, waiting, errors, next }
}

t.test('one round at a time; what is asked for meanwhile is one more', async (t) => {
  const { rounds, waiting, next } = held()
  await rounds.settled()
  for (let i = 0; i < 3; i++) rounds.wake()
  t.equal(waiting.length, 1)
  let isSettled = false
  void rounds.settled().then(() => (isSettled = true))
  await next()
  t.equal(waiting.length, 1, 'asked for while it ran')
  t.notOk(isSettled)
  await next()
  t.equal(waiting.length, 0)
  t.ok(isSettled)
})

t.test('asked for at whichever moment around the end of a round, it runs once more', async (t) => {
  for (let turns = 0; turns < 8; turns++) {
    let count = 0
    const rounds = new Rounds(
      () => Promise.resolve(void count++),
      () => t.fail('nothing fails'),
    )
    rounds.wake()
    for (let i = 0; i < turns; i++) await Promise.resolve()
    rounds.wake()
    await rounds.settled()
    t.equal(count, 2, `after ${turns} turns`)
  }
})

t.test('a failure is told, and ends nothing', async (t) => {
  const { rounds, waiting, errors, next } = held()
  rounds.wake()
  await next(new Error('full'))
  t.match(errors, [{ message: 'full' }])
  rounds.wake()
  t.equal(waiting.length, 1)
  await next()
  await rounds.settled()
})

t.test('stopped: what runs is waited for, nothing begins', async (t) => {
  const { rounds, waiting, next } = held()
  rounds.wake()
  rounds.wake()
  let isStopped = false
  void rounds.stop().then(() => (isStopped = true))
  t.ok(rounds.isStopped)
  await new Promise((resolve) => setImmediate(resolve))
  t.notOk(isStopped)
  await next()
  t.ok(isStopped)
  rounds.wake()
  t.equal(waiting.length, 0)
})
