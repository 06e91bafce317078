/** Puts, commits and removes blocks, and says so, until it is killed: `+n` block n is committed, `-n` it is removed. */
import { writeSync } from 'node:fs'
import { join } from 'node:path'
import { systemClock } from '../../lib/base/clock.js'
import { silentLog } from '../../lib/base/log.js'
import { seeded } from '../../lib/base/random.js'
import { BlockStore } from '../../lib/blocks/block-store.js'
import { Database } from '../../lib/blocks/database.js'
import { blockName } from '../../lib/format/seal.js'
import { seededBytes } from '../helpers/bytes.js'

const [dir = '', from = '0'] = process.argv.slice(2)
const db = Database.open(join(dir, 'index'))
const blocks = await BlockStore.open(dir, { db, clock: systemClock, log: silentLog() })
const made = (seed: number) => seededBytes(seeded(seed), 50_000)

for (let seed = Number(from); ; seed += 10) {
  const batch = Array.from({ length: 10 }, (_, i) => seed + i)
  for (const one of batch) await blocks.put(blockName(made(one)), made(one))
  await blocks.commit()
  writeSync(1, batch.map((one) => `+${one}\n`).join(''))
  const gone = batch.filter((one) => one % 3 === 0)
  await blocks.remove(gone.map((one) => blockName(made(one))))
  writeSync(1, gone.map((one) => `-${one}\n`).join(''))
}
