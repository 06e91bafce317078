/** What is forgotten and pruned goes at the partners, too, by their clock; what is kept can still be recovered. */
import { readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { seeded } from '../../lib/base/random.js'
import { seededBytes } from '../helpers/bytes.js'
import { KithWorld, until } from '../helpers/kith.js'

t.setTimeout(280_000)

t.test('forget and prune: partners let go, after a while, of what no snapshot needs', async (t) => {
  const world = await KithWorld.start(t)
  const { owner, partners } = await world.circle(2)
  const [patient, hasty] = partners as [(typeof partners)[0], (typeof partners)[0]]
  // A third of a second instead of three days.
  await hasty.run('stop')
  const config = join(hasty.home, 'config.json')
  const settings = JSON.parse(readFileSync(config, 'utf8')) as object
  writeFileSync(config, JSON.stringify({ ...settings, dropDelayHours: 0.0001 }))
  await hasty.status()

  const dir = world.directory('protected')
  await owner.run('mount', dir)
  const kept = seededBytes(seeded(1), 2_000_000)
  const back = seededBytes(seeded(2), 3_000_000)
  writeFileSync(join(dir, 'kept'), kept)
  writeFileSync(join(dir, 'gone'), seededBytes(seeded(3), 4_000_000))
  writeFileSync(join(dir, 'back'), back)
  const first = await owner.snapshot(dir)
  await owner.sync(dir)
  rmSync(join(dir, 'gone'))
  rmSync(join(dir, 'back'))
  await owner.snapshot(dir)
  await owner.run('forget', first.name)
  t.match(await owner.run('prune'), { dryRun: false })
  const holding = async (node = hasty) => (await node.status()).vault.bytesHeld
  await until('the hasty partner has let go', 60, async () => (await holding()) < 2_500_000)
  t.ok((await holding(patient)) > 9_000_000, 'the patient one still has it')

  // The content comes back: at one partner a drop is carried out already, at the other it is held back.
  writeFileSync(join(dir, 'back'), back)
  await owner.snapshot(dir)
  await owner.sync(dir)
  await until('all partners pass a full audit', 60, async () => {
    const { partners: audited } = await owner.run<{
      partners: { asked: number; proven: number; faults: string[] }[]
    }>('audit', '--full')
    return audited.every(({ asked, proven, faults }) => asked > 0 && asked === proven && faults.length === 0)
  })
  t.ok((await holding()) > 5_000_000)
  await owner.run('restore', 'latest', '--to', world.path('restored'))
  t.ok(readFileSync(join(world.path('restored'), 'back')).equals(back))
  t.ok(readFileSync(join(world.path('restored'), 'kept')).equals(kept))
})
