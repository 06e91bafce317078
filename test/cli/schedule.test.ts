/** `kith schedule`, and the snapshot before the end. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { KithWorld } from '../helpers/kith.js'

t.setTimeout(280_000)

t.test('a schedule is told, set, kept, and taken back', async (t) => {
  const world = await KithWorld.start(t)
  const node = await world.node('node')
  const dir = world.directory('protected')
  await node.run('mount', dir)
  t.same(await node.run('schedule'), { dir, schedule: {}, everyMinutes: 60 })
  const times = ['--at', '03:00, 12:30', '--quiet', '10m', '--before-stop']
  const rules = { everyMinutes: null, quietMinutes: 10, at: ['03:00', '12:30'], beforeStop: true }
  t.same(await node.run('schedule', dir, ...times), { dir, schedule: rules, everyMinutes: null })
  for (const wrong of [
    ['--every', '10'],
    ['--at', '24:00'],
    ['--quiet', '0m'],
    ['--every', '2h', '--default'],
  ])
    t.equal((await node.try('schedule', dir, ...wrong)).code, 2, wrong.join(' '))

  writeFileSync(join(dir, 'file'), 'before the end')
  t.same(await node.snapshots(dir), [])
  await node.run('stop')
  t.equal((await node.snapshots(dir)).length, 1, 'it was taken before the daemon ended')
  t.match(await node.run('schedule', dir), { schedule: rules })
  await node.run('stop')
  t.equal((await node.snapshots(dir)).length, 1, 'nothing changed, nothing taken')
  t.match(await node.run('schedule', dir, '--every', '2h'), {
    schedule: { everyMinutes: 120 },
    everyMinutes: 120,
  })
  t.same(await node.run('schedule', dir, '--default'), { dir, schedule: {}, everyMinutes: 60 })
})
