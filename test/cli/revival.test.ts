/** Mounts that die come back by themselves; those that were taken off do not. */
import t from 'tap'
import { execFileSync } from 'node:child_process'
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  writeFileSync,
} from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'
import { exitCodes } from '../../lib/base/errors.js'
import type { SnapshotRow } from '../../lib/daemon/api.js'
import { encodeDaemonHello } from '../../lib/format/bridge.js'
import { TestHome, until } from '../helpers/cli.js'

t.setTimeout(280_000)

const skip = process.getuid?.() === 0 ? false : 'needs root'

/** kill -9 of the kith-fuse of a home, or of all; resolves when they are gone. */
async function killServers(home: TestHome): Promise<void> {
  const pids = home.fusePids()
  for (const pid of pids) process.kill(pid, 'SIGKILL')
  await until(() => home.fusePids().every((pid) => !pids.includes(pid)))
}

const isMounted = async (home: TestHome) => (await home.volume())?.state === 'mounted'

t.test('kith-fuse killed: mounted again by itself', { skip }, async (t) => {
  const home = new TestHome(t)
  const dir = home.dir('protected')
  await home.ask(['init'])
  await home.ask(['mount', dir])
  writeFileSync(join(dir, 'a'), 'a')
  await home.ask(['snapshot'])
  await killServers(home)
  await until(() => home.fusePids().length === 1)
  await until(() => isMounted(home))
  t.equal(readFileSync(join(dir, 'a'), 'utf8'), 'a')
  t.match(await home.ask(['mount', dir]), { continued: true, recovered: true }, 'told once')
  t.match(await home.kith(['mount', dir]), { code: exitCodes.busy })
  writeFileSync(join(dir, 'b'), 'b')
  t.equal((await home.ask<SnapshotRow>(['snapshot'])).files, 2)
  t.equal(home.mountCount(), 1)

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
  t.equal(home.mountCount(), 1)

  t.comment('unmounted is unmounted, also for the next daemon')
  t.match(await home.ask(['unmount', dir]), { dir })
  await home.kith(['stop'])
  t.equal((await home.volume())?.state, 'unmounted')
  t.equal(home.mountCount(), 0)
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
  const problem = async () => (await home.volume())?.problems[0]
  t.match(await problem(), /could not be mounted again: there is no directory .*; the next try is in \d+ s/)
  mkdirSync(dir)
  await until(async () => /is another directory/.test((await problem()) ?? ''))
  t.equal((await home.volume())?.state, 'lost')
  t.match(await home.ask(['mount', dir]), { continued: true }, 'a person may')
  t.equal((await home.volume())?.state, 'mounted')
})

t.test('a mount taken off by another than kith stays off, and status says so', { skip }, async (t) => {
  const home = new TestHome(t)
  const dir = home.dir('protected')
  await home.ask(['init'])
  for (const { inUse, takeOff } of [
    { inUse: false, takeOff: () => execFileSync('umount', [dir]) },
    { inUse: true, takeOff: () => home.fusePids().forEach((pid) => process.kill(pid, 'SIGTERM')) },
    { inUse: true, takeOff: () => execFileSync('umount', ['-l', dir]) },
  ]) {
    t.match(await home.ask(['mount', dir]), { dir })
    const held = openSync(join(dir, 'held'), 'w')
    if (!inUse) closeSync(held)
    takeOff()
    await until(async () => (await home.volume())?.state === 'unmounted')
    t.match((await home.volume())?.problems, [/was unmounted by another than kith.*kith mount /])
    if (inUse) closeSync(held)
    await until(() => home.fusePids().length === 0)
  }
  t.match(await home.ask(['unmount', dir]), { dir, stillOpen: [], holders: [] })
  t.same((await home.volume())?.problems, [])
  t.match(await home.kith(['unmount', dir]), { code: exitCodes.notFound, stderr: /is not mounted/ })
})

t.test('only the connection to kith-fuse breaks: it is joined again', { skip }, async (t) => {
  const home = new TestHome(t)
  const dir = home.dir('protected')
  await home.ask(['init'])
  await home.ask(['mount', dir])
  writeFileSync(join(dir, 'a'), 'a')
  await home.ask(['snapshot'])
  const [pid] = home.fusePids()
  const log = () => readFileSync(join(home.home, 'kithd.log'), 'utf8')
  const [id = ''] = readdirSync(join(home.home, 'mounts'))
  const intruder = connect(join(home.home, 'mounts', id, 'bridge.sock'))
  intruder.on('error', () => undefined)
  intruder.write(encodeDaemonHello())
  await until(() => log().includes('joined kith-fuse again'))
  intruder.destroy()
  t.same(home.fusePids(), [pid], 'the same kith-fuse')
  t.equal((await home.volume())?.changed, 0, 'nothing was missed, so nothing is looked at again')
  writeFileSync(join(dir, 'b'), 'b')
  t.equal((await home.ask<SnapshotRow>(['snapshot'])).files, 2)
})
