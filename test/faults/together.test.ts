// Many at once, under a clock that jumps: snapshots, restores, checks, forgetting, prunes.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { systemClock, type Clock } from '../../lib/base/clock.js'
import { seeded } from '../../lib/base/random.js'
import { Database, encodings } from '../../lib/blocks/database.js'
import { restoreTree } from '../../lib/restore/restore.js'
import { seededBytes } from '../helpers/bytes.js'
import { change, inoOf, protect, sameAsDirectory } from '../helpers/store.js'
import { said } from '../helpers/two-snapshots.js'

t.setTimeout(280_000)

const good = { wounds: [], hurt: [], snapshots: 0, problems: [], unused: 0 }

/** A wall clock that jumps years back and forth. */
function jumping(random: () => number): Clock {
  const year = 31_536_000_000
  return {
    now: () => systemClock.now() + ((random() % 5) - 2) * year,
    monotonic: () => systemClock.monotonic(),
    after: (ms, run) => systemClock.after(ms, run),
  }
}

t.test('ten snapshots, restores and checks at once, while the clock jumps', async (t) => {
  const random = seeded(77)
  const fixture = await protect(t, jumping(random))
  const { dir, rootFd, store, volume } = fixture
  const target = mkdtempSync(join(tmpdir(), 'kith-together-'))
  t.teardown(() => rmSync(target, { recursive: true, force: true }))
  const content = seededBytes(random, 900_000)
  writeFileSync(join(dir, 'always'), content)
  await volume.snapshot(rootFd)
  const reader = volume.reader(store.blocks)

  const snapshot = async (i: number) => {
    writeFileSync(join(dir, `file ${i}`), seededBytes(random, 100_000))
    await volume.recordChanges([change('names', 0n, { parent: inoOf(rootFd) })])
    return (await volume.snapshot(rootFd)).name
  }
  const restore = async (i: number) => {
    const to = join(target, String(i))
    await restoreTree(reader, await reader.snapshot('latest'), to, {})
    t.ok(readFileSync(join(to, 'always')).equals(content), 'restored beside snapshots')
  }
  const check = async () => t.same(said(await store.check({ wanted: () => true })), good)
  const names = Array.from({ length: 10 }, (_, i) => snapshot(i))
  await Promise.all([...names, restore(1), check(), restore(2), check(), restore(3)])

  const told = await Promise.all(names)
  const listed = volume.snapshots().map(({ name }) => name)
  t.equal(new Set(listed).size, 11, 'each has a name of its own')
  t.same([...listed].sort(), listed, 'in the order in which they were taken, whatever the clock said')
  t.same([...told].sort(), listed.slice(1))
  await sameAsDirectory(t, fixture)

  const oldest = listed.slice(0, 5)
  const prune = async () => {
    // One at a time, as the daemon does; what is forgotten meanwhile is for the next.
    for (let i = 0; i < 4; i++) await store.prune({})
  }
  const forget = async () => {
    for (const name of oldest) await volume.forget([name])
  }
  const later = Array.from({ length: 10 }, (_, i) => snapshot(11 + i))
  await Promise.all([forget(), prune(), check(), ...later, ...[4, 5, 6, 7].map(restore)])
  t.equal(volume.snapshots().length, 16)
  await fixture.reopen()
  await sameAsDirectory(t, fixture)
  t.same(said(await fixture.store.check({ wanted: () => true })), good)
})

t.test('the map of the index grows under big transactions', async (t) => {
  const dir = t.testdir()
  const db = Database.open(dir)
  const table = db.table('t', encodings.number, encodings.bytes)
  const random = seeded(3)
  const value = seededBytes(random, 3000)
  for (let round = 0, key = 0; round < 6; round++)
    await db.transaction(() => {
      for (let i = 0; i < 500 * 2 ** round; i++) table.put(key++, value)
    })
  t.equal(table.count(), 500 * 63)
  await db.close()
  const again = Database.open(dir)
  const rows = again.table('t', encodings.number, encodings.bytes)
  t.equal(rows.count(), 500 * 63)
  t.ok(rows.get(31_499)?.equals(value))
  await again.close()
})
