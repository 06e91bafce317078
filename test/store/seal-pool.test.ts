import { mkdirSync, readdirSync, statSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import { seeded } from '../../lib/base/random.js'
import { seededBytes } from '../helpers/bytes.js'
import { change, protect, sameAsDirectory } from '../helpers/store.js'

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

t.test('a thread is there before the first file is to be read, and reads it', async (t) => {
  const { dir, rootFd, volume } = await protect(t)
  await volume.snapshot(rootFd)
  let started = 0
  const count = () => started++
  process.on('worker', count)
  t.teardown(() => process.off('worker', count))
  volume.prepare()
  volume.prepare()
  // The event comes in the tick after a thread was started.
  await new Promise(setImmediate)
  t.equal(started, 1)
  const file = join(dir, 'file')
  writeFileSync(file, seededBytes(seeded(18), 1_000_000))
  const { ino } = statSync(file, { bigint: true })
  const root = statSync(dir, { bigint: true }).ino
  await volume.recordChanges([
    change('names', ino, { parent: root, name: Buffer.from('file') }),
    change('close', ino),
  ])
  t.match(await volume.readAhead(rootFd, [ino]), { read: 1 })
  volume.prepare()
  await new Promise(setImmediate)
  t.equal(started, 1)
})

t.test(
  'a few small files that changed need no thread; one that is more than it seems is read by one',
  async (t) => {
    const fixture = await protect(t)
    const { dir, rootFd, volume } = fixture
    for (const name of ['a', 'b', 'c']) writeFileSync(join(dir, name), name)
    await volume.snapshot(rootFd)
    await fixture.reopen()
    let started = 0
    const count = () => started++
    process.on('worker', count)
    t.teardown(() => process.off('worker', count))
    const next = seeded(19)
    const changed = async (...names: string[]) => {
      await fixture.volume.recordChanges(
        names.map((name) =>
          change('close', statSync(join(dir, name), { bigint: true }).ino, { length: 100_000 }),
        ),
      )
      const { problems } = await fixture.volume.snapshot(rootFd)
      await new Promise(setImmediate)
      t.same(problems, [])
      await sameAsDirectory(t, fixture)
    }
    writeFileSync(join(dir, 'a'), seededBytes(next, 40_000))
    writeFileSync(join(dir, 'b'), seededBytes(next, 300))
    writeFileSync(join(dir, 'c'), seededBytes(next, 70_000))
    await changed('a', 'b', 'c')
    t.equal(started, 0)
    writeFileSync(join(dir, 'a'), seededBytes(next, 20_000))
    truncateSync(join(dir, 'b'), 90_000)
    await changed('a', 'b')
    t.equal(started, 1, 'holes are looked for by a thread')
  },
)
