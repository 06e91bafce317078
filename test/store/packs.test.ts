import {
  appendFileSync,
  cpSync,
  mkdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { seeded } from '../../lib/base/random.js'
import { close, openRoot } from '../../lib/base/posix.js'
import type { BlockReader } from '../../lib/blocks/block-store.js'
import type { Entry, FileEntry, PartExtent } from '../../lib/format/node.js'
import { restoreTree } from '../../lib/restore/restore.js'
import { diffTrees } from '../../lib/store/tree-diff.js'
import type { TreeReader } from '../../lib/store/tree-reader.js'
import { seededBytes } from '../helpers/bytes.js'
import { damageBlock } from '../helpers/damage.js'
import { change, linesOfDirectory, protect, sameAsDirectory, type Fixture } from '../helpers/store.js'
import { said } from '../helpers/two-snapshots.js'

t.setTimeout(280_000)

const clean = { wounds: [], hurt: [], snapshots: 0, problems: [], unused: 0 }
const none = { record: 0, partner: 0, live: 0, copy: 0 }

/** Text of some kilobytes, another for each seed. */
function text(seed: number, bytes = 600 + ((seed * 7919) % 9000)): Buffer {
  return Buffer.from(seededBytes(seeded(seed), bytes).map((byte) => 97 + (byte % 26)))
}

/** `count` small files in `dirs` directories, and one large one. */
function write({ dir }: Fixture, count = 120, dirs = 3): void {
  for (let d = 0; d < dirs; d++) {
    mkdirSync(join(dir, `d${d}`))
    for (let i = 0; i < count / dirs; i++) writeFileSync(join(dir, `d${d}`, `f${i}`), text(d * 1000 + i))
  }
  writeFileSync(join(dir, 'large'), text(9, 700_000))
}

function readerOf({ volume, store }: Fixture, blocks: BlockReader = store.blocks): TreeReader {
  return volume.reader(blocks)
}

/** The files of the newest snapshot, by path. */
async function files(fixture: Fixture, name = 'latest'): Promise<Map<string, FileEntry>> {
  const reader = readerOf(fixture)
  const found = new Map<string, FileEntry>()
  const walk = async (directory: Entry, path: string): Promise<void> => {
    for (const entry of await reader.list(directory)) {
      const at = `${path}${entry.name.toString()}`
      if (entry.type === 'directory') await walk(entry, `${at}/`)
      if (entry.type === 'file') found.set(at, entry)
    }
  }
  await walk(await reader.snapshot(name), '')
  return found
}

function partOf(file: FileEntry | undefined): PartExtent | undefined {
  const [extent] = file?.content.kind === 'extents' ? file.content.extents : []
  return extent?.kind === 'part' ? extent : undefined
}

async function packNames(fixture: Fixture): Promise<Buffer[]> {
  const names = new Map<string, Buffer>()
  for (const file of (await files(fixture)).values()) {
    const part = partOf(file)
    if (part) names.set(part.chunk.name.toString('hex'), Buffer.from(part.chunk.name))
  }
  return [...names.values()]
}

/** New blocks that are no nodes. */
async function newChunks({ volume, store }: Fixture, work: () => Promise<unknown>): Promise<number> {
  const count = () => store.blocks.count - volume.checked.state.made.count()
  const before = count()
  await work()
  return count() - before
}

async function all(fixture: Fixture): Promise<void> {
  await fixture.volume.recordEverything()
  await fixture.volume.snapshot(fixture.rootFd)
}

async function differences(fixture: Fixture, before: string, after: string): Promise<string[]> {
  const reader = readerOf(fixture)
  const [a, b] = [await reader.snapshot(before), await reader.snapshot(after)]
  const lines = []
  for await (const { mark, path } of diffTrees(reader, a, b))
    lines.push(`${mark} ${path.map(String).join('/')}`)
  return lines
}

const inoAt = ({ dir }: Fixture, path: string) => statSync(join(dir, path), { bigint: true }).ino
const names = ({ volume }: Fixture) => volume.snapshots().map(({ name }) => name)

t.test('small files share blocks, and come back', async (t) => {
  const fixture = await protect(t)
  write(fixture)
  const chunks = await newChunks(fixture, () => fixture.volume.snapshot(fixture.rootFd))
  const found = await files(fixture)
  t.equal([...found.values()].filter(partOf).length, 120)
  t.ok(chunks < 20, `${chunks} blocks for 121 files`)
  await sameAsDirectory(t, fixture)
  t.same(said(await fixture.store.check({ wanted: () => true })), clean)
  await fixture.reopen()
  await sameAsDirectory(t, fixture)

  t.equal(await newChunks(fixture, () => all(fixture)), 0)
  const { dir } = fixture
  for (let i = 0; i < 40; i++) utimesSync(join(dir, 'd1', `f${i}`), 1e9 + i, 1e9 + i)
  cpSync(join(dir, 'd2'), join(dir, 'copied'), { recursive: true })
  t.equal(await newChunks(fixture, () => all(fixture)), 0, 'known ones are only referred to')
  await sameAsDirectory(t, fixture)

  const [first = ''] = names(fixture)
  writeFileSync(join(dir, 'd0', 'f7'), text(77))
  await fixture.volume.recordChanges([change('close', inoAt(fixture, 'd0/f7'))])
  t.equal(
    await newChunks(fixture, () => fixture.volume.snapshot(fixture.rootFd)),
    1,
    'one changed: one block',
  )
  const [extent] = ((await files(fixture)).get('d0/f7')?.content as { extents: { kind: string }[] }).extents
  t.equal(extent?.kind, 'chunk', 'alone it is no pack')
  await sameAsDirectory(t, fixture)
  const old = (await files(fixture, first)).get('d0/f7') as FileEntry
  t.ok((await readerOf(fixture).read(old, 0, 1e6)).equals(text(7)))
  t.ok((await readerOf(fixture).read(old, 100, 50)).equals(text(7).subarray(100, 150)))
})

t.test('files that share their content with others of the same snapshot', async (t) => {
  const fixture = await protect(t)
  mkdirSync(join(fixture.dir, 'd'))
  for (let i = 0; i < 90; i++) writeFileSync(join(fixture.dir, 'd', `f${i}`), text(i % 7))
  await fixture.volume.snapshot(fixture.rootFd)
  const parts = [...(await files(fixture)).values()].map(partOf)
  const packs = new Map(parts.map((part) => [part?.chunk.name.toString('hex'), part?.chunk.plainBytes ?? 0]))
  const distinct = Array.from({ length: 7 }, (_, i) => text(i).length).reduce((sum, bytes) => sum + bytes, 0)
  t.ok(
    [...packs.values()].every((bytes) => bytes <= distinct),
    'a pack has each content once',
  )
  await sameAsDirectory(t, fixture)
})

t.test('seeded changes of every kind', async (t) => {
  const fixture = await protect(t)
  const random = seeded(21)
  const { dir } = fixture
  write(fixture, 60)
  await fixture.volume.snapshot(fixture.rootFd)
  for (let round = 0; round < 12; round++) {
    const changes = []
    for (let i = 0; i < 8; i++) {
      const name = `d${random() % 3}/f${random() % 20}`
      const path = join(dir, name)
      const kind = random() % 5
      if (kind === 0) writeFileSync(path, text(random() % 50))
      else if (kind === 1) appendFileSync(path, text(random() % 50))
      else if (kind === 2) truncateSync(path, random() % 3000)
      else if (kind === 3) truncateSync(path, 2_500_000)
      else writeFileSync(path, text(random() % 50, 65_535 + (random() % 3)))
      const length = readFileSync(path).length
      changes.push(change('data', inoAt(fixture, name), { offset: 0, length }))
    }
    if (round % 4 === 3) await fixture.reopen()
    await fixture.volume.recordChanges(changes)
    await fixture.volume.snapshot(fixture.rootFd)
    await sameAsDirectory(t, fixture)
  }
  t.same(said(await fixture.store.check({ wanted: () => true })), clean)
})

t.test('a pack lives while one of its files does', async (t) => {
  const fixture = await protect(t)
  write(fixture, 30, 1)
  await fixture.volume.snapshot(fixture.rootFd)
  const packs = await packNames(fixture)
  const { state } = fixture.volume.checked
  for (let i = 1; i < 30; i++) rmSync(join(fixture.dir, 'd0', `f${i}`))
  await all(fixture)
  const kept = partOf((await files(fixture)).get('d0/f0'))
  await fixture.volume.forget(names(fixture).slice(0, 1))
  await fixture.store.prune({})
  const here = () =>
    packs.filter((name) => fixture.store.blocks.has(name)).map((name) => name.toString('hex'))
  t.same(here(), [kept?.chunk.name.toString('hex')])
  t.equal(state.packs.count(), 1)
  await sameAsDirectory(t, fixture)
  t.same(said(await fixture.store.check({ wanted: () => true })), clean)
  rmSync(join(fixture.dir, 'd0', 'f0'))
  await all(fixture)
  await fixture.volume.forget(names(fixture).slice(0, 1))
  await fixture.store.prune({})
  t.same(here(), [])
  t.equal(state.packs.count() + state.parts.count(), 0, 'and the index names them no more')
  for (let i = 0; i < 30; i++) writeFileSync(join(fixture.dir, 'd0', `f${i}`), text(i))
  await all(fixture)
  await sameAsDirectory(t, fixture)
  t.same(said(await fixture.store.check({ wanted: () => true })), clean)
})

/** A volume of which one pack is damaged, and the paths of its files. */
async function damaged(t: Test): Promise<{ fixture: Fixture; hurt: string[]; remote: BlockReader }> {
  const fixture = await protect(t)
  write(fixture, 30, 2)
  await fixture.volume.snapshot(fixture.rootFd)
  const [name = Buffer.alloc(0)] = await packNames(fixture)
  const whole = (await fixture.store.blocks.get(name)) as Buffer
  const remote = { get: async (wanted: Buffer) => (wanted.equals(name) ? whole : undefined) }
  const hurt = [...(await files(fixture))]
    .filter(([, file]) => partOf(file)?.chunk.name.equals(name))
    .map(([path]) => path)
    .sort()
  damageBlock(fixture.home, name)
  await fixture.reopen()
  t.same(said(await fixture.store.check({ wanted: () => true })), {
    ...clean,
    wounds: ['damaged'],
    hurt,
    snapshots: 1,
  })
  t.ok(hurt.length > 3)
  return { fixture, hurt, remote }
}

t.test('a damaged pack is healed from a partner', async (t) => {
  const { fixture, remote } = await damaged(t)
  const repaired = await fixture.store.repair({ dryRun: false, remote })
  t.same(repaired.healed, { ...none, partner: 1 })
  t.same(said(repaired.after), clean)
  await sameAsDirectory(t, fixture)
})

t.test('a damaged pack is healed from its live files, when all are as they were', async (t) => {
  const { fixture, hurt } = await damaged(t)
  // Written again with the same content is as good.
  const path = join(fixture.dir, hurt[1] ?? '')
  writeFileSync(path, readFileSync(path))
  const dry = await fixture.store.repair({ dryRun: true, live: () => fixture.rootFd })
  t.same(dry.healed, { ...none, live: 1 })
  const repaired = await fixture.store.repair({ dryRun: false, live: () => fixture.rootFd })
  t.same(repaired.healed, { ...none, live: 1 })
  t.same(said(repaired.after), clean)
  t.same(said(await fixture.store.check({ wanted: () => true })), clean)
})

t.test(
  'one file of a damaged pack changed: its files are told, and stored again by the next snapshot',
  async (t) => {
    const { fixture, hurt } = await damaged(t)
    writeFileSync(join(fixture.dir, hurt[2] ?? ''), text(4242))
    const repaired = await fixture.store.repair({ dryRun: false, live: () => fixture.rootFd })
    t.same(repaired.healed, none)
    t.same(said(repaired.after), { ...clean, wounds: ['damaged'], hurt, snapshots: 1 })
    t.equal(repaired.marked, hurt.length)
    await fixture.volume.snapshot(fixture.rootFd)
    await sameAsDirectory(t, fixture)
    t.same((await fixture.store.check()).volumes[0]?.hurtSnapshots, names(fixture).slice(0, 1))
    await fixture.volume.forget(names(fixture).slice(0, 1))
    await fixture.store.prune({})
    t.same(said(await fixture.store.check({ wanted: () => true })), clean)
    await sameAsDirectory(t, fixture)
  },
)

t.test('the same content in another pack is no difference', async (t) => {
  const fixture = await protect(t)
  write(fixture, 40, 1)
  await fixture.volume.snapshot(fixture.rootFd)
  const { state } = fixture.volume.checked
  await fixture.store.db.transaction(() =>
    [state.parts, state.packs, state.chunks].forEach((table) => table.clear()),
  )
  rmSync(join(fixture.dir, 'd0', 'f0'))
  for (let i = 1; i < 40; i++) utimesSync(join(fixture.dir, 'd0', `f${i}`), 1e9 + i, 1e9 + i)
  const text39 = text(39)
  writeFileSync(join(fixture.dir, 'd0', 'f39'), text39.fill('!', 0, 1))
  t.ok((await newChunks(fixture, () => all(fixture))) > 0)
  const [a = '', b = ''] = names(fixture)
  const told = (await differences(fixture, a, b)).sort()
  const touched = Array.from({ length: 38 }, (_, i) => `U d0/f${i + 1}`)
  t.same(told, ['- d0/f0', 'M d0/f39', ...touched].sort())
})

t.test('a restore opens a pack once, and writes every file', async (t) => {
  const fixture = await protect(t)
  write(fixture, 150, 1)
  await fixture.volume.snapshot(fixture.rootFd)
  const asked = new Map<string, number>()
  const counting: BlockReader = {
    get(name) {
      const id = name.toString('hex')
      asked.set(id, (asked.get(id) ?? 0) + 1)
      return fixture.store.blocks.get(name)
    },
  }
  const reader = readerOf(fixture, counting)
  const to = join(fixture.home, 'restored')
  await restoreTree(reader, await reader.snapshot('latest'), to)
  const packs = await packNames(fixture)
  t.ok(packs.length > 1)
  t.same([...new Set(packs.map((name) => asked.get(name.toString('hex'))))], [1])
  const restored = openRoot(to)
  const line = (text: string) => text.replace(/ \d+ (\d+ [^ ]* [^ ]*)$/, ' $1')
  t.same((await linesOfDirectory(restored)).map(line), (await linesOfDirectory(fixture.rootFd)).map(line))
  close(restored)
})
