// Whatever changes a file, by whatever call and through whatever descriptor or mapping: the next snapshot has it.
import t, { type Test } from 'tap'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { backupOf, differencesNow, takeSnapshot, tellChanges } from '../helpers/changes-story.js'
import { place } from '../helpers/mounted.js'

t.setTimeout(300_000)

async function protect(t: Test, kind: 'disk' | 'tmpfs') {
  const { mount, options, dir, sh } = await place(t)
  if (kind === 'tmpfs') await sh(`mount -t tmpfs -o size=512m kith-test '${dir}'`)
  const mounted = await mount()
  t.teardown(() => mounted.stop())
  return { mounted, dir, sh, backup: await backupOf(t, options.home, dir) }
}

for (const [seed, kind] of [
  [1, 'disk'],
  [2, 'disk'],
  [3, 'tmpfs'],
] as const)
  t.test(`every snapshot equals the directory, seed ${seed} on ${kind}`, async (t) => {
    const { mounted, backup } = await protect(t, kind)
    await tellChanges(t, mounted, backup, { seed, steps: 1200, between: 100 })
  })

t.test('a mapping is watched as long as it lives', async (t) => {
  const { mounted, backup, dir, sh } = await protect(t, 'disk')
  await sh('head -c 100000 /dev/zero > mapped; echo idle > idle')
  const script = `
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + [ctypes.c_int] * 3 + [ctypes.c_long]
os.close(os.open('idle', os.O_RDWR))
fd = os.open('mapped', os.O_RDWR)
address = libc.mmap(None, 100_000, 3, 1, fd, 0)
os.close(fd)
for line in sys.stdin:
    if line == 'end\\n': break
    ctypes.memset(address + int(line), 1, 1)
    print('done', flush=True)
libc.munmap(ctypes.c_void_p(address), ctypes.c_size_t(100_000))
print('unmapped', flush=True)
sys.stdin.read()
`
  const program = spawn('python3', ['-c', script], { cwd: dir, stdio: ['pipe', 'pipe', 'inherit'] })
  t.teardown(() => program.kill('SIGKILL'))
  const ended = once(program, 'close')
  const answers = createInterface(program.stdout)[Symbol.asyncIterator]()
  for (const at of [5, 6, 50_000, 50_001, 7]) {
    program.stdin.write(`${at}\n`)
    t.equal((await answers.next()).value, 'done')
    // Twice: nothing happens between them.
    await takeSnapshot(mounted, backup)
    await takeSnapshot(mounted, backup)
    t.same(await differencesNow(mounted, backup), [])
  }
  if (backup.volume.pending().open > 0) t.equal(backup.volume.pending().open, 1, 'the other one is closed')
  program.stdin.write('end\n')
  t.equal((await answers.next()).value, 'unmapped')
  await takeSnapshot(mounted, backup)
  t.equal(backup.volume.pending().open, 0)
  program.stdin.end()
  await ended
})

t.test('a flood that nobody reads: the log overflows, and the snapshot has it all', async (t) => {
  const { mounted, backup, dir, sh } = await protect(t, 'disk')
  await takeSnapshot(mounted, backup)
  // Ranges are told of big files only, and joined when they are more than 256: it takes many files to fill 65,536 records.
  const flood = `
import os
os.chdir('${dir}')
for i in range(300):
    fd = os.open(f'f{i}', os.O_CREAT | os.O_WRONLY, 0o644)
    os.ftruncate(fd, 64 << 20)
    os.close(fd)
    fd = os.open(f'f{i}', os.O_WRONLY)
    for at in range(240): os.pwrite(fd, b'%d' % i, at * 16)
    os.ftruncate(fd, 4000)
    os.close(fd)
`
  await sh(`python3 -c "${flood}"`)
  const { changes, lost } = await mounted.take()
  t.ok(lost, 'more changed than it could hold')
  t.ok(changes.length <= 65_536)
  await takeSnapshot(mounted, backup)
  t.same(await differencesNow(mounted, backup), [])
  t.notOk(backup.volume.pending().everything)
  await sh('echo more > f7')
  const after = await mounted.take()
  t.notOk(after.lost, 'it is whole again')
  t.ok(after.changes.length > 0 && after.changes.length < 20)
})
