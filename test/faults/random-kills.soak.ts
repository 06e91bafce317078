// kill -9 at 200 random moments: what was told is there, a check finds nothing, the next snapshot is right.
import { join } from 'node:path'
import t from 'tap'
import { seeded } from '../../lib/base/random.js'
import { runChild, sound } from '../helpers/fault-run.js'
import { holdProcess } from '../helpers/store.js'

t.setTimeout(1_200_000)

t.test('200 random kills', async (t) => {
  holdProcess(t)
  const base = t.testdir()
  const random = seeded(2026)
  const whole = performance.now()
  await runChild(join(base, 'whole'), '')
  const lasts = performance.now() - whole
  const run = (at: number) => runChild(join(base, `run ${at % 2}`), '', (random() / 2 ** 32) * lasts)
  let next = run(0)
  for (let at = 0; at < 200; at++) {
    const { told } = await next
    next = run(at + 1)
    await t.test(`${at}: after ${told.at(-1) ?? 'nothing'}`, (t) =>
      sound(t, join(base, `run ${at % 2}`), told),
    )
  }
  await next
})
