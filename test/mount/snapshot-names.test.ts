import t from 'tap'
import { offeredNames } from '../../lib/mount/snapshot-names.js'
import { snapshotName } from '../../lib/format/snapshot-list.js'
import { localDay } from '../../lib/store/snapshot-info.js'

const listing = (time: number, ordinal = 1) => ({
  name: snapshotName(time, ordinal),
  id: `${time}-${ordinal}`,
  time,
})

t.test('exact instants, the last of each day, and the latest', async (t) => {
  const noon = Date.UTC(2024, 5, 1, 12)
  const all = [listing(noon), listing(noon, 2), listing(noon + 1000), listing(noon + 86_400_000)]
  const offered = offeredNames(all)
  const meant = (name: string) => offered.byName.get(name)?.snapshot.id
  for (const { name, id } of all) t.equal(meant(name), id)
  t.equal(meant(localDay(noon)), all[2]?.id)
  t.equal(meant(localDay(noon + 86_400_000)), all[3]?.id)
  t.equal(meant('latest'), all[3]?.id)
  t.equal(offered.names.length, 7)
  const names = offered.names.map(({ name }) => Buffer.from(name))
  t.same(
    names,
    [...names].sort((a, b) => Buffer.compare(a, b)),
    'in byte order',
  )
  t.same(offeredNames([]).names, [])
})
