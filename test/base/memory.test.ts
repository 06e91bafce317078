import t from 'tap'
import { readFile } from 'node:fs/promises'
import { setImmediate as turn } from 'node:timers/promises'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { restSlabs, slabs } from '../../lib/base/memory.js'

setFlagsFromString('--expose-gc')
const collect = runInNewContext('gc') as () => void

const bytes = 300_000
/** Of the process, by the kernel's count. */
async function residentBytes(): Promise<number> {
  return Number((await readFile('/proc/self/statm', 'utf8')).split(' ')[1]) * 4096
}

/** Until the collector has found what nobody has, and its memory is back. */
async function until(done: () => boolean | Promise<boolean>): Promise<void> {
  for (let i = 0; i < 1000; i++) {
    collect()
    await turn()
    if (await done()) return
  }
  throw new Error('it did not come to that')
}

t.test('Buffers have a memory of their own, however many there are', (t) => {
  const all = [...slabs(40, bytes), ...slabs(3, bytes + 1), ...slabs(3, 70_000), ...slabs(3, 10)]
  all.forEach((one, i) => one.fill(i + 1))
  t.ok(all.every((one, i) => one.every((byte) => byte === i + 1)))
  t.same(
    [40, 43, 46].map((i) => all[i]?.length),
    [bytes + 1, 70_000, 10],
  )
  t.same(slabs(0, bytes), [])
  t.end()
})

t.test('what somebody has is not given to others; what nobody has is used again', async (t) => {
  restSlabs()
  const kept = slabs(20, bytes)
  kept.forEach((one, i) => one.fill(i + 1))
  // A part of it keeps all.
  const part = slabs(1, bytes)[0]?.fill(99).subarray(1000, 1010)
  const mark = Buffer.from('used before by somebody else')
  const isMarked = (one: Buffer): boolean => one.subarray(5000, 5000 + mark.length).equals(mark)
  const some = (): void => slabs(20, bytes).forEach((one) => one.fill(mark, 5000, 5000 + mark.length))
  let again = 0
  some()
  await until(() => {
    const others = slabs(20, bytes)
    // The place within a page differs from Buffer to Buffer: the mark is looked for around it.
    again += others.filter((one) => isMarked(one) || one.includes(mark)).length
    others.forEach((one) => one.fill(0))
    return again > 0
  })
  t.ok(again > 0, 'memory that nobody has came back')
  t.ok(
    kept.every((one, i) => one.every((byte) => byte === i + 1)),
    'what is kept has what was written to it',
  )
  t.ok(part?.every((byte) => byte === 99))
})

t.test('at rest, memory goes back to the system, and what is kept stays', async (t) => {
  restSlabs()
  let turns = 0
  await until(() => ++turns === 3)
  const [one] = slabs(1, bytes)
  one?.fill(7)
  const before = await residentBytes()
  const many = (): number => slabs(200, bytes).reduce((sum, each) => sum + each.fill(1).length, 0)
  const size = many()
  t.ok((await residentBytes()) > before + size / 2, 'it was in use')
  restSlabs()
  await until(async () => (await residentBytes()) < before + size / 4)
  t.ok(one?.every((byte) => byte === 7))
})

t.test('what cannot be had is refused', (t) => {
  t.throws(() => slabs(1, 2 ** 40))
  t.throws(() => slabs(-1, bytes))
  t.throws(() => slabs(1, NaN))
  t.end()
})
