// `kith passthrough`: what is put where, and that only root may. No systemd is told anything here.
import t from 'tap'
import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs'
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

t.test('the unit is one that systemd takes', async (t) => {
  const { unit, program } = install(root)
  const checked = await run('systemd-analyze', ['verify', '--man=no', `--root=${root}`, unit])
  if (checked.code !== 255) t.notMatch(checked.stderr, /kith-passthrough\.service:\d+|not executable/)
  t.ok(existsSync(program))
})
