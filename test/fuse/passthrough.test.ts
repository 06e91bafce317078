// As root on a kernel that offers it, readers and read-write users of a file are served by the kernel alone. Whether it
// does is seen from what kith-fuse itself reads and writes. Where it does not, kith-fuse does, and all else is the same.
import t from 'tap'
import {
  appendFileSync,
  closeSync,
  constants,
  fsyncSync,
  ftruncateSync,
  openSync,
  readFileSync,
  readSync,
  statfsSync,
  statSync,
  truncateSync,
} from 'node:fs'
import { unlinkSync, writeFileSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { mountForTest, ran, waitFor, type TestMount } from '../helpers/fuse-mount.js'

t.setTimeout(120_000)
const mebibyte = 1 << 20

/** Bytes that kith-fuse passed through its own buffers. */
function passed(mount: TestMount, field: 'rchar' | 'wchar'): number {
  const line = readFileSync(`/proc/${mount.pid}/io`, 'utf8').match(new RegExp(`${field}: (\\d+)`))
  return Number(line?.[1])
}

/** The kernel's first protocol with passthrough is that of Linux 6.9. */
async function offered(): Promise<boolean> {
  const [major = 0, minor = 0] = (await ran('uname', ['-r'])).split('.').map(Number)
  return major > 6 || (major === 6 && minor >= 9)
}

t.test('who reads or writes is served by the kernel, but for small changes of a big file', async (t) => {
  const mount = await mountForTest(t)
  const path = join(mount.dir, 'f')
  writeFileSync(path, Buffer.alloc(8 * mebibyte, 'a'))
  const made = passed(mount, 'wchar')
  appendFileSync(path, Buffer.alloc(mebibyte, 'a'))
  t.ok(passed(mount, 'wchar') - made >= mebibyte, 'writes at the end are seen')
  truncateSync(path, 64 * mebibyte)
  const grown = passed(mount, 'wchar')
  const writer = openSync(path, constants.O_WRONLY)
  writeSync(writer, Buffer.alloc(mebibyte, 'a'), 0, mebibyte, 0)
  closeSync(writer)
  t.ok(passed(mount, 'wchar') - grown >= mebibyte, 'writes to a big file are seen')
  truncateSync(path, 8 * mebibyte)
  const [read, written] = [passed(mount, 'rchar'), passed(mount, 'wchar')]
  const fd = openSync(path, 'r+')
  const buffer = Buffer.alloc(4 * mebibyte)
  t.equal(readSync(fd, buffer, 0, buffer.length, mebibyte), buffer.length)
  t.equal(writeSync(fd, buffer.fill('b'), 0, buffer.length, 6 * mebibyte), buffer.length)
  fsyncSync(fd)
  t.equal(readFileSync(path).lastIndexOf('a'), 6 * mebibyte - 1)
  t.equal(statSync(path).size, 10 * mebibyte)
  closeSync(fd)
  if (await offered()) {
    t.ok(made < mebibyte, 'a new file is not')
    t.ok(passed(mount, 'rchar') - read < mebibyte)
    t.ok(passed(mount, 'wchar') - written < mebibyte)
  }
  t.equal(mount.log, '')
})

t.test('handles of all kinds on one file see the same bytes', async (t) => {
  const mount = await mountForTest(t)
  const path = join(mount.dir, 'f')
  writeFileSync(path, '0123456789')
  const reader = openSync(path, 'r')
  const writer = openSync(path, 'a')
  const both = openSync(path, 'r+')
  const seen = () => {
    const buffer = Buffer.alloc(100)
    return buffer.toString('latin1', 0, readSync(reader, buffer, 0, 100, 0))
  }
  writeSync(writer, 'abc')
  t.equal(seen(), '0123456789abc')
  writeSync(both, 'XY', 1)
  t.equal(seen(), '0XY3456789abc')
  writeSync(both, '!', 13)
  writeSync(writer, '?')
  t.equal(seen(), '0XY3456789abc!?')
  ftruncateSync(both, 4)
  t.equal(seen(), '0XY3')
  t.equal(statSync(path).size, 4)
  writeSync(writer, 'end')
  t.equal(seen(), '0XY3end')
  for (const fd of [reader, writer, both]) closeSync(fd)
  t.equal(readFileSync(path, 'utf8'), '0XY3end')
})

t.test('times follow a write through a mapping', async (t) => {
  const mount = await mountForTest(t)
  const script = `
import mmap, os
os.chdir('${mount.dir}')
with open('f', 'wb') as file: file.write(bytes(8192))
os.stat('f')
fd = os.open('f', os.O_RDWR)
view = mmap.mmap(fd, 8192)
os.utime('f', ns=(1, 1))
view[0] = 1
view.flush()
os.fsync(fd)
assert os.stat('f').st_mtime_ns != 1, 'while it is open'
os.close(fd)
os.utime('f', ns=(1, 1))
view[5000] = 1
view.flush()
assert os.stat('f').st_mtime_ns != 1, 'after the close'
`
  t.equal(await ran('python3', ['-c', script]), '')
})

t.test('the space of a removed file is free once it is closed', async (t) => {
  const mount = await mountForTest(t, {
    prepare: (dir) => ran('mount', ['-t', 'tmpfs', '-o', 'size=64m', 'kith-test', dir]).then(() => undefined),
  })
  const free = () => {
    const { bavail, bsize } = statfsSync(mount.dir)
    return bavail * bsize
  }
  for (let round = 0; round < 4; round++) {
    const path = join(mount.dir, 'f')
    writeFileSync(path, Buffer.alloc(40 * mebibyte))
    const fds = ['r', 'r+', 'a'].map((flags) => openSync(path, flags))
    unlinkSync(path)
    t.ok(free() < 30 * mebibyte)
    for (const fd of fds) closeSync(fd)
    await waitFor(() => free() > 60 * mebibyte, 'the space')
  }
})
