/**
 * Compacts an index, by the faults that are asked for: `done`, `not` when it was not done, or the code of an error.
 *     node compact-child.js DIR
 */
import { writeSync } from 'node:fs'
import { Database } from '../../lib/blocks/database.js'
import { asKithError } from '../../lib/base/errors.js'

const db = Database.open(process.argv[2] ?? '')
db.table(
  't',
  { encode: (key: Buffer) => key, decode: (key) => key },
  { encode: (v: Buffer) => v, decode: (v) => v },
)
try {
  writeSync(1, (await db.compact()) ? 'done' : 'not')
} catch (error) {
  writeSync(1, asKithError(error).code)
}
await db.close()
