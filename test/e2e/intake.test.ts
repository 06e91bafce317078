/** Continuous intake: partners have what changed before any snapshot names it. */
import { randomBytes } from 'node:crypto'
import { readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { KithWorld, until } from '../helpers/kith.js'

t.setTimeout(280_000)

t.test('a file that came to rest is with the partner before the next snapshot', async (t) => {
  const world = await KithWorld.start(t)
  const { owner, partners } = await world.circle(1)
  const [partner] = partners
  const dir = world.directory('protected')
  await owner.run('mount', dir)
  writeFileSync(join(dir, 'first'), 'first')
  await owner.snapshot(dir)
  await owner.sync(dir)
  const held = async () => (await partner?.status())?.vault.bytesHeld ?? 0
  const now = async () => (await owner.volume(dir)).partners[0]
  t.ok((await now())?.recoveryPoint)

  const before = await held()
  const bytes = randomBytes(1_000_000)
  writeFileSync(join(dir, 'large'), bytes)
  await until('the partner has its content', 60, async () => (await held()) > before + 1_000_000)
  await until('and said so', 60, async () => (await now())?.bytesPending === 0)
  const [snapshot] = await owner.snapshots(dir)
  t.equal((await owner.snapshots(dir)).length, 1, 'no snapshot was taken')
  t.equal((await now())?.recoveryPoint, snapshot?.time, 'but it can be got back from the next on')

  writeFileSync(join(dir, 'short'), bytes)
  rmSync(join(dir, 'short'))
  const { bytesNew } = await owner.snapshot(dir)
  t.ok(bytesNew < 100_000, `${bytesNew} bytes were left for the snapshot`)
  await owner.sync(dir)
  t.ok(((await now())?.recoveryPoint ?? 0) > (snapshot?.time ?? 0))
  await owner.run('restore', 'latest:large', '--to', world.path('restored'))
  t.ok(readFileSync(world.path('restored')).equals(bytes))
})
