/** Leaving: the plain files stay after unmount, and decommission gives every partner its space back. */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { KithWorld, until } from '../helpers/kith.js'
import { makeTree } from '../helpers/made-tree.js'
import { compareTrees, describeTree } from '../helpers/tree.js'

t.test('unmount leaves the files, decommission takes the backups away', async (t) => {
  const world = await KithWorld.start(t)
  const { owner, partners } = await world.circle(2)
  // A third of a second instead of three days.
  const [, hasty] = partners
  if (!hasty) throw new Error('two partners')
  await hasty.run('stop')
  const config = join(hasty.home, 'config.json')
  const settings = JSON.parse(readFileSync(config, 'utf8')) as object
  writeFileSync(config, JSON.stringify({ ...settings, dropDelayHours: 0.0001 }))
  await hasty.status()
  await owner.waitForPartners(2)
  const dir = world.directory('protected')
  await owner.run('mount', dir)
  makeTree(dir, { bigBytes: 5_000_000, wideEntries: 500 })
  const { files } = await owner.snapshot(dir)
  await owner.sync(dir)
  const mounted = await describeTree(dir)

  t.match(await owner.run('unmount', dir), { dir, stillOpen: [] })
  t.same(world.mounts(), [], 'nothing is mounted')
  t.equal(owner.fusePid(), undefined, 'and nothing runs for it')
  t.same(compareTrees(mounted, await describeTree(dir)), [], 'the files are as they were')
  const holding = async (): Promise<number[]> =>
    Promise.all(partners.map(async (partner) => (await partner.status()).vault.bytesHeld))
  t.ok(
    (await holding()).every((bytes) => bytes > 5_000_000),
    'the backups stay',
  )
  t.match(await owner.snapshots(dir), [{ files }], 'and can be listed')
  await owner.run('restore', 'latest:big', '--to', world.path('big'))
  t.ok(readFileSync(world.path('big')).equals(readFileSync(join(dir, 'big'))), 'and read')

  await owner.run('mount', dir)
  const asked = await owner.try('unmount', dir, '--decommission')
  t.not(asked.code, 0, 'without an answer nothing goes')
  t.ok((await holding()).every((bytes) => bytes > 5_000_000))
  await owner.run('unmount', dir, '--decommission', '--yes')
  await until('a vault is empty', 60, async () => (await hasty.status()).vault.bytesHeld === 0)
  const [patient = 0] = await holding()
  t.ok(patient > 5_000_000, 'the other partner holds it back: whoever asked')
  t.same(world.mounts(), [])
  t.same(compareTrees(mounted, await describeTree(dir)), [], 'the files are as they were')
  t.same((await owner.status()).volumes, [])
})
