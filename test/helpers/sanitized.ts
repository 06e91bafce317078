/** kith-fuse built with the sanitizers, and what it is put through. */
import type { Test } from 'tap'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { createInterface } from 'node:readline'
import { systemClock } from '../../lib/base/clock.js'
import { silentLog } from '../../lib/base/log.js'
import { nativeFile } from '../../lib/base/native-files.js'
import { BridgeClient } from '../../lib/mount/bridge-client.js'
import { ChangeLogReader } from '../../lib/mount/change-log.js'
import { mountForTest, ran, testProgram, type MountOptions, type TestMount } from './fuse-mount.js'

export async function sanitized(
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
export async function silent(t: Test, mount: TestMount): Promise<void> {
  mount.signal('SIGTERM')
  await mount.end()
  t.equal(mount.log, '')
  t.equal(mount.exitCode, 0)
}

/** Changes of all kinds in four directories at once, while a daemon takes them, and writes out what is mapped. */
export async function changes(t: Test, mount: TestMount, rounds: number): Promise<void> {
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
