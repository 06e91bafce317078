import t from 'tap'
import { silentLog } from '../../lib/base/log.js'
import { isDue, Upkeep } from '../../lib/daemon/upkeep.js'
import { Hand } from '../helpers/hand-clock.js'

t.test('when a task is due', async (t) => {
  const task = { firstMs: 1000, everyMs: 5000 }
  t.notOk(isDue(task, { started: 0, running: false }, 999))
  t.ok(isDue(task, { started: 0, running: false }, 1000))
  t.notOk(isDue(task, { started: 0, running: true }, 1000))
  t.notOk(isDue(task, { started: 0, running: false, lastRun: 1000 }, 5999))
  t.ok(isDue(task, { started: 0, running: false, lastRun: 1000 }, 6000))
  t.notOk(
    isDue(task, { started: 0, running: false, lastFailed: 1000 }, 60_999),
    'a failed one rests for a minute',
  )
  t.ok(isDue(task, { started: 0, running: false, lastFailed: 1000 }, 61_000))
})

t.test('tasks run by the clock, one at a time, and a failed one again', async (t) => {
  const clock = new Hand()
  const upkeep = new Upkeep(clock, silentLog())
  const runs: string[] = []
  let wanted = false
  let fail = true
  upkeep.add({
    name: 'hourly',
    firstMs: 10_000,
    everyMs: 3_600_000,
    wanted: () => true,
    run: async () => void runs.push('hourly'),
  })
  upkeep.add({
    name: 'when wanted',
    firstMs: 0,
    everyMs: 0,
    wanted: () => wanted,
    run: async () => {
      runs.push('wanted')
      if (fail) throw new Error('no luck')
      wanted = false
    },
  })
  await clock.pass(9_000)
  t.same(runs, [])
  await clock.pass(6_000)
  t.same(runs, ['hourly'])
  wanted = true
  await clock.pass(30_000)
  t.same(runs, ['hourly', 'wanted'], 'failed once, and waits')
  fail = false
  await clock.pass(60_000)
  t.same(runs, ['hourly', 'wanted', 'wanted'])
  await clock.pass(3_600_000)
  t.same(runs, ['hourly', 'wanted', 'wanted', 'hourly'])

  let end: () => void = () => undefined
  upkeep.add({
    name: 'long',
    firstMs: 0,
    everyMs: 0,
    wanted: () => true,
    run: () => {
      runs.push('long')
      return new Promise((resolve) => (end = resolve))
    },
  })
  await clock.pass(60_000)
  t.equal(runs.filter((run) => run === 'long').length, 1, 'never twice at once')
  const stopped = upkeep.stop()
  let done = false
  void stopped.then(() => (done = true))
  await clock.pass(60_000)
  t.notOk(done, 'stop waits for what runs')
  end()
  await stopped
  await clock.pass(600_000)
  t.equal(runs.filter((run) => run === 'long').length, 1, 'nothing starts after stop')
})
