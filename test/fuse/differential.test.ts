// Random operations, the same on the mount and on a bare directory: the same results, and the same tree in the end.
import t from 'tap'
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { mountForTest, ran, testProgram } from '../helpers/fuse-mount.js'

const seeds = [1, 2, 3, 4, 5]
const operations = '2000'

t.setTimeout(280_000)

t.test('the mount and a bare directory tell the same story', async (t) => {
  const mount = await mountForTest(t)
  const stories = async (dir: string) => {
    const told: string[] = []
    for (const seed of seeds) {
      const inside = join(dir, `seed-${seed}`)
      mkdirSync(inside)
      told.push(await ran('python3', [testProgram('random_operations.py'), inside, String(seed), operations]))
    }
    return told
  }
  const [bare, mounted] = await Promise.all([stories(mount.bare), stories(mount.dir)])
  for (const [i, seed] of seeds.entries()) {
    t.ok((bare[i] ?? '').split('\n').length > Number(operations))
    t.same(mounted[i]?.split('\n'), bare[i]?.split('\n'), `seed ${seed}`)
  }
  t.equal(mount.log, '')
})
