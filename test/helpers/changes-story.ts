/**
 * A mounted directory that a program changes in every way there is, with snapshots on the way by a real store that is
 * fed by the mount's change log, as the daemon feeds it. Each snapshot must be the directory as it was then.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import type { Test } from 'tap'
import { statFd, xattrsFd } from '../../lib/base/posix.js'
import { seeded } from '../../lib/base/random.js'
import { silentLog } from '../../lib/base/log.js'
import { systemClock } from '../../lib/base/clock.js'
import type { Mount } from '../../lib/mount/mount.js'
import { Store } from '../../lib/store/store.js'
import type { Volume } from '../../lib/store/volume.js'
import { testProgram } from './fuse-mount.js'
import { linesOfDirectory, linesOfSnapshot, testIdentity } from './store.js'

export interface Backup {
  store: Store
  volume: Volume
}

/** A store in `home` with the directory as its only volume. */
export async function backupOf(t: Test, home: string, dir: string): Promise<Backup> {
  const options = { clock: systemClock, log: silentLog(), identity: testIdentity, workers: 2 }
  const store = await Store.open(join(home, 'store'), options)
  t.teardown(() => store.close())
  return { store, volume: await store.createVolume({ dir }) }
}

/** Everything that changed, then a snapshot: the daemon's order. */
export async function takeSnapshot(mount: Mount, { volume }: Backup): Promise<void> {
  await mount.sync()
  const { changes, lost } = await mount.take()
  if (lost) await volume.recordEverything()
  await volume.recordChanges(changes)
  await mount.done()
  await volume.snapshot(mount.rootFd)
}

/** Lines that only one of the two has: the newest snapshot, and the directory as it is. */
export async function differencesNow(mount: Mount, { store, volume }: Backup): Promise<string[]> {
  const reader = volume.reader(store.blocks)
  const root = await reader.snapshot('latest')
  const now = statFd(mount.rootFd)
  const attributes = (mode: number, uid: number, gid: number, mtimeNs: bigint, xattrs: [Buffer, Buffer][]) =>
    `/ ${mode & 0o7777} ${uid} ${gid} ${mtimeNs} ${xattrs
      .map((xattr) => xattr.join('='))
      .sort()
      .join()}`
  const snapshot = await linesOfSnapshot(reader, root)
  const directory = await linesOfDirectory(mount.rootFd)
  snapshot.push(attributes(root.mode, root.uid, root.gid, root.mtimeNs, root.xattrs))
  directory.push(attributes(now.mode, now.uid, now.gid, now.mtimeNs, xattrsFd(mount.rootFd)))
  const [there, here] = [new Set(directory), new Set(snapshot)]
  return [
    ...snapshot.filter((line) => !there.has(line)).map((line) => `snapshot:  ${line}`),
    ...directory.filter((line) => !here.has(line)).map((line) => `directory: ${line}`),
  ]
}

export interface Story {
  seed: number
  steps: number
  /** at most so many steps between two snapshots */
  between: number
}

/** Tells the story in the directory; fails at the first snapshot that differs. */
export async function tellChanges(
  t: Test,
  mount: Mount,
  backup: Backup,
  { seed, steps, between }: Story,
): Promise<void> {
  const random = seeded(seed)
  const program = spawn('python3', [testProgram('random_changes.py'), mount.dir, String(seed)], {
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  const ended = once(program, 'close')
  t.teardown(() => program.kill('SIGKILL'))
  const answers = createInterface(program.stdout)[Symbol.asyncIterator]()
  let made = 0
  let snapshots = 0
  while (made < steps) {
    const count = Math.min(1 + (random() % between), steps - made)
    program.stdin.write(`${count}\n`)
    if ((await answers.next()).value !== 'done')
      throw new Error(`the program ended (seed ${seed}, at ${made})`)
    made += count
    await takeSnapshot(mount, backup)
    snapshots++
    const differences = await differencesNow(mount, backup)
    if (differences.length === 0) continue
    const shown = differences.slice(0, 10).map((line) => line.replace(/[0-9a-f]{100,}/g, '...'))
    t.same(shown, [], `seed ${seed}: the snapshot after ${made} steps (the last ${count})`)
    break
  }
  program.stdin.end()
  const [code] = (await ended) as [number | null]
  t.equal(code, 0, `seed ${seed}: ${made} steps, ${snapshots} snapshots`)
}
