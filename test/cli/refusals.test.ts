import t from 'tap'
import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { exitCodes, type ErrorCode } from '../../lib/base/errors.js'
import { randomBytes } from '../../lib/base/random.js'
import { newPhrase } from '../../lib/format/phrase.js'
import { TestHome, until, type RunOptions } from '../helpers/cli.js'
import { privateDht } from '../helpers/dht.js'

const skip = process.getuid?.() === 0 ? false : 'needs root'

/** Causes of which the JSON was looked at. */
const asJson = new Set<ErrorCode>()

/** The command fails with this cause, says so in one line, and (once for each cause) with --json the same as JSON. */
async function refused(
  t: Tap,
  home: TestHome,
  args: string[],
  code: ErrorCode,
  message: RegExp,
  options?: RunOptions,
) {
  const name = `${args.slice(0, 2).join(' ')}: ${code}`
  const plain = await home.kith(args, options)
  t.equal(plain.code, exitCodes[code], `${name}: ${plain.stderr}`)
  t.match(plain.stderr, message, name)
  t.match(plain.stderr, /^kith: [^\n]+\n$/, `${name}: one line`)
  if (asJson.has(code)) return
  asJson.add(code)
  const json = await home.kith([...args, '--json'], options)
  t.equal(json.code, exitCodes[code])
  const { error } = JSON.parse(json.stderr) as { error: { code: string; message: string } }
  t.equal(error.code, code)
  t.equal(json.stdout, '', 'no facts')
}

t.setTimeout(280_000)

t.test('bad usage', async (t) => {
  const home = new TestHome(t)
  await refused(t, home, [], 'usage', /no command given/)
  await refused(t, home, ['mout', '/x'], 'usage', /unknown command 'mout'/)
  await refused(t, home, ['mount'], 'usage', /missing required argument/)
  await refused(t, home, ['status', '--loud'], 'usage', /unknown option '--loud'/)
  await refused(t, home, ['sync', '--timeout', 'soon'], 'usage', /--timeout wants seconds/)
  await refused(t, home, ['restore', 'latest'], 'usage', /--to/)
  await refused(
    t,
    home,
    ['restore', 'x', '--to', '/x', '--overwrite', 'maybe'],
    'usage',
    /never, if-changed, always/,
  )
  await refused(t, home, ['dht', '--port', '70000'], 'usage', /--port wants a number/)
  t.notOk(existsSync(home.home), 'nothing was made')
})

t.test('before and after init', async (t) => {
  const home = new TestHome(t)
  for (const args of [
    ['snapshot'],
    ['snapshots'],
    ['mount', home.dir('d')],
    ['invite'],
    ['partners'],
    ['sync'],
  ]) {
    await refused(t, home, args, 'notFound', /no identity yet; start by: kith init/)
  }
  const phrase = join(home.base, 'phrase.txt')
  writeFileSync(phrase, 'dear to me')
  await refused(
    t,
    home,
    ['init', '--phrase-out', phrase],
    'exists',
    /exists already; give --phrase-out a new file/,
  )
  t.equal(readFileSync(phrase, 'utf8'), 'dear to me')
  rmSync(phrase)
  const made = await home.ask<{ id: string; phrase?: string }>(['init', '--phrase-out', phrase])
  t.equal(made.phrase, undefined, 'the phrase is in the file only')
  t.equal(readFileSync(phrase, 'utf8').trim().split(' ').length, 24)
  t.equal(statSync(phrase).mode & 0o777, 0o600)
  await refused(t, home, ['init'], 'exists', /has an identity already/)
  const other = join(home.base, 'other.txt')
  await refused(t, home, ['init', '--phrase-out', other], 'exists', /has an identity already/)
  t.notOk(existsSync(other), 'no file is left behind')
  for (const args of [['snapshots'], ['snapshot'], ['restore', 'latest', '--to', join(home.base, 'x')]]) {
    await refused(t, home, args, 'notFound', /nothing is protected yet/)
  }
  await refused(t, home, ['invite'], 'notFound', /circle/)
  await refused(t, home, ['join', 'not a code'], 'usage', /code/)
})

t.test('directories that cannot be mounted', { skip }, async (t) => {
  const home = new TestHome(t)
  await home.ask(['init'])
  const file = join(home.base, 'file')
  writeFileSync(file, '')
  await refused(t, home, ['mount', file], 'usage', /no directory/)
  await refused(t, home, ['mount', join(home.base, 'missing')], 'notFound', /there is no directory .*missing/)
  await refused(t, home, ['mount', home.home], 'usage', /kith's own/)
  await refused(t, home, ['mount', join(home.home, 'store')], 'usage', /kith's own/)
  await refused(t, home, ['mount', home.base], 'usage', /kith's own/)
  t.same((await home.ask<{ volumes: [] }>(['status'])).volumes, [], 'refused directories are not kept')

  const dir = home.dir('protected')
  mkdirSync(join(dir, 'below'))
  await home.ask(['mount', dir])
  await refused(t, home, ['mount', dir], 'busy', /mounted already/)
  await refused(t, home, ['mount', join(dir, 'below')], 'usage', /lie within each other/)
  await refused(t, home, ['unmount', join(dir, 'below')], 'notFound', /is not protected/)
  await refused(t, home, ['status', home.base], 'notFound', /is not protected/)
  const other = new TestHome(t)
  await other.ask(['init'])
  await refused(t, other, ['mount', dir], 'exists', /mounted by kith already/)
  await home.ask(['unmount', dir])
  await refused(t, home, ['unmount', dir], 'notFound', /is not mounted/)
  await refused(t, home, ['snapshot', dir], 'notFound', /is not mounted/)
})

t.test('no /dev/fuse', { skip }, async (t) => {
  const home = new TestHome(t)
  const dir = home.dir('protected')
  const dev = home.dir('dev')
  // A mount namespace of its own, with a /dev that lacks it.
  const script = `set -e; mount -t tmpfs none ${dev}
    mknod ${dev}/null c 1 3; mknod ${dev}/urandom c 1 9; chmod 666 ${dev}/*
    mount --move ${dev} /dev; exec "$@"`
  const under = ['unshare', '-m', 'sh', '-c', script, 'sh']
  await home.ask(['init'], { under })
  await refused(t, home, ['mount', dir], 'unsupported', /there is no \/dev\/fuse/, { under })
})

t.test('snapshots that are not there, and files that are', { skip }, async (t) => {
  const home = new TestHome(t)
  const dir = home.dir('protected')
  await home.ask(['init'])
  await home.ask(['mount', dir])
  await refused(t, home, ['restore', 'latest', '--to', home.dir('new')], 'notFound', /no snapshot "latest"/)
  await refused(t, home, ['sync'], 'notFound', /no snapshot yet/)
  writeFileSync(join(dir, 'a.txt'), 'first')
  await home.ask(['snapshot'])
  await refused(
    t,
    home,
    ['restore', '2001-01-01', '--to', home.dir('new')],
    'notFound',
    /no snapshot "2001-01-01"/,
  )
  await refused(t, home, ['restore', 'latest:b.txt', '--to', home.dir('new')], 'notFound', /has no b\.txt/)
  await refused(
    t,
    home,
    ['restore', 'latest', '--to', join(dir, '.snapshots', 'x')],
    'denied',
    /cannot be written/,
  )
  const target = home.dir('target')
  writeFileSync(join(target, 'a.txt'), 'mine')
  await refused(t, home, ['restore', 'latest', '--to', target], 'exists', /a\.txt exists already/)
  t.equal(readFileSync(join(target, 'a.txt'), 'utf8'), 'mine')
  await home.ask(['restore', 'latest', '--to', target, '--overwrite', 'always'])
  t.equal(readFileSync(join(target, 'a.txt'), 'utf8'), 'first')
  await refused(t, home, ['sync'], 'noPartners', /there are no partners/)
  await home.ask(['circle', 'create', 'alone'])
  await refused(t, home, ['sync', '--timeout', '0.5'], 'noPartners', /no partner is on line/)
})

t.test('phrases that are none, and one of nobody', async (t) => {
  const home = new TestHome(t)
  const dht = await privateDht(t)
  const file = join(home.base, 'phrase.txt')
  const to = join(home.base, 'to')
  const recover = ['recover', '--phrase-file', file, '--to', to, '--bootstrap', dht.address]
  await refused(t, home, recover, 'notFound', /there is no file/)
  const words = newPhrase().split(' ')
  writeFileSync(file, words.slice(1).join(' '))
  await refused(t, home, recover, 'badPhrase', /23 words/)
  writeFileSync(file, 'x'.repeat(5000))
  await refused(t, home, recover, 'badPhrase', /too long/)
  writeFileSync(file, `${'abandon '.repeat(23)}about`) // right for 12 words, not for 24
  await refused(t, home, recover, 'badPhrase', /checksum/)
  const stdin = await home.kith([...recover.slice(0, 2), '-', ...recover.slice(3)], { input: 'one two' })
  t.match(stdin, { code: exitCodes.badPhrase, stderr: /2 words/ })
  writeFileSync(file, words.join(' '))
  await refused(t, home, recover, 'notFound', /nobody holds a backup for this phrase/)
  t.notOk(existsSync(to), 'nothing was written')
  t.equal((await home.ask<{ id: null }>(['status'])).id, null, 'the home has no identity from it')
})

t.test('a full disk under the home: files go on, backups wait, and catch up', { skip }, async (t) => {
  const home = new TestHome(t)
  mkdirSync(home.home, { mode: 0o700 })
  const image = join(home.base, 'disk.img')
  writeFileSync(image, '')
  truncateSync(image, 64 * 2 ** 20)
  execFileSync('mkfs.ext4', ['-q', '-m', '0', image])
  execFileSync('mount', ['-o', 'loop', image, home.home])
  execFileSync('chmod', ['700', home.home])
  const dir = home.dir('protected')
  await home.ask(['init'])
  await home.ask(['mount', dir])
  writeFileSync(join(dir, 'small'), 'small')
  await home.ask(['snapshot'])
  const ballast = join(home.home, 'ballast')
  writeFileSync(ballast, randomBytes(36 * 2 ** 20))
  const big = randomBytes(24 * 2 ** 20)
  writeFileSync(join(dir, 'big'), big)
  await refused(t, home, ['snapshot'], 'noSpace', /space/)
  writeFileSync(join(dir, 'after'), 'the mount goes on')
  t.ok(readFileSync(join(dir, 'big')).equals(big))
  const status = await home.ask<{ volumes: { mounted: boolean; problems: string[] }[] }>(['status'])
  t.equal(status.volumes[0]?.mounted, true)
  t.match(status.volumes[0]?.problems[0], /no space left/)
  t.equal((await home.ask<unknown[]>(['snapshots'])).length, 1, 'the snapshot before is intact')
  rmSync(ballast)
  await until(async () => (await home.kith(['snapshot'])).code === 0, 60)
  const out = join(home.base, 'out')
  await home.ask(['restore', 'latest', '--to', out])
  t.ok(readFileSync(join(out, 'big')).equals(big))
  t.equal(readFileSync(join(out, 'after'), 'utf8'), 'the mount goes on')
  t.same((await home.ask<typeof status>(['status'])).volumes[0]?.problems, [], 'and status is content again')
  await home.ask(['unmount', dir])
  await home.kith(['stop'])
  await until(() => home.daemonPid() === undefined)
  execFileSync('umount', [home.home])
})

type Tap = Pick<typeof t, 'equal' | 'match'>
