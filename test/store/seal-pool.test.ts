import { mkdirSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import { seeded } from '../../lib/base/random.js'
import { seededBytes } from '../helpers/bytes.js'
import { protect, sameAsDirectory } from '../helpers/store.js'

t.setTimeout(120_000)

t.test('a second after much work one thread is left, and more come with the next', async (t) => {
  const fixture = await protect(t)
  const { dir, rootFd, volume } = fixture
  const next = seeded(17)
  const write = () => {
    for (let i = 0; i < 18; i++) {
      mkdirSync(join(dir, `${i}`), { recursive: true })
      writeFileSync(join(dir, `${i}`, 'file'), seededBytes(next, 1_000_000))
    }
  }
  const threads = () => readdirSync('/proc/self/task').length
  write()
  await volume.snapshot(rootFd)
  const working = threads()
  while (threads() >= working) await delay(5)
  const resting = threads()
  write()
  await volume.recordEverything()
  await volume.snapshot(rootFd)
  t.ok(threads() > resting)
  await sameAsDirectory(t, fixture)
})
