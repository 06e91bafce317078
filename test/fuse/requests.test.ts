// What costs the caller a round trip, and what does not: counted by the calls of read(2) that kith-fuse makes, one for each
// request.
import t, { type Test } from 'tap'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { mountForTest, ran, type TestMount } from '../helpers/fuse-mount.js'

t.setTimeout(240_000)

function reads(mount: TestMount): number {
  return Number(/^syscr: (\d+)$/m.exec(readFileSync(`/proc/${mount.pid}/io`, 'utf8'))?.[1])
}

/** A tree of 100 directories, listed with attributes, so that the kernel knows all of it. */
async function known(t: Test): Promise<TestMount> {
  const mount = await mountForTest(t)
  for (let i = 0; i < 100; i++) {
    mkdirSync(join(mount.dir, `d${i}`))
    writeFileSync(join(mount.dir, `d${i}`, 'f'), 'x')
  }
  await ran('ls', ['-lR', mount.dir])
  return mount
}

t.test('to list what was listed before, and is as it was, asks nothing', async (t) => {
  const mount = await known(t)
  const before = reads(mount)
  for (let i = 0; i < 5; i++) await ran('ls', ['-R', mount.dir])
  const asked = reads(mount) - before
  t.ok(asked < 500, `${asked} requests for 500 directories`)
})

t.test('and what has changed is asked for', async (t) => {
  const mount = await known(t)
  for (let i = 0; i < 100; i++) {
    writeFileSync(join(mount.dir, `d${i}`, 'g'), 'y')
    t.equal(await ran('ls', [join(mount.dir, `d${i}`)]), 'f\ng\n')
  }
})
