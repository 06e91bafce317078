/** Changes files below a directory, records that, takes a snapshot, and tells its name, until it is killed. */
import { writeFileSync, writeSync } from 'node:fs'
import { statSync } from 'node:fs'
import { join } from 'node:path'
import { systemClock } from '../../lib/base/clock.js'
import { silentLog } from '../../lib/base/log.js'
import { openRoot } from '../../lib/base/posix.js'
import { seeded } from '../../lib/base/random.js'
import { Store } from '../../lib/store/store.js'
import { seededBytes } from '../helpers/bytes.js'
import { change, testIdentity } from '../helpers/store.js'

const [home = '', dir = '', seed = '1'] = process.argv.slice(2)
const store = await Store.open(home, {
  clock: systemClock,
  log: silentLog(),
  identity: testIdentity,
  workers: 1,
})
const volume = store.volumes()[0] ?? (await store.createVolume({ dir }))
const rootFd = openRoot(dir)
const next = seeded(Number(seed))

for (;;) {
  for (let i = 0; i < 5; i++) {
    const folder = join(dir, `d${next() % 5}`)
    const path = join(folder, `f${next() % 20}`)
    const ino = statSync(path, { bigint: true, throwIfNoEntry: false })?.ino ?? 0n
    const parent = statSync(folder, { bigint: true }).ino
    // The record comes first, as the mount's own log has it on disk whatever happens to this process.
    await volume.recordChanges([change('names', ino, { parent }), change('close', ino)])
    writeFileSync(path, seededBytes(next, next() % 600_000))
  }
  const { name } = await volume.snapshot(rootFd)
  writeSync(1, `${name}\n`)
}
