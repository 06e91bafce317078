import { setTimeout as delay } from 'node:timers/promises'
import { getHeapSpaceStatistics } from 'node:v8'
import t from 'tap'
import { compactHeap } from '../../lib/base/heap.js'

/** The share of V8's old space in which nothing lives. */
function unused(): number {
  const old = getHeapSpaceStatistics().find(({ space_name }) => space_name === 'old_space')
  if (!old) throw new Error('V8 has an old space')
  return 1 - old.space_used_size / old.space_size
}

t.test('of pages that are half empty half are left', async (t) => {
  const kept: object[] = []
  let others: object[] = []
  for (let i = 0; i < 300_000; i++) {
    kept.push({ i, a: i, b: [i] })
    others.push({ i, a: i, b: [i] })
  }
  compactHeap()
  others = []
  compactHeap()
  // V8 gives pages back beside.
  for (let i = 0; i < 400 && unused() > 0.2; i++) await delay(5)
  t.ok(unused() <= 0.2, `${(100 * unused()).toFixed(0)} % unused`)
  t.equal(kept.length + others.length, 300_000)
})
