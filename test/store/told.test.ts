/** Changes that are told to a snapshot instead of being recorded before it. */
import { mkdirSync, renameSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { change, inoOf, protect, sameAsDirectory } from '../helpers/store.js'

const ino = (path: string) => statSync(path, { bigint: true }).ino

t.test('they are in the snapshot, and nothing of them is left to do', async (t) => {
  const fixture = await protect(t)
  const { dir, volume, rootFd } = fixture
  mkdirSync(join(dir, 'a'))
  for (const name of ['a/one', 'a/two', 'three']) writeFileSync(join(dir, name), `first ${name}`)
  await volume.snapshot(rootFd)
  const one = ino(join(dir, 'a/one'))
  // One is dirty already, by what was recorded; what is told is merged with that.
  await volume.recordChanges([change('data', one, { offset: 0, length: 2 })])
  writeFileSync(join(dir, 'a/one'), 'second')
  renameSync(join(dir, 'a/two'), join(dir, 'two'))
  const two = ino(join(dir, 'two'))
  const names = [join(dir, 'a'), dir].map((parent) =>
    change('names', two, { parent: ino(parent), name: Buffer.from('two') }),
  )
  await volume.snapshot(rootFd, {}, [change('close', one), ...names])
  t.same(volume.pending(), { inodes: 0, bytes: 0, open: 0, everything: false })
  await sameAsDirectory(t, fixture)
  await fixture.reopen()
  t.same(fixture.volume.pending(), { inodes: 0, bytes: 0, open: 0, everything: false })
  await sameAsDirectory(t, fixture)
})

t.test(
  'of a snapshot that fails nothing is kept, and the next one takes them when they are told again',
  async (t) => {
    const fixture = await protect(t)
    const { dir, volume, rootFd } = fixture
    writeFileSync(join(dir, 'file'), 'first')
    await volume.snapshot(rootFd)
    writeFileSync(join(dir, 'file'), 'second')
    const told = [change('close', inoOf(rootFd, 'file'))]
    const off = AbortSignal.abort()
    await t.rejects(volume.snapshot(rootFd, { signal: off }, told), { code: 'cancelled' })
    t.equal(volume.pending().inodes, 0)
    t.equal(volume.snapshots().length, 1)
    await volume.snapshot(rootFd, {}, told)
    await sameAsDirectory(t, fixture)
  },
)

t.test('a file told to be open is watched from then on, until it is told to be closed', async (t) => {
  const fixture = await protect(t)
  const { dir, volume, rootFd } = fixture
  writeFileSync(join(dir, 'database'), 'one')
  await volume.snapshot(rootFd)
  const database = inoOf(rootFd, 'database')
  await volume.snapshot(rootFd, {}, [change('open', database)])
  t.equal(volume.pending().open, 1)
  writeFileSync(join(dir, 'database'), 'two')
  await volume.snapshot(rootFd)
  await sameAsDirectory(t, fixture)
  await volume.snapshot(rootFd, {}, [change('close', database)])
  t.equal(volume.pending().open, 0)
})

t.test('what becomes known meanwhile stays, and so does whether the file is open', async (t) => {
  const fixture = await protect(t)
  const { dir, volume, rootFd } = fixture
  for (const name of ['recorded', 'forgotten']) writeFileSync(join(dir, name), 'first')
  await volume.snapshot(rootFd)
  const [recorded, forgotten] = [inoOf(rootFd, 'recorded'), inoOf(rootFd, 'forgotten')]
  const running = volume.snapshot(rootFd, {}, [change('close', recorded), change('open', forgotten)])
  await Promise.resolve()
  await volume.recordChanges([change('close', recorded)])
  await volume.forgetContents([forgotten], [])
  await running
  t.same(volume.changedFiles().sort(), [recorded, forgotten].sort())
  t.same(volume.openFiles(), [forgotten])
  await volume.snapshot(rootFd)
  t.same(volume.changedFiles(), [])
  t.same(volume.openFiles(), [forgotten])
  await sameAsDirectory(t, fixture)
})
