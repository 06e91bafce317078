import { realpathSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { Database, encodings } from '../../lib/blocks/database.js'
import { mappedKilobytes } from '../helpers/mapped.js'

t.test('what was mapped in goes when it rests, and is read again as it was', async (t) => {
  const dir = t.testdir()
  const db = Database.open(dir)
  t.teardown(() => db.close())
  const table = db.table('t', encodings.number, encodings.bytes)
  for (let round = 0; round < 8; round++)
    await db.transaction(() => {
      for (let i = 0; i < 500; i++) table.put(round * 500 + i, Buffer.alloc(2000, i))
    })
  const isWhole = () =>
    [...table.range()].every(({ key, value }) => value.equals(Buffer.alloc(2000, key % 500)))
  t.ok(isWhole())
  const file = realpathSync(join(dir, 'data.mdb'))
  t.ok(mappedKilobytes(file) > 8000)
  db.rest()
  t.ok(mappedKilobytes(file) < 500, `${mappedKilobytes(file)} kB`)
  t.ok(isWhole())
  await db.transaction(() => table.put(1, Buffer.from('new')))
  t.equal(table.get(1)?.toString(), 'new')
})
