/** A long first backup that is interrupted goes on where it was. */
import { mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { protect, sameAsDirectory } from '../helpers/store.js'

t.setTimeout(1_000_000)

t.test('a first backup of 60,000 files, interrupted', async (t) => {
  const fixture = await protect(t)
  const { dir, rootFd } = fixture
  for (let d = 0; d < 600; d++) {
    mkdirSync(join(dir, `d${d % 20}/e${d}`), { recursive: true })
    for (let i = 0; i < 100; i++) writeFileSync(join(dir, `d${d % 20}/e${d}/f${i}`), `file ${d} ${i}`)
  }
  const stop = new AbortController()
  const progress = ({ files }: { files: number }) => {
    if (files > 45_000) stop.abort()
  }
  const first = fixture.volume.snapshot(rootFd, { signal: stop.signal, progress })
  await t.rejects(first, { code: 'cancelled' })
  t.same(fixture.volume.snapshots(), [])
  // What happens meanwhile is not recorded: the volume has no snapshot, so that everything is compared.
  renameSync(join(dir, 'd1'), join(dir, 'd2/was d1'))
  rmSync(join(dir, 'd3'), { recursive: true })
  writeFileSync(join(dir, 'd4/e4/f5'), 'changed')
  await fixture.reopen()
  let read = 0
  await fixture.volume.snapshot(rootFd, { progress: ({ files }) => (read = files) })
  t.ok(read < 40_000, `${read} files were read again`)
  await sameAsDirectory(t, fixture)
})
