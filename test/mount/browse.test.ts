// The read-only mount of all snapshots, as programs see it. This process answers there, so that it looks by children only.
import t, { type Test } from 'tap'
import { execFile, execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { constants } from 'node:os'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { systemClock } from '../../lib/base/clock.js'
import { silentLog } from '../../lib/base/log.js'
import { seeded } from '../../lib/base/random.js'
import { Browse, browsePlace } from '../../lib/mount/browse.js'
import { BrowseError, BrowseFs } from '../../lib/mount/browse-fs.js'
import { SnapshotFs } from '../../lib/mount/snapshot-fs.js'
import { browseLacks } from '../helpers/browse-engine.js'
import { seededBytes } from '../helpers/bytes.js'
import { until } from '../helpers/cli.js'
import { Hand } from '../helpers/hand-clock.js'
import { MemoryVolume, type Tree } from '../helpers/memory-volume.js'
import { holdProcess } from '../helpers/store.js'

t.setTimeout(280_000)

const skip = process.getuid?.() === 0 ? browseLacks() : 'needs root'
const noon = Date.UTC(2024, 5, 1, 12)
const exact = '2024-06-01T12-00-00Z'
const { EAGAIN, EIO, ENODATA, ENOENT, ENOTDIR } = constants.errno

/** What a program prints; rejects when it fails. */
function output(command: string, ...args: string[]): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const options = { encoding: 'buffer' as const, maxBuffer: 64 * 1024 * 1024, timeout: 120_000 }
    execFile(command, args, options, (error, stdout, stderr) => {
      if (error) reject(new Error(`${command} ${args.join(' ')}: ${stderr.toString()}`))
      else resolve(stdout)
    })
  })
}

async function lines(command: string, ...args: string[]): Promise<string[]> {
  return (await output(command, ...args)).toString().split('\n').filter(Boolean)
}

function isMounted(path: string): boolean {
  return readFileSync('/proc/self/mountinfo', 'utf8').includes(` ${path} `)
}

function place(t: Test): string {
  holdProcess(t)
  const base = mkdtempSync(join(tmpdir(), 'kith-browse-'))
  const mountpoint = join(base, 'snaps')
  mkdirSync(mountpoint)
  t.teardown(() => {
    if (isMounted(mountpoint)) execFileSync('umount', ['-l', mountpoint])
    rmSync(base, { recursive: true })
  })
  return mountpoint
}

async function shown(t: Test, volume: MemoryVolume, mountpoint = place(t)) {
  const browse = await Browse.start({
    mountpoint: await browsePlace(mountpoint),
    catalog: volume,
    version: () => Buffer.from(String(volume.records.length)),
    clock: systemClock,
    log: silentLog(),
  })
  t.teardown(() => browse.stop())
  return browse
}

/** The process that serves it, a child of this one. */
function workerPid(): number {
  const found = readdirSync('/proc').filter((name) => {
    try {
      const status = readFileSync(`/proc/${name}/status`, 'utf8')
      const args = readFileSync(`/proc/${name}/cmdline`, 'utf8')
      return status.includes(`\nPPid:\t${process.pid}\n`) && args.includes('browse-worker.js')
    } catch {
      return false
    }
  })
  if (found.length !== 1) throw new Error(`${found.length} processes serve`)
  return Number(found[0])
}

const long = 'ä'.repeat(127)

function everything(): { volume: MemoryVolume; big: Buffer } {
  const volume = new MemoryVolume()
  const big = seededBytes(seeded(1), 3_000_000)
  const many: Tree = {}
  for (let i = 0; i < 1200; i++) many[`name-${i}`] = { file: Buffer.from(String(i)) }
  volume.take(noon, {
    big: { file: [big] },
    device: { device: 259n },
    [Buffer.from(long).toString('latin1')]: { file: Buffer.from('long') },
    link: { link: 'many/name-7' },
    many: { directory: many },
    marked: {
      file: Buffer.from('marked'),
      attributes: {
        mode: 0o640,
        uid: 7,
        gid: 8,
        xattrs: [
          [Buffer.from('user.long'), Buffer.alloc(3000, 'v')],
          [Buffer.from('user.x'), Buffer.from('value')],
        ],
      },
    },
    'odd-\xff': { file: Buffer.from('odd') },
    sparse: { file: [2_000_000, Buffer.alloc(4096, 1), 2_000_000] },
    ancient: { file: Buffer.from('x'), attributes: { mtimeNs: -5_000_000_000n } },
  })
  return { volume, big }
}

t.test('every kind of file, as it was', { skip }, async (t) => {
  const { volume, big } = everything()
  const { mountpoint } = await shown(t, volume)
  const at = (...names: string[]) => join(mountpoint, ...names)
  t.same((await lines('ls', mountpoint)).slice(-2), [exact, 'latest'])
  t.same((await lines('ls', at('latest'))).sort(), [
    'ancient',
    'big',
    'device',
    'link',
    'many',
    'marked',
    'odd-\\xff',
    'sparse',
    long,
  ])
  t.ok((await output('cat', at(exact, 'big'))).equals(big))
  const part = ['if=' + at(exact, 'big'), 'bs=1000', 'skip=1234', 'count=3', 'status=none']
  t.ok((await output('dd', ...part)).equals(big.subarray(1_234_000, 1_237_000)), 'from the middle')
  const sparse = Buffer.concat([Buffer.alloc(2_000_000), Buffer.alloc(4096, 1), Buffer.alloc(2_000_000)])
  t.ok((await output('cat', at('latest', 'sparse'))).equals(sparse))
  t.equal((await output('cat', at('latest', 'link'))).toString(), '7', 'links lead on')
  t.equal((await output('cat', at('latest', 'odd-\\xff'))).toString(), 'odd')
  t.equal((await output('cat', at('latest', long))).toString(), 'long')
  t.equal((await lines('ls', at('latest', 'many'))).length, 1200)
  t.same(await lines('stat', '-c', '%a %u %g %s %Y', at('latest', 'marked')), ['640 7 8 6 1700000000'])
  t.same(await lines('stat', '-c', '%F %t:%T', at('latest', 'device')), ['character special file 1:3'])
  t.same(await lines('stat', '-c', '%Y', at('latest', 'ancient')), ['0'], 'libfuse knows no time before 1970')
  const xattrs = 'import os,sys; p=sys.argv[1]; print({n: len(os.getxattr(p, n)) for n in os.listxattr(p)})'
  t.same(await lines('python3', '-c', xattrs, at('latest', 'marked')), ["{'user.long': 3000, 'user.x': 5}"])
  await t.rejects(output('getfattr', '-n', 'user.none', at('latest', 'marked')), /No such attribute/)
  await t.rejects(output('cat', at('latest', 'nothing')), /No such file/)
  await t.rejects(output('touch', at('latest', 'new')), /Read-only/)
  await t.rejects(output('rm', at('latest', 'big')), /Read-only/)
})

t.test('many at once, and a new snapshot', { skip }, async (t) => {
  const { volume } = everything()
  const { mountpoint } = await shown(t, volume)
  const script = 'for i in 1 2 3 4; do grep -rl "^11" "$1/latest/many" | wc -l & done; wait'
  t.same(new Set(await lines('sh', '-c', script, 'sh', mountpoint)), new Set(['111']))
  volume.take(noon + 60_000, { only: { file: Buffer.from('newer') } })
  await until(async () => (await lines('ls', join(mountpoint, 'latest'))).join() === 'only')
  t.equal((await output('cat', join(mountpoint, 'latest', 'only'))).toString(), 'newer')
  t.equal((await lines('ls', join(mountpoint, exact))).length, 9, 'the one before is as it was')
})

t.test('a spoilt block is an error, never a wrong byte', { skip }, async (t) => {
  const { volume, big } = everything()
  const { mountpoint } = await shown(t, volume)
  const last = [...volume.blocks.keys()]
  for (const name of last) {
    const block = volume.blocks.get(name)
    if (block && block.length > 60_000) volume.blocks.set(name, Buffer.alloc(block.length, 1))
  }
  await t.rejects(output('cat', join(mountpoint, 'latest', 'big')), /Input\/output error/)
  t.ok(big.length > 0)
})

t.test('it ends by every way, and leaves nothing', { skip }, async (t) => {
  const { volume } = everything()
  const mountpoint = place(t)
  const stopped = await shown(t, volume, mountpoint)
  await t.rejects(browsePlace(mountpoint), { code: 'exists', message: /are shown at/ })
  await stopped.stop()
  t.notOk(isMounted(mountpoint))
  t.equal(await stopped.ended, 'stopped')
  const unmounted = await shown(t, volume, mountpoint)
  await output('fusermount3', '-u', mountpoint)
  t.equal(await unmounted.ended, 'unmounted')
  const killed = await shown(t, volume, mountpoint)
  process.kill(workerPid(), 'SIGKILL')
  t.equal(await killed.ended, 'died')
  t.notOk(isMounted(mountpoint), 'the dead mount is taken off')
  const again = await shown(t, volume, mountpoint)
  t.equal((await lines('ls', join(mountpoint, 'latest'))).length, 9)
  await again.stop()
})

t.test('places that cannot be used', { skip }, async (t) => {
  const mountpoint = place(t)
  await t.rejects(browsePlace(join(mountpoint, 'none')), { code: 'notFound' })
  writeFileSync(join(mountpoint, 'file'), '')
  await t.rejects(browsePlace(mountpoint), { code: 'exists', message: /not empty/ })
  rmSync(join(mountpoint, 'file'))
  execFileSync('mount', ['-t', 'tmpfs', 'none', mountpoint])
  await t.rejects(browsePlace(mountpoint), { code: 'exists', message: /something is mounted/ })
})

t.test('operations by path', async (t) => {
  const { volume } = everything()
  const clock = new Hand()
  const answers = new SnapshotFs({ catalog: volume, clock: systemClock, log: silentLog() })
  const fs = new BrowseFs((type, payload) => answers.answer(type, payload), clock)
  const refused = (errno: number) => (error: unknown) => error instanceof BrowseError && error.errno === errno
  const errnoOf = async (work: Promise<unknown>, errno: number) =>
    t.ok(
      await work.then(
        () => false,
        (error: unknown) => refused(errno)(error),
      ),
      `errno ${errno}`,
    )
  t.match(await fs.getattr('/'), { mode: 0o040555 })
  t.equal((await fs.readdir('/latest')).length, 9)
  t.match(await fs.getattr('/latest/odd-\\xff'), { size: 3 })
  t.equal((await fs.read('/latest/big', 2_999_999, 5)).length, 1)
  t.equal((await fs.readlink('/latest/link')).toString(), 'many/name-7')
  await errnoOf(fs.getattr('/latest/none'), ENOENT)
  await errnoOf(fs.getattr('/never/none'), ENOENT)
  await errnoOf(fs.readdir('/latest/big'), ENOTDIR)
  await errnoOf(fs.getxattr('/latest/big', 'user.x'), ENODATA)
  const broken = new BrowseFs(() => Promise.resolve({ errno: EIO, body: Buffer.alloc(0) }), clock)
  await errnoOf(broken.readdir('/'), EIO)
  const silent = new BrowseFs(() => new Promise(() => undefined), clock)
  const waiting = errnoOf(silent.getattr('/latest'), EAGAIN)
  await new Promise((resolve) => setImmediate(resolve)) // it has asked
  await clock.pass(10_000)
  await waiting
})
