import t from 'tap'
import { KithError } from '../../lib/base/errors.js'
import { silentLog } from '../../lib/base/log.js'
import { MountKeeper, pauseBefore, steadyMs } from '../../lib/daemon/mount-keeper.js'
import { Hand } from '../helpers/hand-clock.js'

/** A mount that is brought back, or not, as the test says. */
function make() {
  const clock = new Hand()
  const seen = { tries: 0, cleared: 0 }
  let outcome: () => Promise<void> = () => Promise.resolve()
  const keeper = new MountKeeper({
    dir: () => '/d',
    clock,
    log: silentLog(),
    again: async () => {
      seen.tries++
      await outcome()
      keeper.mounted()
    },
    clear: async () => void seen.cleared++,
  })
  return { clock, seen, keeper, then: (next: () => Promise<void>) => (outcome = next) }
}

t.test('pauses grow, and stay bounded', async (t) => {
  t.same([1, 2, 3, 4, 5, 6, 7].map(pauseBefore), [0, 0, 250, 500, 1000, 2000, 4000])
  t.equal(pauseBefore(1000), 15 * 60_000)
})

t.test('what died is mounted again at once', async (t) => {
  const { clock, seen, keeper } = make()
  keeper.mounted()
  keeper.lost()
  t.match(keeper.problems, [/^kith-fuse, which serves \/d, has died; \/d is being mounted again$/])
  await keeper.settled()
  t.same(seen, { tries: 1, cleared: 0 })
  t.notOk(keeper.busy)
  t.same(keeper.problems, [])
  await clock.pass(steadyMs)
  for (let round = 0; round < 20; round++) {
    keeper.lost()
    await keeper.settled()
    await clock.pass(steadyMs)
  }
  t.same(seen, { tries: 21, cleared: 0 }, 'now and then is no row')
})

t.test('one that dies again and again is mounted ever more rarely, and status says so', async (t) => {
  const { clock, seen, keeper } = make()
  keeper.mounted()
  const hour = 60 * 60_000
  for (const end = clock.monotonic() + hour; clock.monotonic() < end;) {
    if (!keeper.busy) keeper.lost()
    await keeper.settled()
    await clock.pass(100)
  }
  t.ok(seen.tries > 5 && seen.tries < 20, `${seen.tries} tries in an hour`)
  t.equal(seen.cleared, seen.tries - 2 + 1, 'in each pause the dead mount is off')
  t.match(keeper.problems, [
    /died or failed \d+ times in a row .*; the next try is in \d+ s, or now by: kith mount \/d$/,
  ])
  keeper.forget()
  await keeper.cancel()
  t.same(keeper.problems, [])
  await clock.pass(hour)
  t.notOk(keeper.busy)
})

t.test('one that cannot be mounted is tried until it can; the reason is told', async (t) => {
  const { clock, seen, keeper, then } = make()
  then(() => Promise.reject(new KithError('notFound', 'there is no directory /d; create it first')))
  keeper.lost()
  for (let i = 0; i < 100; i++) {
    await new Promise((resolve) => setImmediate(resolve))
    await clock.pass(100)
  }
  t.ok(keeper.busy)
  t.match(keeper.problems, [
    /^\/d could not be mounted again: there is no directory \/d.*; the next try is in \d+ s/,
  ])
  const { tries } = seen
  t.ok(tries > 3 && tries < 10, `${tries} tries in ten seconds`)
  then(() => Promise.resolve())
  await clock.pass(16 * 60_000)
  t.equal(seen.tries, tries + 1)
  t.notOk(keeper.busy)
  t.same(keeper.problems, [], 'it has lasted')
})

t.test('cancel() waits for the try at work, and none follows', async (t) => {
  const { clock, seen, keeper, then } = make()
  let fail: (error: Error) => void = () => undefined
  then(() => new Promise((_, reject) => (fail = reject)))
  keeper.lost()
  await new Promise((resolve) => setImmediate(resolve))
  let cancelled = false
  const cancelling = keeper.cancel().then(() => (cancelled = true))
  await new Promise((resolve) => setImmediate(resolve))
  t.notOk(cancelled)
  fail(new Error('no'))
  await cancelling
  await clock.pass(steadyMs)
  t.equal(seen.tries, 1)
  t.notOk(keeper.busy)
})
