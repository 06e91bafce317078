// ls, cat, diff and find through the built command, on a mounted directory.
import t from 'tap'
import { execFileSync, spawn } from 'node:child_process'
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { exitCodes } from '../../lib/base/errors.js'
import { seeded } from '../../lib/base/random.js'
import type { Item, Result, SnapshotRow } from '../../lib/daemon/api.js'
import { seededBytes } from '../helpers/bytes.js'
import { kithMain, TestHome, until } from '../helpers/cli.js'

t.setTimeout(280_000)

const skip = process.getuid?.() === 0 ? false : 'needs root'

t.test('two snapshots, looked into and compared', { skip }, async (t) => {
  const home = new TestHome(t)
  const dir = home.dir('protected')
  const at = (...names: string[]) => join(dir, ...names)
  const odd = Buffer.concat([Buffer.from(`${dir}/odd-`), Buffer.from([0xff])])
  const content = seededBytes(seeded(1), 3_000_000)
  await home.ask(['init'])
  await home.ask(['mount', dir])
  mkdirSync(at('folder', 'deep'), { recursive: true })
  writeFileSync(at('folder', 'big'), content)
  writeFileSync(at('folder', 'deep', 'letter.txt'), 'dear')
  writeFileSync(at('folder', 'gone'), 'x')
  writeFileSync(at('back\\slash'), 'y')
  writeFileSync(at('sparse'), 'end')
  truncateSync(at('sparse'), 2_000_000)
  writeFileSync(odd, 'odd')
  symlinkSync('folder/big', at('link'))
  writeFileSync(at('silent'), 'one')
  writeFileSync(at('mode'), 'mode')
  const first = (await home.ask<SnapshotRow>(['snapshot'])).name

  writeFileSync(at('folder', 'deep', 'letter.txt'), 'dearest')
  rmSync(at('folder', 'gone'))
  writeFileSync(at('folder', 'new'), 'new')
  const { atimeMs, mtimeMs } = statSync(at('silent'))
  const whole = Math.floor(mtimeMs / 1000)
  utimesSync(at('silent'), atimeMs / 1000, whole)
  chmodSync(at('mode'), 0o600)
  rmSync(at('link'))
  mkdirSync(at('link'))
  const second = (await home.ask<SnapshotRow>(['snapshot'])).name
  writeFileSync(at('silent'), 'two')
  utimesSync(at('silent'), atimeMs / 1000, whole)
  const third = (await home.ask<SnapshotRow>(['snapshot'])).name

  await t.test('ls', async (t) => {
    const ran = await home.kith(['ls', first])
    t.same(
      ran.stdout.split('\n').filter(Boolean),
      ['back\\x5cslash', 'folder', 'link', 'mode', 'odd-\\xff', 'silent', 'sparse'],
      ran.stderr,
    )
    const items = await home.ask<Item<'ls'>[]>(['ls', `${first}:folder`, '-R'])
    t.same(
      items.map(({ path }) => path),
      ['big', 'deep', 'deep/letter.txt', 'gone'],
    )
    t.match(items[0], { type: 'file', size: content.length, links: 1, uid: 0 })
    const long = (await home.kith(['ls', `${first}:link`, '--long'])).stdout
    t.match(long, /^lrwxrwxrwx +0 +0 +10 \d{4}-\d\d-\d\d \d\d:\d\d link -> folder\/big\n$/)
    const [shown] = await home.ask<Item<'ls'>[]>(['ls', `${first}:odd-\\xff`])
    t.match(shown, { path: 'odd-\\xff', raw: Buffer.from([0x6f, 0x64, 0x64, 0x2d, 0xff]).toString('base64') })
    t.same(await home.ask(['ls', `${second}:link`]), [], 'an empty directory')
    t.equal((await home.kith(['ls', `${first}:nothing`])).code, exitCodes.notFound)
  })

  await t.test('cat', async (t) => {
    const big = await bytesOf(home, ['cat', `${first}:folder/big`])
    t.ok(big.equals(content))
    const sparse = await bytesOf(home, ['cat', `${first}:sparse`])
    t.ok(sparse.equals(Buffer.concat([Buffer.from('end'), Buffer.alloc(1_999_997)])))
    t.equal((await home.kith(['cat', `${first}:odd-\\xff`])).stdout, 'odd')
    t.equal((await home.kith(['cat', `${first}:back\\slash`])).stdout, 'y')
    t.equal((await home.kith(['cat', `${second}:folder/deep/letter.txt`])).stdout, 'dearest')
    const folder = await home.kith(['cat', `${first}:folder`])
    t.equal(folder.code, exitCodes.usage)
    t.match(folder.stderr, /is a directory/)
    t.match((await home.kith(['cat', `${first}:link`])).stderr, /a symlink to folder\/big/)
    t.equal((await home.kith(['cat', first])).code, exitCodes.usage)
    t.same(await closedEarly(home, ['cat', `${first}:folder/big`]), { code: 0, stderr: '' })
  })

  await t.test('diff', async (t) => {
    t.equal(
      (await home.kith(['diff', first, second, dir])).stdout,
      ['M folder/deep/letter.txt', '- folder/gone', '+ folder/new', 'T link/', 'U mode', 'U silent', ''].join(
        '\n',
      ),
    )
    t.equal((await home.kith(['diff', second, third])).stdout, '? silent\n')
    const [change] = await home.ask<Item<'diff'>[]>(['diff', third, 'latest'])
    t.equal(change, undefined)
    t.match(await home.ask(['diff', first, second]), [
      { change: 'M', path: 'folder/deep/letter.txt', before: { size: 4 }, after: { size: 7 } },
      { change: '-', path: 'folder/gone', before: { type: 'file' }, after: null },
      { change: '+', before: null },
      { change: 'T', before: { type: 'symlink', target: 'folder/big' }, after: { type: 'directory' } },
      {},
      {},
    ])
    t.equal((await home.kith(['diff', first, 'nonsense'])).code, exitCodes.notFound)
  })

  await t.test('find', async (t) => {
    t.match(await home.ask(['find', 'letter*']), [
      { path: 'folder/deep/letter.txt', size: 4, snapshots: [{ first, last: first, count: 1 }] },
      { path: 'folder/deep/letter.txt', size: 7, snapshots: [{ first: second, last: third, count: 2 }] },
    ])
    t.match(await home.ask(['find', 'link', '--type', 'd']), [
      { type: 'directory', snapshots: [{ count: 2 }] },
    ])
    t.match(
      (await home.kith(['find', 'gone', dir])).stdout,
      new RegExp(`^folder/gone  1 B, .*  in ${first}\n$`),
    )
    const none = await home.kith(['find', 'no such thing'])
    t.equal(none.code, exitCodes.notFound)
    t.equal((await home.kith(['find', 'a/b'])).code, exitCodes.usage)
  })
})

t.test('the directory as it is now, compared and put back', { skip }, async (t) => {
  const home = new TestHome(t)
  const dir = home.dir('protected')
  const at = (...names: string[]) => join(dir, ...names)
  await home.ask(['init'])
  await home.ask(['mount', dir, '--exclude', 'left-out'])
  mkdirSync(at('folder'))
  writeFileSync(at('folder', 'letter'), 'dear')
  writeFileSync(at('gone'), 'x')
  writeFileSync(at('silent'), 'one')
  utimesSync(at('silent'), 1_600_000_000, 1_600_000_000)
  await home.ask(['snapshot'])
  t.match(await home.kith(['diff', 'latest']), { stdout: '', stderr: /nothing has changed since/ })
  writeFileSync(at('folder', 'letter'), 'dearest')
  writeFileSync(at('folder', 'new'), 'new')
  writeFileSync(at('left-out'), 'the only copy')
  writeFileSync(at('silent'), 'two')
  utimesSync(at('silent'), 1_600_000_000, 1_600_000_000)
  rmSync(at('gone'))
  const lines = ['M folder/letter', '+ folder/new', '- gone']
  t.equal((await home.kith(['diff', 'latest'])).stdout, `${lines.join('\n')}\n`)
  t.equal((await home.kith(['diff', 'latest', dir, '--content'])).stdout, `${lines.join('\n')}\n? silent\n`)
  t.match(await home.ask(['diff', 'latest', dir]), [
    { change: 'M', before: { size: 4 }, after: { size: 7 } },
    { change: '+', before: null },
    { change: '-', after: null },
  ])
  t.equal((await home.kith(['diff', 'latest', 'latest', '--content'])).code, exitCodes.usage)

  const back = ['restore', 'latest', '--to', dir, '--overwrite', 'if-changed', '--delete']
  const dry = await home.kith([...back, '--dry-run'])
  t.equal(dry.stdout, 'M folder/letter  4 B\n- folder/new  3 B\n+ gone  1 B\n')
  t.match(dry.stderr, /^nothing was changed; it would be: 1 made, 1 written anew, .*; 1 removed \(3 B\)\n$/)
  t.match(await home.kith(back), { code: exitCodes.usage, stderr: /3 B, go for good:\n {2}- folder\/new/ })
  t.ok(existsSync(at('folder', 'new')), 'nobody has said yes')
  const refused = async (args: string[], message: RegExp) =>
    t.match(await home.kith(args), { code: exitCodes.usage, stderr: message })
  await refused(['restore', 'latest', '--to', dir, '--yes'], /goes with --delete/)
  await refused(['restore', 'latest', '--to', dir, '--delete', '--yes'], /--overwrite/)
  const inPlaceOf = (to: string, what = 'latest') => [
    'restore',
    what,
    '--to',
    to,
    '--overwrite',
    'always',
    '--delete',
    '--yes',
    '--dir',
    dir,
  ]
  await refused(inPlaceOf(home.base), /kith's own/)
  await refused(inPlaceOf(join(home.home, 'new')), /kith's own/)
  await refused(inPlaceOf('/'), /--to \//)
  await refused(inPlaceOf(dir, 'latest:folder'), /all of .* but that one part/)
  const around = home.dir('around')
  const inner = home.dir('around/inner')
  await home.ask(['mount', inner])
  await refused(inPlaceOf(around), /is protected by itself/)
  const always = await home.kith([...inPlaceOf(dir).filter((arg) => arg !== '--yes'), '--dry-run'])
  t.equal(always.stdout, dry.stdout)
  t.match(always.stderr, /1 file that look the same among them/)
  t.match(await home.ask([...back, '--yes', '--dir', dir]), { removed: 1, stayed: 1, files: 3 })
  t.same(readdirSync(dir).sort(), ['folder', 'gone', 'left-out', 'silent'])
  t.same(readdirSync(at('folder')), ['letter'])
  t.equal((await home.kith(['diff', 'latest', dir])).stdout, '')
})

t.test('a restore that was killed goes on, and chooses by patterns', { skip }, async (t) => {
  const home = new TestHome(t)
  const dir = home.dir('protected')
  await home.ask(['init'])
  await home.ask(['mount', dir])
  for (let i = 0; i < 40; i++) {
    mkdirSync(join(dir, `d${i}`))
    for (let j = 0; j < 25; j++)
      writeFileSync(join(dir, `d${i}`, `f${j}.${j % 2 ? 'o' : 'c'}`), `${i} ${j}`.repeat(300))
  }
  await home.ask(['snapshot'])
  const to = join(home.base, 'to')
  const broken = home.kith(['restore', 'latest', '--to', to])
  await until(() => existsSync(join(to, 'd20')))
  process.kill(home.daemonPid() as number, 'SIGKILL')
  await broken
  await until(() => home.daemonPid() === undefined)
  writeFileSync(join(to, 'd20', '.kith-restore-0123456789ab-0'), 'part')
  const again = await home.ask<Result<'restore'>>([
    'restore',
    'latest',
    '--to',
    to,
    '--overwrite',
    'if-changed',
  ])
  t.equal(again.files, 1000)
  execFileSync('diff', ['-r', to, dir])
  t.notOk(existsSync(join(to, 'd20', '.kith-restore-0123456789ab-0')))

  const some = join(home.base, 'some')
  const chosen = ['--include', '/d1*/*.c', '--include', 'f1.o', '--exclude', 'd19']
  t.match(await home.ask(['restore', 'latest', '--to', some, ...chosen]), { files: 10 * 13 + 39 })
  t.equal(existsSync(join(some, 'd19')), false)
  t.equal(
    (await home.kith(['restore', 'latest:d1/f1.o', '--to', some, '--include', 'x'])).code,
    exitCodes.usage,
  )
})

function start(home: TestHome, args: string[]) {
  return spawn(process.execPath, [kithMain, ...args], {
    env: { ...process.env, KITH_HOME: home.home },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
}

function bytesOf(home: TestHome, args: string[]): Promise<Buffer> {
  const child = start(home, args)
  const parts: Buffer[] = []
  child.stdout.on('data', (data: Buffer) => parts.push(data))
  return new Promise((resolve) => child.on('close', () => resolve(Buffer.concat(parts))))
}

/** The reader goes away after the first bytes. */
function closedEarly(home: TestHome, args: string[]): Promise<{ code: number | null; stderr: string }> {
  const child = start(home, args)
  let stderr = ''
  child.stderr.on('data', (data: Buffer) => (stderr += data.toString()))
  child.stdout.once('data', () => child.stdout.destroy())
  return new Promise((resolve) => child.on('close', (code) => resolve({ code, stderr })))
}
