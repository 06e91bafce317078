// kith-fuse built with the sanitizers, under the cases and many random operations at once.
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { ran, testProgram } from '../helpers/fuse-mount.js'
import { changes, sanitized, silent } from '../helpers/sanitized.js'

t.setTimeout(1_100_000)

t.test('addresses and undefined behaviour', async (t) => {
  const mount = await sanitized(t, '--sanitize', 'kith-fuse-sanitized')
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
  await changes(t, mount, 50)
  await silent(t, mount)
})

t.test('threads', async (t) => {
  const mount = await sanitized(t, '--sanitize=thread', 'kith-fuse-threads')
  for (const cases of ['names.py', 'attributes.py', 'data.py'])
    t.notMatch(await ran('python3', [testProgram(cases), mount.dir]), /WRONG/, cases)
  await changes(t, mount, 50)
  await silent(t, mount)
})
