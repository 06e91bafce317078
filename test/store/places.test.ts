import t from 'tap'
import { Database } from '../../lib/blocks/database.js'
import { Places } from '../../lib/store/places.js'
import { type Location, VolumeState } from '../../lib/store/state.js'

t.test('only rows of files that have another name than before are written', async (t) => {
  const db = Database.open(t.testdir())
  t.teardown(() => db.close())
  const state = new VolumeState(db, Buffer.alloc(16, 1))
  const written: bigint[] = []
  const put = state.files.put.bind(state.files)
  state.files.put = (ino: bigint, places: Location[]) => {
    written.push(ino)
    put(ino, places)
  }
  const place = (parent: bigint, name: string): Location => ({ parent, name: Buffer.from(name) })
  const add = async (files: [bigint, Location][]) => {
    const places = new Places(state)
    for (const [ino, { parent, name }] of files) places.addFile(ino, parent, name)
    await db.transaction(places.write())
    return written.splice(0)
  }
  t.same(
    await add([
      [7n, place(2n, 'a')],
      [8n, place(2n, 'b')],
    ]),
    [7n, 8n],
    'new ones',
  )
  t.same(
    await add([
      [7n, place(2n, 'a')],
      [8n, place(2n, 'b')],
    ]),
    [],
    'those that are there, with other content',
  )
  t.same(
    await add([
      [7n, place(2n, 'a')],
      [8n, place(3n, 'b')],
    ]),
    [8n],
    'one that has a second name',
  )
  t.same(state.files.get(7n), [place(2n, 'a')])
  t.same(state.files.get(8n), [place(2n, 'b'), place(3n, 'b')])
})
