import {
  appendFileSync,
  closeSync,
  mkdirSync,
  openSync,
  renameSync,
  statSync,
  unlinkSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { basename, dirname, join } from 'node:path'
import t from 'tap'
import { seeded } from '../../lib/base/random.js'
import type { Change } from '../../lib/format/changes.js'
import { seededBytes } from '../helpers/bytes.js'
import { change, type Fixture, protect, sameAsDirectory } from '../helpers/store.js'

t.setTimeout(280_000)

const ino = (path: string) => statSync(path, { bigint: true }).ino
const named = (path: string): Change =>
  change('names', ino(path), { parent: ino(dirname(path)), name: Buffer.from(basename(path)) })

function overwrite(path: string, bytes: string, offset: number): Change {
  const fd = openSync(path, 'r+')
  writeSync(fd, bytes, offset)
  closeSync(fd)
  return change('data', ino(path), { offset, length: bytes.length })
}

/** A protected directory with one snapshot, and what is new since: two files, one of them in a new directory. */
async function withNews(t: Parameters<typeof protect>[0]) {
  const fixture = await protect(t)
  const { dir, rootFd, volume } = fixture
  const next = seeded(5)
  writeFileSync(join(dir, 'old'), seededBytes(next, 3_000_000))
  await volume.snapshot(rootFd)
  mkdirSync(join(dir, 'new/below'), { recursive: true })
  const files = ['new/below/file', 'other'].map((name) => join(dir, name))
  for (const file of files) {
    writeFileSync(file, seededBytes(next, 1_000_000))
    utimesSync(file, 1e9, 1e9)
  }
  const news = [join(dir, 'new'), join(dir, 'new/below'), ...files].map(named)
  await volume.recordChanges([...news, ...files.map((file) => change('close', ino(file)))])
  return { ...fixture, fixture, files: files as [string, string] }
}

const readAll = ({ volume, rootFd }: Fixture) => volume.readAhead(rootFd, volume.changedFiles())

t.test('what was read ahead is in the store, and the snapshot takes it over without reading', async (t) => {
  const { fixture, volume, store, rootFd, files } = await withNews(t)
  const before = store.blocks.bytes
  t.same(await readAll(fixture), { read: 2, left: [] })
  t.ok(store.blocks.bytes - before > 2_000_000)
  t.same(volume.changedFiles(), [])
  t.equal([...volume.earlyFiles()].length, 2)
  t.equal(volume.pending().inodes > 0, true, 'a snapshot is wanted all the same')
  t.same(await readAll(fixture), { read: 0, left: [] })

  // Nobody told of this change, so that a snapshot that reads nothing cannot know of it.
  overwrite(files[0], 'unseen', 500_000)
  utimesSync(files[0], 1e9, 1e9)
  const result = await volume.snapshot(rootFd)
  t.ok(result.bytesNew < 100_000, `${result.bytesNew} new bytes`)
  const reader = volume.reader(store.blocks)
  const path = ['new', 'below', 'file'].map((name) => Buffer.from(name))
  const entry = await reader.resolve(await reader.snapshot('latest'), path)
  t.not((await reader.read(entry, 500_000, 6)).toString(), 'unseen')
  t.same([...volume.earlyFiles()], [])
  await volume.recordChanges([overwrite(files[0], 'seen', 500_000)])
  await volume.snapshot(rootFd)
  await sameAsDirectory(t, fixture)
})

t.test('what changes after it was read is dirty against what was read', async (t) => {
  const { fixture, volume, dir, rootFd, files } = await withNews(t)
  await readAll(fixture)
  await volume.recordChanges([
    overwrite(files[0], 'changed', 100),
    overwrite(join(dir, 'old'), 'changed', 2_000_000),
  ])
  t.equal(volume.changedFiles().length, 2)
  t.equal((await readAll(fixture)).read, 2)
  await volume.recordChanges([overwrite(join(dir, 'old'), 'once more', 10)])
  appendFileSync(files[1], 'a tail')
  await volume.recordChanges([change('data', ino(files[1]), { offset: 1_000_000, length: 6 })])
  await volume.snapshot(rootFd)
  await sameAsDirectory(t, fixture)
})

t.test('it outlives a restart, renames, removals, and a file in the place of another', async (t) => {
  const { fixture, dir, rootFd, files } = await withNews(t)
  await readAll(fixture)
  await fixture.reopen()
  t.equal([...fixture.volume.earlyFiles()].length, 2)
  const moved = [named(join(dir, 'new'))]
  renameSync(join(dir, 'new'), join(dir, 'moved'))
  moved.push(named(join(dir, 'moved')), named(files[1]))
  unlinkSync(files[1])
  writeFileSync(files[1], seededBytes(seeded(9), 1_000_000))
  moved.push(named(files[1]), change('truncate', ino(files[1])), change('close', ino(files[1])))
  await fixture.volume.recordChanges(moved)
  writeFileSync(join(dir, 'moved/below/late'), seededBytes(seeded(10), 5000))
  const late = join(dir, 'moved/below/late')
  await fixture.volume.recordChanges([named(late), change('close', ino(late))])
  const { read } = await readAll(fixture)
  t.ok(read >= 1)
  await fixture.volume.snapshot(rootFd)
  await sameAsDirectory(t, fixture)
})

t.test('what is gone, small, or not to be found is left to the snapshot', async (t) => {
  const { fixture, volume, dir, rootFd } = await withNews(t)
  for (const name of ['gone', 'small']) writeFileSync(join(dir, name), 'x'.repeat(400))
  const changes = ['gone', 'small']
    .map((name) => join(dir, name))
    .flatMap((path) => [named(path), change('close', ino(path))])
  const inos = changes.map(({ ino }) => ino)
  unlinkSync(join(dir, 'gone'))
  await volume.recordChanges(changes)
  t.same(await volume.readAhead(rootFd, [...inos, 1n << 60n]), { read: 0, left: [] })
  await volume.snapshot(rootFd)
  await sameAsDirectory(t, fixture)
})

t.test('a file that is held open has changed only when it has', async (t) => {
  const fixture = await protect(t)
  const { dir, rootFd, volume } = fixture
  const files = ['small', 'large'].map((name) => join(dir, name))
  writeFileSync(join(dir, 'small'), 'a few bytes')
  writeFileSync(join(dir, 'large'), seededBytes(seeded(3), 100_000))
  for (const file of files) utimesSync(file, 1e9, 1e9)
  await volume.snapshot(rootFd)
  await volume.recordChanges(files.map((file) => change('open', ino(file))))
  const open = volume.openFiles()
  t.equal(open.length, 2)
  await volume.readAhead(rootFd, open)
  t.match(volume.pending(), { inodes: 0, open: 2 })
  for (const file of files) overwrite(file, 'unseen', 2)
  t.same(await volume.readAhead(rootFd, open), { read: 1, left: [] }, 'the small one goes with its directory')
  t.match(volume.pending(), { inodes: 2, open: 2 })
  await volume.snapshot(rootFd)
  await sameAsDirectory(t, fixture)
  await volume.readAhead(rootFd, open)
  t.match(volume.pending(), { inodes: 0, open: 2 })
})

t.test('a snapshot does not wait for it', async (t) => {
  const { fixture, volume, rootFd } = await withNews(t)
  const inos = volume.changedFiles()
  const [first, snapshot, second] = await Promise.all([
    volume.readAhead(rootFd, inos),
    volume.snapshot(rootFd),
    volume.readAhead(rootFd, inos),
  ])
  t.equal(first.left.length, 2, 'ended before it began')
  t.equal(snapshot.files, 3)
  t.equal(second.read, 0)
  await sameAsDirectory(t, fixture)
})

t.test('writers, reading ahead and snapshots at once: no change is forgotten', async (t) => {
  const fixture = await protect(t)
  const { dir, rootFd, volume } = fixture
  const next = seeded(21)
  const files: string[] = []
  await volume.snapshot(rootFd)
  for (let round = 0; round < 12; round++) {
    const running: Promise<unknown>[] = []
    for (let step = 0; step < 10; step++) {
      const path = join(dir, `file ${next() % 12}`)
      const changes: Change[] = []
      if (!files.includes(path)) {
        writeFileSync(path, seededBytes(next, 1000 + (next() % 1_500_000)))
        changes.push(named(path), change('close', ino(path)))
        files.push(path)
      } else if (next() % 4 === 0) {
        changes.push(named(path))
        unlinkSync(path)
        files.splice(files.indexOf(path), 1)
      } else changes.push(overwrite(path, `step ${round} ${step}`, next() % 900_000))
      await volume.recordChanges(changes)
      if (next() % 3 === 0) running.push(volume.readAhead(rootFd, volume.changedFiles()))
      if (next() % 8 === 0) await Promise.all(running.splice(0))
    }
    await volume.snapshot(rootFd)
    await Promise.all(running)
    await sameAsDirectory(t, fixture)
  }
})
