// Segment files as a crash or a lying disk leaves them: tails that were never committed, and committed bytes that are not
// what was written.
import { closeSync, cpSync, openSync, readSync, rmSync, statSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { systemClock } from '../../lib/base/clock.js'
import { silentLog } from '../../lib/base/log.js'
import { seeded } from '../../lib/base/random.js'
import { Store } from '../../lib/store/store.js'
import type { Volume } from '../../lib/store/volume.js'
import { seededBytes } from '../helpers/bytes.js'
import { sameAsDirectory, testIdentity, type Fixture } from '../helpers/store.js'
import { said, twoSnapshots } from '../helpers/two-snapshots.js'

t.setTimeout(280_000)

const good = { wounds: [], hurt: [], snapshots: 0, problems: [], unused: 0 }
const page = 4096

type Change = (fd: number, size: number, random: () => number) => void

function pageAt(fd: number, at: number): Buffer {
  const bytes = Buffer.alloc(page)
  readSync(fd, bytes, 0, page, at * page)
  return bytes
}

const tails: Record<string, Change> = {
  'garbage behind the end': (fd, size, random) =>
    void writeSync(fd, seededBytes(random, 50_000), 0, 50_000, size),
  'zeros behind the end': (fd, size) => void writeSync(fd, Buffer.alloc(50_000), 0, 50_000, size),
  'records without their rows, in another order': (fd, size, random) => {
    const pages = Array.from({ length: 20 }, () => pageAt(fd, random() % Math.floor(size / page)))
    pages.forEach((bytes, i) => writeSync(fd, bytes, 0, page, size + i * page))
  },
}

const lies: Record<string, Change> = {
  'pages that never arrived': (fd, size, random) => {
    for (let i = 0; i < 5; i++)
      writeSync(fd, Buffer.alloc(page), 0, page, (random() % Math.floor(size / page)) * page)
  },
  'pages in another order': (fd, size, random) => {
    const [a, b] = [random() % Math.floor(size / page), random() % Math.floor(size / page)]
    const [first, second] = [pageAt(fd, a), pageAt(fd, b)]
    writeSync(fd, second, 0, page, a * page)
    writeSync(fd, first, 0, page, b * page)
  },
  'a tail of zeros': (fd, size) => void writeSync(fd, Buffer.alloc(300_000), 0, 300_000, size - 300_000),
}

/** The store as it was, with its segment changed, opened. */
async function changed(fixture: Fixture, saved: string, change: Change, seed: number): Promise<Fixture> {
  const home = `${saved} at work`
  rmSync(home, { recursive: true, force: true })
  cpSync(saved, home, { recursive: true })
  const segment = join(home, 'segments', '00000001.seg')
  const fd = openSync(segment, 'r+')
  change(fd, statSync(segment).size, seeded(seed))
  closeSync(fd)
  const options = { clock: systemClock, log: silentLog(), identity: testIdentity, workers: 1 }
  const store = await Store.open(home, options)
  return { ...fixture, home, store, volume: store.volumes()[0] as Volume }
}

t.test('torn and reordered writes', async (t) => {
  const fixture = await twoSnapshots(t)
  const saved = `${fixture.home} saved`
  await fixture.store.close()
  cpSync(fixture.home, saved, { recursive: true })
  await fixture.reopen()

  for (const [name, change] of Object.entries(tails))
    await t.test(`${name}, never committed, is cut off`, async (t) => {
      const torn = await changed(fixture, saved, change, 5)
      t.same(said(await torn.store.check({ wanted: () => true })), good)
      await torn.volume.snapshot(fixture.rootFd)
      await sameAsDirectory(t, torn)
      t.same(said(await torn.store.check({ wanted: () => true })), good)
      await torn.store.close()
    })

  for (const [name, change] of Object.entries(lies))
    for (const seed of [1, 2])
      await t.test(`${name}, though committed (${seed}): told, and healed`, async (t) => {
        const torn = await changed(fixture, saved, change, seed)
        const found = await torn.store.check({ wanted: () => true })
        t.ok(found.bad.size > 0)
        const whole = new Set(found.bad.keys())
        const remote = { get: (block: Buffer) => fixture.store.blocks.get(block) }
        const { after, healed } = await torn.store.repair({
          dryRun: false,
          live: () => fixture.rootFd,
          remote,
        })
        t.same(said(after), good)
        const { record, partner, live, copy } = healed
        t.ok(record + partner + live + copy >= whole.size)
        t.same(said(await torn.store.check({ wanted: () => true })), good)
        await sameAsDirectory(t, torn)
        await torn.store.close()
      })
})
