import { writeFileSync } from 'node:fs'
import t from 'tap'
import { Edited } from '../helpers/edited.js'
import { protect, sameAsDirectory } from '../helpers/store.js'

t.setTimeout(280_000)

/** Many and small, few of them worked on at once: places of most are written long before the snapshot ends. */
const directories = 480

/** A snapshot that ended early may have written places under rules that are gone when the next one comes. */
t.test('rules that changed and changed back, with a snapshot cancelled between', async (t) => {
  const edited = new Edited(await protect(t))
  const { volume, rootFd } = edited.fixture
  edited.write('.kithignore', '')
  for (let i = 0; i < directories; i++) {
    edited.mkdir(`d${i}`)
    for (let j = 0; j < 50; j++) writeFileSync(edited.path(`d${i}/${j}`), '')
    edited.write(`d${i}/x.o`, `${i}`)
  }
  await edited.snapshot()
  edited.write('.kithignore', '*.o\n')
  // Everything is new to the tables once more, so that places are written on the way.
  for (let i = 0; i < directories; i++) {
    edited.rename(`d${i}`, `e${i}`)
    for (let j = 0; j < 50; j++) edited.write(`e${i}/new ${j}`, '')
  }
  await volume.recordChanges(edited.changes)
  edited.changes = []
  const ending = new AbortController()
  const progress = ({ files }: { files: number }) => files > 23_500 && ending.abort()
  await t.rejects(volume.snapshot(rootFd, { signal: ending.signal, progress }), { code: 'cancelled' })
  edited.write('.kithignore', '')
  await edited.snapshot()
  await sameAsDirectory(t, edited.fixture)
})
