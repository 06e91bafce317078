// kith-fuse built with the sanitizers, under the cases and many random operations at once.
import t, { type Test } from 'tap'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { createInterface } from 'node:readline'
import { systemClock } from '../../lib/base/clock.js'
import { silentLog } from '../../lib/base/log.js'
import { nativeFile } from '../../lib/base/native-files.js'
import { BridgeClient } from '../../lib/mount/bridge-client.js'
import { ChangeLogReader } from '../../lib/mount/change-log.js'
import { mountForTest, ran, testProgram, type MountOptions, type TestMount } from '../helpers/fuse-mount.js'
import { lacking, mounted } from '../helpers/io-uring.js'

t.setTimeout(1_100_000)

async function sanitized(
  t: Test,
  option: string,
  name: string,
  mounting: (t: Test, options: MountOptions) => Promise<TestMount> = mountForTest,
): Promise<TestMount> {
  await ran('sh', [join(process.cwd(), 'native/kith-fuse/build.sh'), option])
  const mount = await mounting(t, { program: join(dirname(nativeFile('kith-fuse')), name) })
  t.setTimeout(1_000_000)
  return mount
}

/** It ends in order, and has written nothing. */
async function silent(t: Test, mount: TestMount): Promise<void> {
  mount.signal('SIGTERM')
  await mount.end()
  t.equal(mount.log, '')
  t.equal(mount.exitCode, 0)
}

/** Changes of all kinds in four directories at once, while a daemon takes them, and writes out what is mapped. */
async function changes(t: Test, mount: TestMount, rounds: number): Promise<void> {
  const { client } = await BridgeClient.connect(mount.state, { clock: systemClock, log: silentLog() })
  const log = await ChangeLogReader.open(join(mount.state, 'changes'))
  t.teardown(() => log.close())
  t.teardown(() => client.close())
  const programs = [1, 2, 3, 4].map((seed) => {
    const inside = join(mount.dir, `changes-${seed}`)
    mkdirSync(inside)
    const program = spawn('python3', [testProgram('random_changes.py'), inside, String(seed)], {
      stdio: ['pipe', 'pipe', 'inherit'],
    })
    t.teardown(() => program.kill('SIGKILL'))
    const answers = createInterface(program.stdout)[Symbol.asyncIterator]()
    return { program, answers, ended: once(program, 'close') }
  })
  for (let round = 0; round < rounds; round++) {
    for (const { program } of programs) program.stdin.write('100\n')
    await client.command('sync')
    await log.take()
    await log.done()
    await client.command('status')
    for (const { answers } of programs) if ((await answers.next()).value !== 'done') t.fail('a program ended')
  }
  for (const { program, ended } of programs) {
    program.stdin.end()
    t.same(await ended, [0, null])
  }
}

t.test('addresses and undefined behaviour', async (t) => {
  const mount = await sanitized(t, '--sanitize', 'kith-fuse-sanitized')
  for (const cases of ['names.py', 'attributes.py', 'data.py'])
    t.notMatch(await ran('python3', [testProgram(cases), mount.dir]), /WRONG/, cases)
  const story = (seed: number, dir: string) => {
    const inside = join(dir, `seed-${seed}`)
    mkdirSync(inside)
    return ran('python3', [testProgram('random_operations.py'), inside, String(seed), '8000'])
  }
  for (let seed = 100; seed < 140; seed += 4) {
    const four = [0, 1, 2, 3].map((n) => seed + n)
    const mounted = await Promise.all(four.map((n) => story(n, mount.dir)))
    const bare = await Promise.all(four.map((n) => story(n, mount.bare)))
    for (const [i, n] of four.entries()) t.same(mounted[i]?.split('\n'), bare[i]?.split('\n'), `seed ${n}`)
  }
  await changes(t, mount, 50)
  await silent(t, mount)
})

t.test('threads', async (t) => {
  const mount = await sanitized(t, '--sanitize=thread', 'kith-fuse-threads')
  for (const cases of ['names.py', 'attributes.py', 'data.py'])
    t.notMatch(await ran('python3', [testProgram(cases), mount.dir]), /WRONG/, cases)
  await changes(t, mount, 50)
  await silent(t, mount)
})

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
