import { rmSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import type { Test } from 'tap'
import type { BlockReader } from '../../lib/blocks/block-store.js'
import type { FileEntry } from '../../lib/format/node.js'

import { damageBlock, recordsOf, flipBit } from '../helpers/damage.js'
import { change, inoOf, sameAsDirectory, type Fixture } from '../helpers/store.js'
import { entryAt, firstChunk, said, twoSnapshots } from '../helpers/two-snapshots.js'

t.setTimeout(280_000)

const good = { wounds: [], hurt: [], snapshots: 0, problems: [], unused: 0 }
const none = { record: 0, partner: 0, live: 0, copy: 0 }

/** A partner that has every block that is here now. */
async function partner({ store }: Fixture): Promise<BlockReader> {
  const all = new Map<string, Buffer>()
  for (const name of [...store.blocks.names()].map((found) => Buffer.from(found)))
    all.set(name.toString('hex'), (await store.blocks.get(name)) ?? Buffer.alloc(0))
  return { get: async (name) => all.get(name.toString('hex')) }
}

async function clean(t: Test, fixture: Fixture): Promise<void> {
  t.same(said(await fixture.store.check({ wanted: () => true })), good)
  await fixture.reopen()
  t.same(said(await fixture.store.check({ wanted: () => true })), good, 'also after the next start')
}

const livesAt = (fixture: Fixture) => () => fixture.rootFd

t.test('nothing is damaged, nothing is done', async (t) => {
  const fixture = await twoSnapshots(t)
  const repaired = await fixture.store.repair({ dryRun: false })
  t.match(repaired, { healed: none, rows: 0, heads: 0, marked: 0 })
  t.same(said(repaired.after), good)
})

t.test('from a partner: chunks, nodes, the snapshot list', async (t) => {
  const fixture = await twoSnapshots(t)
  const remote = await partner(fixture)
  const list = (await entryAt(fixture, 'b', 'list')) as FileEntry
  const a = await entryAt(fixture, 'a')
  if (a.type !== 'directory' || list.content.kind !== 'list') throw new Error('not as it should be made')
  const head = fixture.volume.head()?.subarray(84, 116) ?? Buffer.alloc(0)
  const names = [await firstChunk(fixture, 'a', 'late'), a.node.name, list.content.node.name, head]
  names.push(await firstChunk(fixture, 'b', 'list'))
  for (const name of names) damageBlock(fixture.home, name)
  await fixture.reopen()
  const dry = await fixture.store.repair({ dryRun: true, remote })
  t.same(dry.healed, { ...none, partner: 5 })
  t.same(said(dry.after), said(dry.before), 'a dry run changes nothing')
  const repaired = await fixture.store.repair({ dryRun: false, remote })
  t.same(repaired.healed, { ...none, partner: 5 })
  t.equal(said(repaired.before).wounds.length, 5)
  await clean(t, fixture)
  await sameAsDirectory(t, fixture)
})

t.test('behind a damaged header, without anybody', async (t) => {
  const fixture = await twoSnapshots(t)
  damageBlock(fixture.home, await firstChunk(fixture, 'a', 'late'), 'header')
  await fixture.reopen()
  const repaired = await fixture.store.repair({ dryRun: false })
  t.same(repaired.healed, { ...none, record: 1 })
  await clean(t, fixture)
})

t.test(
  'from the live file, also for an older snapshot; what the live file has no more stays hurt',
  async (t) => {
    const fixture = await twoSnapshots(t)
    const [kept, gone] = [await firstChunk(fixture, 'a', 'big'), await firstChunk(fixture, 'a', 'same')]
    damageBlock(fixture.home, kept)
    damageBlock(fixture.home, gone)
    writeFileSync(join(fixture.dir, 'a', 'same'), 'another content')
    await fixture.reopen()
    const repaired = await fixture.store.repair({ dryRun: false, live: livesAt(fixture) })
    t.same(repaired.healed, { ...none, live: 1 })
    t.same(said(repaired.after), { ...good, wounds: ['damaged'], hurt: ['a/same'], snapshots: 2 })
    t.equal(repaired.marked, 1)
    await fixture.reopen()
    t.match(
      said(await fixture.store.check()),
      { wounds: ['damaged'] },
      'the next start knows of it without reading',
    )
    await fixture.volume.snapshot(fixture.rootFd)
    await sameAsDirectory(t, fixture)
    t.match(said(await fixture.store.check()), { snapshots: 2 }, 'the new snapshot is not hurt')
  },
)

t.test(
  'what could not be healed is read again by the next snapshot, which heals the older ones',
  async (t) => {
    const fixture = await twoSnapshots(t)
    const a = await entryAt(fixture, 'a')
    const list = (await entryAt(fixture, 'b', 'list')) as FileEntry
    if (a.type !== 'directory' || list.content.kind !== 'list') throw new Error('not as it should be made')
    damageBlock(fixture.home, await firstChunk(fixture, 'b', 'list'))
    damageBlock(fixture.home, list.content.node.name)
    damageBlock(fixture.home, a.node.name)
    await fixture.reopen()
    const repaired = await fixture.store.repair({ dryRun: false })
    t.same(repaired.healed, none)
    t.same(said(repaired.after).hurt, ['a', 'b/list'])
    await fixture.reopen()
    await fixture.volume.snapshot(fixture.rootFd)
    await sameAsDirectory(t, fixture)
    await clean(t, fixture)
  },
)

t.test('a directory that is gone with its damaged list does not stop snapshots', async (t) => {
  const fixture = await twoSnapshots(t)
  const b = await entryAt(fixture, 'b')
  if (b.type !== 'directory') throw new Error('not as it should be made')
  damageBlock(fixture.home, b.node.name)
  await fixture.reopen()
  rmSync(join(fixture.dir, 'b'), { recursive: true })
  await fixture.volume.recordChanges([change('names', 0n, { parent: inoOf(fixture.rootFd) })])
  await fixture.volume.snapshot(fixture.rootFd)
  await sameAsDirectory(t, fixture)
})

t.test('heads are signed anew, above those that partners have', async (t) => {
  const fixture = await twoSnapshots(t)
  const { store, volume } = fixture
  const head = Buffer.from(volume.head() ?? '')
  head.writeUInt8(head.readUInt8(200) ^ 1, 200)
  await store.db.transaction(() => store.putHead(volume.id, head))
  await fixture.reopen()
  const repaired = await fixture.store.repair({ dryRun: false, acknowledged: () => 41 })
  t.equal(repaired.heads, 1)
  t.equal(fixture.volume.head()?.readBigUInt64LE(52), 42n)
  await clean(t, fixture)
  await fixture.volume.snapshot(fixture.rootFd)
  t.equal(fixture.volume.snapshots().length, 3)
  await clean(t, fixture)
})

t.test('the index: a segment cut short, an order and sums that are wrong', async (t) => {
  const fixture = await twoSnapshots(t)
  const remote = await partner(fixture)
  const [record] = recordsOf(fixture.home, await firstChunk(fixture, 'a', 'late'))
  if (!record) throw new Error('not as it should be made')
  await fixture.store.close()
  truncateSync(record.file, record.offset + 1000)
  await fixture.reopen()
  const { db } = fixture.store
  const [last] = fixture.store.blocks.since(fixture.store.blocks.lastSequence - 1, 1)
  await db.transaction(() => {
    const raw = { encode: (bytes: Buffer) => bytes, decode: (bytes: Buffer) => bytes }
    const order = db.table('order', raw, raw)
    const key = Buffer.alloc(8)
    key.writeBigUInt64BE(BigInt(last?.sequence ?? 0))
    order.put(key, Buffer.alloc(32, 7))
    const sums = db.table('segments', raw, raw)
    const [row] = [...sums.range()]
    if (!row) throw new Error('no segment')
    const value = Buffer.from(row.value)
    value.writeBigUInt64LE(12345n, 8)
    sums.put(Buffer.from(row.key), value)
  })
  const before = said(await fixture.store.check())
  t.match(before.problems, [/cut short/, /sum of segment 1/, /not in their order/, /name none/])
  const repaired = await fixture.store.repair({ dryRun: false, remote })
  t.ok(repaired.healed.partner > 0)
  t.ok(repaired.rows >= 3)
  t.equal(repaired.before.index.problems.length, 4)
  await clean(t, fixture)
  await sameAsDirectory(t, fixture)
})

t.test('an older copy in the segments', async (t) => {
  const fixture = await twoSnapshots(t)
  const chunk = await firstChunk(fixture, 'a', 'late')
  damageBlock(fixture.home, chunk)
  await fixture.reopen()
  await fixture.store.repair({ dryRun: false, live: livesAt(fixture) })
  const [bad, whole] = recordsOf(fixture.home, chunk)
  if (!bad || !whole) throw new Error('not as it should be made')
  // The first record is whole again, the second no more.
  flipBit(bad.file, bad.offset + 57)
  flipBit(whole.file, whole.offset + 57)
  await fixture.reopen()
  const repaired = await fixture.store.repair({ dryRun: false })
  t.same(repaired.healed, { ...none, copy: 1 })
  await clean(t, fixture)
})

for (const what of ['volumes', 'snapshots'])
  t.test(`a damaged row of ${what} is written anew from the head when the store is opened`, async (t) => {
    const fixture = await twoSnapshots(t)
    const { volume } = fixture
    const names = volume.snapshots().map(({ name }) => name)
    const raw = { encode: (bytes: Buffer) => bytes, decode: (bytes: Buffer) => bytes }
    const name = what === 'volumes' ? what : `${volume.id.toString('hex')}/${what}`
    for (const offset of [0, 60]) {
      await fixture.store.db.transaction(() => {
        const table = fixture.store.db.table(name, raw, raw)
        const [row] = [...table.range()]
        if (!row) throw new Error('no row')
        const value = Buffer.from(row.value)
        value.writeUInt8(value.readUInt8(offset) ^ 0x40, offset)
        table.put(Buffer.from(row.key), value)
      })
      await fixture.reopen()
      t.same(
        fixture.volume.snapshots().map((snapshot) => snapshot.name),
        names,
        `byte ${offset}`,
      )
    }
    t.equal(fixture.volume.dir, fixture.dir)
    t.same(said(await fixture.store.check({ wanted: () => true })), good)
    await fixture.volume.snapshot(fixture.rootFd)
    await sameAsDirectory(t, fixture)
  })
