import { createCipheriv, randomBytes } from 'node:crypto'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { systemClock } from '../../lib/base/clock.js'
import { silentLog } from '../../lib/base/log.js'
import { alarmTag, RewriteWatch } from '../../lib/daemon/rewrite-watch.js'
import { protect } from '../helpers/store.js'

t.test(
  'counts that are asked for late pin the snapshot from before the encryption all the same',
  async (t) => {
    const { volume, dir, rootFd } = await protect(t)
    const watch = new RewriteWatch(volume, {
      clock: systemClock,
      log: silentLog(),
      mark: (names, change) => volume.mark(names, change),
    })
    const paths = Array.from({ length: 60 }, (_, n) => join(dir, `letter${n}`))
    const write = (year: number) =>
      paths.forEach((path, n) => writeFileSync(path, `letter ${n} of ${year}\n`.repeat(90 + n)))
    const encrypt = (some: readonly string[]) => {
      for (const path of some) {
        const cipher = createCipheriv('aes-256-ctr', randomBytes(32), randomBytes(16))
        writeFileSync(path, cipher.update(readFileSync(path)))
      }
    }
    const snapshot = async () => {
      await volume.recordEverything()
      return volume.snapshot(rootFd)
    }
    write(2022)
    await snapshot()
    await watch.look()
    // One folder's worth, by its owner.
    encrypt(paths.slice(0, 12))
    await snapshot()
    await watch.look()
    t.same(watch.problems, [])

    write(2023)
    const before = await snapshot()
    encrypt(paths)
    await snapshot()
    await watch.look()
    t.equal(watch.problems.length, 1)
    t.match(watch.problems[0], before.name)
    t.match(
      volume.snapshots().filter(({ pinned }) => pinned),
      [{ name: before.name, tags: [alarmTag] }],
    )
  },
)
