import { execFile, spawn } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, realpathSync, rmSync, writeFileSync } from 'node:fs'
import { homedir, tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { exitCodes } from '../../lib/base/errors.js'
import { heapFlags } from '../../lib/base/heap.js'
import { unitName, unitText } from '../../lib/cli/service-unit.js'
import { unitIn } from '../../lib/cli/service.js'
import { kithMain, TestHome, until } from '../helpers/cli.js'

t.setTimeout(280_000)

const noSystemd = existsSync('/run/systemd/system') ? 'a systemd that runs would be changed' : false
const needsRoot = process.getuid?.() === 0 ? false : 'needs root'

/** What systemd finds wrong with a unit; undefined where its checker is not installed. */
function complaints(name: string, text: string, args: string[]): Promise<string | undefined> {
  const dir = mkdtempSync(join(tmpdir(), 'kith-unit-'))
  const file = join(dir, name)
  writeFileSync(file, text)
  return new Promise((resolve) => {
    const env = { ...process.env, XDG_RUNTIME_DIR: dir }
    execFile('systemd-analyze', ['verify', '--man=no', ...args, file], { env }, (error, stdout, stderr) => {
      rmSync(dir, { recursive: true })
      if (error?.code === 'ENOENT') resolve(undefined)
      // Other units of the machine may have faults of their own.
      else
        resolve(
          `${stdout}${stderr}`
            .split('\n')
            .filter((line) => line.includes(name))
            .join('\n'),
        )
    })
  })
}

t.test('the unit, as systemd reads it', async (t) => {
  const command = [process.execPath, kithMain]
  for (const home of ['/root/.kith', '/home/a b/it\'s "100%" $HOME \\n']) {
    for (const asRoot of [true, false]) {
      const text = unitText({ home, command, asRoot })
      t.match(text, /^Restart=always$/m)
      t.match(text, /^KillMode=process$/m)
      t.notMatch(
        text,
        /^(Protect|Private|ReadOnly|Inaccessible|TemporaryFileSystem|BindPaths|RootDirectory)/m,
      )
      t.equal(/^NoNewPrivileges/m.test(text), asRoot, 'an ordinary user mounts by a set-uid program')
      const found = await complaints('kithd.service', text, asRoot ? ['--system'] : ['--user'])
      t.equal(found ?? '', '', `${asRoot ? 'system' : 'user'} unit for ${home}`)
    }
  }
  const broken = unitText({ home: '/x', command, asRoot: true }).replace(
    'Restart=always',
    'Restart=sometimes',
  )
  const told = await complaints('kithd.service', broken, ['--system'])
  t.ok(told === undefined || told.includes('sometimes'), 'the checker would complain')
  t.throws(() => unitText({ home: '/a\nb', command, asRoot: true }), { code: 'usage' })
  t.equal(unitName(join(homedir(), '.kith')), 'kithd.service')
  t.match(unitName('/other'), /^kithd-[0-9a-f]{8}\.service$/)
  t.equal(
    unitIn('0::/user.slice/user-1000.slice/user@1000.service/app.slice/kithd.service\n'),
    'kithd.service',
  )
  t.equal(unitIn('0::/user.slice/session-2.scope\n'), undefined)
})

t.test('where systemd does not run', { skip: noSystemd }, async (t) => {
  const home = new TestHome(t)
  const started = new RegExp(
    `run this, and run it again when it ends: .*main.js daemon --wait --home ${home.home}$`,
  )
  const failed = await home.kith(['service', 'install'])
  t.equal(failed.code, exitCodes.unsupported)
  t.match(failed.stderr.trim(), started)
  t.equal(failed.stderr.trim().split('\n').length, 1)
  t.match((await home.kith(['service', 'status'])).stdout.trim(), started)
  t.match(await home.ask(['service', 'status']), { installed: false, systemd: false, active: false })
  t.match(await home.kith(['service', 'remove']), { code: exitCodes.notFound })
  const printed = await home.kith(['service', 'install', '--print'])
  t.match(printed.stdout, /^\[Unit\]\n/)
  t.match(
    printed.stdout,
    `${heapFlags.map((flag) => `"${flag}" `).join('')}"${realpathSync(kithMain)}" "daemon" "--wait" "--home" "${home.home}"`,
  )
  t.notOk(existsSync(home.home), 'nothing was begun')
})

t.test(
  'under a supervisor: the daemon and kith-fuse are killed, and both come back',
  { skip: needsRoot },
  async (t) => {
    const home = new TestHome(t)
    const dir = home.dir('protected')
    const loop = 'while [ ! -e "$4" ]; do "$1" "$2" daemon --wait --home "$3"; sleep 0.2; done'
    const ended = join(home.base, 'ended')
    const supervisor = spawn('sh', ['-c', loop, 'sh', process.execPath, kithMain, home.home, ended], {
      stdio: 'ignore',
    })
    t.teardown(() => {
      writeFileSync(ended, '')
      supervisor.kill('SIGKILL')
    })
    await until(() => existsSync(join(home.home, 'kithd.sock')))
    await home.ask(['init'])
    await home.ask(['mount', dir])
    writeFileSync(join(dir, 'a'), 'a')
    for (const both of [false, true, true]) {
      const [daemon, servers] = [home.daemonPid() as number, home.fusePids()]
      process.kill(daemon, 'SIGKILL')
      if (both) for (const pid of servers) process.kill(pid, 'SIGKILL')
      // No command helps: whoever only looks sees it served again.
      await until(() => ![undefined, daemon].includes(home.daemonPid()))
      await until(() => home.fusePids().some((pid) => !both || !servers.includes(pid)))
      await until(() => home.mountCount() === 1)
      await until(async () => (await home.volume())?.state === 'mounted')
      t.equal(readFileSync(join(dir, 'a'), 'utf8'), 'a')
      t.equal(home.fusePids().length, 1)
    }
    t.comment('one that waits takes over when the other ends')
    const first = home.daemonPid() as number
    const waiting = spawn(process.execPath, [kithMain, 'daemon', '--wait', '--home', home.home], {
      stdio: ['ignore', 'ignore', 'pipe'],
    })
    t.teardown(() => waiting.kill('SIGKILL'))
    let log = ''
    waiting.stderr.on('data', (data: Buffer) => (log += data.toString()))
    await until(() => log.includes('waiting for its end'))
    writeFileSync(ended, '')
    await home.kith(['stop'])
    await until(() => home.daemonPid() === waiting.pid && home.daemonPid() !== first)
    await until(async () => (await home.volume())?.state === 'mounted')
  },
)
