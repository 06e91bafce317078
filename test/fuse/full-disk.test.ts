// The file system below is full, of bytes or of names: programs are told the same as on the bare directory.
import t from 'tap'
import { dirname, join } from 'node:path'
import { mountForTest, ran, run, testProgram } from '../helpers/fuse-mount.js'

t.setTimeout(280_000)

t.test('a full file system', async (t) => {
  const small = async (dir: string) => {
    await ran('mount', ['-t', 'tmpfs', '-o', 'size=4m,nr_inodes=100', 'none', dir])
    t.teardown(() => run('umount', ['-l', dir]))
  }
  const mount = await mountForTest(t, {
    prepare: async (dir) => {
      await small(dir)
      await small(join(dirname(dir), 'bare'))
    },
  })
  t.teardown(() => mount.stop())
  const story = async (dir: string) =>
    (await ran('python3', [testProgram('full_disk.py'), dir])).trim().split('\n')
  const bare = await story(mount.bare)
  t.equal(bare[0], 'fill ENOSPC')
  t.ok(bare.includes('names ENOSPC'))
  t.same(await story(mount.dir), bare)
  t.equal(mount.log, '')
})
