// kith-fuse built with the sanitizers, as in sanitizers.soak.ts, over io_uring.
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { ran, testProgram, type MountOptions, type TestMount } from '../helpers/fuse-mount.js'
import { lacking, mounted } from '../helpers/io-uring.js'
import { changes, sanitized, silent } from '../helpers/sanitized.js'

t.setTimeout(1_100_000)

/** Over io_uring, with threads that yield and do not in turn: it is told that the machine is idle, however busy it is. */
function overIoUring(t: Test, options: MountOptions): Promise<TestMount> {
  const loadavg = join(t.testdir(), 'loadavg')
  writeFileSync(loadavg, '0.00 0.00 0.00 1/100 1\n')
  return mounted(t, { ...options, environment: { KITH_LOADAVG: loadavg } })
}

for (const [what, option, name] of [
  ['addresses and undefined behaviour', '--sanitize', 'kith-fuse-sanitized'],
  ['threads', '--sanitize=thread', 'kith-fuse-threads'],
] as const) {
  t.test(`${what}, over io_uring`, { skip: lacking() }, async (t) => {
    const mount = await sanitized(t, option, name, overIoUring)
    for (const cases of ['names.py', 'attributes.py', 'data.py'])
      t.notMatch(await ran('python3', [testProgram(cases), mount.dir]), /WRONG/, cases)
    await changes(t, mount, 25)
    await silent(t, mount)
  })
}
