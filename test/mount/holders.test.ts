import { spawn, type ChildProcess } from 'node:child_process'
import { existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { holdersOf, outsidersOf } from '../../lib/mount/holders.js'
import { freeze } from '../helpers/freeze.js'
import { place, serversOf, until } from '../helpers/mounted.js'

t.setTimeout(120_000)

/** A program that opens things in the directory as the script says, and holds them until it is ended. */
async function holder(t: Test, dir: string, script: string): Promise<ChildProcess> {
  const ready = join(dir, '..', `ready-${process.hrtime.bigint()}`)
  const program = `import mmap, os\n${script}\nopen(${JSON.stringify(ready)}, "w").close()\nimport signal\nsignal.pause()`
  const child = spawn('python3', ['-c', program], { cwd: '/', stdio: ['ignore', 'ignore', 'inherit'] })
  t.teardown(() => child.kill('SIGKILL'))
  await until('it holds', () => existsSync(ready))
  return child
}

const opens = (path: string, how: string) => `f = os.open(${JSON.stringify(path)}, ${how})`

t.test('who holds what, through the mount and past it', async (t) => {
  const at = await place(t)
  mkdirSync(join(at.dir, 'sub'))
  for (const name of ['old', 'read', 'mapped']) writeFileSync(join(at.dir, name), 'x'.repeat(5000))
  const before = [
    await holder(t, at.dir, opens(join(at.dir, 'old'), 'os.O_WRONLY')),
    await holder(t, at.dir, `os.chdir(${JSON.stringify(join(at.dir, 'sub'))})`),
    await holder(t, at.dir, opens(join(at.dir, 'read'), 'os.O_RDONLY')),
    await holder(
      t,
      at.dir,
      `${opens(join(at.dir, 'mapped'), 'os.O_RDWR')}\nm = mmap.mmap(f, 5000)\nos.close(f)`,
    ),
  ]
  const mount = await at.mount()
  const after = [
    await holder(t, at.dir, opens(join(at.dir, 'new'), 'os.O_WRONLY | os.O_CREAT')),
    await holder(t, at.dir, `os.chdir(${JSON.stringify(at.dir)})`),
    await holder(t, at.dir, opens(join(at.dir, 'read'), 'os.O_RDONLY')),
    await holder(
      t,
      at.dir,
      `${opens(join(at.dir, 'mapped'), 'os.O_RDWR')}\nm = mmap.mmap(f, 5000)\nos.close(f)`,
    ),
  ]
  await freeze(after[0]?.pid ?? 0)
  const [server = 0] = await serversOf(at.stateDir)
  const byPid = (a: { pid: number }, b: { pid: number }) => a.pid - b.pid
  const pid = (list: ChildProcess[], index: number) => list[index]?.pid ?? 0
  t.same((await holdersOf(at.dir)).sort(byPid), [
    { pid: pid(after, 0), name: 'python3', path: 'new' },
    { pid: pid(after, 1), name: 'python3', path: '.' },
    { pid: pid(after, 2), name: 'python3', path: 'read' },
    { pid: pid(after, 3), name: 'python3', path: 'mapped' },
  ])
  t.same((await outsidersOf(at.dir, server)).sort(byPid), [
    { pid: pid(before, 0), name: 'python3', path: 'old' },
    { pid: pid(before, 1), name: 'python3', path: 'sub' },
    { pid: pid(before, 3), name: 'python3', path: 'mapped' },
  ])

  t.comment('unmounted all the same, in bounded time, though one of them is frozen')
  const { stillOpen, holders } = await mount.stop()
  t.same(stillOpen.sort(), ['mapped', 'new', 'read'])
  t.equal(holders.length, 4)

  t.comment('and mounted again, while the first kith-fuse serves what is still open')
  const again = await at.mount()
  t.ok(again.needsScan)
  t.equal((await serversOf(at.stateDir)).length, 2)
  t.ok((await outsidersOf(at.dir, again.serverPid)).some((found) => found.pid === server))
  for (const child of after) child.kill('SIGKILL')
  await until('the first one ends', async () => (await serversOf(at.stateDir)).length === 1)
  t.ok(existsSync(join(at.stateDir, 'bridge.sock')), 'and leaves the socket of the second')
  await again.sync()
  await again.stop()
})
