/**
 * Repair by one share end to end: of four partners with a tree laid out as `erasure:2+1` one goes, the daemon is killed again and
 * again while it sends that one's parts to others, then the machine and one more partner are lost; the phrase brings all back.
 */
import { execFileSync } from 'node:child_process'
import { copyFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import t from 'tap'
import { KithNode, KithWorld, until } from '../helpers/kith.js'
import { makeTree } from '../helpers/made-tree.js'
import { compareTrees, describeTree } from '../helpers/tree.js'

t.setTimeout(170_000)

t.test('a partner leaves, the daemon is killed in the middle of the repair', async (t) => {
  const world = await KithWorld.start(t)
  const { owner, partners } = await world.circle(4)
  await owner.run('placement', 'erasure:2+1')
  await until('four partners take blocks', 60, async () => (await owner.status()).placement?.have === 4)
  const dir = world.directory('protected')
  await owner.run('mount', dir)
  makeTree(join(dir, 'made'), { seed: 5, bigBytes: 60 * 2 ** 20, wideEntries: 500 })
  await owner.snapshot(dir)
  await owner.sync(dir, 120)
  await owner.run('limit', '--up', '4M')
  await owner.run('agreement', 'end', 'partner-1', '--yes')
  for (let kills = 0; kills < 4; kills++) {
    await until('the repair goes on', 60, async () => (await owner.status()).placement?.repair !== null)
    await setTimeout(700)
    await owner.killDaemon()
  }
  t.match((await owner.status()).placement?.repair, { stripes: Number, done: Number, bytes: Number })
  await owner.run('limit', '--up', 'none')
  await partners[0]?.killDaemon()
  await until('it is done', 60, async () => (await owner.status()).placement?.repair === null)
  await owner.sync(dir, 60)
  t.same((await owner.status()).problems, [])
  const before = await describeTree(dir)
  copyFileSync(owner.phraseFile, world.path('the phrase'))
  await owner.killDaemon()
  await owner.killFuse()
  world.unmountAll()
  execFileSync('rm', ['-rf', owner.home, owner.phraseFile, dir])
  await partners[2]?.killDaemon()

  const machine = new KithNode(world, 'new-machine')
  const to = world.path('recovered')
  await machine.run('recover', '--phrase-file', world.path('the phrase'), '--to', to)
  t.same(compareTrees(before, await describeTree(to)), [], `${before.length} names are as they were`)
})
