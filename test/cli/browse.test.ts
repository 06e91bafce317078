// kith browse through the built command: with and without a live mount, and whatever dies.
import t, { type Test } from 'tap'
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { exitCodes } from '../../lib/base/errors.js'
import { browseLacks } from '../helpers/browse-engine.js'
import { kithMain, TestHome, until } from '../helpers/cli.js'
import { freeze } from '../helpers/freeze.js'

t.setTimeout(280_000)

const lacks = browseLacks()
const skip = process.getuid?.() === 0 ? lacks : 'needs root'

async function taken(t: Test) {
  const home = new TestHome(t)
  const dir = home.dir('protected')
  const snaps = home.dir('snaps')
  await home.ask(['init'])
  await home.ask(['mount', dir])
  writeFileSync(join(dir, 'letter'), 'dear')
  await home.ask(['snapshot'])
  return { home, dir, snaps }
}

/** The command, once the snapshots can be seen. */
async function browse(t: Test, home: TestHome, snaps: string) {
  const child = spawn(process.execPath, [kithMain, 'browse', snaps, '--json'], {
    env: { ...process.env, KITH_HOME: home.home },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  t.teardown(() => child.kill('SIGKILL'))
  let said = ''
  child.stderr.on('data', (data: Buffer) => (said += data.toString()))
  const exited = once(child, 'exit')
  await Promise.race([
    once(child.stdout, 'data'),
    exited.then(() => Promise.reject(new Error(`kith browse ended: ${said}`))),
  ])
  return { child, code: async () => (await exited)[0] as number | null, said: () => said }
}

function isMounted(path: string): boolean {
  return readFileSync('/proc/self/mountinfo', 'utf8').includes(` ${path} `)
}

/** The process that serves the mount of this home's daemon. */
function workerOf(home: TestHome): number {
  const daemon = home.daemonPid()
  const found = readdirSync('/proc').find((name) => {
    try {
      const args = readFileSync(`/proc/${name}/cmdline`, 'utf8')
      return (
        args.includes('browse-worker.js') &&
        readFileSync(`/proc/${name}/status`, 'utf8').includes(`\nPPid:\t${daemon}\n`)
      )
    } catch {
      return false
    }
  })
  if (!found) throw new Error('no process serves the mount')
  return Number(found)
}

t.test('shown without a live mount; ended by --stop and by Ctrl-C', { skip }, async (t) => {
  const { home, dir, snaps } = await taken(t)
  await home.ask(['unmount', dir])
  const first = await browse(t, home, snaps)
  t.equal(readFileSync(join(snaps, 'latest', 'letter'), 'utf8'), 'dear')
  t.match(await home.ask(['browse', '--stop', snaps]), { stopped: [snaps] })
  t.equal(await first.code(), 0)
  t.notOk(isMounted(snaps))
  t.equal((await home.kith(['browse', '--stop'])).code, exitCodes.notFound)
  const second = await browse(t, home, snaps)
  second.child.kill('SIGINT')
  t.equal(await second.code(), 0)
  t.notOk(isMounted(snaps), 'off when the command has ended')
  const third = await browse(t, home, snaps)
  third.child.kill('SIGKILL')
  await until(() => !isMounted(snaps))
  const fourth = await browse(t, home, snaps)
  await home.kith(['stop'])
  await fourth.code()
  await until(() => !isMounted(snaps))
})

t.test('what may not be, is refused in one line', { skip }, async (t) => {
  const { home, dir, snaps } = await taken(t)
  const refused = async (args: string[], code: number, message: RegExp) => {
    const ran = await home.kith(args)
    t.match(ran, { code, stderr: message })
    t.match(ran.stderr, /^kith: [^\n]+\n$/)
  }
  mkdirSync(join(dir, 'inside'))
  await refused(['browse'], exitCodes.usage, /empty directory/)
  await refused(['browse', join(dir, 'inside')], exitCodes.usage, /which is protected/)
  await refused(['browse', home.base], exitCodes.exists, /not empty/)
  await refused(['browse', join(snaps, 'none')], exitCodes.notFound, /no directory/)
  const shown = await browse(t, home, snaps)
  await refused(['browse', snaps], exitCodes.exists, /are shown at/)
  await refused(['restore', 'latest', '--to', join(snaps, 'latest', 'x')], exitCodes.denied, /read-only/)
  await refused(['mount', join(snaps, 'latest')], exitCodes.denied, /read-only/)
  t.equal(readFileSync(join(snaps, 'latest', 'letter'), 'utf8'), 'dear', 'and it goes on')
  await home.ask(['browse', '--stop'])
  t.equal(await shown.code(), 0)
})

t.test('whatever dies, nothing hangs', { skip }, async (t) => {
  const { home, snaps } = await taken(t)
  const first = await browse(t, home, snaps)
  process.kill(workerOf(home), 'SIGKILL')
  t.equal(await first.code(), exitCodes.internal)
  t.match(first.said(), /what showed .* died; show it again by the same command/)
  t.notOk(isMounted(snaps))

  await browse(t, home, snaps)
  process.kill(home.daemonPid() as number, 'SIGKILL')
  await until(() => !isMounted(snaps))

  await browse(t, home, snaps)
  const daemon = home.daemonPid() as number
  const worker = workerOf(home)
  await freeze(daemon)
  process.kill(worker, 'SIGKILL')
  process.kill(daemon, 'SIGKILL')
  await until(() => home.daemonPid() === undefined)
  t.ok(isMounted(snaps), 'a dead mount is left')
  const again = await browse(t, home, snaps)
  t.equal(readFileSync(join(snaps, 'latest', 'letter'), 'utf8'), 'dear', 'the next one clears it')
  await home.ask(['browse', '--stop'])
  t.equal(await again.code(), 0)
})

t.test('without libfuse 2 it says what to install', { skip }, async (t) => {
  const { home, snaps } = await taken(t)
  await home.kith(['stop'])
  const library = /libfuse\.so\.2 .*=> (\S+)/.exec(
    execFileSync('ldconfig', ['-p'], { encoding: 'utf8' }),
  )?.[1]
  const hidden = 'mount --bind /dev/null "$0"; exec "$@"'
  const under = ['unshare', '-m', 'sh', '-c', hidden, library ?? '']
  const ran = await home.kith(['browse', snaps], { under })
  t.match(ran, {
    code: exitCodes.unsupported,
    stderr: /^kith: libfuse 2 is not installed; install it: .*\n$/,
  })
  t.notOk(isMounted(snaps))
})
