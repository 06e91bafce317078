// kith-fuse built with the address and undefined-behaviour sanitizers, under the cases and many random operations at once.
import t from 'tap'
import { mkdirSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { nativeFile } from '../../lib/base/native-files.js'
import { mountForTest, ran, testProgram } from '../helpers/fuse-mount.js'

t.setTimeout(1_100_000)

t.test('nothing to report', async (t) => {
  await ran('sh', [join(process.cwd(), 'native/kith-fuse/build.sh'), '--sanitize'])
  const program = join(dirname(nativeFile('kith-fuse')), 'kith-fuse-sanitized')
  const mount = await mountForTest(t, { program })
  t.setTimeout(1_000_000)
  for (const cases of ['names.py', 'attributes.py', 'data.py'])
    t.notMatch(await ran('python3', [testProgram(cases), mount.dir]), /WRONG/, cases)
  const story = (seed: number, dir: string) => {
    const inside = join(dir, `seed-${seed}`)
    mkdirSync(inside)
    return ran('python3', [testProgram('random_operations.py'), inside, String(seed), '8000'])
  }
  for (let seed = 100; seed < 140; seed += 4) {
    const four = [0, 1, 2, 3].map((n) => seed + n)
    const mounted = await Promise.all(four.map((n) => story(n, mount.dir)))
    const bare = await Promise.all(four.map((n) => story(n, mount.bare)))
    for (const [i, n] of four.entries()) t.same(mounted[i]?.split('\n'), bare[i]?.split('\n'), `seed ${n}`)
  }
  mount.signal('SIGTERM')
  await mount.end()
  t.equal(mount.exitCode, 0)
  t.equal(mount.log, '')
})
