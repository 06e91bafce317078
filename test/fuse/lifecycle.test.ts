// Starting, stopping and dying; what lies in the tree but is not of it; and a bounded number of descriptors.
import t from 'tap'
import {
  chmodSync,
  closeSync,
  mkdtempSync,
  openSync,
  readFileSync,
  readdirSync,
  readlinkSync,
  rmSync,
  statSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { mkdirSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { nativeFile } from '../../lib/base/native-files.js'
import { isMounted, mountForTest, ran, run, waitFor } from '../helpers/fuse-mount.js'

t.setTimeout(280_000)

const codeOf = (attempt: () => unknown): string => {
  try {
    attempt()
    return 'none'
  } catch (error) {
    return (error as NodeJS.ErrnoException).code ?? 'unknown'
  }
}

t.test('stops in order, and the files are there without it', async (t) => {
  const mount = await mountForTest(t)
  writeFileSync(join(mount.dir, 'f'), 'kept')
  t.equal(readFileSync(join(mount.under, 'f'), 'utf8'), 'kept')
  mount.signal('SIGTERM')
  await mount.end()
  t.equal(mount.exitCode, 0)
  t.notOk(isMounted(mount.dir))
  t.equal(readFileSync(join(mount.dir, 'f'), 'utf8'), 'kept')
})

t.test('keeps nothing open that its parent had', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'kith-inherited-'))
  t.teardown(() => rmSync(folder, { recursive: true }))
  const kept = join(folder, 'kept')
  writeFileSync(kept, '')
  const program = join(folder, 'with-more-open')
  writeFileSync(program, `#!/bin/sh\nexec 4<${kept} 9>>${kept}\nexec ${nativeFile('kith-fuse')} "$@"\n`)
  chmodSync(program, 0o755)
  const mount = await mountForTest(t, { program })
  const fds = `/proc/${mount.pid}/fd`
  const open = readdirSync(fds).map((fd) => readlinkSync(join(fds, fd)))
  t.ok(open.includes('/dev/fuse'))
  t.notOk(open.includes(kept))
  writeFileSync(join(mount.dir, 'f'), 'it serves')
})

t.test('a file that is open stays usable after the mount was detached', async (t) => {
  const mount = await mountForTest(t)
  const fd = openSync(join(mount.dir, 'open file'), 'w')
  mount.signal('SIGTERM')
  await waitFor(() => !isMounted(mount.dir), 'the unmount')
  t.notOk(mount.ended)
  await waitFor(() => /still open: open file/.test(mount.log), 'the name of what is open')
  writeSync(fd, 'written late')
  closeSync(fd)
  await mount.end()
  t.equal(mount.exitCode, 0)
  t.equal(readFileSync(join(mount.dir, 'open file'), 'utf8'), 'written late')
})

t.test('what was mounted in its place stays', async (t) => {
  const mount = await mountForTest(t)
  const copy = join(mount.base, 'copy')
  mkdirSync(copy)
  const idOf = async () => (await ran('findmnt', ['-no', 'ID', mount.dir])).trim()
  const id = await idOf()
  // Of the same file system, so that kith-fuse goes on.
  await ran('mount', ['--bind', mount.dir, copy])
  t.teardown(() => run('umount', ['-l', copy]))
  await ran('umount', [mount.dir])
  await ran('mount', ['-t', 'tmpfs', 'kith-test', mount.dir])
  t.teardown(() => run('umount', [mount.dir]))
  t.comment(`the mount had the number ${id}, the other has ${await idOf()}`)
  mount.signal('SIGTERM')
  await waitFor(() => /cannot unmount/.test(mount.log), 'the refusal')
  t.equal((await ran('findmnt', ['-no', 'FSTYPE', mount.dir])).trim(), 'tmpfs')
  writeFileSync(join(copy, 'f'), 'it serves')
  await ran('umount', [mount.dir])
  t.equal(readFileSync(join(mount.dir, 'f'), 'utf8'), 'it serves', 'the directory itself')
  await ran('umount', [copy])
  await mount.end()
  t.equal(mount.exitCode, 0)
})

t.test('killed: the writer gets an error, and what was written is there', async (t) => {
  const mount = await mountForTest(t)
  const fd = openSync(join(mount.dir, 'f'), 'a')
  writeSync(fd, 'before')
  mount.signal('SIGKILL')
  await mount.end()
  t.match(
    codeOf(() => writeSync(fd, 'after')),
    /ENOTCONN|ECONNABORTED/,
  )
  t.equal(
    codeOf(() => statSync(join(mount.dir, 'f'))),
    'ENOTCONN',
  )
  t.match(
    codeOf(() => closeSync(fd)),
    /none|ENOTCONN/,
  )
  t.equal(readFileSync(join(mount.under, 'f'), 'utf8'), 'before')
})

t.test('only one serves a volume, and arguments are checked', async (t) => {
  const mount = await mountForTest(t)
  const program = nativeFile('kith-fuse')
  const args = `--dir-fd 0 --mountpoint ${mount.bare} --state ${mount.state}`
  const second = await run('/bin/sh', ['-c', `${program} ${args} < ${mount.bare}`])
  t.equal(second.code, 1)
  t.match(second.stdout, /another kith-fuse/)
  t.notOk(isMounted(mount.bare))
  t.equal((await run(program, ['--dir-fd', 'x', '--mountpoint', '/x', '--state', '/x'])).code, 2)
  t.equal((await run(program, [])).code, 2)
  t.match(
    (await run(program, ['--dir-fd', '900', '--mountpoint', '/x', '--state', '/tmp'])).stdout,
    /cannot open/,
  )
})

t.test('.snapshots is hidden from listings, found by name, and cannot be made or removed', async (t) => {
  const mount = await mountForTest(t)
  const snapshots = join(mount.dir, '.snapshots')
  writeFileSync(join(mount.dir, 'f'), '')
  mkdirSync(join(mount.dir, 'd'))
  t.same(readdirSync(mount.dir).sort(), ['d', 'f'])
  t.ok(statSync(snapshots).isDirectory())
  for (const [program, ...args] of [
    ['mkdir', snapshots],
    ['rmdir', snapshots],
    ['mv', '-T', snapshots, join(mount.dir, 'moved')],
    ['ln', '-T', join(mount.dir, 'f'), snapshots],
    ['mv', '-T', join(mount.dir, 'd'), snapshots],
  ] as [string, ...string[]][])
    t.not((await run(program, args)).code, 0, `${program} ${args.join(' ')}`)
  mkdirSync(join(mount.dir, 'd', '.snapshots'))
  t.same(readdirSync(join(mount.dir, 'd')), ['.snapshots'], 'elsewhere it is a name like any other')
  t.same(readdirSync(mount.under).sort(), ['d', 'f'])
})

t.test('another mount inside the tree is an empty directory that nothing crosses into', async (t) => {
  const prepare = async (dir: string) => {
    for (const name of ['other', 'bound', 'plain']) mkdirSync(join(dir, name))
    await ran('mount', ['-t', 'tmpfs', 'kith-test', join(dir, 'other')])
    await ran('mount', ['--bind', join(dir, 'plain'), join(dir, 'bound')])
    for (const name of ['other', 'plain']) writeFileSync(join(dir, name, 'secret'), '')
  }
  const mount = await mountForTest(t, { prepare })
  t.teardown(async () => {
    await mount.stop()
    await run('umount', ['-l', join(mount.dir, 'other'), join(mount.dir, 'bound')])
  })
  for (const name of ['other', 'bound']) {
    const inside = join(mount.dir, name)
    t.ok(statSync(inside).isDirectory())
    t.same(readdirSync(inside), [])
    t.equal(
      codeOf(() => statSync(join(inside, 'secret'))),
      'EXDEV',
    )
    t.equal(
      codeOf(() => writeFileSync(join(inside, 'new'), '')),
      'EXDEV',
    )
    t.equal(
      codeOf(() => chmodSync(inside, 0o700)),
      'EXDEV',
    )
  }
  t.same(readdirSync(join(mount.dir, 'plain')), ['secret'])
})

t.test('descriptors stay few however many files there are', async (t) => {
  const mount = await mountForTest(t)
  const script = `
import os
os.chdir('${mount.dir}')
os.mkdir('d')
held = []
for i in range(2500):
    with open(f'd/{i}', 'w') as file: file.write(str(i))
    held.append(os.open(f'd/{i}', os.O_PATH))
os.rename('d', 'e')
for i in range(0, 2500, 2): os.link(f'e/{i}', f'e/link-{i}')
for i in range(0, 2500, 2): os.unlink(f'e/{i}')
for i, fd in enumerate(held):
    os.chmod(f'/proc/self/fd/{fd}', 0o640)
    with open(f'/proc/self/fd/{fd}') as file: assert file.read() == str(i)
print(len(os.listdir('/proc/${mount.pid}/fd')))
`
  await ran('python3', [
    '-c',
    `import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (8000, 20000))\n${script}`,
  ])
  const descriptors = readdirSync(`/proc/${mount.pid}/fd`).length
  t.ok(descriptors < 1100, `${descriptors} descriptors`)
  t.equal(mount.log, '')
})

t.test('file handles of the mount open what they were made of', async (t) => {
  const mount = await mountForTest(t)
  const script = `
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
os.chdir('${mount.dir}')
os.makedirs('a/b')
with open('a/b/f', 'w') as file: file.write('by handle')
handle = ctypes.create_string_buffer(8 + 128)
ctypes.memmove(handle, (128).to_bytes(4, 'little'), 4)
number = ctypes.c_int()
assert libc.name_to_handle_at(-100, b'a/b/f', handle, ctypes.byref(number), 0) == 0, ctypes.get_errno()
root = os.open('.', os.O_RDONLY)
fd = libc.open_by_handle_at(root, handle, os.O_RDONLY)
assert fd >= 0, ctypes.get_errno()
print(os.read(fd, 100).decode())
`
  t.equal(await ran('python3', ['-c', script]), 'by handle\n')
})
