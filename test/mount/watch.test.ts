// The watch engine: what it tells is enough for snapshots that are the directory, without looking at everything.
import t, { type Test } from 'tap'
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  renameSync,
  rmSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { systemClock } from '../../lib/base/clock.js'
import { silentLog } from '../../lib/base/log.js'
import { seeded } from '../../lib/base/random.js'
import type { Taken } from '../../lib/mount/types.js'
import { WatchedDirectory } from '../../lib/mount/watch.js'
import { until } from '../helpers/cli.js'
import { changeSomething, growTree } from '../helpers/live-tree.js'
import { type Fixture, linesOfDirectory, linesOfSnapshot, protect } from '../helpers/store.js'

t.setTimeout(280_000)

async function watched(t: Test, fill: (dir: string) => void) {
  const fixture = await protect(t)
  fill(fixture.dir)
  const home = mkdtempSync(join(tmpdir(), 'kith-watch-'))
  t.teardown(() => rmSync(home, { recursive: true }))
  const options = { dir: fixture.dir, home, volumeId: Buffer.alloc(16), clock: systemClock, log: silentLog() }
  const mount = await WatchedDirectory.start(options)
  t.teardown(() => mount.stop())
  t.ok((await mount.take()).lost, 'at the start everything is to be looked at')
  await mount.done()
  // Once more when all is watched; then no more.
  await until(async () => {
    const { lost } = await mount.take()
    await mount.done()
    return !lost
  })
  await fixture.volume.recordEverything()
  await fixture.volume.snapshot(fixture.rootFd)
  return { ...fixture, mount }
}

async function record(mount: WatchedDirectory, { volume }: Fixture): Promise<Taken> {
  await mount.sync()
  const taken = await mount.take()
  await volume.recordChanges(taken.changes)
  await mount.done()
  return taken
}

/** Whether a snapshot taken of what was told is the directory. */
async function agrees(mount: WatchedDirectory, fixture: Fixture): Promise<boolean> {
  const { store, volume, rootFd } = fixture
  const { lost } = await record(mount, fixture)
  if (lost) throw new Error('everything was to be looked at')
  await volume.snapshot(rootFd)
  const reader = volume.reader(store.blocks)
  const snapshot = await linesOfSnapshot(reader, await reader.snapshot('latest'))
  return snapshot.join('\n') === (await linesOfDirectory(rootFd)).join('\n')
}

t.test('each kind of change is told at once', async (t) => {
  const fixture = await watched(t, (dir) => {
    mkdirSync(join(dir, 'd', 'deep'), { recursive: true })
    for (const name of ['a', 'b', 'c', 'e']) writeFileSync(join(dir, 'd', name), name)
    writeFileSync(join(dir, 'd', 'deep', 'x'), 'x')
  })
  const { dir, mount } = fixture
  const at = (...names: string[]) => join(dir, ...names)
  const odd = Buffer.concat([Buffer.from(`${dir}/odd-`), Buffer.from([0xff])])
  const steps: [string, () => void][] = [
    ['a new file', () => writeFileSync(at('new'), 'new')],
    ['content', () => writeFileSync(at('d', 'a'), 'another')],
    ['a mode', () => chmodSync(at('d', 'b'), 0o600)],
    ['a time', () => utimesSync(at('d', 'c'), 1, 1)],
    ['a shorter file', () => truncateSync(at('d', 'e'), 0)],
    ['a link', () => symlinkSync('d', at('link'))],
    ['a rename', () => renameSync(at('d', 'a'), at('moved'))],
    ['a tree', () => mkdirSync(at('t', 'u', 'v'), { recursive: true })],
    ['a directory elsewhere', () => renameSync(at('d', 'deep'), at('deep'))],
    ['a removal', () => rmSync(at('d'), { recursive: true })],
    ['a name that is no UTF-8', () => writeFileSync(odd, 'odd')],
    ['its content', () => writeFileSync(odd, 'longer')],
  ]
  for (const [what, step] of steps) {
    step()
    t.ok(await agrees(mount, fixture), what)
  }
  await until(async () => {
    writeFileSync(at('deep', 'x'), 'in its new place')
    writeFileSync(at('t', 'u', 'v', 'leaf'), 'leaf')
    return agrees(mount, fixture)
  })
})

for (let seed = 1; seed <= 4; seed++) {
  t.test(`whatever happens, it is seen in the end: seed ${seed}`, async (t) => {
    const random = seeded(seed)
    const fixture = await watched(t, (dir) => growTree(dir, random, 40))
    const { dir, mount } = fixture
    for (let round = 0; round < 6; round++) {
      for (let i = 0; i < 10; i++) changeSomething(dir, random, `c${round}-${i}`)
      await until(() => agrees(mount, fixture))
    }
    t.pass()
  })
}

t.test('a burst has everything looked at', async (t) => {
  const fixture = await watched(t, () => undefined)
  const { dir, mount } = fixture
  let woken = 0
  mount.on('wake', () => woken++)
  for (let i = 0; i < 5000; i++) writeFileSync(join(dir, `f${i}`), '')
  t.ok((await record(mount, fixture)).lost)
  t.ok(woken > 0)
})

t.test('what may not be watched', async (t) => {
  const { dir, home } = await protect(t)
  const options = { dir, home, volumeId: Buffer.alloc(16), clock: systemClock, log: silentLog() }
  await t.rejects(WatchedDirectory.start(options, 7n), { code: 'notFound', message: /another directory/ })
  writeFileSync(join(dir, 'file'), '')
  await t.rejects(WatchedDirectory.start({ ...options, dir: join(dir, 'file') }), { code: 'usage' })
  await t.rejects(WatchedDirectory.start({ ...options, dir: join(dir, 'none') }), { code: 'notFound' })
  await t.rejects(WatchedDirectory.start({ ...options, dir: home }), { code: 'usage', message: /kith's own/ })
})
