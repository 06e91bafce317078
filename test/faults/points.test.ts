import { spawn } from 'node:child_process'
import { mkdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { persistencePoints } from '../../lib/base/persistence.js'
import { faultChild, runChild, sound } from '../helpers/fault-run.js'
import { holdProcess } from '../helpers/store.js'

t.setTimeout(560_000)

t.test('kill -9 at every place where something becomes durable', async (t) => {
  holdProcess(t)
  const base = t.testdir()
  const trace = join(t.testdir({}), 'trace')
  const whole = await runChild(join(base, 'whole'), `trace:${trace}`)
  t.equal(whole.code, 0)
  const reached = readFileSync(trace, 'utf8').split('\n').slice(0, -1)
  const never = Object.keys(persistencePoints).filter((point) => !reached.includes(point))
  t.same(never, ['segmentTruncate'], 'the scenario reaches all, but for what only an open after a crash does')
  // The next one runs while what the last one left is looked at.
  const run = (at: number) => runChild(join(base, `run ${at % 2}`), `kill:${at}`)
  let next = run(1)
  for (let at = 1; at <= reached.length; at++) {
    const { signal, told } = await next
    if (at < reached.length) next = run(at + 1)
    await t.test(`${at}: ${reached[at - 1]}`, async (t) => {
      t.equal(signal, 'SIGKILL')
      await sound(t, join(base, `run ${at % 2}`), told)
    })
  }
})

t.test('no space at every write: refused, nothing lost, and it goes on', async (t) => {
  holdProcess(t)
  const base = join(t.testdir(), 'full')
  const { code, told } = await runChild(base, 'noSpace')
  t.equal(code, 0, told.slice(-1).join())
  const refusals = told.filter((line) => line.startsWith('refused '))
  t.ok(refusals.length > 12)
  t.same(
    refusals.filter((line) => !/no space/.test(line)),
    [],
  )
  await sound(t, base, told)
})

t.test('faults are for tests only', async (t) => {
  const base = join(t.testdir(), 'unmarked')
  const before = process.env.KITH_TEST
  t.equal(before, undefined)
  const { code } = await new Promise<{ code: number | null }>((resolve) => {
    mkdirSync(join(base, 'live'), { recursive: true })
    const child = spawn(process.execPath, [faultChild, join(base, 'home'), join(base, 'live')], {
      env: { ...process.env, KITH_FAULT: 'kill:1' },
      stdio: 'ignore',
    })
    child.on('close', (ended) => resolve({ code: ended }))
  })
  t.equal(code, 0)
})
