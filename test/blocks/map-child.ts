/**
 * Fills an index by transactions that are each as large as all before, so that its map grows again and again: says `n` when
 * round n is committed. A round is whole or not at all: rows `n | i` for each i below rowsOf(n).
 *     node map-child.js DIR FROM TO
 */
import { writeSync } from 'node:fs'
import { Database, encodings } from '../../lib/blocks/database.js'
import { rowKey, rowOf, rowsOf } from '../helpers/growing.js'

const [dir = '', from = '0', to = '0'] = process.argv.slice(2)
const db = Database.open(dir)
const table = db.table('t', encodings.bytes, encodings.bytes)
for (let round = Number(from); round < Number(to); round++) {
  await db.transaction(() => {
    for (let i = 0; i < rowsOf(round); i++) table.put(rowKey(round, i), rowOf(round, i))
  })
  writeSync(1, `${round}\n`)
}
process.exit(0)
