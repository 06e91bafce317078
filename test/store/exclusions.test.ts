import { linkSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { systemClock } from '../../lib/base/clock.js'
import { silentLog } from '../../lib/base/log.js'
import { seeded } from '../../lib/base/random.js'
import { noExcludes } from '../../lib/store/rules.js'
import { Store } from '../../lib/store/store.js'
import { seededBytes } from '../helpers/bytes.js'
import { Edited, ino } from '../helpers/edited.js'
import { change, linesOfSnapshot, protect, sameAsDirectory, testIdentity } from '../helpers/store.js'

t.setTimeout(280_000)

const signature = 'Signature: 8a477f597d28d172789f06886806bc55\n'
/** What a volume that has never been there makes of the directory. */
async function afresh(t: Test, { fixture }: Edited) {
  const home = mkdtempSync(join(tmpdir(), 'kith-test-'))
  t.teardown(() => rmSync(home, { recursive: true, force: true }))
  const store = await Store.open(home, {
    clock: systemClock,
    log: silentLog(),
    identity: testIdentity,
    workers: 1,
  })
  try {
    const volume = await store.createVolume({ dir: fixture.dir })
    await volume.setExcludes(fixture.volume.excludes())
    const { excluded } = await volume.snapshot(fixture.rootFd)
    const reader = volume.reader(store.blocks)
    return { excluded, lines: await linesOfSnapshot(reader, await reader.snapshot('latest')) }
  } finally {
    await store.close()
  }
}

async function sameAsAfresh(t: Test, edited: Edited, what = ''): Promise<boolean> {
  const { fixture } = edited
  const wanted = await afresh(t, edited)
  const reader = fixture.volume.reader(fixture.store.blocks)
  const lines = await linesOfSnapshot(reader, await reader.snapshot('latest'))
  const there = new Set(wanted.lines)
  const here = new Set(lines)
  return t.same(
    {
      missing: wanted.lines.filter((line) => !here.has(line)),
      extra: lines.filter((line) => !there.has(line)),
      excluded: fixture.volume.excluded(),
    },
    { missing: [], extra: [], excluded: wanted.excluded },
    what,
  )
}

t.test('.kithignore: what it names leaves, and comes back, though nothing in it changed', async (t) => {
  const edited = new Edited(await protect(t))
  edited.mkdir('src')
  edited.mkdir('src/deep')
  for (const name of ['a.c', 'a.o', 'src/b.c', 'src/b.o', 'src/deep/c.o']) edited.write(name, name)
  await edited.snapshot()
  t.equal((await edited.paths()).length, 7)

  edited.write('.kithignore', '*.o\n')
  const { excluded, files } = await edited.snapshot()
  t.same(excluded, { pattern: 3, cache: 0, large: 0 })
  t.equal(files, 3)
  t.same(await edited.paths(), ['.kithignore', 'a.c', 'src', 'src/b.c', 'src/deep'])
  await sameAsAfresh(t, edited)

  edited.write('src/deep/.kithignore', '!c.o\n')
  edited.write('src/new.o', 'new')
  t.same((await edited.snapshot()).excluded, { pattern: 3, cache: 0, large: 0 })
  t.ok((await edited.paths()).includes('src/deep/c.o'))
  await sameAsAfresh(t, edited)

  await edited.fixture.reopen()
  edited.unlink('.kithignore')
  t.same((await edited.snapshot()).excluded, { pattern: 0, cache: 0, large: 0 })
  await sameAsDirectory(t, edited.fixture)
})

t.test('a .kithignore that leaves itself out is seen when it changes', async (t) => {
  const edited = new Edited(await protect(t))
  edited.write('.kithignore', '.*\n')
  edited.write('x', 'x')
  edited.write('.hidden', 'x')
  await edited.snapshot()
  t.same(await edited.paths(), ['x'])
  edited.write('.kithignore', 'x\n')
  await edited.snapshot()
  t.same(await edited.paths(), ['.hidden', '.kithignore'])
})

t.test('caches keep their tag', async (t) => {
  const edited = new Edited(await protect(t))
  edited.write('CACHEDIR.TAG', signature)
  edited.mkdir('cache')
  edited.mkdir('cache/below')
  edited.write('cache/below/x', 'x')
  edited.write('cache/y', 'y')
  await edited.snapshot()
  await sameAsDirectory(t, edited.fixture)
  await edited.fixture.volume.setExcludes({ ...noExcludes, caches: true })
  edited.write('cache/CACHEDIR.TAG', signature)
  t.same((await edited.snapshot()).excluded, { pattern: 0, cache: 1, large: 0 })
  t.same(await edited.paths(), ['CACHEDIR.TAG', 'cache', 'cache/CACHEDIR.TAG'], 'but the root is none')
  edited.write('cache/y', 'again')
  edited.write('cache/z', 'z')
  t.same((await edited.snapshot()).excluded, { pattern: 0, cache: 1, large: 0 })
  t.equal((await edited.paths()).length, 3)
  edited.write('cache/CACHEDIR.TAG', 'no more')
  t.same((await edited.snapshot()).excluded, { pattern: 0, cache: 0, large: 0 })
  await sameAsDirectory(t, edited.fixture)
})

t.test('files beyond the size leave when they grow, and come back when they shrink', async (t) => {
  const edited = new Edited(await protect(t))
  await edited.fixture.volume.setExcludes({ ...noExcludes, largerThan: 10_000 })
  edited.write('x', Buffer.alloc(9000, 1))
  edited.write('y', Buffer.alloc(11_000, 1))
  await edited.snapshot()
  t.same(await edited.paths(), ['x'])
  edited.truncate('x', 20_000)
  t.same((await edited.snapshot()).excluded, { pattern: 0, cache: 0, large: 2 })
  t.same(await edited.paths(), [])
  edited.truncate('x', 500)
  edited.truncate('y', 500)
  t.same((await edited.snapshot()).excluded, { pattern: 0, cache: 0, large: 0 })
  await sameAsDirectory(t, edited.fixture)
  edited.truncate('x', 20_000)
  linkSync(edited.path('y'), edited.path('z'))
  edited.changes.push(change('names', ino(edited.path('y')), { parent: ino(edited.path('.')) }))
  edited.changes.push(change('open', ino(edited.path('x'))))
  await edited.snapshot()
  truncateSync(edited.path('x'), 5)
  await edited.snapshot()
  await sameAsDirectory(t, edited.fixture)
})

t.test('a directory that is moved comes under other rules', async (t) => {
  const edited = new Edited(await protect(t))
  edited.write('.kithignore', '/a/out\n/b/d/x\n')
  for (const name of ['a', 'a/d', 'a/d/e', 'b', 'out']) edited.mkdir(name)
  edited.write('a/d/x', 'x')
  edited.write('out/y', 'y')
  edited.write('a/d/e/z', 'z')
  await edited.snapshot()
  await sameAsDirectory(t, edited.fixture)
  edited.rename('a/d', 'b/d')
  edited.rename('out', 'a/out')
  t.same((await edited.snapshot()).excluded, { pattern: 2, cache: 0, large: 0 })
  t.same(await edited.paths(), ['.kithignore', 'a', 'b', 'b/d', 'b/d/e', 'b/d/e/z'])
  edited.rename('b/d', 'd')
  edited.rename('a/out', 'b/out')
  await edited.snapshot()
  await sameAsDirectory(t, edited.fixture)
})

t.test('what is left out is not read ahead', async (t) => {
  const edited = new Edited(await protect(t))
  const { volume, rootFd } = edited.fixture
  await volume.setExcludes({ ...noExcludes, caches: true, largerThan: 5000 })
  edited.write('.kithignore', '*.o\n/out/\n')
  await edited.snapshot()
  for (const name of ['out', 'out/below', 'cache']) edited.mkdir(name)
  edited.write('cache/CACHEDIR.TAG', signature)
  for (const name of ['x', 'x.o', 'out/y', 'out/below/z', 'cache/w'])
    edited.write(name, Buffer.alloc(4000, name))
  edited.write('large', Buffer.alloc(6000, 1))
  await volume.recordChanges(edited.changes)
  edited.changes = []
  const { read } = await volume.readAhead(rootFd, volume.changedFiles())
  t.same([read, [...volume.earlyFiles()].map(({ name }) => name.toString())], [1, ['x']])
  t.same((await edited.snapshot()).excluded, { pattern: 2, cache: 1, large: 1 })
  await sameAsAfresh(t, edited)
})

t.test('a change costs what changed, with rules in the root', async (t) => {
  const edited = new Edited(await protect(t))
  edited.write('.kithignore', '*.o\nnode_modules/\n')
  edited.mkdir('huge')
  for (let i = 0; i < 300; i++) writeFileSync(edited.path(`huge/${i}`), '')
  edited.mkdir('target')
  await edited.snapshot()
  const { store, volume, rootFd } = edited.fixture
  const before = store.blocks.count
  edited.rename('huge', 'target/huge')
  await edited.snapshot()
  t.ok(store.blocks.count - before <= 5, `${store.blocks.count - before} new blocks`)
  // Nothing in it was looked at: a change without a record is not seen.
  writeFileSync(edited.path('target/huge/unrecorded'), '')
  edited.rename('target/huge', 'huge')
  await edited.snapshot()
  t.equal((await volume.snapshot(rootFd)).files, 301)
})

t.test('random work under random rules, by records alone', async (t) => {
  const edited = new Edited(await protect(t))
  const next = seeded(29)
  const pick = <T>(items: readonly T[]) => items[next() % items.length] as T
  const names = ['a', 'b', 'c.o', 'keep', 'build', 'CACHEDIR.TAG', '.kithignore']
  const lines = ['*.o', '/a', 'build/', 'b/keep', '!keep', '*', '!b/', 'a/**/c.o', '.kithignore', '!c.o', '']
  const rules = () => Array.from({ length: next() % 3 }, () => pick(lines)).join('\n')
  const dirs = ['.']
  const files = new Set<string>()
  const below = (dir: string) => (path: string) => `${path}/`.startsWith(`${dir}/`)
  const content = (path: string) => {
    if (path.endsWith('.kithignore')) return rules()
    if (path.endsWith('.TAG')) return next() % 2 ? signature : 'no'
    return seededBytes(next, next() % 3000)
  }
  const actions = [
    () => {
      const path = join(pick(dirs), pick(names))
      if (dirs.includes(path)) return
      edited.write(path, content(path))
      files.add(path)
    },
    () => {
      const path = join(pick(dirs), pick(['a', 'b', 'build', 'x']))
      if (files.has(path) || dirs.includes(path)) return
      edited.mkdir(path)
      dirs.push(path)
    },
    () => {
      const path = pick([...files])
      if (!path) return
      edited.unlink(path)
      files.delete(path)
    },
    () => {
      const path = pick([...files])
      if (path && !/TAG|ignore/.test(path)) edited.truncate(path, next() % 3000)
    },
    () => {
      const from = pick(dirs)
      const to = join(pick(dirs), pick(['a', 'b', 'build', 'y']))
      if (from === '.' || below(from)(to) || files.has(to) || dirs.includes(to)) return
      edited.rename(from, to)
      const move = (path: string) => (below(from)(path) ? to + path.slice(from.length) : path)
      dirs.splice(0, dirs.length, ...dirs.map(move))
      const moved = [...files].map(move)
      files.clear()
      for (const path of moved) files.add(path)
    },
    () => {
      const dir = pick(dirs)
      if (dir === '.' || next() % 4 > 0) return
      edited.remove(dir)
      dirs.splice(0, dirs.length, ...dirs.filter((path) => !below(dir)(path)))
      for (const path of [...files].filter(below(dir))) files.delete(path)
    },
  ]
  for (let round = 0; round < 25; round++) {
    if (round % 8 === 3) {
      const patterns = next() % 2 ? [pick(lines) || 'x'] : []
      const largerThan = next() % 2 ? 1500 : null
      await edited.fixture.volume.setExcludes({ patterns, caches: next() % 4 > 0, largerThan })
    }
    for (let i = 1 + (next() % 12); i > 0; i--) pick(actions)()
    await edited.snapshot()
    if (!(await sameAsAfresh(t, edited, `round ${round}`))) return
    if (round % 10 === 9) await edited.fixture.reopen()
  }
})
