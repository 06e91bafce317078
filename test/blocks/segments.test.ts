import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { seeded } from '../../lib/base/random.js'
import { Segments } from '../../lib/blocks/segments.js'
import { seededBytes } from '../helpers/bytes.js'

const cut = (bytes: Buffer, at: number) => [bytes.subarray(0, at), bytes.subarray(at)]

/** What is appended, in lengths about those at which a write begins to go past the cache, is what is read: at once, and later. */
async function appends(t: Test, dir: string, isCold: boolean): Promise<void> {
  const random = seeded(7)
  const segments = new Segments(dir, isCold)
  let whole = Buffer.alloc(0)
  const lengths = [1, 4095, 100, 262_144, 266_240, 300_000, 5, 1_500_000, 700_000, 4096, 1_048_576, 31]
  for (const length of lengths) {
    const bytes = seededBytes(random, length)
    const offset = whole.length
    // As after a write that failed in between: the same place is written again.
    await segments.write(1, offset, [seededBytes(random, length)])
    await segments.write(1, offset, cut(bytes, length % 4099))
    whole = Buffer.concat([whole, bytes])
    t.ok((await segments.read(1, 0, whole.length)).equals(whole), `${length} bytes at ${offset}`)
    if (length % 2 === 0) await segments.sync(1)
  }
  t.equal(statSync(join(dir, '00000001.seg')).size, whole.length, 'nothing lies behind')
  await segments.write(2, 0, [whole])
  await segments.remove(1)
  await segments.write(1, 0, [whole.subarray(0, 600_000)])
  await segments.close()
  t.ok(readFileSync(join(dir, '00000001.seg')).equals(whole.subarray(0, 600_000)), 'a number used anew')
  t.ok(readFileSync(join(dir, '00000002.seg')).equals(whole))
}

t.test('cached', (t) => appends(t, join(t.testdir(), 'segments'), false))
t.test('cold', (t) => appends(t, join(t.testdir(), 'segments'), true))

t.test('cold, in memory', async (t) => {
  // Before Linux 6.6 tmpfs has no O_DIRECT.
  const dir = mkdtempSync('/dev/shm/kith-segments-')
  t.teardown(() => rmSync(dir, { recursive: true }))
  await appends(t, dir, true)
})
