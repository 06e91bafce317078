import {
  appendFileSync,
  chmodSync,
  closeSync,
  ftruncateSync,
  linkSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  unlinkSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { basename, join } from 'node:path'
import t, { type Test } from 'tap'
import { mknodAt, setXattrAt } from '../../lib/base/posix.js'
import { seeded } from '../../lib/base/random.js'
import type { Change } from '../../lib/format/changes.js'
import { decodeHead } from '../../lib/format/head.js'
import { seededBytes } from '../helpers/bytes.js'
import { movableClock } from '../helpers/fast-clock.js'
import { change, type Fixture, inoOf, protect, sameAsDirectory } from '../helpers/store.js'

t.setTimeout(280_000)

const ino = (path: string | Buffer) => statSync(path, { bigint: true }).ino

/** What kith-fuse would say of a name that came or went. */
function named(dir: string, of = 0n): Change {
  return change('names', of, { parent: ino(dir) })
}

let edits = 0

/** What changed is recorded before the snapshot and told to it in turns. */
async function edit({ volume, rootFd }: Fixture, changes: Change[]) {
  if (edits++ % 2 === 1) return volume.snapshot(rootFd, {}, changes)
  await volume.recordChanges(changes)
  return volume.snapshot(rootFd)
}

function makeTree(dir: string) {
  const next = seeded(3)
  mkdirSync(join(dir, 'a/b/c'), { recursive: true })
  mkdirSync(join(dir, 'empty'))
  for (let i = 0; i < 200; i++) {
    writeFileSync(join(dir, i % 2 ? 'a' : 'a/b', `file ${i}`), seededBytes(next, next() % 3000))
  }
  mkdirSync(join(dir, 'sizes'))
  for (const size of [1, 512, 513, 16_384, 16_385, 65_536, 131_072, 131_073, 700_000])
    writeFileSync(join(dir, 'sizes', `of ${size}`), seededBytes(next, size))
  writeFileSync(join(dir, 'large'), seededBytes(next, 9_000_000))
  writeFileSync(join(dir, 'nothing'), '')
  writeFileSync(join(dir, 'a/b/c/inline'), 'a few bytes')
  linkSync(join(dir, 'large'), join(dir, 'a/b/large too'))
  symlinkSync('/no/such/place', join(dir, 'a/dangling'))
  symlinkSync('b', join(dir, 'a/relative'))
  chmodSync(join(dir, 'a/file 1'), 0o000)
  chmodSync(join(dir, 'a/file 3'), 0o4755)
  utimesSync(join(dir, 'a/file 5'), 1, 1.5)
  writeFileSync(Buffer.concat([Buffer.from(`${dir}/`), Buffer.from([0xff, 0xfe, 0x0a])]), 'bytes')
  writeFileSync(join(dir, 'zwölf 🐙\n'), 'emoji')
  const sparse = openSync(join(dir, 'sparse'), 'w')
  ftruncateSync(sparse, 20_000_000)
  writeSync(sparse, seededBytes(next, 100_000), 0, 100_000, 8_000_000)
  closeSync(sparse)
}

/** By this process, its worker threads included. */
function bytesRead(): number {
  return Number(/^rchar: (\d+)/m.exec(readFileSync('/proc/self/io', 'utf8'))?.[1])
}

t.test('a tree of everything, whole and then as it changes', async (t) => {
  const fixture = await protect(t)
  const { dir, rootFd, volume } = fixture
  makeTree(dir)
  mknodAt(rootFd, Buffer.from('fifo'), 0o010644)
  setXattrAt(rootFd, Buffer.from('large'), Buffer.from('user.z'), Buffer.from('1'))
  setXattrAt(rootFd, Buffer.from('large'), Buffer.from('user.a'), Buffer.alloc(1000, 7))
  setXattrAt(rootFd, Buffer.from('nothing'), Buffer.from('user.n'), Buffer.from('of a small file'))
  setXattrAt(rootFd, Buffer.from('nothing'), Buffer.from('user.m'), Buffer.alloc(0))
  setXattrAt(rootFd, Buffer.from('a'), Buffer.from('user.d'), Buffer.from('of a directory'))
  const first = await volume.snapshot(rootFd)
  t.same(first.problems, [])
  await sameAsDirectory(t, fixture)
  const { count } = fixture.store.blocks
  const second = await volume.snapshot(rootFd)
  t.equal(second.files, first.files)
  t.equal(second.bytesNew, 0)
  t.ok(fixture.store.blocks.count <= count + 3, 'only the snapshot list is new')

  await t.test('one small file changed: its chunk and the nodes above', async (t) => {
    const before = fixture.store.blocks.count
    const path = join(dir, 'a/b/file 100')
    writeFileSync(path, seededBytes(seeded(9), 2000))
    const result = await edit(fixture, [
      change('data', ino(path), { length: 2000 }),
      change('close', ino(path)),
    ])
    // The chunk, and of the snapshot list, the root, a and a/b two leaves or an index at most.
    t.ok(fixture.store.blocks.count - before <= 9, `${fixture.store.blocks.count - before} blocks`)
    t.ok(result.bytesNew < 30_000, `${result.bytesNew} bytes`)
    await sameAsDirectory(t, fixture)
  })

  await t.test('one byte in a large file', async (t) => {
    const before = fixture.store.blocks.bytes
    const fd = openSync(join(dir, 'large'), 'r+')
    writeSync(fd, Buffer.from('!'), 0, 1, 5_000_000)
    closeSync(fd)
    const read = bytesRead()
    await edit(fixture, [change('data', ino(join(dir, 'large')), { offset: 5_000_000, length: 1 })])
    t.ok(bytesRead() - read < 3 * 256 * 1024 + 60_000, 'three chunks are read at most, and nodes')
    t.ok(fixture.store.blocks.bytes - before < 3 * 256 * 1024 + 60_000)
    await sameAsDirectory(t, fixture)
  })

  await t.test('a large file grows and shrinks', async (t) => {
    const path = join(dir, 'large')
    appendFileSync(path, seededBytes(seeded(4), 3_000_000))
    await edit(fixture, [change('data', ino(path), { offset: 9_000_000, length: 3_000_000 })])
    await sameAsDirectory(t, fixture)
    truncateSync(path, 4_123_456)
    await edit(fixture, [change('truncate', ino(path), { offset: 4_123_456 })])
    await sameAsDirectory(t, fixture)
    truncateSync(path, 300_000)
    await edit(fixture, [change('truncate', ino(path), { offset: 300_000 })])
    await sameAsDirectory(t, fixture)
    truncateSync(path, 0)
    await edit(fixture, [change('truncate', ino(path), { offset: 0 })])
    await sameAsDirectory(t, fixture)
  })

  await t.test('names come, go and move', async (t) => {
    const file = ino(join(dir, 'a/file 7'))
    renameSync(join(dir, 'a/file 7'), join(dir, 'empty/moved'))
    unlinkSync(join(dir, 'a/file 9'))
    writeFileSync(join(dir, 'new'), 'new')
    linkSync(join(dir, 'a/file 11'), join(dir, 'second name'))
    mkdirSync(join(dir, 'a/b/c/d/e'), { recursive: true })
    writeFileSync(join(dir, 'a/b/c/d/e/deep'), 'deep')
    await edit(fixture, [
      named(join(dir, 'a'), file),
      named(join(dir, 'empty'), file),
      named(dir, ino(join(dir, 'new'))),
      named(dir, ino(join(dir, 'a/file 11'))),
      named(join(dir, 'a/b/c'), ino(join(dir, 'a/b/c/d'))),
    ])
    await sameAsDirectory(t, fixture)
    const b = ino(join(dir, 'a/b'))
    renameSync(join(dir, 'a/b'), join(dir, 'empty/b moved'))
    writeFileSync(join(dir, 'empty/b moved/c/inline'), 'changed after the move')
    await edit(fixture, [
      named(join(dir, 'a'), b),
      named(join(dir, 'empty'), b),
      change('close', ino(join(dir, 'empty/b moved/c/inline'))),
    ])
    await sameAsDirectory(t, fixture)
    rmSync(join(dir, 'empty/b moved'), { recursive: true })
    unlinkSync(join(dir, 'second name'))
    await edit(fixture, [
      named(join(dir, 'empty'), b),
      change('names', ino(join(dir, 'a/file 11')), { parent: ino(dir) }),
    ])
    await sameAsDirectory(t, fixture)
  })

  await t.test('attributes of files, of directories, of the root', async (t) => {
    chmodSync(join(dir, 'a/file 13'), 0o640)
    chmodSync(join(dir, 'a'), 0o711)
    utimesSync(dir, 5, 5)
    chmodSync(dir, 0o750)
    setXattrAt(rootFd, Buffer.from('empty'), Buffer.from('user.n'), Buffer.from('v'))
    const changed = ['a/file 13', 'a', 'empty', ''].map((name) => change('attributes', ino(join(dir, name))))
    const result = await edit(fixture, changed)
    await sameAsDirectory(t, fixture)
    const reader = volume.reader(fixture.store.blocks)
    const root = await reader.snapshot(result.name)
    t.equal(root.mode, 0o750)
    t.equal(root.mtimeNs, 5_000_000_000n)
  })

  await t.test('a reopened store goes on', async (t) => {
    writeFileSync(join(dir, 'a/file 15'), 'while it was closed')
    await fixture.volume.recordChanges([change('close', ino(join(dir, 'a/file 15')))])
    const { length } = fixture.volume.snapshots()
    await fixture.reopen()
    t.equal(fixture.volume.snapshots().length, length)
    t.equal(fixture.volume.pending().inodes, 1)
    const result = await fixture.volume.snapshot(rootFd)
    await sameAsDirectory(t, fixture)
    t.equal(fixture.volume.pending().inodes, 0)
    const head = decodeHead(fixture.volume.head() as Buffer)
    t.equal(head.sequence, length + 1)
    t.equal(head.blocks, fixture.store.blocks.count)
    t.equal(head.bytes, fixture.store.blocks.bytes)
    t.ok(result.files > 0)
  })

  await t.test('changes nobody recorded are found when everything is compared', async (t) => {
    writeFileSync(join(dir, 'a/file 17'), 'unseen')
    rmSync(join(dir, 'empty'), { recursive: true })
    renameSync(join(dir, 'a'), join(dir, 'was a'))
    await fixture.volume.recordEverything()
    t.ok(fixture.volume.pending().everything)
    await fixture.volume.snapshot(rootFd)
    t.notOk(fixture.volume.pending().everything)
    await sameAsDirectory(t, fixture)
  })
})

/** Random work, told by records alone; `told`: with the names, as kith-fuse tells them. */
async function randomWork(t: Test, seed: number, told: boolean) {
  const fixture = await protect(t)
  const { dir } = fixture
  const next = seeded(seed)
  const named = (path: string, of: bigint): Change => ({
    ...change('names', of, { parent: ino(join(path, '..')) }),
    ...(told && { name: Buffer.from(basename(path)) }),
  })
  const dirs = [dir]
  const files: string[] = []
  let changes: Change[] = []
  const pick = <T>(items: T[]) => items[next() % items.length] as T
  const actions = [
    () => {
      const path = join(pick(dirs), `f${next() % 1000}`)
      if (files.includes(path)) return
      writeFileSync(path, seededBytes(next, next() % 20_000))
      changes.push(named(path, ino(path)), change('close', ino(path)))
      files.push(path)
    },
    () => {
      const path = join(pick(dirs), `d${next() % 1000}`)
      if (dirs.includes(path)) return
      mkdirSync(path)
      changes.push(named(path, ino(path)))
      dirs.push(path)
    },
    () => {
      if (files.length < 5) return
      const path = pick(files)
      changes.push(named(path, ino(path)))
      unlinkSync(path)
      files.splice(files.indexOf(path), 1)
    },
    () => {
      if (files.length === 0) return
      const path = pick(files)
      writeFileSync(path, seededBytes(next, next() % 5000))
      changes.push(change('truncate', ino(path)), change('data', ino(path), { length: statSync(path).size }))
    },
    () => {
      if (files.length === 0) return
      const from = pick(files)
      const to = join(pick(dirs), `r${next() % 1000}`)
      if (files.includes(to)) return
      const of = ino(from)
      changes.push(named(from, of))
      renameSync(from, to)
      changes.push(named(to, of))
      files[files.indexOf(from)] = to
    },
    () => {
      const from = pick(dirs)
      const to = join(pick(dirs), `m${next() % 1000}`)
      if (from === dir || `${to}/`.startsWith(`${from}/`) || dirs.includes(to)) return
      const of = ino(from)
      changes.push(named(from, of))
      renameSync(from, to)
      changes.push(named(to, of))
      const moved = (path: string) =>
        `${path}/`.startsWith(`${from}/`) ? to + path.slice(from.length) : path
      dirs.splice(0, dirs.length, ...dirs.map(moved))
      files.splice(0, files.length, ...files.map(moved))
    },
    () => {
      const gone = pick(dirs)
      if (gone === dir || next() % 3 > 0) return
      const below = (path: string) => `${path}/`.startsWith(`${gone}/`)
      for (const path of dirs.filter(below)) changes.push(named(path, ino(path)))
      for (const path of files.filter(below)) changes.push(named(path, ino(path)))
      rmSync(gone, { recursive: true })
      dirs.splice(0, dirs.length, ...dirs.filter((path) => !below(path)))
      files.splice(0, files.length, ...files.filter((path) => !below(path)))
    },
  ]
  for (let round = 0; round < 30; round++) {
    for (let i = next() % 40; i >= 0; i--) pick(actions)()
    await edit(fixture, changes)
    changes = []
    await sameAsDirectory(t, fixture)
    if (round % 10 === 9) await fixture.reopen()
  }
}

t.test('random work in a tree, by records alone', (t) => randomWork(t, 11, false))
t.test('random work, with the names that changed', (t) => randomWork(t, 12, true))

t.test('where the names are told, a directory is not read', async (t) => {
  const fixture = await protect(t)
  const { dir, rootFd, volume } = fixture
  mkdirSync(join(dir, 'huge'))
  for (let i = 0; i < 300; i++) writeFileSync(join(dir, 'huge', `name ${i}`), '')
  await volume.snapshot(rootFd)
  const at = (name: string) => join(dir, 'huge', name)
  const told = (name: string, of: bigint) =>
    change('names', of, { parent: ino(join(dir, 'huge')), name: Buffer.from(name) })
  writeFileSync(at('told'), '')
  writeFileSync(at('not told'), '')
  const gone = ino(at('name 7'))
  unlinkSync(at('name 7'))
  await volume.recordChanges([told('told', ino(at('told'))), told('name 7', gone)])
  await fixture.reopen()
  await fixture.volume.snapshot(rootFd)
  const reader = fixture.volume.reader(fixture.store.blocks)
  const huge = await reader.resolve(await reader.snapshot('latest'), [Buffer.from('huge')])
  const seen = async (name: string) => (await reader.lookup(huge, Buffer.from(name))) !== undefined
  t.same([await seen('told'), await seen('name 7')], [true, false])
  t.notOk(await seen('not told'))
  t.equal(fixture.volume.pending().inodes, 0)
  await fixture.volume.recordChanges([change('names', 0n, { parent: ino(join(dir, 'huge')) })])
  await fixture.volume.snapshot(rootFd)
  await sameAsDirectory(t, fixture)
})

t.test('moving a directory of 5,000 names costs no more than moving an empty one', async (t) => {
  const fixture = await protect(t)
  const { dir, store, rootFd, volume } = fixture
  mkdirSync(join(dir, 'huge'))
  mkdirSync(join(dir, 'target'))
  for (let i = 0; i < 5_000; i++) writeFileSync(join(dir, 'huge', `name ${i}`), '')
  await volume.snapshot(rootFd)
  const before = store.blocks.count
  const of = ino(join(dir, 'huge'))
  renameSync(join(dir, 'huge'), join(dir, 'target/huge'))
  const result = await edit(fixture, [named(dir, of), named(join(dir, 'target'), of)])
  // Both directories, and the snapshot list with an index.
  t.ok(store.blocks.count - before <= 5, `${store.blocks.count - before} new blocks`)
  t.equal(result.files, 5_000)
  await sameAsDirectory(t, fixture)
  const touched = store.blocks.count
  writeFileSync(join(dir, 'target/huge/name 777'), 'one of them')
  await edit(fixture, [change('close', ino(join(dir, 'target/huge/name 777')))])
  t.ok(store.blocks.count - touched <= 9, `${store.blocks.count - touched} new blocks`)
  await sameAsDirectory(t, fixture)
})

t.test('names stay unique and sorted whatever the clock does', async (t) => {
  const clock = movableClock()
  const { volume, rootFd, store } = await protect(t, clock)
  const names: string[] = []
  for (const move of [0, 0, 0, -86_400_000, 0, 3_600_000, -50_000, 200_000_000]) {
    clock.move(move)
    names.push((await volume.snapshot(rootFd)).name)
  }
  t.equal(new Set(names).size, names.length)
  t.same(
    volume.snapshots().map(({ name }) => name),
    names,
  )
  const reader = volume.reader(store.blocks)
  for (const name of names) t.ok(await reader.snapshot(name))
  await t.rejects(reader.snapshot('2024-06-01T09-30-00Z'), { code: 'notFound' })
})

t.test('calls at once run one after the other', async (t) => {
  const fixture = await protect(t)
  makeTree(fixture.dir)
  const results = await Promise.all([1, 2, 3].map(() => fixture.volume.snapshot(fixture.rootFd)))
  t.equal(new Set(results.map(({ name }) => name)).size, 3)
  t.same(
    fixture.volume.snapshots().map(({ id }) => id),
    results.map(({ id }) => id),
  )
  await sameAsDirectory(t, fixture)
})

t.test('what is recorded during a snapshot stays for the next', async (t) => {
  const fixture = await protect(t)
  const { dir, volume, rootFd } = fixture
  makeTree(dir)
  await volume.snapshot(rootFd)
  writeFileSync(join(dir, 'a/file 1'), 'first')
  const record = change('close', ino(join(dir, 'a/file 1')))
  await volume.recordChanges([record])
  const running = volume.snapshot(rootFd)
  await Promise.resolve()
  await volume.recordChanges([record])
  await running
  t.equal(volume.pending().inodes, 1)
  await volume.snapshot(rootFd)
  t.equal(volume.pending().inodes, 0)
  await sameAsDirectory(t, fixture)
})

t.test('an open file is looked at until it is closed, and when it is opened again', async (t) => {
  const fixture = await protect(t)
  const { dir, volume, rootFd } = fixture
  const path = join(dir, 'database')
  writeFileSync(path, 'one')
  await volume.snapshot(rootFd)
  await volume.recordChanges([change('open', inoOf(rootFd, 'database'))])
  await volume.snapshot(rootFd)
  for (const text of ['two', 'three']) {
    writeFileSync(path, text)
    await volume.snapshot(rootFd)
    await sameAsDirectory(t, fixture)
  }
  await volume.recordChanges([change('close', inoOf(rootFd, 'database'))])
  t.equal(volume.pending().open, 0)
  await volume.recordChanges([change('open', inoOf(rootFd, 'database'))])
  for (const text of ['after the next', 'and once more']) {
    await volume.snapshot(rootFd)
    writeFileSync(path, text)
    await volume.snapshot(rootFd)
    await sameAsDirectory(t, fixture)
    t.equal(volume.pending().open, 1)
  }
  await volume.recordEverything()
  t.equal(volume.pending().open, 0, 'who has it open still is told anew')
})
