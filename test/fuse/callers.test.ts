// The table of test/fuse/programs/callers.py: what each caller may do to each kind of file, and what it then looks like, is
// on the mount what it is on the bare directory beside it.
import t from 'tap'
import { mountForTest, ran, testProgram } from '../helpers/fuse-mount.js'

t.setTimeout(280_000)

t.test('every operation on every kind of file, as every kind of caller', async (t) => {
  const mount = await mountForTest(t)
  const lines = async (dir: string) =>
    (await ran('python3', [testProgram('callers.py'), dir])).trim().split('\n')
  const [bare, mounted] = await Promise.all([lines(mount.bare), lines(mount.dir)])
  t.ok(bare.length > 4000)
  t.equal(mounted.length, bare.length)
  const different = mounted.flatMap((line, i) =>
    line === bare[i] ? [] : [`mount ${line}\nbare  ${bare[i]}`],
  )
  t.same(different.slice(0, 20), [])
  t.equal(mount.log, '')
})
