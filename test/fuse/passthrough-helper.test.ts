// kith-passthrough: gives an ordinary user's mount the kernel's own speed, and nobody any right beyond. On a kernel that
// has no passthrough it refuses everything, and the mount does without.
import t, { type Test } from 'tap'
import { spawn } from 'node:child_process'
import { chmodSync, chownSync, copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { nativeFile } from '../../lib/base/native-files.js'
import { mountForTest, ran, run, testProgram, waitFor, type TestMount } from '../helpers/fuse-mount.js'

const user = 1000
t.setTimeout(280_000)

// Some machines close it to users. It stays open: other tests that need it may be running.
chmodSync('/dev/fuse', 0o666)

/** A file system that kith-passthrough takes files of. The temporary directory's own may be a stacked one. */
async function memoryPlace(t: Test): Promise<string> {
  const base = mkdtempSync(join(tmpdir(), 'kith-passthrough-'))
  await ran('mount', ['-t', 'tmpfs', '-o', 'mode=0755', 'kith-test', base])
  t.teardown(async () => {
    await run('umount', ['-l', base])
    rmSync(base, { recursive: true, force: true })
  })
  return base
}

async function startHelper(t: Test, socket: string) {
  const child = spawn(nativeFile('kith-passthrough'), [socket], { stdio: 'inherit' })
  const listens = () => readFileSync('/proc/net/unix', 'utf8').includes(` ${socket}\n`)
  const stop = async (signal: NodeJS.Signals = 'SIGTERM') => {
    child.kill(signal)
    await waitFor(() => child.exitCode !== null || child.signalCode !== null, 'the end of kith-passthrough')
  }
  t.teardown(() => stop())
  await waitFor(listens, 'the socket')
  const peers = () =>
    readFileSync(`/proc/${child.pid}/task/${child.pid}/children`, 'utf8').trim().split(' ').filter(Boolean)
  return { stop, peers, child }
}

async function offered(): Promise<boolean> {
  const [major = 0, minor = 0] = (await ran('uname', ['-r'])).split('.').map(Number)
  return major > 6 || (major === 6 && minor >= 9)
}

/** What the user's Python prints, with a mebibyte written and read through a descriptor for both. */
function python(mount: TestMount, script: string): Promise<string> {
  return ran(
    '/usr/bin/python3',
    ['-c', `import os, sys\nos.chdir(${JSON.stringify(mount.dir)})\n${script}`],
    {
      uid: user,
    },
  )
}

/** Bytes that kith-fuse wrote while the user wrote 4 MiB through a descriptor for reading and writing. */
async function passed(mount: TestMount, name: string): Promise<number> {
  const written = () =>
    Number(readFileSync(`/proc/${mount.pid}/io`, 'utf8').match(/wchar: (\d+)/)?.[1] ?? NaN)
  const before = written()
  const script = `
fd = os.open('${name}', os.O_RDWR | os.O_CREAT, 0o644)
assert os.write(fd, b'x' * (4 << 20)) == 4 << 20
assert os.pread(fd, 10, 4095) == b'x' * 10
os.close(fd)
assert os.stat('${name}').st_size == 4 << 20
`
  await python(mount, script)
  return written() - before
}

const mebibyte = 1 << 20

t.test('what a mapping writes after its descriptor is closed is read by everybody', async (t) => {
  const place = await memoryPlace(t)
  const socket = join(place, 'socket')
  await startHelper(t, socket)
  const mount = await mountForTest(t, { uid: user, place, environment: { KITH_PASSTHROUGH_SOCKET: socket } })
  const under = join(mount.base, 'under')
  mkdirSync(under)
  // The path would be that of the mount: it is not to be resolved.
  await ran('mount', ['--no-canonicalize', '--bind', mount.under, under])
  t.teardown(() => ran('umount', [under]))
  for (const seed of ['1', '2'])
    t.equal(
      await ran('/usr/bin/python3', [testProgram('mappings.py'), mount.dir, under, seed, '400'], {
        uid: user,
      }),
      '',
    )
})

t.test("an ordinary user's files are read and written by the kernel, and set-id bits fall", async (t) => {
  const place = await memoryPlace(t)
  const socket = join(place, 'socket')
  await startHelper(t, socket)
  const mount = await mountForTest(t, {
    uid: user,
    place,
    environment: { KITH_PASSTHROUGH_SOCKET: socket },
  })
  const bytes = await passed(mount, 'f')
  if (await offered()) t.ok(bytes < mebibyte, `${bytes} bytes`)
  const script = `
os.chmod('f', 0o6755)
fd = os.open('f', os.O_RDWR)
os.pwrite(fd, b'changed', 100)
assert os.stat('f').st_mode & 0o7777 == 0o755, oct(os.stat('f').st_mode)
reader = os.open('f', os.O_RDONLY)
writer = os.open('f', os.O_WRONLY | os.O_APPEND)
os.write(writer, b'end')
assert os.pread(reader, 7, 100) == b'changed'
assert os.pread(fd, 9, 4 << 20) == b'end'
os.unlink('f')
os.ftruncate(fd, 5)
assert os.fstat(reader).st_size == 5
`
  t.equal(await python(mount, script), '')
  t.equal(mount.log, '')
})

t.test('what the kernel cached before is not shown after', async (t) => {
  const place = await memoryPlace(t)
  const socket = join(place, 'socket')
  await startHelper(t, socket)
  const environment = { KITH_PASSTHROUGH_SOCKET: socket }
  const mount = await mountForTest(t, { uid: user, place, environment })
  const cached = `
with open('f', 'wb') as file: file.write(b'y' * (4 << 20))
with open('f', 'rb') as file: assert file.read() == b'y' * (4 << 20)
`
  // While the kernel has not told of the last close, the file stays as it was opened.
  let bytes = Infinity
  for (let i = 0; bytes >= mebibyte && i < 600; i++) {
    await python(mount, cached)
    bytes = await passed(mount, 'f')
    await python(mount, "with open('f', 'rb') as file: assert file.read() == b'x' * (4 << 20)")
    if (!(await offered())) return
  }
  t.ok(bytes < mebibyte, `${bytes} bytes`)
})

t.test('the helper is killed with files open, and comes again', async (t) => {
  const place = await memoryPlace(t)
  const socket = join(place, 'socket')
  const helper = await startHelper(t, socket)
  const mount = await mountForTest(t, {
    uid: user,
    place,
    environment: { KITH_PASSTHROUGH_SOCKET: socket },
  })
  const user2 = spawn(
    '/usr/bin/python3',
    [
      '-u',
      '-c',
      `
import os
os.chdir(${JSON.stringify(mount.dir)})
first = os.open('kept', os.O_RDWR | os.O_CREAT)
os.write(first, b'before')
print('open')
input()
os.pwrite(first, b'B', 0)
second, third = os.open('kept', os.O_RDWR), os.open('kept', os.O_RDONLY)
os.pwrite(second, b'E', 1)
assert os.pread(third, 10, 0) == b'BEfore'
other = os.open('other', os.O_RDWR | os.O_CREAT)
os.write(other, b'text')
assert os.pread(other, 9, 0) == b'text' and os.stat('other').st_size == 4
print('good')
`,
    ],
    { uid: user, gid: user, stdio: ['pipe', 'pipe', 'inherit'] },
  )
  let said = ''
  user2.stdout.on('data', (data: Buffer) => (said += data.toString()))
  await waitFor(() => said.includes('open'), 'the open file')
  const peers = helper.peers()
  await helper.stop('SIGKILL')
  await waitFor(() => peers.every((pid) => !lives(pid)), 'the end of its processes')
  t.ok((await passed(mount, 'without')) >= 4 * mebibyte)
  user2.stdin.end('\n')
  await waitFor(() => user2.exitCode !== null, 'the user')
  t.match(said, /good/)
  await startHelper(t, socket)
  if (await offered()) {
    let last = Infinity
    for (let i = 0; last >= mebibyte && i < 600; i++) {
      last = await passed(mount, `again${i}`)
      await ran('rm', [join(mount.dir, `again${i}`)], { uid: user })
    }
    t.ok(last < mebibyte, 'it is used again')
  }
  t.equal(mount.log, '')
})

function lives(pid: string): boolean {
  try {
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'))
  } catch {
    return false
  }
}

t.test('what a peer must not get', async (t) => {
  const place = await memoryPlace(t)
  chownSync(place, user, user)
  const socket = join(place, 'socket')
  const helper = await startHelper(t, socket)
  const program = join(place, 'peer.py')
  copyFileSync(testProgram('passthrough_peer.py'), program)
  const peer = spawn('/usr/bin/python3', ['-u', program, socket, place], {
    uid: user,
    gid: user,
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  let said = ''
  peer.stdout.on('data', (data: Buffer) => (said += data.toString()))
  await waitFor(() => said.includes('more peers') || peer.exitCode !== null, 'the attempts')
  peer.stdin.end(`${helper.peers().join(' ')}\n`)
  await waitFor(() => peer.exitCode !== null, 'the peer')
  t.equal(peer.exitCode, 0)
  const has = await offered()
  t.same(said.trim().split('\n'), [
    `own file ${has ? 0 : 'EPERM'}`,
    'for reading EACCES',
    'for writing EACCES',
    'a path only EACCES',
    'a secret by its path EACCES',
    'for appending EACCES',
    'a directory EACCES',
    'a pipe EINVAL',
    'a file of proc ENOTSUP',
    'a device EINVAL',
    'no fuse device ENOTTY',
    'a fuse device by its path EBADF',
    'a file as the device ENOTTY',
    'no descriptors gone',
    'one descriptor gone',
    'three descriptors gone',
    'another operation gone',
    'a short message gone',
    'a long message gone',
    ...(has ? ['16384 files EMFILE'] : ['1 files EPERM']),
    `after closing ${has ? 0 : 'EPERM'}`,
    'more peers 7',
  ])
  await waitFor(() => helper.peers().length === 0, 'the end of the peers')
  t.equal(helper.child.exitCode, null)
})

t.test('only root can offer it, and root needs it not', async (t) => {
  const place = await memoryPlace(t)
  chownSync(place, user, user)
  const refused = await run(nativeFile('kith-passthrough'), [join(place, 'socket')], { uid: user })
  t.equal(refused.code, 1)
  t.match(refused.stderr, /must be run by root/)
  const socket = join(place, 'socket')
  await startHelper(t, socket)
  const second = await run(nativeFile('kith-passthrough'), [socket])
  t.equal(second.code, 1)
  t.match(second.stderr, /in use/)
  const asRoot = `
import socket
peer = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
peer.connect('${socket}')
print(peer.recv(4))
`
  t.equal(await ran('/usr/bin/python3', ['-c', asRoot]), "b''\n")
})
