/** Changes, takes snapshots, forgets and prunes, and tells the snapshots that are to be there, until it is killed. */
import { writeFileSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { systemClock } from '../../lib/base/clock.js'
import { silentLog } from '../../lib/base/log.js'
import { openRoot } from '../../lib/base/posix.js'
import { seeded } from '../../lib/base/random.js'
import { Store } from '../../lib/store/store.js'
import { seededBytes } from '../helpers/bytes.js'
import { testIdentity } from '../helpers/store.js'

const [home = '', dir = '', seed = '1'] = process.argv.slice(2)
const options = { clock: systemClock, log: silentLog(), identity: testIdentity, workers: 1 }
const store = await Store.open(home, options)
const volume = store.volumes()[0] ?? (await store.createVolume({ dir }))
const rootFd = openRoot(dir)
const next = seeded(Number(seed))
const names = () => volume.snapshots().map(({ name }) => name)

for (;;) {
  for (let i = 0; i < 8; i++) {
    const path = join(dir, `d${next() % 4}`, `f${next() % 20}`)
    writeFileSync(path, seededBytes(seeded(next() % 40), 1000 + (next() % 2) * 300_000))
  }
  await volume.recordEverything()
  await volume.snapshot(rootFd)
  // Told before it is done: a name that is not told may be there or not.
  if (names().length > 3) {
    writeSync(1, `${names().slice(-2).join(' ')}\n`)
    await volume.forget(names().slice(0, -2))
  } else writeSync(1, `${names().join(' ')}\n`)
  await store.prune({ progress: (stage) => writeSync(1, `${stage}\n`) })
}
