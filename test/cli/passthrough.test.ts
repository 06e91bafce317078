// `kith passthrough`: what is put where, and that only root may. No systemd is told anything here.
import t from 'tap'
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { nativeFile } from '../../lib/base/native-files.js'
import { install, uninstall } from '../../lib/cli/passthrough.js'
import { run } from '../helpers/fuse-mount.js'

const root = mkdtempSync(join(tmpdir(), 'kith-install-'))
t.teardown(() => rmSync(root, { recursive: true, force: true }))

t.test('a copy that only its owner can change, and a unit that runs it', async (t) => {
  process.umask(0)
  const { program, unit, started } = install(root)
  t.equal(started, false)
  t.equal(program, join(root, 'usr/local/libexec/kith-passthrough'))
  t.same(readFileSync(program), readFileSync(nativeFile('kith-passthrough')))
  t.equal(statSync(program).mode & 0o7777, 0o755)
  t.equal(statSync(unit).mode & 0o7777, 0o644)
  t.match(readFileSync(unit, 'utf8'), /^ExecStart=\/usr\/local\/libexec\/kith-passthrough$/m)
  const usage = await run(program, ['a', 'b'])
  t.equal(usage.code, 2)
  t.match(usage.stderr, /^usage: kith-passthrough \[SOCKET\]\n$/)
})

t.test('again over what is there, and away', (t) => {
  const { program, unit } = install(root)
  chmodSync(program, 0o700)
  install(root)
  t.equal(statSync(program).mode & 0o7777, 0o755)
  uninstall(root)
  t.notOk(existsSync(program) || existsSync(unit))
  t.throws(() => uninstall(root), { code: 'notFound' })
  t.end()
})

t.test('FUSE over io_uring, only when asked for', (t) => {
  const machine = mkdtempSync(join(tmpdir(), 'kith-install-'))
  t.teardown(() => rmSync(machine, { recursive: true, force: true }))
  const parameters = join(machine, 'sys/module/fuse/parameters')
  const [modules, files] = ['modprobe.d', 'tmpfiles.d'].map((name) =>
    join(machine, 'etc', name, 'kith-io-uring.conf'),
  ) as [string, string]
  mkdirSync(parameters, { recursive: true })
  t.throws(() => install(machine, { ioUring: true }), { code: 'unsupported' }, 'a kernel without it')
  t.notOk(existsSync(modules) || existsSync(join(machine, 'usr')), 'nothing was done')

  writeFileSync(join(parameters, 'enable_uring'), 'N\n')
  t.equal(install(machine).ioUring, false)
  t.equal(readFileSync(join(parameters, 'enable_uring'), 'utf8'), 'N\n')
  t.notOk(existsSync(modules) || existsSync(files))

  t.equal(install(machine, { ioUring: true }).ioUring, true)
  t.equal(readFileSync(join(parameters, 'enable_uring'), 'utf8'), 'Y')
  t.equal(readFileSync(modules, 'utf8'), 'options fuse enable_uring=1\n')
  t.equal(readFileSync(files, 'utf8'), 'w- /sys/module/fuse/parameters/enable_uring - - - - Y\n')
  t.equal(install(machine).ioUring, true, 'a later install leaves it')
  uninstall(machine)
  t.notOk(existsSync(modules) || existsSync(files))

  rmSync(join(machine, 'sys'), { recursive: true })
  t.equal(install(machine, { ioUring: true }).ioUring, true, 'before fuse is loaded')
  t.ok(existsSync(modules))
  t.end()
})

t.test('the unit is one that systemd takes', async (t) => {
  const { unit, program } = install(root)
  const checked = await run('systemd-analyze', ['verify', '--man=no', `--root=${root}`, unit])
  if (checked.code !== 255) t.notMatch(checked.stderr, /kith-passthrough\.service:\d+|not executable/)
  t.ok(existsSync(program))
})
