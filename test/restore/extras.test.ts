// `restore --delete`: what goes, and above all what stays.
import t, { type Test } from 'tap'
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { seeded } from '../../lib/base/random.js'
import type { Entry } from '../../lib/format/node.js'
import { planRestore } from '../../lib/restore/plan.js'
import { RestoreIncomplete, restoreTree, type RestoreOptions } from '../../lib/restore/restore.js'
import { changeSomething, everyPath, growTree, leftOutOf, lineOf, rootOf } from '../helpers/live-tree.js'
import { type Fixture, protect, sameAsDirectory } from '../helpers/store.js'
import { compareTrees, describeTree } from '../helpers/tree.js'

t.setTimeout(120_000)

const isRoot = process.geteuid?.() === 0

async function taken(t: Test, fill: (dir: string) => void): Promise<Fixture> {
  const fixture = await protect(t)
  fill(fixture.dir)
  await fixture.volume.recordEverything()
  await fixture.volume.snapshot(fixture.rootFd)
  return fixture
}

function readerOf({ volume, store }: Fixture) {
  return volume.reader(store.blocks)
}

async function restore(fixture: Fixture, more: RestoreOptions = {}, to = fixture.dir, entry?: Entry) {
  const options = { overwrite: 'if-changed' as const, delete: leftOutOf(fixture, true), ...more }
  return restoreTree(readerOf(fixture), entry ?? (await rootOf(fixture)), to, options)
}

async function planned(fixture: Fixture, more: RestoreOptions = {}, to = fixture.dir): Promise<string[]> {
  const options = { overwrite: 'if-changed' as const, delete: leftOutOf(fixture, true), ...more }
  const lines: string[] = []
  for await (const { mark, path } of planRestore(readerOf(fixture), await rootOf(fixture), to, options))
    lines.push(lineOf(mark, path))
  return lines
}

t.test('the directory becomes what it was', async (t) => {
  const fixture = await taken(t, (dir) => {
    mkdirSync(join(dir, 'a'))
    writeFileSync(join(dir, 'a', 'kept'), 'kept')
    writeFileSync(join(dir, 'top'), 'top')
  })
  const { dir } = fixture
  const outside = join(dir, '..', 'outside')
  mkdirSync(outside)
  writeFileSync(join(outside, 'canary'), 'canary')
  const before = statSync(join(dir, 'a')).mtimeMs
  mkdirSync(join(dir, 'a', 'new', 'deep'), { recursive: true })
  writeFileSync(join(dir, 'a', 'new', 'deep', 'x'), 'x')
  symlinkSync(outside, join(dir, 'away'))
  writeFileSync(join(dir, 'top'), 'changed')
  t.same(await planned(fixture), ['- a/new', '- a/new/deep', '- a/new/deep/x', '- away', 'M top'])
  t.match(await restore(fixture), { removed: 4, stayed: 0, skipped: 1 })
  await sameAsDirectoryButNumbers(t, fixture)
  t.equal(statSync(join(dir, 'a')).mtimeMs, before, 'with the times of directories')
  t.equal(readFileSync(join(outside, 'canary'), 'utf8'), 'canary', 'links are not followed')
  t.same(await planned(fixture), [], 'and there is nothing left to do')
})

/** A file that was written anew has another inode number and ctime. */
async function sameAsDirectoryButNumbers(t: Test, fixture: Fixture): Promise<void> {
  const to = join(fixture.home, '..', 'copy')
  await restoreTree(readerOf(fixture), await rootOf(fixture), to)
  t.same(compareTrees(await describeTree(fixture.dir), await describeTree(to)), [])
  rmSync(to, { recursive: true })
}

t.test('what rules leave out of snapshots stays: those of then, and those of now', async (t) => {
  const fixture = await taken(t, (dir) => {
    writeFileSync(join(dir, '.kithignore'), '*.o\n')
    mkdirSync(join(dir, 'd'))
    writeFileSync(join(dir, 'd', 'kept'), 'kept')
  })
  const { dir } = fixture
  // Since then the rules have changed: private/ is in no snapshot, and these are its only copies.
  writeFileSync(join(dir, '.kithignore'), 'private/\n')
  mkdirSync(join(dir, 'private'))
  writeFileSync(join(dir, 'private', 'photo'), 'only copy')
  mkdirSync(join(dir, 'new', 'private'), { recursive: true })
  writeFileSync(join(dir, 'new', 'private', 'photo'), 'only copy')
  writeFileSync(join(dir, 'new', 'goes'), '')
  writeFileSync(join(dir, 'd', 'built.o'), 'left out by the rules of then')
  writeFileSync(join(dir, 'd', '.kithignore'), 'notes\n')
  writeFileSync(join(dir, 'd', 'notes'), 'left out by a file that goes')
  t.same(await planned(fixture), ['M .kithignore', '- d/.kithignore', '- new', '- new/goes'])
  t.match(await restore(fixture), { removed: 2, stayed: 5 })
  t.same(everyPath(dir).sort(), [
    '.kithignore',
    'd',
    'd/built.o',
    'd/kept',
    'd/notes',
    'new',
    'new/private',
    'new/private/photo',
    'private',
    'private/photo',
  ])
  t.equal(readFileSync(join(dir, '.kithignore'), 'utf8'), '*.o\n')
})

t.test('what is made or changed while the restore runs stays', async (t) => {
  const fixture = await taken(t, (dir) => writeFileSync(join(dir, 'file'), 'file'))
  const { dir } = fixture
  mkdirSync(join(dir, 'extra'))
  for (const name of ['same', 'changed']) writeFileSync(join(dir, 'extra', name), name)
  rmSync(join(dir, 'file'))
  const progress = () => {
    writeFileSync(join(dir, 'extra', 'changed'), 'and saved once more')
    writeFileSync(join(dir, 'late'), 'late')
  }
  t.match(await restore(fixture, { progress }), { removed: 1, stayed: 2 })
  t.same(everyPath(dir).sort(), ['extra', 'extra/changed', 'file', 'late'])
})

t.test('where anything could not be restored, nothing goes', async (t) => {
  const fixture = await taken(t, (dir) => writeFileSync(join(dir, 'file'), 'file'))
  const { dir } = fixture
  rmSync(join(dir, 'file'))
  mkdirSync(join(dir, 'file'))
  writeFileSync(join(dir, 'file', 'inside'), '')
  writeFileSync(join(dir, 'extra'), '')
  const blocked = []
  const root = await rootOf(fixture)
  const options = { overwrite: 'always' as const, delete: leftOutOf(fixture, true) }
  for await (const item of planRestore(readerOf(fixture), root, dir, options))
    if (item.blocked) blocked.push(lineOf(item.mark, item.path))
  t.same(blocked, ['T file'])
  await t.rejects(restore(fixture, { overwrite: 'always' }), RestoreIncomplete)
  t.same(everyPath(dir).sort(), ['extra', 'file', 'file/inside'])
})

t.test('dangerous and contradictory wishes are refused before anything is done', async (t) => {
  const fixture = await taken(t, (dir) => {
    mkdirSync(join(dir, 'empty'))
    writeFileSync(join(dir, 'file'), 'file')
  })
  const to = join(fixture.dir, '..', 'to')
  mkdirSync(to)
  writeFileSync(join(to, 'mine'), 'mine')
  const root = await rootOf(fixture)
  const reader = readerOf(fixture)
  const [empty, file] = await Promise.all(
    ['empty', 'file'].map((name) => reader.resolve(root, [Buffer.from(name)])),
  )
  for (const [more, entry, message] of [
    [{}, empty, /nothing there/],
    [{}, file, /single file/],
    [{ overwrite: 'never' }, root, /--overwrite/],
    [{ filter: { include: ['x'], exclude: [] } }, root, /patterns/],
  ] as [RestoreOptions, Entry, RegExp][]) {
    const refusal = { code: 'usage', message }
    await t.rejects(restore(fixture, more, to, entry), refusal)
    const options = { overwrite: 'always' as const, delete: leftOutOf(fixture, true), ...more }
    await t.rejects(planRestore(reader, entry, to, options).next(), refusal, 'and by the dry run')
  }
  t.same(readdirSync(to), ['mine'])
})

t.test('a dry run writes nothing, and tells the conflicts that never meets', async (t) => {
  const fixture = await taken(t, (dir) => {
    mkdirSync(join(dir, 'd'))
    writeFileSync(join(dir, 'd', 'file'), 'file')
  })
  const to = join(fixture.dir, '..', 'to')
  const free = { overwrite: 'never' } as const
  const plan = async (options: RestoreOptions) => {
    const lines: string[] = []
    for await (const { mark, path } of planRestore(readerOf(fixture), await rootOf(fixture), to, options))
      lines.push(lineOf(mark, path))
    return lines
  }
  t.same(await plan(free), ['+ d', '+ d/file'])
  t.notOk(existsSync(to))
  await restoreTree(readerOf(fixture), await rootOf(fixture), to)
  await t.rejects(plan(free), { code: 'exists' })
  t.same(await plan({ overwrite: 'always' }), ['= d/file'], 'the same, and written again')
  t.same(await plan({ overwrite: 'if-changed' }), [])
  const filter = { include: ['other'], exclude: [] }
  t.same(await plan({ overwrite: 'always', filter }), [])
  const file = await readerOf(fixture).resolve(await rootOf(fixture), ['d', 'file'].map(Buffer.from))
  const single = planRestore(readerOf(fixture), file, join(to, 'd'), { overwrite: 'never' })
  await t.rejects(single.next(), { code: 'exists', message: /d\/file exists/ })
  writeFileSync(join(to, 'plain'), '')
  const onto = planRestore(readerOf(fixture), await rootOf(fixture), join(to, 'plain'), free)
  await t.rejects(onto.next(), { code: 'exists' })
})

for (let seed = 1; seed <= 6; seed++) {
  t.test(`a plan is what happens: seed ${seed}`, { skip: isRoot ? false : 'needs root' }, async (t) => {
    const random = seeded(seed)
    const fixture = await taken(t, (dir) => growTree(dir, random, 50))
    const { dir } = fixture
    const saved = await describeTree(dir)
    for (let i = 0; i < 30; i++) changeSomething(dir, random, `c${i}`)
    // A directory that stands where a file was is the user's to move.
    const root = await rootOf(fixture)
    const options = { overwrite: 'always' as const, delete: leftOutOf(fixture, true) }
    const changed = await describeTree(dir)
    const told = await planned(fixture, { overwrite: 'always' })
    t.same(compareTrees(changed, await describeTree(dir)), [], 'planning changes nothing')
    const result = await restoreTree(readerOf(fixture), root, dir, options)
    t.equal(result.removed, told.filter((line) => line.startsWith('-')).length)
    t.same(compareTrees(saved, await describeTree(dir)), [])
    t.same(await planned(fixture), [])
  })
}

t.test('an untouched directory needs nothing', async (t) => {
  const fixture = await taken(t, (dir) => growTree(dir, seeded(99), 30))
  t.same(await planned(fixture), [])
  t.match(await restore(fixture), { removed: 0, stayed: 0 })
  await sameAsDirectory(t, fixture)
})
