// kith mount --engine watch through the built command: all that a mounted directory has, but for the mount.
import t from 'tap'
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { exitCodes } from '../../lib/base/errors.js'
import type { Result, SnapshotRow } from '../../lib/daemon/api.js'
import { TestHome, until } from '../helpers/cli.js'

t.setTimeout(280_000)

const isRoot = process.getuid?.() === 0

t.test('snapshots, status, restore, unmount', async (t) => {
  const home = new TestHome(t)
  const dir = home.dir('protected')
  const at = (...names: string[]) => join(dir, ...names)
  writeFileSync(at('old'), 'old')
  await home.ask(['init'])
  t.match(await home.ask(['mount', dir, '--engine', 'watch', '--exclude', '*.o']), { engine: 'watch', dir })
  t.equal(home.mountCount(), 0)
  t.match(await home.volume(), { mounted: true, state: 'mounted', engine: 'watch', problems: [] })
  t.match(await home.kith(['mount', dir]), { code: exitCodes.busy, stderr: /mounted already/ })
  const inside = home.dir('protected/inside')
  t.match(await home.kith(['mount', inside]), { code: exitCodes.usage, stderr: /lie within each other/ })
  const first = await home.ask<SnapshotRow>(['snapshot'])
  t.equal(first.files, 1)
  writeFileSync(at('new'), 'new')
  writeFileSync(at('left.o'), 'left out')
  writeFileSync(at('inside', 'deep'), 'deep')
  t.equal((await home.ask<SnapshotRow>(['snapshot'])).files, 3, 'what was just written is in it')
  t.equal((await home.kith(['cat', 'latest:inside/deep'])).stdout, 'deep')
  rmSync(at('old'))
  t.equal((await home.kith(['diff', 'latest'])).stdout, '- old\n')
  const back = ['restore', first.name, '--to', dir, '--overwrite', 'if-changed', '--delete', '--yes']
  t.match(await home.ask(back), { removed: 2, stayed: 1 })
  t.same(readdirSync(dir).sort(), ['inside', 'left.o', 'old'])
  await home.ask(['unmount', dir])
  t.match(await home.volume(), { state: 'unmounted', problems: [] })
  t.match(await home.kith(['snapshot']), { code: exitCodes.notFound, stderr: /is not mounted/ })
  writeFileSync(at('meanwhile'), 'found by the scan')
  await home.ask(['mount', dir, '--engine', 'watch'])
  t.equal((await home.ask<SnapshotRow>(['snapshot'])).files, 2)
})

t.test('a daemon that starts again goes on, and finds what changed meanwhile', async (t) => {
  const home = new TestHome(t)
  const dir = home.dir('protected')
  await home.ask(['init'])
  await home.ask(['mount', dir, '--engine', 'watch'])
  await home.ask(['snapshot'])
  process.kill(home.daemonPid() as number, 'SIGKILL')
  await until(() => home.daemonPid() === undefined)
  mkdirSync(join(dir, 'd'))
  writeFileSync(join(dir, 'd', 'f'), 'written while nobody watched')
  t.match(await home.volume(), { state: 'mounted', engine: 'watch' })
  t.equal((await home.ask<SnapshotRow>(['snapshot'])).files, 1)
  writeFileSync(join(dir, 'd', 'g'), 'noticed')
  await until(async () => ((await home.volume())?.changed ?? 0) > 0)

  await home.kith(['stop'])
  renameSync(dir, `${dir}-away`)
  mkdirSync(dir) // while the other one has its inode number
  t.match((await home.volume())?.problems, [/another directory than the one that was protected/])
  t.match(await home.ask<Result<'unmount'>>(['unmount', dir]), { dir })
  t.match(await home.volume(), { state: 'unmounted', problems: [] })
})

t.test('without FUSE', { skip: isRoot ? false : 'needs root' }, async (t) => {
  const home = new TestHome(t)
  const dir = home.dir('protected')
  writeFileSync(join(dir, 'f'), 'f')
  const devices = home.dir('devices')
  const script = [
    'mount -t tmpfs none "$0"',
    'for name in null zero urandom random; do touch "$0/$name"; mount --bind "/dev/$name" "$0/$name"; done',
    'mount --rbind "$0" /dev',
    'exec "$@"',
  ]
  const under = ['unshare', '-m', 'sh', '-c', script.join(' && '), devices]
  await home.ask(['init'], { under })
  const refused = await home.kith(['mount', dir], { under })
  t.match(refused, { code: exitCodes.unsupported, stderr: /or protect without: kith mount --engine watch/ })
  await home.ask(['mount', dir, '--engine', 'watch'], { under })
  t.equal((await home.ask<SnapshotRow>(['snapshot'], { under })).files, 1)
})

t.test(
  'where the system lets it watch no more, snapshots scan',
  { skip: isRoot ? false : 'needs root' },
  async (t) => {
    const home = new TestHome(t)
    const dir = home.dir('protected')
    for (let i = 0; i < 40; i++) {
      mkdirSync(join(dir, `d${i}`))
      writeFileSync(join(dir, `d${i}`, 'f'), 'x')
    }
    const limit = 'echo 20 > /proc/sys/user/max_inotify_watches && exec "$@"'
    const under = ['unshare', '-U', '-r', '-m', 'sh', '-c', limit, 'sh']
    await home.ask(['init'], { under })
    await home.ask(['mount', dir, '--engine', 'watch'], { under })
    await until(async () =>
      /more directories than .*max_user_watches/.test((await home.volume())?.problems.join() ?? ''),
    )
    t.equal((await home.ask<SnapshotRow>(['snapshot'])).files, 40)
    writeFileSync(join(dir, 'd39', 'f'), 'changed unseen')
    writeFileSync(join(dir, 'new'), 'new')
    t.equal((await home.ask<SnapshotRow>(['snapshot'])).files, 41)
    t.equal((await home.kith(['cat', 'latest:d39/f'])).stdout, 'changed unseen')
    t.ok(existsSync(join(dir, 'new')))
    t.equal(readFileSync(join(dir, 'new'), 'utf8'), 'new')
  },
)
