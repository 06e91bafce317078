/** The ransomware brake, through the front door: files on a mount are encrypted, and the snapshot from before stays. */
import { execFileSync } from 'node:child_process'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { seeded } from '../../lib/base/random.js'
import type { SnapshotRow } from '../../lib/daemon/api.js'
import { seededBytes } from '../helpers/bytes.js'
import { KithWorld, until, type KithNode } from '../helpers/kith.js'

t.setTimeout(280_000)

/** What the attacker runs: every file below, in place. */
const script = `
  const { createCipheriv, randomBytes } = require('node:crypto')
  const { readdirSync, readFileSync, openSync, writeSync, closeSync, statSync } = require('node:fs')
  for (const name of readdirSync(process.argv[1], { recursive: true })) {
    const path = process.argv[1] + '/' + name
    if (name.startsWith('.') || !statSync(path).isFile()) continue
    const cipher = createCipheriv('aes-256-ctr', randomBytes(32), randomBytes(16))
    const bytes = cipher.update(readFileSync(path))
    const fd = openSync(path, 'r+')
    writeSync(fd, bytes)
    closeSync(fd)
  }
`

const count = 300
const letter = (n: number, year: number) => `letter ${n} of ${year}\n`.repeat(60 + (n % 300))
const isTold = async (node: KithNode, dir: string) =>
  (await node.volume(dir)).problems.filter((line) => line.includes('look encrypted'))

t.test(
  'encrypted in place: the snapshot before is pinned, outlives rules and prune, and status says so',
  async (t) => {
    const world = await KithWorld.start(t)
    const owner = await world.node('owner')
    const dir = world.directory('protected')
    await owner.run('mount', dir)
    const path = (n: number) => join(dir, `folder${n % 10}`, `letter${n}.txt`)
    for (let n = 0; n < count; n++) {
      mkdirSync(join(dir, `folder${n % 10}`), { recursive: true })
      writeFileSync(path(n), letter(n, 2023))
    }
    const secret = join(dir, 'secret')
    mkdirSync(secret)
    for (let n = 0; n < 12; n++) writeFileSync(join(secret, `${n}.txt`), letter(n, 2022))
    await owner.snapshot(dir)

    // Days of work: one folder is encrypted by its owner; all letters are written anew, pictures come.
    execFileSync(process.execPath, ['-e', script, secret])
    await owner.snapshot(dir)
    for (let n = 0; n < count; n++) writeFileSync(path(n), letter(n, 2024))
    mkdirSync(join(dir, 'pictures'))
    for (let n = 0; n < 30; n++)
      writeFileSync(join(dir, 'pictures', `${n}.jpg`), seededBytes(seeded(n), 60_000))
    const before = await owner.snapshot(dir)
    t.same(await isTold(owner, dir), [])
    t.notOk((await owner.snapshots(dir)).some(({ pinned }) => pinned))

    execFileSync(process.execPath, ['-e', script, dir])
    // Reading ahead would show it, too, once the kernel has let go of the files: half a minute later.
    await owner.snapshot(dir)
    await until('it is told', 100, async () => (await isTold(owner, dir)).length > 0)
    t.equal((await isTold(owner, dir)).length, 1)
    t.match((await isTold(owner, dir))[0], before.name)
    t.match((await owner.try('status')).stdout, /look encrypted now/)
    const [, , pinned] = await owner.snapshots(dir)
    t.match(pinned, { name: before.name, pinned: true, tags: ['before-encryption'] })

    // Backups go on, and one attack is one alarm.
    execFileSync(process.execPath, ['-e', script, dir])
    const later = await owner.snapshot(dir)
    t.equal((await isTold(owner, dir)).length, 1)
    t.match((await owner.try('forget', before.name)).stderr, /is pinned/)
    await owner.run('forget', '--keep-last', '1')
    await owner.run('prune')
    const names = (await owner.snapshots(dir)).map(({ name }) => name)
    t.same(names, [before.name, later.name], 'that of the encrypted files is gone')

    // It is told after a restart, and until it is unpinned; all of it is there.
    await owner.run('stop')
    t.equal((await isTold(owner, dir)).length, 1)
    await owner.run('restore', before.name, '--to', world.path('restored'))
    for (let n = 0; n < count; n++) {
      const restored = join(world.path('restored'), `folder${n % 10}`, `letter${n}.txt`)
      if (readFileSync(restored, 'utf8') !== letter(n, 2024)) t.fail(`letter ${n} is not as it was`)
    }
    const [unpinned] = await owner.run<SnapshotRow[]>('unpin', before.name)
    t.match(unpinned, { pinned: false })
    t.same(await isTold(owner, dir), [])
  },
)
