/**
 * Puts, sends, evicts, fetches, removes and compacts blocks at random, and says what is so, until it is killed at a
 * persistence point or has done all its steps: `+n` block n is committed, `-n` it is removed, `=s` partners hold all up to s.
 */
import { writeSync } from 'node:fs'
import { join } from 'node:path'
import { systemClock } from '../../lib/base/clock.js'
import { silentLog } from '../../lib/base/log.js'
import { seeded } from '../../lib/base/random.js'
import { BlockStore } from '../../lib/blocks/block-store.js'
import { Database } from '../../lib/blocks/database.js'
import { evict } from '../../lib/store/evict.js'
import { evictable } from '../helpers/evictable.js'

const [dir = '', seed = '1', from = '0', sent = '0'] = process.argv.slice(2)
const db = Database.open(join(dir, 'index'))
const blocks = await BlockStore.open(dir, { db, clock: systemClock, log: silentLog() })
const next = seeded(Number(seed))
const say = (text: string) => writeSync(1, `${text}\n`)
let held = Number(sent)
let made = Number(from)

for (let step = 0; step < 40; step++) {
  const what = next() % 6
  if (what <= 1) {
    const fresh = Array.from({ length: 1 + (next() % 8) }, () => made++)
    for (const n of fresh) await blocks.put(evictable(n).name, evictable(n).bytes)
    await blocks.commit()
    say(fresh.map((n) => `+${n}`).join('\n'))
  } else if (what === 2) {
    held = Math.max(held, blocks.lastSequence - (next() % 6))
    say(`=${held}`)
  } else if (what === 3) {
    const target = Math.floor((blocks.bytesOnDisk * (next() % 10)) / 10)
    await evict(blocks, { target, isSafe: (sequence) => sequence <= held })
  } else if (what === 4 && made > 0) {
    // Read again from a partner, as a restore does.
    for (let i = 0; i < 3; i++) {
      const { name, bytes } = evictable(next() % made)
      if (blocks.has(name)) await blocks.put(name, bytes)
    }
    await blocks.commit()
  } else if (made > 0) {
    const n = next() % made
    say(`-${n}`)
    await blocks.remove([evictable(n).name])
  }
}
process.exit(0)
