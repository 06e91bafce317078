import { readdirSync, renameSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { KithError } from '../../lib/base/errors.js'
import { seeded } from '../../lib/base/random.js'
import type { FileEntry } from '../../lib/format/node.js'
import { seededBytes } from '../helpers/bytes.js'
import { damageBlock } from '../helpers/damage.js'
import { change, inoOf } from '../helpers/store.js'
import { entryAt, firstChunk, said, twoSnapshots } from '../helpers/two-snapshots.js'

t.setTimeout(280_000)

const everything = () => true
const good = { wounds: [], hurt: [], snapshots: 0, problems: [], unused: 0 }

t.test('a sound store', async (t) => {
  const { store } = await twoSnapshots(t)
  const stages = new Set<string>()
  const found = await store.check({ wanted: everything, progress: (stage) => void stages.add(stage) })
  t.same(said(found), good)
  t.same([...stages].sort(), ['data', 'index', 'snapshots'])
  t.equal(found.read?.blocks, store.blocks.count)
  t.equal(found.read?.bytes, store.blocks.bytes)
  t.match(found.volumes[0], { snapshots: 2, away: 0 })
})

t.test('slices by name make up the whole', async (t) => {
  const { store } = await twoSnapshots(t)
  let blocks = 0
  for (let part = 0; part < 3; part++) {
    const found = await store.check({ wanted: (name) => name.readUInt32BE(0) % 3 === part })
    blocks += found.read?.blocks ?? 0
  }
  t.equal(blocks, store.blocks.count)
})

for (const where of ['data', 'header'] as const)
  t.test(`a flipped bit in the ${where} of a chunk's record`, async (t) => {
    const fixture = await twoSnapshots(t)
    damageBlock(fixture.home, await firstChunk(fixture, 'a', 'late'), where)
    await fixture.reopen()
    t.same(said(await fixture.store.check()), good, 'is not seen without reading')
    const found = await fixture.store.check({ wanted: everything })
    t.same(said(found), { ...good, wounds: ['damaged'], hurt: ['a/late'], snapshots: 1 })
    t.same(said(await fixture.store.check()), said(found), 'and stays known')
  })

t.test('a flipped bit in a chunk of a file with a list, in both snapshots', async (t) => {
  const fixture = await twoSnapshots(t)
  damageBlock(fixture.home, await firstChunk(fixture, 'b', 'list'))
  await fixture.reopen()
  const found = await fixture.store.check({ wanted: everything })
  t.same(said(found), { ...good, wounds: ['damaged'], hurt: ['b/list'], snapshots: 2 })
})

t.test('a flipped bit in nodes', async (t) => {
  const fixture = await twoSnapshots(t)
  const a = await entryAt(fixture, 'a')
  const list = (await entryAt(fixture, 'b', 'list')) as FileEntry
  if (a.type !== 'directory' || list.content.kind !== 'list') throw new Error('not as it should be made')
  damageBlock(fixture.home, a.node.name)
  damageBlock(fixture.home, list.content.node.name)
  await fixture.reopen()
  const found = said(await fixture.store.check())
  t.same(found, {
    ...good,
    wounds: ['damaged', 'damaged'],
    hurt: ['a', 'b/list'],
    snapshots: 2,
    problems: ['the lists of 1 directories are not here: the next snapshot needs them'],
  })
})

t.test('heads and snapshot lists', async (t) => {
  const fixture = await twoSnapshots(t)
  const { volume, store } = fixture
  const head = Buffer.from(volume.head() ?? '')
  const broken = Buffer.from(head)
  broken.writeUInt8(broken.readUInt8(90) ^ 4, 90)
  await store.db.transaction(() => store.putHead(volume.id, broken))
  t.match(said(await store.check()).problems, [/^the head is damaged: .*signature/, /no good head/])
  await store.db.transaction(() => store.putHead(volume.id, head))
  damageBlock(fixture.home, head.subarray(84, 116))
  await fixture.reopen()
  const found = said(await fixture.store.check())
  t.match(found, { wounds: ['damaged'], problems: [/^the list of snapshots is damaged/], unused: 0 })
})

t.test('segments cut short or gone', async (t) => {
  const fixture = await twoSnapshots(t)
  const segments = join(fixture.home, 'segments')
  const [name = ''] = readdirSync(segments)
  await fixture.store.close()
  truncateSync(join(segments, name), 100_000)
  await fixture.reopen()
  const cut = said(await fixture.store.check())
  t.ok(cut.wounds.length > 3)
  t.equal(cut.snapshots, 2)
  t.match(cut.problems[0], /^segment 1 is cut short: 100000 of \d+ bytes$/)
  await fixture.store.close()
  rmSync(join(segments, name))
  await fixture.reopen()
  const gone = said(await fixture.store.check())
  t.equal(gone.wounds.length, fixture.store.blocks.count)
  t.match(gone.problems[0], 'segment 1 is gone')
})

t.test('what is not here is asked of others', async (t) => {
  const fixture = await twoSnapshots(t)
  const { store, volume, rootFd } = fixture
  const chunk = await firstChunk(fixture, 'a', 'same')
  const a = await entryAt(fixture, 'a')
  if (a.type !== 'directory') throw new Error('not as it should be made')
  const away = new Map<string, Buffer>()
  for (const name of [chunk, a.node.name])
    away.set(name.toString('hex'), (await store.blocks.get(name)) ?? Buffer.alloc(0))
  await store.blocks.remove([chunk, a.node.name])
  await fixture.reopen()
  const remote = { get: async (name: Buffer) => away.get(name.toString('hex')) }
  const held = async (names: Buffer[]) => names.map((name) => away.has(name.toString('hex')))
  const found = await fixture.store.check({ remote, held })
  t.same(found.bad.size, 0)
  t.equal(found.volumes[0]?.away, 2)
  const alone = said(await fixture.store.check())
  t.match(alone, { wounds: ['missing', 'missing'], hurt: ['a', 'a/same'], snapshots: 2 })
  t.ok(volume && rootFd)
})

t.test('beside snapshots and removals there is no alarm; a check can be ended', async (t) => {
  const fixture = await twoSnapshots(t)
  const { dir, rootFd, store, volume } = fixture
  const next = seeded(9)
  let going = true
  const writer = (async () => {
    for (let i = 0; going; i++) {
      const name = `f${i % 7}`
      writeFileSync(join(dir, 'a', `.${name}`), seededBytes(next, 200_000))
      renameSync(join(dir, 'a', `.${name}`), join(dir, 'a', name))
      await volume.recordChanges([change('names', 0n, { parent: inoOf(rootFd, 'a') })])
      await volume.snapshot(rootFd)
      // What no snapshot needs goes, as after a prune: the segments are rewritten.
      const stray = { name: Buffer.alloc(32, i), bytes: seededBytes(next, 400_000) }
      await store.blocks.put(stray.name, stray.bytes)
      await store.blocks.commit()
      await store.blocks.remove([stray.name])
    }
  })()
  for (let i = 0; i < 5; i++) {
    const { problems, wounds, hurt } = said(
      await store.check({ wanted: (name) => name.readUInt8(0) % 5 !== i }),
    )
    t.same({ problems, wounds, hurt }, { problems: [], wounds: [], hurt: [] })
  }
  going = false
  await writer
  const signal = AbortSignal.abort()
  await t.rejects(store.check({ signal }), new KithError('cancelled', 'cancelled'))
})
