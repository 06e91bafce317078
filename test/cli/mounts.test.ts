import t from 'tap'
import { execFileSync } from 'node:child_process'
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  writeFileSync,
} from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'
import { exitCodes } from '../../lib/base/errors.js'
import type { Result, SnapshotRow, Status } from '../../lib/daemon/api.js'
import { encodeDaemonHello } from '../../lib/format/bridge.js'
import { TestHome, until } from '../helpers/cli.js'
import { privateDht } from '../helpers/dht.js'
import { freeze } from '../helpers/freeze.js'

t.setTimeout(280_000)

const skip = process.getuid?.() === 0 ? false : 'needs root'

/** The kith-fuse processes that serve mounts of this home. */
function servers(home: TestHome): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .filter((pid) => {
      try {
        const exe = readlinkSync(`/proc/${pid}/exe`)
        return exe.endsWith('/kith-fuse') && readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(home.home)
      } catch {
        return false
      }
    })
    .map(Number)
}

function mountsBelow(home: TestHome): number {
  const lines = readFileSync('/proc/self/mountinfo', 'utf8').split('\n')
  return lines.filter((line) => line.split(' ')[4]?.startsWith(`${home.base}/`)).length
}

const volume = async (home: TestHome) => (await home.ask<Status>(['status'])).volumes[0]

t.test('a mount outlives its daemon, stopped in order, frozen or killed', { skip }, async (t) => {
  const home = new TestHome(t)
  const dir = home.dir('protected')
  await home.ask(['init'])
  t.match(await home.ask(['mount', dir]), { dir, continued: false, recovered: false })
  writeFileSync(join(dir, 'a'), 'a')
  await home.kith(['stop'])
  writeFileSync(join(dir, 'b'), 'written while no daemon runs')
  t.equal((await volume(home))?.state, 'mounted', 'the next one takes it over')

  const frozen = home.daemonPid() as number
  await freeze(frozen)
  writeFileSync(join(dir, 'c'), 'written while the daemon is frozen')
  t.equal(readFileSync(join(dir, 'c'), 'utf8'), 'written while the daemon is frozen')
  process.kill(frozen, 'SIGCONT')

  process.kill(frozen, 'SIGKILL')
  await until(() => home.daemonPid() === undefined)
  writeFileSync(join(dir, 'd'), 'written while the daemon is dead')
  const { name, files } = await home.ask<SnapshotRow>(['snapshot'])
  t.equal(files, 4)
  t.same(readdirSync(join(dir, '.snapshots', name)), ['a', 'b', 'c', 'd'])
  t.same(readdirSync(join(dir, '.snapshots', 'latest')), ['a', 'b', 'c', 'd'])
  t.equal(servers(home).length, 1, 'one kith-fuse all the while')
  t.same(await home.ask(['unmount', dir]), { dir, stillOpen: [] })
  await until(() => servers(home).length === 0)
  t.same(readdirSync(dir), ['a', 'b', 'c', 'd'])
})

/** kill -9 of the kith-fuse of a home, or of all; resolves when they are gone. */
async function killServers(home: TestHome): Promise<void> {
  const pids = servers(home)
  for (const pid of pids) process.kill(pid, 'SIGKILL')
  await until(() => servers(home).every((pid) => !pids.includes(pid)))
}

const isMounted = async (home: TestHome) => (await volume(home))?.state === 'mounted'

t.test('kith-fuse killed: mounted again by itself', { skip }, async (t) => {
  const home = new TestHome(t)
  const dir = home.dir('protected')
  await home.ask(['init'])
  await home.ask(['mount', dir])
  writeFileSync(join(dir, 'a'), 'a')
  await home.ask(['snapshot'])
  await killServers(home)
  await until(() => servers(home).length === 1)
  await until(() => isMounted(home))
  t.equal(readFileSync(join(dir, 'a'), 'utf8'), 'a')
  t.match(await home.ask(['mount', dir]), { continued: true, recovered: true }, 'told once')
  t.match(await home.kith(['mount', dir]), { code: exitCodes.busy })
  writeFileSync(join(dir, 'b'), 'b')
  t.equal((await home.ask<SnapshotRow>(['snapshot'])).files, 2)
  t.equal(mountsBelow(home), 1)

  t.comment('killed while no daemon runs')
  await home.kith(['stop'])
  await killServers(home)
  t.ok(await isMounted(home), 'the next daemon mounts')
  t.same(readdirSync(dir), ['a', 'b'])

  t.comment('both killed, and the dead mount taken away, as at a start of the machine')
  await until(() => home.daemonPid() !== undefined)
  process.kill(home.daemonPid() as number, 'SIGKILL')
  await until(() => home.daemonPid() === undefined)
  await killServers(home)
  execFileSync('umount', ['-l', dir])
  writeFileSync(join(dir, 'c'), 'written to the bare directory')
  // Files of an earlier boot, and a process id that is somebody else's now.
  writeFileSync(join(home.home, 'kithd.lock'), `${process.pid}\n`)
  t.ok(existsSync(join(home.home, 'kithd.sock')))
  t.ok(await isMounted(home), 'the next daemon mounts')
  t.equal((await home.ask<SnapshotRow>(['snapshot'])).files, 3)
  t.equal(mountsBelow(home), 1)

  t.comment('unmounted is unmounted, also for the next daemon')
  t.match(await home.ask(['unmount', dir]), { dir })
  await home.kith(['stop'])
  t.equal((await volume(home))?.state, 'unmounted')
  t.equal(mountsBelow(home), 0)
})

t.test('what is not the directory that was protected is not mounted by itself', { skip }, async (t) => {
  const home = new TestHome(t)
  const dir = home.dir('protected')
  await home.ask(['init'])
  await home.ask(['mount', dir])
  await home.kith(['stop'])
  await killServers(home)
  execFileSync('umount', ['-l', dir])
  renameSync(dir, home.dir('elsewhere'))
  const problem = async () => (await volume(home))?.problems[0]
  t.match(await problem(), /could not be mounted again: there is no directory .*; the next try is in \d+ s/)
  mkdirSync(dir)
  await until(async () => /is another directory/.test((await problem()) ?? ''))
  t.equal((await volume(home))?.state, 'lost')
  t.match(await home.ask(['mount', dir]), { continued: true }, 'a person may')
  t.equal((await volume(home))?.state, 'mounted')
})

t.test('a mount taken off by another than kith stays off, and status says so', { skip }, async (t) => {
  const home = new TestHome(t)
  const dir = home.dir('protected')
  await home.ask(['init'])
  for (const takeOff of [
    () => execFileSync('umount', [dir]),
    () => servers(home).forEach((pid) => process.kill(pid, 'SIGTERM')),
    () => execFileSync('umount', ['-l', dir]),
  ]) {
    t.match(await home.ask(['mount', dir]), { dir })
    const held = openSync(join(dir, 'held'), 'w')
    if (takeOff.toString().includes("umount', [dir]")) closeSync(held)
    takeOff()
    await until(async () => (await volume(home))?.state === 'unmounted')
    t.match((await volume(home))?.problems, [/was unmounted by another than kith.*kith mount /])
    if (!takeOff.toString().includes("umount', [dir]")) closeSync(held)
    await until(() => servers(home).length === 0)
  }
  t.match(await home.ask(['unmount', dir]), { dir, stillOpen: [] })
  t.same((await volume(home))?.problems, [])
  t.match(await home.kith(['unmount', dir]), { code: exitCodes.notFound, stderr: /is not mounted/ })
})

t.test('only the connection to kith-fuse breaks: it is joined again', { skip }, async (t) => {
  const home = new TestHome(t)
  const dir = home.dir('protected')
  await home.ask(['init'])
  await home.ask(['mount', dir])
  writeFileSync(join(dir, 'a'), 'a')
  await home.ask(['snapshot'])
  const [pid] = servers(home)
  const log = () => readFileSync(join(home.home, 'kithd.log'), 'utf8')
  const [id = ''] = readdirSync(join(home.home, 'mounts'))
  const intruder = connect(join(home.home, 'mounts', id, 'bridge.sock'))
  intruder.on('error', () => undefined)
  intruder.write(encodeDaemonHello())
  await until(() => log().includes('joined kith-fuse again'))
  intruder.destroy()
  t.same(servers(home), [pid], 'the same kith-fuse')
  t.equal((await volume(home))?.changed, 0, 'nothing was missed, so nothing is looked at again')
  writeFileSync(join(dir, 'b'), 'b')
  t.equal((await home.ask<SnapshotRow>(['snapshot'])).files, 2)
})

t.test('recovered, recovered again, and protected again', { skip }, async (t) => {
  const dht = await privateDht(t)
  const owner = new TestHome(t)
  const partner = new TestHome(t)
  const phrase = join(partner.base, 'phrase')
  const bootstrap = ['--bootstrap', dht.address]
  await owner.ask(['init', '--phrase-out', phrase, ...bootstrap])
  await partner.ask(['init', ...bootstrap])
  await owner.ask(['circle', 'create', 'two'])
  const { code } = await owner.ask<{ code: string }>(['invite'])
  await partner.ask(['join', code])
  const dir = owner.dir('protected')
  await owner.ask(['mount', dir])
  writeFileSync(join(dir, 'a'), 'a'.repeat(300_000))
  const first = await owner.ask<SnapshotRow>(['snapshot'])
  await owner.ask(['sync', '--timeout', '120'])
  await owner.ask(['unmount', dir])
  await owner.kith(['stop'])

  const fresh = new TestHome(t)
  const to = fresh.dir('back')
  writeFileSync(join(to, 'a'), 'in the way')
  const recover = ['recover', '--phrase-file', phrase, '--to', to, ...bootstrap]
  t.match(await fresh.kith(recover), { code: exitCodes.exists, stderr: /a exists already/ })
  t.equal(readFileSync(join(to, 'a'), 'utf8'), 'in the way')
  const done = await fresh.ask<Result<'recover'>>([...recover, '--overwrite', 'always'])
  t.match(done, { volumes: [{ snapshot: first.name, to, files: 1, bytes: 300_000 }] })
  t.same(done.faults, [])
  t.equal(readFileSync(join(to, 'a'), 'utf8'), 'a'.repeat(300_000))
  t.match(await fresh.ask([...recover, '--overwrite', 'if-changed']), { volumes: [{ skipped: 1 }] })

  t.match(await fresh.ask(['mount', to]), { dir: to, continued: true })
  t.equal(readFileSync(join(to, '.snapshots', first.name, 'a'), 'utf8'), 'a'.repeat(300_000))
  writeFileSync(join(to, 'b'), 'b')
  const second = await fresh.ask<SnapshotRow>(['snapshot'])
  t.ok(second.bytesNew < 3000, `only what is new: ${second.bytesNew} bytes`)
  t.match(await fresh.ask(['snapshots']), [{ name: first.name }, { name: second.name }])
  const synced = await fresh.ask<Result<'sync'>>(['sync', '--timeout', '120'])
  t.equal(synced.volumes[0]?.partners.length, 1, 'a member of the circle again')
})
