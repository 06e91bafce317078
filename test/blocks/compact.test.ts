// An index whose free pages are left out: the same rows in a shorter file, whatever happens meanwhile.
import { spawnSync } from 'node:child_process'
import { cpSync, existsSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { Database, encodings, type Table } from '../../lib/blocks/database.js'
import { refusal } from '../../lib/blocks/segment-uses.js'
import { seeded } from '../../lib/base/random.js'
import { seededBytes } from '../helpers/bytes.js'

type Rows = Map<string, string>

const open = (dir: string) => Database.open(dir, { keepsRecent: { refusal } })
const tableOf = (db: Database, spread = true): Table<Buffer, Buffer> =>
  db.table('t', encodings.bytes, encodings.bytes, { spread })
const fileBytes = (dir: string) => statSync(join(dir, 'data.mdb')).size
const rowsOf = (table: Table<Buffer, Buffer>): Rows =>
  new Map([...table.range()].map(({ key, value }) => [key.toString('hex'), value.toString('hex')]))

/** An index of some megabytes, of which transactions all over it left many pages free, and as many again with rows taken out. */
async function wasteful(dir: string): Promise<Rows> {
  const db = open(dir)
  const table = tableOf(db)
  const random = seeded(3)
  for (let round = 0; round < 6; round++)
    await db.transaction(() => {
      for (let i = 0; i < 6000; i++) table.put(seededBytes(random, 32), seededBytes(random, 300))
    })
  await db.transaction(() => {
    for (const { key } of [...table.range()]) if ((key[1] ?? 0) % 4 > 0) table.remove(key)
  })
  const rows = rowsOf(table)
  await db.close()
  return rows
}

t.test('a shorter file with the same rows, which is written and opened again as any', async (t) => {
  const dir = t.testdir()
  const rows = await wasteful(dir)
  const db = open(dir)
  const table = tableOf(db)
  const other = db.table('other', encodings.number, encodings.text)
  await db.transaction(() => {
    table.put(Buffer.from('kept apart'), Buffer.from('of a small transaction'))
    other.put(7, 'seven')
  })
  rows.set(Buffer.from('kept apart').toString('hex'), Buffer.from('of a small transaction').toString('hex'))
  const before = fileBytes(dir)
  t.ok(db.isWasteful)
  t.ok(await db.compact())
  t.ok(fileBytes(dir) < before / 2, `${fileBytes(dir)} of ${before}`)
  t.notOk(db.isWasteful)
  t.notOk(existsSync(join(dir, 'compact')))
  t.same(rowsOf(table), rows)
  t.equal(other.get(7), 'seven')
  await db.transaction(() => {
    table.put(Buffer.from('after'), Buffer.from('it'))
    other.remove(7)
  })
  rows.set(Buffer.from('after').toString('hex'), Buffer.from('it').toString('hex'))
  t.ok(await db.settle(true))
  t.same(rowsOf(table), rows)
  t.ok(await db.compact(), 'and again')
  t.same(rowsOf(table), rows)
  await db.close()
  const again = open(dir)
  t.same(rowsOf(tableOf(again)), rows)
  t.equal(again.table('other', encodings.number, encodings.text).count(), 0)
  t.equal(again.table('made after', encodings.number, encodings.text).count(), 0)
  await again.close()
})

t.test('who writes meanwhile, or closes, is not lost', async (t) => {
  const dir = t.testdir()
  const rows = await wasteful(dir)
  const db = open(dir)
  const table = tableOf(db)
  const compacting = db.compact()
  await db.transaction(() => table.put(Buffer.from('meanwhile'), Buffer.from('written')))
  rows.set(Buffer.from('meanwhile').toString('hex'), Buffer.from('written').toString('hex'))
  t.equal(await compacting, false)
  t.same(rowsOf(table), rows)
  const closed = db.compact()
  await db.close()
  t.ok(await closed)
  const again = open(dir)
  t.same(rowsOf(tableOf(again)), rows)
  await again.close()
})

t.test('killed at each place, or out of room: all rows are there', async (t) => {
  const dir = join(t.testdir(), 'index')
  const rows = await wasteful(dir)
  const child = fileURLToPath(new URL('compact-child.js', import.meta.url))
  const run = (at: string, fault: string) =>
    spawnSync(process.execPath, [child, at], { env: { ...process.env, KITH_TEST: '1', KITH_FAULT: fault } })
  const outcomes: string[] = []
  for (let place = 1; outcomes.at(-1) !== 'done'; place++) {
    const copy = `${dir}.${place}`
    cpSync(dir, copy, { recursive: true })
    const { signal, stdout, stderr } = run(copy, `kill:${place}`)
    outcomes.push(signal ?? stdout.toString())
    t.match(outcomes.at(-1), /^(SIGKILL|done)$/, stderr.toString())
    const db = open(copy)
    t.same(rowsOf(tableOf(db)), rows, `place ${place}`)
    t.notOk(existsSync(join(copy, 'compact')))
    await db.transaction(() => tableOf(db).put(Buffer.from('on'), Buffer.from('it goes')))
    await db.close()
  }
  t.ok(outcomes.length > 4, outcomes.join(' '))

  t.equal(run(dir, 'noSpace').stdout.toString(), 'noSpace')
  const db = open(dir)
  t.same(rowsOf(tableOf(db)), rows)
  await db.close()
})
