import { existsSync, symlinkSync } from 'node:fs'
import { mkdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { openAt, statFd, statIfAny, close } from '../../lib/base/posix.js'
import { clearAway, Mount, mountState } from '../../lib/mount/mount.js'
import type { Change } from '../../lib/format/changes.js'
import { freeze } from '../helpers/freeze.js'
import { place, serversOf, until } from '../helpers/mounted.js'

t.setTimeout(120_000)

/** The inode of a path below the directory, found without entering the mount. */
function inode(mount: Mount, ...path: string[]): bigint {
  let fd = mount.rootFd
  const opened: number[] = []
  for (const name of path) opened.push((fd = openAt(fd, Buffer.from(name), 0)))
  const { ino } = statFd(fd)
  for (const each of opened) close(each)
  return ino
}

const about = (changes: Change[], ino: bigint) =>
  changes.filter((change) => change.ino === ino).map(({ kind }) => kind)

t.test('what users do is told, and the files are plain files', async (t) => {
  const at = await place(t)
  await writeFile(join(at.dir, 'before'), 'there')
  const mount = await at.mount()
  t.ok(mount.needsScan)
  t.ok((await mount.take()).lost)
  await mount.done()

  let wakes = 0
  mount.on('wake', () => wakes++)
  await at.sh(
    'cat before; mkdir d; echo hello >> d/f; ln -s f d/l; chmod 600 before; mv d/f d/g; setfattr -n user.a -v b d/g',
  )
  await until('it wakes', () => wakes > 0)
  const { changes, lost } = await mount.take()
  t.notOk(lost)
  t.ok(
    changes.some(
      ({ kind, ino, parent }) => kind === 'names' && ino === inode(mount, 'd') && parent === inode(mount),
    ),
  )
  t.ok(
    changes.some(
      ({ kind, ino, parent }) =>
        kind === 'names' && ino === inode(mount, 'd', 'g') && parent === inode(mount, 'd'),
    ),
  )
  t.ok(
    changes.some(
      ({ kind, ino, offset, length }) =>
        kind === 'data' && ino === inode(mount, 'd', 'g') && offset === 0 && length === 6,
    ),
  )
  t.ok(about(changes, inode(mount, 'd', 'g')).includes('attributes'))
  t.ok(about(changes, inode(mount, 'before')).includes('attributes'))
  await mount.done()

  await at.sh('echo more >> d/g')
  await until('it wakes again', () => wakes > 1)
  t.ok(about((await mount.take()).changes, inode(mount, 'd', 'g')).includes('data'))
  await mount.done()

  const mapper = at.sh(`python3 -c '
import mmap, os, time
f = os.open("before", os.O_RDWR)
m = mmap.mmap(f, 5)
m[0:5] = b"THERE"
os.close(f)
open("mapped", "w").close()
while not os.path.exists("enough"): time.sleep(0.01)
'`)
  await until('it is mapped', async () => (await at.sh('ls')).includes('mapped'))
  await mount.sync()
  const taken = await mount.take()
  t.ok(
    about(taken.changes, inode(mount, 'before')).length > 0,
    'a mapped page is told at the latest by sync()',
  )
  await at.sh('touch enough')
  await mapper

  t.same(await mount.stop(), { stillOpen: [], holders: [] })
  t.equal(
    await at.sh('cat before d/g; readlink d/l; ls -A'),
    'THEREhello\nmore\nf\nbefore\nd\nenough\nmapped\n',
  )
  t.same(await serversOf(at.stateDir), [])
})

t.test('a daemon that comes back finds the mount, and what happened meanwhile', async (t) => {
  const at = await place(t)
  t.equal(await Mount.reattach(at.options), undefined)
  const mount = await at.mount()
  await mount.take()
  await mount.done()
  mount.detach()
  await at.sh('echo hello >> new')
  const again = await Mount.reattach(at.options)
  if (!again) return t.fail('the mount is there')
  t.notOk(again.needsScan)
  t.equal(statFd(again.rootFd).mountId, statFd(again.rootFd).mountId)
  t.ok(statIfAny(again.rootFd, Buffer.from('new')), 'its descriptor is of the directory below')
  const { changes, lost } = await again.take()
  t.notOk(lost)
  t.ok(about(changes, inode(again, 'new')).includes('data'))
  await t.rejects(Mount.start(at.options), { code: 'exists' })
  t.ok(await at.sh('cat new'), 'and a second start did it no harm')
  await again.stop()
  t.equal(await Mount.reattach(at.options), undefined)
})

t.test('a newer daemon replaces the one before', async (t) => {
  const at = await place(t)
  const mount = await at.mount()
  const replaced = new Promise<void>((resolve) => mount.on('replaced', resolve))
  mount.on('lost', () => t.fail('it is not lost'))
  const next = await Mount.reattach(at.options)
  await replaced
  await next?.sync()
  await next?.stop()
})

t.test('kith-fuse is stopped by a signal: that is said at once, and nobody waits for it', async (t) => {
  const at = await place(t)
  const mount = await at.mount()
  t.same(mount.problems, [])
  await freeze(mount.serverPid)
  try {
    const told = new RegExp(`is stopped, .* kill -CONT ${mount.serverPid}$`)
    t.match(mount.problems, [told])
    await t.rejects(mount.sync(), { code: 'busy', message: told })
  } finally {
    process.kill(mount.serverPid, 'SIGCONT')
  }
  await until('it goes on', () => mount.problems.length === 0)
  await mount.sync()
})

t.test('kith-fuse is killed: the mount is lost, and the next start clears it away', async (t) => {
  const at = await place(t)
  const mount = await at.mount()
  await mount.take()
  await mount.done()
  const lost = new Promise<void>((resolve) => mount.on('lost', resolve))
  await at.sh('echo one >> file')
  for (const pid of await serversOf(at.stateDir)) process.kill(pid, 'SIGKILL')
  await lost
  await until('it is dead', async () => (await mountState(at.dir)) === 'dead')
  await t.rejects(mount.sync(), { code: 'cancelled' })
  mount.detach()
  t.equal(await Mount.reattach(at.options), undefined)
  const again = await at.mount()
  t.ok(again.needsScan)
  const taken = await again.take()
  t.ok(taken.lost)
  t.ok(about(taken.changes, inode(again, 'file')).includes('data'), 'records from before are still there')
  t.equal(await at.sh('cat file; echo two >> file; cat file'), 'one\none\ntwo\n')
  t.same(await again.stop(), { stillOpen: [], holders: [] })
})

t.test('stop() of a mount whose kith-fuse is gone, or stuck', async (t) => {
  const at = await place(t)
  const mount = await at.mount()
  for (const pid of await serversOf(at.stateDir)) process.kill(pid, 'SIGKILL')
  await until('it is dead', async () => (await mountState(at.dir)) === 'dead')
  await mount.stop()
  t.equal(await mountState(at.dir), 'none')

  const second = await at.mount()
  const [pid = 0] = await serversOf(at.stateDir)
  await freeze(pid)
  t.equal(await mountState(at.dir), 'stuck')
  second.detach()
  await t.rejects(Mount.start(at.options), { code: 'busy' }, 'in bounded time')
  process.kill(pid, 'SIGKILL')
  await until('it is dead', async () => (await mountState(at.dir)) === 'dead')
  t.equal(await clearAway(at.dir), true)
  t.equal(await clearAway(at.dir), false)
})

t.test('files that are open keep working after stop()', async (t) => {
  const at = await place(t)
  const mount = await at.mount()
  const stopped = join(at.options.home, 'stopped')
  const writer = at.sh(
    `exec 5> held; touch there; until [ -e '${stopped}' ]; do sleep 0.05; done; echo late >&5`,
  )
  await until('it is open', async () => (await at.sh('ls')).includes('there'))
  const { stillOpen } = await mount.stop()
  t.ok(
    stillOpen.some((path) => path.includes('held')),
    JSON.stringify(stillOpen),
  )
  await writeFile(stopped, '')
  await writer
  t.equal(await at.sh('cat held'), 'late\n')
  await until('kith-fuse ends', async () => (await serversOf(at.stateDir)).length === 0)
  await (await at.mount()).stop()
})

t.test('refusals', async (t) => {
  const at = await place(t)
  const refused = (dir: string, code: string, message: RegExp) =>
    t.rejects(Mount.start({ ...at.options, dir }), { code, message }, dir)
  await refused(join(at.dir, 'missing'), 'notFound', /no directory .*create/)
  await writeFile(join(at.dir, 'file'), '')
  await refused(join(at.dir, 'file'), 'usage', /is no directory/)
  await refused(at.options.home, 'usage', /within each other/)
  await mkdir(join(at.options.home, 'sub'))
  await refused(join(at.options.home, 'sub'), 'usage', /within each other/)
  await refused(join(at.options.home, '..'), 'usage', /within each other/)
  await mkdir(join(at.dir, 'own/.snapshots'), { recursive: true })
  await refused(join(at.dir, 'own'), 'exists', /\.snapshots/)
  t.same(await serversOf(at.stateDir), [])

  const mount = await at.mount()
  const other = await place(t)
  await t.rejects(
    Mount.start({ ...other.options, dir: at.dir }),
    { code: 'exists' },
    'mounted by another home',
  )
  await t.rejects(Mount.start({ ...at.options, dir: other.dir }), { code: 'busy' }, 'one directory a volume')
  t.equal(await mountState(other.dir), 'none')
  symlinkSync(at.dir, join(other.dir, 'link'))
  await refused(join(other.dir, 'link'), 'exists', /mounted by kith already/)
  await mount.stop()
})

t.test('a directory with a hard name, in a deep home', async (t) => {
  const at = await place(t)
  const dir = join(at.dir, 'it\'s a \\ "name"\twith\nall, 🌳')
  const home = join(at.options.home, 'x'.repeat(120), 'y'.repeat(120))
  await mkdir(dir)
  await mkdir(home, { recursive: true })
  const mount = await Mount.start({ ...at.options, dir, home })
  t.equal(await mountState(dir), 'alive')
  await mount.sync()
  mount.detach()
  const again = await Mount.reattach({ ...at.options, dir, home })
  t.same(await again?.stop(), { stillOpen: [], holders: [] })
  t.equal(await mountState(dir), 'none')
  t.ok(existsSync(dir))
  await rm(dir, { recursive: true })
})
