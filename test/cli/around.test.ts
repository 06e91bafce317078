// What lies around a mount: other file systems below it, programs that stand in it, a second mount, other names for it.
import t from 'tap'
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { exitCodes } from '../../lib/base/errors.js'
import type { Result, SnapshotRow, Status } from '../../lib/daemon/api.js'
import { TestHome, until } from '../helpers/cli.js'

t.setTimeout(280_000)

const skip = process.getuid?.() === 0 ? false : 'needs root'
const sh = (script: string, ...args: string[]) =>
  execFileSync('sh', ['-c', script, 'sh', ...args], { encoding: 'utf8' })

t.test('other file systems below', { skip }, async (t) => {
  const home = new TestHome(t)
  const dir = home.dir('protected')
  const elsewhere = home.dir('elsewhere')
  writeFileSync(join(elsewhere, 'canary'), 'canary')
  for (const name of ['stick', 'bound', 'later']) mkdirSync(join(dir, name))
  writeFileSync(join(dir, 'kept'), 'kept')
  sh('mount -t tmpfs none "$1/stick"; touch "$1/stick/on-it"; mount --bind "$2" "$1/bound"', dir, elsewhere)
  await home.ask(['init'])
  const said = await home.kith(['mount', dir])
  t.match(said.stdout, `Not backed up, as other file systems are mounted there: ${dir}/bound, ${dir}/stick\n`)
  for (const name of ['stick', 'bound']) {
    t.same(readdirSync(join(dir, name)), [], 'shown as an empty directory')
    t.throws(() => writeFileSync(join(dir, name, 'new'), ''), { code: 'EXDEV' })
  }
  t.notOk(existsSync(join(dir, 'bound/canary')))
  sh('mount -t tmpfs none "$1/later"; touch "$1/later/on-it"', dir)
  t.same(readdirSync(join(dir, 'later')), ['on-it'], 'one that is mounted afterwards is seen')
  const status = await home.ask<Status>(['status'])
  t.same(
    status.volumes[0]?.leftOut,
    ['bound', 'later', 'stick'].map((name) => join(dir, name)),
  )
  t.match((await home.kith(['status'])).stdout, /left out: .*\/stick \(other file systems\)/)
  const { files } = await home.ask<SnapshotRow>(['snapshot'])
  t.equal(files, 1, 'only what is in the directory itself')
  sh('umount "$1/later"', dir)
  await home.ask(['unmount', dir])
  t.same(readdirSync(join(dir, 'stick')), ['on-it'], 'they are where they were')
  t.same(readdirSync(elsewhere), ['canary'])
})

t.test('a shell that stands in the directory', { skip }, async (t) => {
  const home = new TestHome(t)
  const dir = home.dir('protected')
  await home.ask(['init'])
  const shell = spawn(
    'sh',
    ['-c', 'echo here; read go; echo beneath > f; cd "$PWD"; echo seen > g; read end'],
    {
      cwd: dir,
      stdio: ['pipe', 'pipe', 'inherit'],
    },
  )
  t.teardown(() => shell.kill('SIGKILL'))
  await once(shell.stdout, 'data')
  const said = await home.kith(['mount', dir])
  t.match(said.stdout, `work past the mount until they open or enter it again: sh (process ${shell.pid}): `)
  shell.stdin.write('go\n')
  await until(() => existsSync(join(dir, 'g')))
  t.equal(readFileSync(join(dir, 'f'), 'utf8'), 'beneath\n', 'they are the same files')
  shell.stdin.end('end\n')
  await once(shell, 'exit')
  await home.ask(['unmount', dir])
  const { outsiders } = await home.ask<Result<'mount'>>(['mount', dir])
  t.same(
    outsiders.filter(({ name }) => name === 'sh'),
    [],
  )
})

t.test('two mounts at once', { skip }, async (t) => {
  const home = new TestHome(t)
  const [one, two] = [home.dir('one'), home.dir('two')]
  await home.ask(['init'])
  await home.ask(['mount', one])
  await home.ask(['mount', two])
  const { stdout } = await home.kith(['status'])
  t.match(stdout, `${one}\n`)
  t.match(stdout, `${two}\n`)
  mkdirSync(join(one, 'd'))
  writeFileSync(join(one, 'd/f'), 'moved')
  t.throws(() =>
    sh(
      'exec python3 -c "import os, sys; os.rename(*sys.argv[1:])" "$@" 2>/dev/null',
      join(one, 'd'),
      join(two, 'd'),
    ),
  )
  sh('mv "$1/d" "$2/"', one, two)
  t.same([readdirSync(one), readFileSync(join(two, 'd/f'), 'utf8')], [[], 'moved'])
  t.equal((await home.ask<SnapshotRow>(['snapshot', one])).files, 0)
  t.equal((await home.ask<SnapshotRow>(['snapshot', two])).files, 1)
  t.match(await home.kith(['snapshot']), { code: exitCodes.usage, stderr: /say which: / })
  await home.ask(['unmount', one])
  await home.ask(['unmount', two])
})

t.test('names that lead to a directory, or to none', { skip }, async (t) => {
  const home = new TestHome(t)
  const dir = home.dir('protected')
  const other = home.dir('other')
  mkdirSync(join(dir, 'below'))
  await home.ask(['init'])
  const refused = async (path: string, code: 'usage' | 'notFound' | 'exists', message: RegExp | string) => {
    const { code: exit, stderr } = await home.kith(['mount', path])
    t.equal(exit, exitCodes[code], stderr)
    t.match(stderr, message)
    t.match(stderr, /^kith: [^\n]+\n$/, 'one line')
  }
  symlinkSync('loop', join(home.base, 'loop'))
  writeFileSync(join(home.base, 'file'), '')
  await refused(join(home.base, 'loop'), 'usage', /leads back to itself/)
  await refused(join(home.base, 'file/x'), 'usage', /no directory/)
  await refused(`/${'x/'.repeat(2500)}`, 'usage', /path is longer than the system takes/)
  await refused(`/${'x'.repeat(300)}`, 'usage', /path is longer than the system takes/)
  await refused(join(home.base, 'new\nline'), 'notFound', /there is no directory/)
  sh('mount --bind "$1" "$2"', dir, other)
  await home.ask(['mount', dir])
  await refused(other, 'usage', `another name for files of ${dir}, which is protected`)
  await refused(join(other, 'below'), 'usage', /another name for files of/)
  sh('umount "$1"; mount --bind "$2" "$1"', other, dir)
  await refused(other, 'exists', /mounted by kith already/)
  sh('umount "$1"', other)
  await home.ask(['unmount', dir])

  symlinkSync(dir, join(home.base, 'link'))
  t.match(await home.ask(['mount', join(home.base, 'link')]), { dir }, 'a link leads to its directory')
  await home.ask(['unmount', join(home.base, 'link')])
  sh('mount -t tmpfs none "$1"; touch "$1/f"', other)
  await home.ask(['mount', other])
  t.same(readdirSync(other), ['f'], 'a mount point may be protected, too')
  await home.ask(['unmount', other])
  t.same(readdirSync(other), ['f'])
  sh('mount -o remount,ro "$1"', other)
  await home.ask(['mount', other])
  t.throws(() => writeFileSync(join(other, 'g'), ''), { code: 'EROFS' })
  t.equal((await home.ask<SnapshotRow>(['snapshot', other])).files, 1, 'and a read-only one')
  await home.ask(['unmount', other])
  const odd = home.dir('odd\nname')
  const said = await home.kith(['mount', odd])
  t.match(said, { code: 0, stdout: /odd\?name is protected/ })
  await home.ask(['unmount', odd])
})
