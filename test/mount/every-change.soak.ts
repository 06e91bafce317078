// Whatever changes a file: 100,000 changes of all kinds, with a snapshot every few hundred that equals the directory.
import t from 'tap'
import { backupOf, tellChanges } from '../helpers/changes-story.js'
import { place } from '../helpers/mounted.js'

t.setTimeout(1_100_000)

t.test('every snapshot of a long story equals the directory', async (t) => {
  t.setTimeout(1_000_000)
  const { mount, options, dir } = await place(t)
  const mounted = await mount()
  t.teardown(() => mounted.stop())
  const backup = await backupOf(t, options.home, dir)
  await tellChanges(t, mounted, backup, { seed: 4711, steps: 100_000, between: 1000 })
})
