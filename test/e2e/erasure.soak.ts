/**
 * Stripes end to end: a tree laid out as `erasure:2+1` over three partners, the daemon killed in the middle of it, a partner
 * killed, the machine lost; and everything back from the phrase alone, by the two partners that are left.
 */
import { execFileSync } from 'node:child_process'
import { copyFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import type { Status } from '../../lib/daemon/api.js'
import { KithNode, KithWorld } from '../helpers/kith.js'
import { makeTree } from '../helpers/made-tree.js'
import { compareTrees, describeTree } from '../helpers/tree.js'

t.test('erasure:2+1, killed in the middle, recovered with one partner dead', async (t) => {
  const world = await KithWorld.start(t)
  const { owner, partners } = await world.circle(3)
  await owner.run('placement', 'erasure:2+1')
  // Partners count once they are bound.
  const end = performance.now() + 120_000
  while ((await owner.run<Status>('status')).placement?.have !== 3)
    if (performance.now() > end) throw new Error('three partners take no blocks')
  const dir = world.directory('protected')
  await owner.run('mount', dir)
  makeTree(join(dir, 'made'), { seed: 3, bigBytes: 60 * 2 ** 20, wideEntries: 2000 })
  await owner.snapshot(dir)
  await owner.killDaemon()
  const { placement } = await owner.run<Status>('status')
  t.match(placement, { policy: 'erasure:2+1', shape: '2+1', needs: 3 })
  await owner.sync(dir, 600)
  const after = await owner.run<Status>('status')
  t.ok((after.placement?.stripes ?? 0) > 5, 'in stripes')
  t.equal(after.placement?.unreadable, 0)
  t.same(after.problems, [])
  const held = (await owner.volume(dir)).partners.map(({ bytesHeld }) => bytesHeld)
  const { bytesHere = 0 } = after.space ?? {}
  for (const bytes of held) t.ok(bytes < bytesHere * 0.7, `a partner holds ${bytes} of ${bytesHere}`)
  const before = await describeTree(dir)
  copyFileSync(owner.phraseFile, world.path('the phrase'))
  await owner.killDaemon()
  await owner.killFuse()
  world.unmountAll()
  execFileSync('rm', ['-rf', owner.home, owner.phraseFile, dir])
  await partners[1]?.killDaemon()

  const machine = new KithNode(world, 'new-machine')
  const to = world.path('recovered')
  await machine.run('recover', '--phrase-file', world.path('the phrase'), '--to', to)
  t.same(compareTrees(before, await describeTree(to)), [], `${before.length} names are as they were`)
  t.match((await machine.run<Status>('status')).placement, { policy: 'erasure:2+1' }, 'and it goes on so')
})
