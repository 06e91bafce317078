/**
 * Two homes with files in common, in a circle with which both share: what the other has is not sent, a recovery from the phrase
 * alone brings it back, and each keeps what it holds when the other lets go of its own.
 */
import { copyFileSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { randomBytes } from '../../lib/base/random.js'
import { KithNode, KithWorld } from '../helpers/kith.js'

t.setTimeout(400_000)

t.test('blocks in common', async (t) => {
  const world = await KithWorld.start(t)
  const [ada, bob] = await Promise.all([world.node('ada'), world.node('bob')])
  await ada.run('circle', 'create', 'friends')
  await bob.join(ada)
  const photo = randomBytes(3_000_000)
  const dirs = { ada: world.directory('of ada'), bob: world.directory('of bob') }
  for (const [name, dir] of Object.entries(dirs)) {
    writeFileSync(join(dir, `photo as ${name} calls it`), photo)
    writeFileSync(join(dir, 'own'), randomBytes(1_000_000))
  }

  t.comment('settled at the first mount, and told')
  const unknown = await ada.try('mount', dirs.ada, '--engine', 'watch', '--share', 'strangers')
  t.match(unknown, { code: 3, stderr: /no circle is called 'strangers'/ })
  const mounted = await ada.try('mount', dirs.ada, '--engine', 'watch', '--share', 'friends')
  t.match(mounted, { code: 0, stdout: /can find out whether a file that it has is here/ })
  await bob.run('mount', dirs.bob, '--engine', 'watch')
  const late = await bob.try('mount', dirs.bob, '--engine', 'watch', '--share', 'friends')
  t.match(late.stderr, /settled at the first mount/)
  await bob.run('unmount', dirs.bob, '--decommission', '--yes')
  await bob.run('mount', dirs.bob, '--engine', 'watch', '--share', 'friends')
  t.equal((await bob.volume(dirs.bob)).sharedWith, 'friends')

  t.comment('each holds all of the other, and what both have has one block')
  await bob.snapshot(dirs.bob)
  await bob.sync(dirs.bob)
  await ada.snapshot(dirs.ada)
  await ada.sync(dirs.ada)
  const [there] = await ada.partners()
  t.ok((there?.bytesHeld ?? 0) > 4_000_000)

  t.comment('what is held stays when its holder needs it no longer; and the phrase suffices')
  rmSync(join(dirs.bob, 'photo as bob calls it'))
  await bob.snapshot(dirs.bob)
  await bob.run('forget', '--keep-last', '1')
  await bob.run('prune')
  copyFileSync(ada.phraseFile, world.path('phrase'))
  await ada.run('stop')
  const again = new KithNode(world, 'ada-again')
  const back = world.directory('back')
  await again.run('recover', '--to', back, '--phrase-file', world.path('phrase'))
  t.ok(readFileSync(join(back, 'photo as ada calls it')).equals(photo))
  t.ok(readFileSync(join(back, 'own')).equals(readFileSync(join(dirs.ada, 'own'))))
  t.equal((await again.volume(back)).sharedWith, 'friends', 'it goes on as it was')
})
