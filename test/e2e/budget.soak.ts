/** A budget for blocks kept here, with real partners: what they hold goes, and comes back when it is wanted. */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { seeded } from '../../lib/base/random.js'
import { seededBytes } from '../helpers/bytes.js'
import { KithWorld, type KithNode, until } from '../helpers/kith.js'

t.setTimeout(280_000)

const spaceOf = async (node: KithNode) => {
  const { space } = await node.status()
  if (!space) throw new Error('no space')
  return space
}

t.test('a budget: partners keep the rest, and a lost one is told of', async (t) => {
  const world = await KithWorld.start(t)
  const { owner, partners } = await world.circle(2)
  const dir = world.directory('protected')
  await owner.run('mount', dir)
  const content = (n: number) => seededBytes(seeded(n), 2_000_000)
  for (let n = 0; n < 5; n++) writeFileSync(join(dir, `f${n}`), content(n))
  await owner.snapshot(dir)
  await owner.sync(dir)

  // There are not so many partners: nothing goes, and that is said.
  t.match(await owner.run('budget', '3M', '--copies', '3'), { bytesBudget: 3 * 2 ** 20, bytesEvicted: 0 })
  await until('it says that it is full', 100, async () => (await spaceOf(owner)).full)
  t.ok((await spaceOf(owner)).bytesHere > 10_000_000)
  t.match((await owner.status()).problems, [/the budget for blocks kept here is full/])

  await owner.run('budget', '--copies', '2')
  await owner.run('audit')
  await until(
    'what partners hold is gone here',
    60,
    async () => (await spaceOf(owner)).bytesHere < 3 * 2 ** 20,
  )
  t.match(await spaceOf(owner), { full: false, bytesThin: 0 })
  t.ok((await spaceOf(owner)).bytesEvicted > 7_000_000)
  t.match((await owner.try('status')).stdout, /kept here, .* with partners only/)

  // Read back: through the mount, by cat, by restore; and what is written again is known.
  const name = (await owner.snapshots(dir)).at(-1)?.name ?? ''
  t.ok(readFileSync(join(dir, '.snapshots', name, 'f0')).equals(content(0)))
  await owner.run('restore', 'latest', '--to', world.path('restored'))
  for (let n = 0; n < 5; n++) t.ok(readFileSync(join(world.path('restored'), `f${n}`)).equals(content(n)))
  await until(
    'it is within the budget again',
    100,
    async () => (await spaceOf(owner)).bytesHere < 3 * 2 ** 20,
  )
  writeFileSync(join(dir, 'again'), content(1))
  t.ok((await owner.snapshot(dir)).bytesNew < 100_000, 'it is with partners already')
  type Checked = { damaged: number; missing: number; volumes: { away: number }[] }
  const checked = await owner.run<Checked>('check', '--read-data')
  t.match(checked, { damaged: 0, missing: 0 })
  t.ok((checked.volumes[0]?.away ?? 0) > 0)
  const audit = async () => {
    const { partners: audited } = await owner.run<{ partners: { asked: number; proven: number }[] }>('audit')
    return audited.every(({ asked, proven }) => asked > 0 && asked === proven)
  }
  t.ok(await audit())

  // A partner is gone for good, with all that it held; another comes instead, and gets it from the one left.
  const [first, second] = partners as [KithNode, KithNode]
  await first.run('stop')
  t.match(await owner.run('check'), { damaged: 0, missing: 0 }, 'one of them is enough to tell')
  await second.run('stop')
  t.match(await owner.run('check'), { damaged: 0, missing: 0 }, 'none is: those away are believed')
  await second.status()
  await owner.waitForPartners(1)
  const third = await world.node('third')
  await third.join(owner)
  await owner.waitForPartners(2)
  await until('the third holds everything', 100, async () => {
    const held = (await owner.partners()).find((partner) => partner.name === 'third')
    return (held?.bytesHeld ?? 0) > 10_000_000
  })
})

t.test('what only one partner holds stays, and a prune of what went reaches it', async (t) => {
  const world = await KithWorld.start(t)
  const { owner, partners } = await world.circle(1)
  const dir = world.directory('protected')
  await owner.run('mount', dir)
  writeFileSync(join(dir, 'kept'), seededBytes(seeded(1), 1_000_000))
  writeFileSync(join(dir, 'gone'), seededBytes(seeded(2), 3_000_000))
  const { name } = await owner.snapshot(dir)
  await owner.sync(dir)
  await owner.run('audit')
  await owner.run('budget', '1M')
  await until('it says that it is full', 100, async () => (await spaceOf(owner)).full)
  t.match(await spaceOf(owner), { bytesEvicted: 0 })
  await owner.run('budget', '--copies', '1')
  await until('it went', 100, async () => (await spaceOf(owner)).bytesEvicted > 2_500_000)
  t.match(await owner.run('budget', '--copies', '2'), { full: false })
  t.ok((await spaceOf(owner)).bytesThin > 2_500_000, 'too few partners hold it now')

  const [partner] = partners as [KithNode]
  await partner.run('stop')
  const config = join(partner.home, 'config.json')
  const settings = JSON.parse(readFileSync(config, 'utf8')) as object
  writeFileSync(config, JSON.stringify({ ...settings, dropDelayHours: 0.0001 }))
  await partner.status()
  writeFileSync(join(dir, 'gone'), 'small')
  await owner.snapshot(dir)
  await owner.run('forget', name)
  await owner.run('prune')
  await until(
    'the partner has let go, too',
    60,
    async () => (await partner.status()).vault.bytesHeld < 2_000_000,
  )
  t.match(await owner.run('check'), { damaged: 0, missing: 0, problems: [] })
  t.equal((await owner.try('budget', 'none')).code, 0)
  t.match((await owner.try('budget', 'much')).stderr, /bad size/)
})
