/** One bit flipped in every stored block, in each part of its record, and in rows of the index: found, and healed. */
import { cpSync, mkdirSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import type { BlockReader } from '../../lib/blocks/block-store.js'
import { systemClock } from '../../lib/base/clock.js'
import { silentLog } from '../../lib/base/log.js'
import { seeded } from '../../lib/base/random.js'
import { Store } from '../../lib/store/store.js'
import type { Volume } from '../../lib/store/volume.js'
import { seededBytes } from '../helpers/bytes.js'
import { flipBit, recordsIn } from '../helpers/damage.js'
import { change, type Fixture, protect, sameAsDirectory, testIdentity } from '../helpers/store.js'
import { said } from '../helpers/two-snapshots.js'

t.setTimeout(280_000)

const good = { wounds: [], hurt: [], snapshots: 0, problems: [], unused: 0 }
const everything = () => true
const headerBytes = 40

/** Blocks of every kind: chunks, packs, nodes of small and of large directories, of a large file, of the snapshot list. */
async function allKinds(t: Test): Promise<Fixture> {
  const fixture = await protect(t)
  const { dir, rootFd, volume } = fixture
  const next = seeded(5)
  mkdirSync(join(dir, 'many'))
  for (let n = 0; n < 1200; n++)
    writeFileSync(join(dir, 'many', `a rather long name, of number ${n}`), `${n}`)
  mkdirSync(join(dir, 'packed'))
  for (let n = 0; n < 30; n++) writeFileSync(join(dir, 'packed', `${n}`), seededBytes(next, 3000))
  writeFileSync(join(dir, 'large'), seededBytes(next, 5_000_000))
  await volume.snapshot(rootFd)
  writeFileSync(join(dir, 'late'), seededBytes(next, 200_000))
  await volume.recordEverything()
  await volume.snapshot(rootFd)
  return fixture
}

/** A partner that has every block that is here now. */
async function partner({ store }: Fixture): Promise<BlockReader> {
  const all = new Map<string, Buffer>()
  for (const name of [...store.blocks.names()].map((found) => Buffer.from(found)))
    all.set(name.toString('hex'), (await store.blocks.get(name)) ?? Buffer.alloc(0))
  return { get: async (name) => all.get(name.toString('hex')) }
}

const parts: [string, (bytes: number) => number][] = [
  ['the mark of the record', () => 1],
  ['the name', () => 4 + 20],
  ['the length', () => 36],
  ['the version', () => headerBytes],
  ['the kind', () => headerBytes + 1],
  ['the middle', (bytes) => headerBytes + (bytes >> 1)],
  ['the end', (bytes) => headerBytes + bytes - 1],
]

t.test('every block, each part of its record', async (t) => {
  const fixture = await allKinds(t)
  const remote = await partner(fixture)
  const names = [...fixture.store.blocks.names()].map((name) => Buffer.from(name))
  t.ok(names.length > 30, `${names.length} blocks`)
  for (let round = 0; round < parts.length; round += 2) {
    const records = recordsIn(fixture.home)
    const places = names.map((name, i) => {
      const [, offsetOf] = parts[(i + round) % parts.length] as (typeof parts)[0]
      const at = records.get(name.toString('hex'))?.at(-1)
      if (!at) throw new Error('no such record')
      return {
        file: at.file,
        offset: at.offset + offsetOf(fixture.store.blocks.size(name) ?? 0),
        bit: (i * 5) % 8,
      }
    })
    for (const { file, offset, bit } of places) flipBit(file, offset, bit)
    await fixture.reopen()
    const found = await fixture.store.check({ wanted: everything })
    t.equal(found.bad.size, names.length, `round ${round}: all of them are found`)
    const { healed } = await fixture.store.repair({ dryRun: false, remote })
    t.equal(
      Object.values(healed).reduce((sum, one) => sum + one, 0),
      names.length,
      'and healed',
    )
    t.same(said(await fixture.store.check({ wanted: everything })), good)
  }
  await fixture.reopen()
  t.same(said(await fixture.store.check({ wanted: everything })), good)
  await sameAsDirectory(t, fixture)
})

const raw = { encode: (bytes: Buffer) => bytes, decode: (bytes: Buffer) => bytes }

/** Byte and bit of a value, one in each field at least (block-store.ts has the layouts). */
const flips: [string, [number, number][]][] = [
  [
    'blocks',
    [
      [1, 2],
      [8, 0], // it looks evicted
      [9, 5],
      [13, 1],
      [17, 3],
    ],
  ],
  [
    'order',
    [
      [0, 6],
      [31, 7],
    ],
  ],
  [
    'segments',
    [
      [1, 2],
      [3, 4],
      [9, 1],
    ],
  ],
]
for (const [table, places] of flips)
  t.test(`rows of the index: ${table}`, async (t) => {
    const fixture = await allKinds(t)
    const remote = await partner(fixture)
    const next = seeded(9)
    for (const [offset, bit] of places) {
      const where = `byte ${offset}, bit ${bit}`
      const { db } = fixture.store
      await db.transaction(() => {
        const rows = db.table(table, raw, raw)
        // Where blocks are meant: none that is the first of its segment, which must have an offset of 0.
        const all = [...rows.range()].filter(({ value }) => table !== 'blocks' || value.readUInt32LE(12) > 0)
        const row = all[next() % all.length]
        if (!row) throw new Error('no row')
        const value = Buffer.from(row.value)
        value.writeUInt8(value.readUInt8(offset) ^ (1 << bit), offset)
        rows.put(Buffer.from(row.key), value)
      })
      await fixture.reopen()
      t.notSame(said(await fixture.store.check({ wanted: everything })), good, `found: ${where}`)
      // Partners say that they have everything: it is to be here again all the same.
      const held = async (names: Buffer[]) => names.map(() => true)
      const believed = () => true
      await fixture.store.repair({ dryRun: false, remote, held, believed })
      await fixture.reopen()
      t.same(said(await fixture.store.check({ wanted: everything })), good, `healed: ${where}`)
      t.equal(fixture.store.blocks.evicted.blocks, 0)
    }
    await sameAsDirectory(t, fixture)
  })

t.test('rows that were kept together: nothing goes on from older ones', async (t) => {
  const fixture = await protect(t)
  const { dir, rootFd } = fixture
  const next = seeded(3)
  mkdirSync(join(dir, 'd'))
  for (let n = 0; n < 30; n++) writeFileSync(join(dir, 'd', `${n}`), seededBytes(next, 3000))
  await fixture.volume.snapshot(rootFd)
  await fixture.reopen()
  const rewrite = async (name: string) => {
    writeFileSync(join(dir, 'd', name), seededBytes(next, 5000))
    const { ino } = statSync(join(dir, 'd', name), { bigint: true })
    await fixture.volume.recordChanges([change('close', ino)])
    await fixture.volume.snapshot(rootFd)
  }
  await rewrite('3')
  const { db } = fixture.store
  const recent = db.table('recent', raw, raw)
  const rows = [...recent.range()].map(({ key, value }) => ({ key: Buffer.from(key), value }))
  t.equal(rows.length, 1, 'what the second snapshot wrote')
  await db.transaction(() => {
    for (const { key, value } of rows) {
      const changed = Buffer.from(value)
      changed.writeUInt8(changed.readUInt8(40) ^ 4, 40)
      recent.put(key, changed)
    }
  })
  // As a killed process leaves it.
  const killed = `${fixture.home} killed`
  cpSync(fixture.home, killed, { recursive: true })
  await fixture.store.close()
  fixture.home = killed
  fixture.store = await Store.open(killed, {
    clock: systemClock,
    log: silentLog(),
    identity: testIdentity,
    workers: 1,
  })
  fixture.volume = fixture.store.volumes()[0] as Volume
  t.notSame(said(await fixture.store.check({ wanted: everything })), good)
  // Nothing is lost but the rows: all is found in the segments.
  await fixture.store.repair({ dryRun: false })
  t.same(said(await fixture.store.check({ wanted: everything })), good)
  await rewrite('4')
  await sameAsDirectory(t, fixture)
  t.same(said(await fixture.store.check({ wanted: everything })), good)
})
