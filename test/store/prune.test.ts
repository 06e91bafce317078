import { mkdirSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { seeded } from '../../lib/base/random.js'
import { Prune } from '../../lib/store/prune.js'
import type { TreeReader } from '../../lib/store/tree-reader.js'
import { seededBytes } from '../helpers/bytes.js'
import { change, type Fixture, inoOf, linesOfSnapshot, protect, sameAsDirectory } from '../helpers/store.js'

t.setTimeout(280_000)

const names = ({ volume }: Fixture) => volume.snapshots().map(({ name }) => name)
const linesOf = async (reader: TreeReader, name: string) =>
  (await linesOfSnapshot(reader, await reader.snapshot(name))).join('\n')

/** Changes a few files, with contents that come back now and then, and takes a snapshot. */
class Story {
  readonly lines = new Map<string, string>()

  constructor(
    readonly fixture: Fixture,
    readonly next: () => number,
  ) {
    for (let i = 0; i < 4; i++) mkdirSync(join(fixture.dir, `d${i}`), { recursive: true })
  }

  edit(): void {
    for (let i = 0; i < 6; i++) {
      const path = join(this.fixture.dir, `d${this.next() % 4}`, `f${this.next() % 12}`)
      if (this.next() % 5 === 0) rmSync(path, { force: true })
      // One of thirty contents: what was forgotten comes back.
      else writeFileSync(path, seededBytes(seeded(this.next() % 30), 2000 + (this.next() % 2) * 400_000))
    }
  }

  async take(): Promise<string> {
    const { fixture } = this
    this.edit()
    await fixture.volume.recordEverything()
    const { name } = await fixture.volume.snapshot(fixture.rootFd)
    this.lines.set(name, await linesOf(fixture.volume.reader(fixture.store.blocks), name))
    return name
  }

  /** Every snapshot listed is what it was when it was taken. */
  async verify(t: Test, what: string): Promise<void> {
    const { volume, store } = this.fixture
    const reader = volume.reader(store.blocks)
    const wrong = []
    for (const name of names(this.fixture)) {
      if ((await linesOf(reader, name)) !== this.lines.get(name)) wrong.push(name)
    }
    t.same(wrong, [], what)
  }

  async forget(count: number): Promise<void> {
    const all = names(this.fixture)
    const gone = new Set<string>()
    for (let i = 0; i < count; i++) gone.add(all[this.next() % all.length] ?? '')
    await this.fixture.volume.forget([...gone].filter(Boolean))
  }
}

const segmentsOf = ({ home }: Fixture) =>
  readdirSync(join(home, 'segments')).reduce(
    (sum, name) => sum + statSync(join(home, 'segments', name)).size,
    0,
  )

t.test('what no snapshot needs goes, all else stays', async (t) => {
  const fixture = await protect(t)
  const story = new Story(fixture, seeded(31))
  for (let round = 0; round < 4; round++) {
    for (let i = 0; i < 3; i++) await story.take()
    await story.forget(2)
    const { store } = fixture
    const before = store.blocks.count
    const plan = await store.prune({ dryRun: true })
    t.equal(store.blocks.count, before, 'a dry run removes nothing')
    const done = await store.prune({})
    t.ok(done.blocks > 0)
    t.same([done.blocks, done.bytes], [plan.blocks, plan.bytes], 'as planned')
    t.equal(before - done.blocks, store.blocks.count)
    t.equal(done.blocksKept, store.blocks.count)
    t.equal(done.bytesKept, store.blocks.bytes)
    t.same((await store.prune({})).blocks, 0, 'nothing is left to prune')
    await story.verify(t, `round ${round}`)
    if (round % 2 === 1) await fixture.reopen()
  }
  await story.take()
  await sameAsDirectory(t, fixture)
  const { volume, store } = fixture
  const row = store.row(volume.id)
  t.ok(row.blocks > 0 && row.blocks <= store.blocks.count, `${row.blocks} of ${store.blocks.count}`)
  await volume.forget(names(fixture).slice(0, -1))
  await store.prune({})
  const live = store.blocks.bytes
  t.ok(segmentsOf(fixture) <= 2.2 * live + 100_000, `${segmentsOf(fixture)} on disk for ${live}`)
})

t.test('the newest forgotten, or all: the next snapshot finds what it goes on from', async (t) => {
  const fixture = await protect(t)
  const story = new Story(fixture, seeded(32))
  for (let i = 0; i < 3; i++) await story.take()
  await fixture.volume.forget(['latest'])
  await fixture.store.prune({})
  await story.verify(t, 'after the newest went')
  // Only one file changes: all else is taken over from the tables.
  writeFileSync(join(fixture.dir, 'd0', 'one more'), seededBytes(seeded(1), 300_000))
  await fixture.volume.recordChanges([change('names', 0n, { parent: inoOf(fixture.rootFd, 'd0') })])
  await fixture.volume.snapshot(fixture.rootFd)
  await sameAsDirectory(t, fixture)
  await fixture.volume.forget(names(fixture))
  await fixture.store.prune({})
  await fixture.reopen()
  await fixture.volume.snapshot(fixture.rootFd)
  await sameAsDirectory(t, fixture)
})

t.test('content that comes back between the marking and the sweep stays', async (t) => {
  const fixture = await protect(t)
  const { dir, volume, store, rootFd } = fixture
  const content = seededBytes(seeded(5), 3_000_000)
  writeFileSync(join(dir, 'file'), content)
  await volume.snapshot(rootFd)
  writeFileSync(join(dir, 'file'), 'other')
  await volume.recordEverything()
  await volume.snapshot(rootFd)
  await volume.forget([names(fixture)[0] ?? ''])
  let again: Promise<unknown> | undefined
  const done = await store.prune({
    progress(stage) {
      if (stage !== 'sweep' || again) return
      writeFileSync(join(dir, 'file'), content)
      again = volume.recordEverything().then(() => volume.snapshot(rootFd))
    },
  })
  await again
  t.ok(done.blocks > 0, 'the old list went')
  await sameAsDirectory(t, fixture)
  t.ok((await volume.reader(store.blocks).read(await fileIn(fixture), 0, 3_000_000)).equals(content))
})

async function fileIn({ volume, store }: Fixture) {
  const reader = volume.reader(store.blocks)
  return reader.resolve(await reader.snapshot('latest'), [Buffer.from('file')])
}

t.test('what was read ahead of the next snapshot stays', async (t) => {
  const fixture = await protect(t)
  const story = new Story(fixture, seeded(37))
  for (let i = 0; i < 3; i++) await story.take()
  const { dir, rootFd, store, volume } = fixture
  const content = seededBytes(seeded(38), 2_000_000)
  writeFileSync(join(dir, 'file'), content)
  const ino = inoOf(rootFd, 'file')
  const named = change('names', ino, { parent: inoOf(rootFd), name: Buffer.from('file') })
  await volume.recordChanges([named, change('close', ino)])
  t.match(await volume.readAhead(rootFd, [ino]), { read: 1 })
  await volume.forget(names(fixture).slice(0, 2))
  const before = store.blocks.count
  const done = await store.prune({})
  t.equal(store.blocks.count, before - done.blocks)
  const { bytesNew } = await volume.snapshot(rootFd)
  t.ok(bytesNew < 100_000, `${bytesNew} new bytes: the content was there already`)
  await sameAsDirectory(t, fixture)
})

t.test('what a restore has open stays until it ends', async (t) => {
  const fixture = await protect(t)
  const story = new Story(fixture, seeded(33))
  const first = await story.take()
  const { volume, store } = fixture
  const reader = volume.reader(store.blocks)
  const root = await reader.snapshot(first)
  const release = volume.hold(root.node)
  for (let i = 0; i < 4; i++) await story.take()
  await volume.forget([first])
  await store.prune({})
  t.equal((await linesOfSnapshot(reader, root)).join('\n'), story.lines.get(first))
  release()
  t.ok((await store.prune({})).blocks > 0)
  await t.rejects(
    linesOfSnapshot(volume.reader(store.blocks), root),
    { code: 'damaged' },
    'never a wrong byte',
  )
})

t.test('snapshots, prunes, forgetting and reading at once', async (t) => {
  const fixture = await protect(t)
  const story = new Story(fixture, seeded(34))
  for (let i = 0; i < 3; i++) await story.take()
  const { store, volume } = fixture
  let ended = false
  let prunes = 0
  const pruning = async () => {
    while (!ended) {
      await store.prune({})
      prunes++
    }
  }
  const failures: string[] = []
  const reading = async () => {
    while (!ended) {
      const [oldest = ''] = names(fixture)
      const reader = volume.reader(store.blocks)
      const root = await reader.snapshot(oldest)
      const release = volume.hold(root.node)
      const text = (await linesOfSnapshot(reader, root)).join('\n')
      if (text !== story.lines.get(oldest)) failures.push(oldest)
      release()
      // What is cached is read without a turn of the event loop: the others would never have theirs.
      await new Promise((resolve) => setImmediate(resolve))
    }
  }
  const others = [pruning(), reading()]
  for (let i = 0; i < 12; i++) {
    await story.take()
    if (names(fixture).length > 4) await volume.forget(names(fixture).slice(0, 2))
  }
  ended = true
  await Promise.all(others)
  t.same(failures, [])
  t.ok(prunes > 2, `${prunes} prunes`)
  await story.verify(t, 'all that are left')
  await sameAsDirectory(t, fixture)
  await store.prune({})
  await story.verify(t, 'after the last prune')
})

t.test('a node that cannot be read stops it, before anything is removed', async (t) => {
  const fixture = await protect(t)
  const story = new Story(fixture, seeded(35))
  for (let i = 0; i < 3; i++) await story.take()
  const { volume, store } = fixture
  await volume.forget([names(fixture)[0] ?? ''])
  const root = await volume.reader(store.blocks).snapshot('latest')
  const kept = await store.blocks.get(root.node.name)
  await store.blocks.remove([root.node.name])
  const before = store.blocks.count
  await t.rejects(store.prune({}), { code: 'damaged' })
  t.equal(store.blocks.count, before)
  const remote = { get: (name: Buffer) => Promise.resolve(name.equals(root.node.name) ? kept : undefined) }
  t.ok((await store.prune({ remote })).blocks > 0, 'a partner has it')
  await story.verify(t, 'whole again')
})

t.test('numbers never come again, and the index takes no more space', async (t) => {
  const fixture = await protect(t)
  const sizes: number[] = []
  let last = 0
  for (let round = 0; round < 20; round++) {
    for (let i = 0; i < 60; i++)
      writeFileSync(join(fixture.dir, `f${i}`), seededBytes(seeded(round * 100 + i), 70_000))
    await fixture.volume.recordEverything()
    await fixture.volume.snapshot(fixture.rootFd)
    t.ok(fixture.store.blocks.lastSequence > last)
    last = fixture.store.blocks.lastSequence
    await fixture.volume.forget(names(fixture))
    await fixture.store.prune({})
    await fixture.store.removed.told(Infinity)
    if (round % 5 === 0) await fixture.reopen()
    t.ok(
      fixture.store.blocks.lastSequence >= last,
      'also after the newest went and the store was opened anew',
    )
    sizes.push(statSync(join(fixture.home, 'data.mdb')).size)
  }
  t.ok((sizes[19] ?? 0) <= 1.5 * (sizes[7] ?? 0), `${sizes[7]} bytes after 8 rounds, ${sizes[19]} after 20`)
  t.ok(fixture.store.removed.last > 60)
})

t.test('a second prune at a time is refused, one that is cancelled leaves all whole', async (t) => {
  const fixture = await protect(t)
  const story = new Story(fixture, seeded(36))
  for (let i = 0; i < 6; i++) await story.take()
  await fixture.volume.forget(names(fixture).slice(0, 5))
  const first = fixture.store.prune({})
  await t.rejects(fixture.store.prune({}), { code: 'busy' })
  await first
  const off = new AbortController()
  await story.take()
  await fixture.volume.forget(names(fixture).slice(0, 1))
  await t.rejects(fixture.store.prune({ signal: off.signal, progress: () => off.abort() }), {
    code: 'cancelled',
  })
  await story.verify(t, 'cancelled')
  const ended = t.rejects(fixture.store.prune({}), { code: 'cancelled' }, 'a store that is closed ends it')
  await fixture.reopen()
  await ended
  await story.verify(t, 'opened again')
  t.ok(new Prune(fixture.store, {}), 'nothing is locked')
})
