/** From a directory into the real store and back: what the snapshotter takes in is what a restore writes out. */
import { execFileSync } from 'node:child_process'
import { mkdtemp } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { systemClock } from '../../lib/base/clock.js'
import { silentLog } from '../../lib/base/log.js'
import * as posix from '../../lib/base/posix.js'
import { deriveIdentity } from '../../lib/format/keys.js'
import { restoreTree } from '../../lib/restore/restore.js'
import { Store } from '../../lib/store/store.js'
import { makeTree } from '../helpers/made-tree.js'
import { compareTrees, describeTree } from '../helpers/tree.js'

t.test('a snapshot of a tree of everything, restored', async (t) => {
  const dir = await mkdtemp(join(tmpdir(), 'kith-restore-store-'))
  t.teardown(() => execFileSync('rm', ['-rf', dir]))
  const before = join(dir, 'before')
  makeTree(before, { bigBytes: 20_000_000, wideEntries: 3000, acls: process.geteuid?.() === 0 })
  const identity = deriveIdentity(Buffer.alloc(32, 7))
  const store = await Store.open(join(dir, 'store'), { identity, clock: systemClock, log: silentLog() })
  t.teardown(() => store.close())
  const volume = await store.createVolume({ dir: before })
  const rootFd = posix.openRoot(before)
  const { problems, problemCount, files } = await volume.snapshot(rootFd)
  posix.close(rootFd)
  t.match({ problems, problemCount }, { problems: [], problemCount: 0 })
  const reader = volume.reader(store.blocks)
  const result = await restoreTree(reader, await reader.snapshot('latest'), join(dir, 'after'))
  t.match(result, { files, notes: [] })
  t.same(compareTrees(await describeTree(before), await describeTree(join(dir, 'after'))), [])
})
