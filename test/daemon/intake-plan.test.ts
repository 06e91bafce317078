import t from 'tap'
import { seeded } from '../../lib/base/random.js'
import { busyMs, IntakePlan, quietMs } from '../../lib/daemon/intake-plan.js'
import { change } from '../helpers/store.js'

t.test('a file is due when it has been quiet for a second', async (t) => {
  const plan = new IntakePlan()
  t.equal(plan.next(), undefined)
  plan.note([change('truncate', 5n), change('data', 5n, { length: 9 })], 100)
  plan.note([change('data', 5n, { length: 9 })], 600)
  t.equal(plan.next(), 600 + quietMs)
  t.same(plan.take(599 + quietMs), [])
  t.same(plan.take(600 + quietMs), [5n])
  t.same(plan.take(1e9), [], 'once')
})

t.test('every 30 s while it stays busy', async (t) => {
  const plan = new IntakePlan()
  const due: number[] = []
  for (let now = 0; now < 100_000; now += 500) {
    plan.note([change('data', 5n, { length: 1 })], now)
    if (plan.take(now).length > 0) due.push(now)
  }
  t.same(due, [busyMs, 2 * busyMs + 500, 3 * busyMs + 1000])
})

t.test('one that may change unseen is looked at every 30 s, and soon after it is closed', async (t) => {
  const plan = new IntakePlan()
  plan.note([change('open', 5n)], 0)
  t.equal(plan.next(), busyMs)
  t.same(plan.take(busyMs), [5n])
  t.equal(plan.next(), 2 * busyMs)
  plan.note([change('close', 5n)], busyMs + 10)
  t.same(plan.take(busyMs + 10 + quietMs), [5n])
  t.equal(plan.next(), undefined)
})

t.test('what is no content is no matter; what was busy is tried again', async (t) => {
  const plan = new IntakePlan()
  plan.note([change('attributes', 5n), change('names', 6n, { parent: 1n })], 0)
  t.equal(plan.next(), undefined)
  plan.again([7n, 8n], 50)
  t.same(plan.take(50 + quietMs), [7n, 8n])
  plan.again([7n], 0)
  plan.clear()
  t.equal(plan.next(), undefined)
})

t.test('files at rest and busy ones take turns: neither waits for long', async (t) => {
  const random = seeded(3)
  const plan = new IntakePlan()
  const busy = Array.from({ length: 100 }, (_, i) => BigInt(i + 1))
  const data = (ino: bigint) => change('data', ino, { length: 1 })
  const lastRead = new Map(busy.map((ino) => [ino, 0]))
  const resting = new Map<bigint, number>()
  let slowestTurns = 0
  for (let now = 0, next = 1000n; now < 120_000; now += 200) {
    plan.note(busy.map(data), now)
    if (random() % 3 > 0) plan.note([data(next++)], now)
    const taken = plan.take(now)
    for (const ino of taken) {
      if (lastRead.has(ino)) t.ok(now - (lastRead.get(ino) ?? 0) >= busyMs, 'not before its time')
      lastRead.set(ino, now)
    }
    t.ok(taken.every((ino) => ino < 1000n) || taken.every((ino) => ino >= 1000n), 'each kind by itself')
    for (let ino = 1000n; ino < next; ino++) {
      if (lastRead.has(ino)) continue
      const turns = (resting.get(ino) ?? 0) + 1
      resting.set(ino, turns)
      slowestTurns = Math.max(slowestTurns, turns)
    }
  }
  t.ok(slowestTurns <= quietMs / 200 + 2, `the last turn before a file was read: ${slowestTurns}`)
  for (const ino of busy)
    t.ok(120_000 - (lastRead.get(ino) ?? 0) < 2 * busyMs, `busy file ${ino} was read in time`)
})
