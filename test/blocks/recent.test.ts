// Tables in front of which rows are kept: they read like any other, whatever is settled, broken off or opened again when.
import { cpSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { Database, encodings, type Table } from '../../lib/blocks/database.js'
import { decodeBatch, encodeBatch } from '../../lib/blocks/recent.js'
import { refusal } from '../../lib/blocks/segment-uses.js'
import { KithError } from '../../lib/base/errors.js'
import { hash } from '../../lib/format/hash.js'
import { seeded } from '../../lib/base/random.js'

const keepsRecent = { refusal }
const raw = { encode: (bytes: Buffer) => bytes, decode: (bytes: Buffer) => bytes }
type Bytes = Table<Buffer, Buffer>

const open = (dir: string) => Database.open(dir, { keepsRecent })
const tableOf = (db: Database, name = 'spread'): Bytes =>
  db.table(name, encodings.bytes, encodings.bytes, { spread: true })

/** What a table ought to hold, by key in hex. */
type Model = Map<string, string>

function sorted(model: Model): string[] {
  return [...model].map(([key, value]) => `${key} ${value}`).sort()
}

const line = ({ key, value }: { key: Buffer; value: Buffer }) =>
  `${key.toString('hex')} ${value.toString('hex')}`

async function reads(table: Bytes, model: Model, random: () => number): Promise<string | undefined> {
  const all = sorted(model)
  const same = (a: string[], b: string[]) => a.length === b.length && a.every((found, i) => found === b[i])
  if (!same([...table.range()].map(line), all)) return 'range'
  if (table.count() !== all.length) return `count: ${table.count()}, not ${all.length}`
  const keys = all.map((found) => found.split(' ')[0] as string)
  if (
    !same(
      [...table.keysOf()].map((key) => key.toString('hex')),
      keys,
    )
  )
    return 'keysOf'
  const [a = 0, b = 0] = [random() % 256, random() % 256].sort((x, y) => x - y)
  const limit = 1 + (random() % 8)
  const within = all.filter((found) => {
    const first = parseInt(found.slice(0, 2), 16)
    return first >= a && first < b
  })
  const range = { start: Buffer.from([a]), end: Buffer.from([b]), limit }
  if (!same([...table.range(range)].map(line), within.slice(0, limit))) return `range from ${a} to ${b}`
  const batched: string[] = []
  for await (const batch of table.batches(7)) batched.push(...batch.map(line))
  if (!same(batched, all)) return 'batches'
  for (let i = 0; i < 20; i++) {
    const key = keyOf(random())
    const value = model.get(key.toString('hex'))
    if (table.get(key)?.toString('hex') !== value || table.has(key) !== (value !== undefined)) return 'get'
  }
  return undefined
}

/** One of few keys, so that rows meet each other. */
const keyOf = (number: number) => hash('kith test', Buffer.from([number % 200])).subarray(0, 8)

/** Writes into tables and models alike. @returns what failed; a transaction that is to fail leaves the models as they were */
async function write(db: Database, tables: readonly Bytes[], models: Model[], random: () => number) {
  const after = models.map((model) => new Map(model))
  const fails = random() % 5 === 0
  const rows = random() % 12 === 0 ? 700 : random() % 20
  const running = db.transaction(() => {
    for (let i = 0; i < rows; i++) {
      const which = random() % tables.length
      const [table, model] = [tables[which] as Bytes, after[which] as Model]
      const key = keyOf(random())
      if (random() % 3 > 0) {
        const value = Buffer.from([random() % 256, i % 256])
        table.put(key, value)
        model.set(key.toString('hex'), value.toString('hex'))
      } else {
        table.remove(key)
        model.delete(key.toString('hex'))
      }
      if (i % 5 === 0 && table.get(key)?.toString('hex') !== model.get(key.toString('hex')))
        throw new Error('a transaction does not see its own writes')
    }
    if (random() % 25 === 0) {
      tables[0]?.clear()
      after[0]?.clear()
    }
    if (fails) throw new KithError('cancelled', 'broken off')
  })
  const error = await running.then(
    () => undefined,
    (failure: unknown) => failure,
  )
  if (error && !(fails && error instanceof KithError && error.code === 'cancelled')) throw error
  if (!fails) models.splice(0, models.length, ...after)
}

for (const seed of [1, 2])
  t.test(`tables say what was written, seed ${seed}`, async (t) => {
    const random = seeded(seed)
    const base = t.testdir()
    let dir = join(base, 'first')
    let db = open(dir)
    t.teardown(() => db.close())
    let tables = [tableOf(db), tableOf(db, 'other')]
    const models: Model[] = [new Map(), new Map()]
    for (let step = 0; step < 60; step++) {
      await write(db, tables, models, random)
      if (step % 9 === 4) await db.settle(random() % 2 === 0)
      if (step % 10 === 9) {
        // As a killed process leaves it, or closed.
        const copy = join(base, String(step))
        const isKilled = random() % 2 === 0
        if (isKilled) cpSync(dir, copy, { recursive: true })
        await db.close()
        if (isKilled) dir = copy
        db = open(dir)
        tables = [tableOf(db), tableOf(db, 'other')]
      }
      for (const [i, table] of tables.entries()) {
        const wrong = await reads(table, models[i] as Model, random)
        if (wrong) return t.fail(`step ${step}, table ${i}: ${wrong}`)
      }
    }
    t.pass('all steps')
  })

/** Bytes that this process has handed to the kernel. */
function written(): number {
  return Number(/^wchar: (\d+)$/m.exec(readFileSync('/proc/self/io', 'utf8'))?.[1])
}

t.test('a small transaction writes a few pages, however large the table', async (t) => {
  const costs: number[] = []
  for (const keeps of [true, false]) {
    const db = Database.open(join(t.testdir(), String(keeps)), keeps ? { keepsRecent } : {})
    t.teardown(() => db.close())
    const table = tableOf(db)
    const put = (from: number, count: number) =>
      db.transaction(() => {
        for (let i = from; i < from + count; i++)
          table.put(hash('kith test', encodings.number.encode(i)), Buffer.alloc(20))
      })
    await put(0, 30_000)
    await put(30_000, 30)
    const before = written()
    await put(40_000, 30)
    costs.push(written() - before)
    t.equal(table.count(), 30_060)
  }
  const [kept = NaN, spread = NaN] = costs
  t.ok(kept < 12 * 4096, `${kept} bytes`)
  t.ok(spread > 30 * 4096, `${spread} bytes without`)
})

t.test('while rows are kept, versions from before do not open it; closed, they do', async (t) => {
  const dir = t.testdir()
  const db = open(dir)
  await db.transaction(() => tableOf(db).put(Buffer.from('key'), Buffer.from('value')))
  const uses = () => [...db.table('uses', raw, encodings.number).range()]
  t.throws(uses, RangeError, 'as they read it')
  await db.close()
  const old = Database.open(dir)
  t.teardown(() => old.close())
  t.same([...old.table('uses', raw, encodings.number).range()], [])
  t.equal(tableOf(old).get(Buffer.from('key'))?.toString(), 'value')
})

t.test('kept rows are what was kept, under their own number', (t) => {
  const rows = [
    { key: Buffer.from('a'), value: Buffer.from('1') },
    { key: Buffer.from('b'), value: undefined },
    { key: Buffer.from('c'), value: Buffer.alloc(0) },
  ]
  const tables = [
    { name: 'one', rows },
    { name: 'two', rows: rows.slice(1) },
  ]
  const batch = encodeBatch(7, tables)
  t.same(decodeBatch(7, batch), tables)
  t.equal(decodeBatch(8, batch), undefined)
  for (let bit = 0; bit < batch.length * 8; bit++) {
    const changed = Buffer.from(batch)
    changed.writeUInt8(changed.readUInt8(bit >> 3) ^ (1 << (bit & 7)), bit >> 3)
    if (decodeBatch(7, changed)) t.fail(`bit ${bit}`)
  }
  for (let length = 0; length < batch.length; length++)
    if (decodeBatch(7, batch.subarray(0, length))) t.fail(`${length} bytes`)
  t.end()
})
