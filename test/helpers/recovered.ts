/**
 * The main promise, end to end: a real tree written through the mount, held by three partners, its machine lost, and
 * everything back from the phrase alone. And what a second snapshot sends.
 */
import { execFileSync } from 'node:child_process'
import { closeSync, copyFileSync, existsSync, openSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import type { Test } from 'tap'
import { maxSealedBytes } from '../../lib/format/seal.js'
import { KithNode, KithWorld } from './kith.js'
import { makeTree, type MadeTreeOptions } from './made-tree.js'
import { compareTrees, describeTree } from './tree.js'

/** What each partner holds of the owner's, as the owner knows it. */
async function held(owner: KithNode, dir: string): Promise<number[]> {
  return (await owner.volume(dir)).partners.map(({ bytesHeld }) => bytesHeld)
}

type Made = Pick<MadeTreeOptions, 'wideEntries'> & { bigBytes: number }

/**
 * A real tree is written, held by three partners, and lost with its machine; then it is recovered.
 * @param beside directories that are copied into it
 */
export async function lostAndRecovered(
  t: Test,
  { made, beside, leastNames }: { made: Made; beside: readonly string[]; leastNames: number },
): Promise<void> {
  const world = await KithWorld.start(t)
  const { owner } = await world.circle(3)
  const dir = world.directory('protected')
  await owner.run('mount', dir)

  makeTree(join(dir, 'made'), { seed: 2, ...made })
  execFileSync('cp', ['-a', ...beside, dir])
  const first = await owner.snapshot(dir)
  await owner.sync(dir, 480)
  const afterFirst = await held(owner, dir)
  t.equal(afterFirst.length, 3)
  const [one = 0] = afterFirst
  t.ok(one >= first.bytesNew, `${one} bytes at a partner, ${first.bytesNew} new ones in the snapshot`)
  t.same(afterFirst, [one, one, one], 'each partner holds the whole')

  await t.test('a second snapshot sends the change and the nodes above it', async (t) => {
    const file = openSync(join(dir, 'made', 'big'), 'r+')
    writeSync(file, 'changed', Math.floor(made.bigBytes * 0.7))
    closeSync(file)
    const second = await owner.snapshot(dir)
    t.equal(second.files, first.files)
    t.ok(second.bytesNew > 0 && second.bytesNew < 4 * maxSealedBytes, `${second.bytesNew} new bytes`)
    await owner.sync(dir, 240)
    const sent = (await held(owner, dir)).map((bytes, i) => bytes - (afterFirst[i] ?? 0))
    t.ok(
      sent.every((bytes) => bytes >= second.bytesNew && bytes < second.bytesNew + 64 * 1024),
      `${sent.join(', ')} bytes sent to the partners, for ${second.bytesNew}`,
    )
    const third = await owner.snapshot(dir)
    t.ok(third.bytesNew < 16 * 1024, `no change: ${third.bytesNew} new bytes`)
    await owner.sync(dir, 240)
  })

  const before = await describeTree(dir)
  copyFileSync(owner.phraseFile, world.path('the phrase'))
  await owner.killDaemon()
  await owner.killFuse()
  world.unmountAll()
  execFileSync('rm', ['-rf', owner.home, owner.phraseFile, dir])
  t.notOk(existsSync(owner.home) || existsSync(dir), 'the machine is lost')

  const machine = new KithNode(world, 'new-machine')
  const to = world.path('recovered')
  await machine.run('recover', '--phrase-file', world.path('the phrase'), '--to', to)
  const after = await describeTree(to)
  t.same(compareTrees(before, after), [], `${before.length} names are as they were`)
  t.ok(before.length > leastNames, 'and they are many')
}
