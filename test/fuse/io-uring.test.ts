// FUSE over io_uring, where the kernel has it: the same answers as over the device, many callers at once, and every end.
// The kernel offers it to mounts made while its parameter is on; other mounts that start meanwhile may use it, too.
import t from 'tap'
import {
  closeSync,
  openSync,
  readFileSync,
  readSync,
  readdirSync,
  renameSync,
  statSync,
  unlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { join } from 'node:path'
import { isMounted, ran, run, waitFor, type MountOptions } from '../helpers/fuse-mount.js'
import { lacking, mounted, rings } from '../helpers/io-uring.js'

const skip = lacking()

t.setTimeout(280_000)

t.test('each kind of request and reply', { skip }, async (t) => {
  // Without passthrough data comes here, too: an ordinary user without the helper.
  for (const options of [
    {},
    { uid: 1000, environment: { KITH_PASSTHROUGH_SOCKET: '/nowhere' } },
  ] satisfies MountOptions[]) {
    const mount = await mounted(t, options)
    t.ok(rings(mount.pid) > 0, 'over io_uring')
    const as = 'uid' in options ? { uid: options.uid } : {}
    const script = `import os, sys
os.chdir(sys.argv[1])
data = bytes(i * 7 % 251 for i in range(3 << 20))
with open('big', 'wb') as f: f.write(data); os.fsync(f.fileno())
fd = os.open('big', os.O_RDONLY); os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED); os.close(fd)
assert open('big', 'rb').read() == data
name = 'n' * 255
open(name, 'w').close()
os.setxattr(name, 'user.kith', b'v' * 3000)
assert os.getxattr(name, 'user.kith') == b'v' * 3000
assert 'user.kith' in os.listxattr(name)
os.symlink('t' * 3000, 'link')
assert os.readlink('link') == 't' * 3000
os.mkdir('many')
for i in range(3000): open('many/%d' % i, 'w').close()
assert sorted(os.listdir('many')) == sorted(str(i) for i in range(3000))
os.rename('many/1', 'many/other'); os.link('many/2', 'hard'); os.unlink('many/3')
assert os.stat('hard').st_nlink == 2
os.truncate('big', 5)
assert open('big', 'rb').read() == data[:5]
for call in (lambda: os.stat('missing'), lambda: os.stat('x' * 256), lambda: os.rmdir('many')):
  try: call(); raise SystemExit('no error')
  except OSError as error: print(error.errno)
`
    t.equal(await ran('python3', ['-c', script, mount.dir], as), '2\n36\n39\n')
    t.equal(readdirSync(join(mount.under, 'many')).length, 2999)
    await mount.stop()
    t.equal(mount.exitCode, 0)
    t.equal(mount.log, '')
  }
})

t.test('many callers at once, some of whom ask what nobody answers', { skip }, async (t) => {
  const mount = await mounted(t)
  const script = `import os, sys
base = os.path.join(sys.argv[1], sys.argv[2]); os.mkdir(base)
for i in range(100):
  a, b = os.path.join(base, str(i)), os.path.join(base, 'b%d' % i)
  with open(a, 'w') as f: f.write(a); f.flush(); os.fsync(f.fileno())
  os.rename(a, b)
  assert open(b).read() == a
  if i == 50:
    try: os.listdir(os.path.join(sys.argv[1], '.snapshots'))
    except OSError: pass
  if i % 2: os.unlink(b)
`
  const callers = [...Array(8).keys()].map((i) => run('python3', ['-c', script, mount.dir, `of${i}`]))
  for (const { code, stderr } of await Promise.all(callers)) t.equal(code, 0, stderr)
  for (let i = 0; i < 8; i++) t.equal(readdirSync(join(mount.under, `of${i}`)).length, 50)
})

t.test('told not to, it uses the device', { skip }, async (t) => {
  const mount = await mounted(t, { environment: { KITH_IO_URING: 'off' } })
  writeFileSync(join(mount.dir, 'f'), 'kept')
  t.equal(rings(mount.pid), 0)
})

t.test('a file that is open stays usable after the mount was detached', { skip }, async (t) => {
  const mount = await mounted(t)
  const fd = openSync(join(mount.dir, 'open file'), 'w+')
  mount.signal('SIGTERM')
  await waitFor(() => !isMounted(mount.dir), 'the unmount')
  t.notOk(mount.ended)
  writeSync(fd, 'written late')
  const back = Buffer.alloc(12)
  t.equal(readSync(fd, back, 0, 12, 0), 12)
  closeSync(fd)
  await mount.end()
  t.equal(mount.exitCode, 0)
  t.equal(readFileSync(join(mount.dir, 'open file'), 'utf8'), 'written late')
})

t.test('killed in the midst of requests: the callers get an error, and nobody hangs', { skip }, async (t) => {
  const mount = await mounted(t)
  const script = `import os, sys
try:
  for i in range(10**9):
    path = os.path.join(sys.argv[1], sys.argv[2] + str(i)); open(path, 'w').close(); os.rename(path, path + 'x')
except OSError as error: print(error.errno)
`
  const callers = [...Array(6).keys()].map((i) => run('python3', ['-c', script, mount.dir, `${i}-`]))
  await waitFor(() => readdirSync(mount.under).length > 300, 'some work')
  mount.signal('SIGKILL')
  await mount.end()
  // ENOTCONN as a rule, or ECONNABORTED for who waited for a reply.
  for (const { stdout, stderr } of await Promise.all(callers)) t.match(stdout, /^\d+\n$/, stderr)
})

t.test('the connection is cut: kith-fuse ends', { skip }, async (t) => {
  const mount = await mounted(t)
  writeFileSync(join(mount.dir, 'a'), '')
  renameSync(join(mount.dir, 'a'), join(mount.dir, 'b'))
  unlinkSync(join(mount.dir, 'b'))
  t.ok(statSync(mount.dir).isDirectory())
  await ran('umount', ['-f', '-l', mount.dir])
  await mount.end()
  t.equal(mount.exitCode, 0)
})
