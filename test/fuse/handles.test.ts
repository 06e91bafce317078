// Files opened by handle: as on a bare directory, also when the kernel had forgotten them.
import t from 'tap'
import { mountForTest, ran, testProgram } from '../helpers/fuse-mount.js'

t.setTimeout(280_000)

t.test('handles of forgotten files', async (t) => {
  const mount = await mountForTest(t)
  const story = async (dir: string) =>
    (await ran('python3', [testProgram('file_handles.py'), dir])).split('\n')
  const bare = await story(mount.bare)
  t.match(bare[3], "forgotten [('its own', 500)]")
  t.same(await story(mount.dir), bare)
  t.equal(mount.log, '')
})
