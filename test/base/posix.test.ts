import { closeSync, constants, fdatasyncSync, openSync, readdirSync, readFileSync, writeSync } from 'node:fs'
import { mkdtemp, readFile, rm, truncate, writeFile } from 'node:fs/promises'
import { connect, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import t, { type Test } from 'tap'
import * as posix from '../../lib/base/posix.js'

const { O_CREAT, O_RDONLY, O_WRONLY, O_RDWR } = constants
const b = (text: string): Buffer => Buffer.from(text)

async function directory(t: Test): Promise<{ path: string; fd: number }> {
  const path = await mkdtemp(join(tmpdir(), 'kith-posix-'))
  const fd = posix.openRoot(path)
  t.teardown(async () => {
    posix.close(fd)
    await rm(path, { recursive: true, force: true })
  })
  return { path, fd }
}

function make(dirFd: number, name: Buffer, content = ''): void {
  const fd = posix.openAt(dirFd, name, O_CREAT | O_WRONLY, 0o644)
  if (content) writeSync(fd, content)
  posix.close(fd)
}

t.test('names of any bytes are made, listed, moved, removed', async (t) => {
  const { fd } = await directory(t)
  const names = [b('plain'), b('line\nbreak'), b('🌳'), Buffer.from([0xff, 0xfe, 0x80]), b('x'.repeat(255))]
  for (const name of names) make(fd, name)
  posix.mkdirAt(fd, b('sub'), 0o700)
  const listed = (await posix.readDirectory(fd)).map((entry) => entry.name.toString('hex')).sort()
  t.same(listed, [...names, b('sub')].map((name) => name.toString('hex')).sort())
  const sub = posix.openDirectoryAt(fd, b('sub'))
  for (const name of names) posix.renameAt(fd, name, sub, name, posix.RENAME_NOREPLACE)
  t.equal((await posix.readDirectory(sub)).length, names.length)
  for (const name of names) posix.unlinkAt(sub, name)
  posix.close(sub)
  posix.rmdirAt(fd, b('sub'))
  t.same(await posix.readDirectory(fd), [])
})

t.test('a name that is not one component is refused', async (t) => {
  const { fd } = await directory(t)
  for (const bad of ['', '.', '..', 'a/b', '/', 'a\0b'])
    t.throws(() => posix.statAt(fd, b(bad)), TypeError, JSON.stringify(bad))
  t.throws(() => posix.statAt(fd, b('x'.repeat(256))), { code: 'ENAMETOOLONG' })
  t.throws(() => posix.statAt(fd, 'text' as unknown as Buffer), TypeError)
  t.throws(() => posix.statAt(1.5, b('x')), TypeError)
})

t.test('errors carry code, errno and syscall, and no name', async (t) => {
  const { fd } = await directory(t)
  t.throws(() => posix.statAt(fd, b('secret')), {
    code: 'ENOENT',
    errno: -2,
    syscall: 'statx',
    message: 'ENOENT: No such file or directory, statx',
  })
  t.throws(() => posix.statFd(99_999), { code: 'EBADF' })
  t.equal(posix.statIfAny(fd, b('secret')), undefined)
  t.throws(() => posix.statIfAny(99_999, b('secret')), { code: 'EBADF', syscall: 'statx' })
  t.throws(() => posix.statIfAny(fd, b('a/b')), TypeError)
  make(fd, b('there'))
  t.throws(() => posix.mkdirAt(fd, b('there')), { code: 'EEXIST' })
})

t.test('times to the nanosecond, before 1970 too', async (t) => {
  const { fd } = await directory(t)
  make(fd, b('f'))
  for (const time of [1_700_000_000_123_456_789n, 1n, -1n, -1_500_000_000n]) {
    posix.utimesAt(fd, b('f'), time, time)
    const stat = posix.statAt(fd, b('f'))
    t.equal(stat.mtimeNs, time)
    t.equal(stat.atimeNs, time)
  }
  posix.utimesAt(fd, b('f'), undefined, 5_000_000_001n)
  t.match(posix.statAt(fd, b('f')), { atimeNs: -1_500_000_000n, mtimeNs: 5_000_000_001n })
  posix.utimesFd(fd, undefined, 77n)
  t.equal(posix.statFd(fd).mtimeNs, 77n)
  posix.symlinkAt(b('f'), fd, b('s'))
  posix.utimesAt(fd, b('s'), 3n, 4n)
  t.equal(posix.statAt(fd, b('s')).mtimeNs, 4n, 'of the symlink')
  t.equal(posix.statAt(fd, b('f')).mtimeNs, 5_000_000_001n, 'not of its target')
})

t.test('nothing follows a symlink', async (t) => {
  const { path, fd } = await directory(t)
  make(fd, b('target'), 'content')
  posix.symlinkAt(b(join(path, 'target')), fd, b('link'))
  posix.symlinkAt(b('.'), fd, b('dirlink'))
  t.same(posix.readlinkAt(fd, b('link')), b(join(path, 'target')))
  t.throws(() => posix.openAt(fd, b('link'), O_RDONLY), { code: 'ELOOP' })
  t.throws(() => posix.openDirectoryAt(fd, b('dirlink')), { code: 'ENOTDIR' })
  t.throws(() => posix.chmodAt(fd, b('link'), 0o600), { code: 'EOPNOTSUPP' })
  t.equal(posix.statAt(fd, b('link')).mode & constants.S_IFMT, constants.S_IFLNK)
  t.equal(posix.statAt(fd, b('target')).mode & 0o777, 0o644)
  posix.linkAt(fd, b('link'), fd, b('link2'))
  t.equal(posix.statAt(fd, b('link2')).ino, posix.statAt(fd, b('link')).ino, 'a hard link of the symlink')
  const held = posix.openAt(fd, b('link'), posix.O_PATH)
  t.equal(posix.statFd(held).ino, posix.statAt(fd, b('link')).ino)
  posix.close(held)
})

t.test('modes, owners, device numbers', async (t) => {
  const { fd } = await directory(t)
  make(fd, b('f'))
  posix.chmodAt(fd, b('f'), 0o4755)
  t.equal(posix.statAt(fd, b('f')).mode, constants.S_IFREG | 0o4755)
  posix.chmodAt(fd, b('f'), 0)
  t.equal(posix.statAt(fd, b('f')).mode, constants.S_IFREG)
  posix.chmodAt(fd, b('f'), 0o600)
  posix.chownAt(fd, b('f'), process.geteuid?.() ?? -1, -1)
  posix.mknodAt(fd, b('fifo'), constants.S_IFIFO | 0o600)
  t.equal(posix.statAt(fd, b('fifo')).mode & constants.S_IFMT, constants.S_IFIFO)
  posix.chmodAt(fd, b('fifo'), 0o640)
  const held = posix.openAt(fd, b('f'), posix.O_PATH)
  posix.chmodFd(held, 0o611)
  posix.utimesFd(held, 1n, 2n)
  t.match(
    posix.statFd(held),
    { mode: constants.S_IFREG | 0o611, atimeNs: 1n, mtimeNs: 2n },
    'by an O_PATH fd',
  )
  posix.close(held)
  if (process.geteuid?.() !== 0) return
  posix.chownAt(fd, b('f'), 12345, 4_294_967_294)
  t.match(posix.statAt(fd, b('f')), { uid: 12345, gid: 4_294_967_294 })
  posix.chownFd(fd, 5, 6)
  t.match(posix.statFd(fd), { uid: 5, gid: 6 })
  posix.symlinkAt(b('nowhere'), fd, b('s'))
  posix.chownAt(fd, b('s'), 7, 8)
  t.match(posix.statAt(fd, b('s')), { uid: 7, gid: 8 })
})

t.test('extended attributes, of directories and descriptors too', async (t) => {
  const { fd } = await directory(t)
  make(fd, b('f'))
  t.same(posix.xattrsAt(fd, b('f')), [])
  const value = Buffer.from([0, 255, 10, 0])
  posix.setXattrAt(fd, b('f'), b('user.one'), value)
  posix.setXattrAt(fd, b('f'), b('user.empty'), Buffer.alloc(0))
  const hex = posix.xattrsAt(fd, b('f')).map(([key, v]) => `${key.toString()}=${v.toString('hex')}`)
  t.same(hex.sort(), ['user.empty=', 'user.one=00ff0a00'])
  posix.removeXattrAt(fd, b('f'), b('user.one'))
  t.same(posix.xattrsAt(fd, b('f')), [[b('user.empty'), Buffer.alloc(0)]])
  posix.setXattrFd(fd, b('user.dir'), value)
  t.same(posix.xattrsFd(fd), [[b('user.dir'), value]])
  posix.removeXattrFd(fd, b('user.dir'))
  t.same(posix.xattrsFd(fd), [])
  t.throws(() => posix.removeXattrFd(fd, b('user.dir')), { code: 'ENODATA' })
})

t.test('holes', async (t) => {
  const { fd } = await directory(t)
  const file = posix.openAt(fd, b('sparse'), O_CREAT | O_RDWR)
  writeSync(file, 'data', 1 << 20)
  fdatasyncSync(file)
  const data = posix.seekData(file, 0)
  t.ok(data > 0 && data <= 1 << 20, 'data begins late')
  t.equal(posix.seekHole(file, 1 << 20), (1 << 20) + 4, 'and lasts to the end')
  t.equal(posix.seekData(file, (1 << 20) + 4), -1)
  t.equal(posix.statFd(file).size, (1 << 20) + 4)
  t.ok(posix.statFd(file).blocks * 512 < 1 << 20)
  posix.close(file)
})

t.test('a directory of 20,000 entries comes in batches, twice at once', async (t) => {
  const { fd } = await directory(t)
  for (let i = 0; i < 20_000; i++) posix.mknodAt(fd, b(`entry ${i}`), constants.S_IFREG | 0o600)
  const read = async (): Promise<number> => {
    const seen = new Set<string>()
    let batches = 0
    for await (const batch of posix.readDirectoryBatches(fd)) {
      batches++
      for (const { name, stat } of batch) if (stat.ino > 0n) seen.add(name.toString())
    }
    t.ok(batches > 3, 'several batches')
    return seen.size
  }
  t.same(await Promise.all([read(), read()]), [20_000, 20_000])
  const [first] = await posix.readDirectory(fd)
  const stat = posix.statAt(fd, first?.name ?? b('?'))
  for (const field of Object.keys(stat) as (keyof posix.FileStat)[])
    t.equal(first?.stat[field], stat[field], `${field} is the same as by statAt`)
})

t.test(
  'directories that are listed in one turn, one of them of many names and one that is none',
  async (t) => {
    const { fd } = await directory(t)
    const names = ['empty', 'many', 'other', 'few']
    const fds = names.map((name) => {
      posix.mkdirAt(fd, b(name))
      const below = posix.openDirectoryAt(fd, b(name))
      const count = { empty: 0, many: 9000, other: 0, few: 3 }[name] ?? 0
      for (let i = 0; i < count; i++) posix.mknodAt(below, b(`${name} ${i}`), constants.S_IFREG | 0o600)
      return below
    })
    const file = posix.openAt(fd, b('file'), constants.O_CREAT | constants.O_RDONLY)
    const listings = await Promise.allSettled([...fds, file].map((each) => posix.readOwnDirectory(each)))
    const counts = listings.map((done) =>
      done.status === 'fulfilled'
        ? new Set(done.value.map(({ name }) => name.toString())).size
        : posix.errnoCode(done.reason),
    )
    t.same(counts, [0, 9000, 0, 3, 'ENOTDIR'])
    for (const open of [...fds, file]) posix.close(open)
  },
)

t.test('an abandoned listing closes its descriptor; an empty directory has no entries', async (t) => {
  const { fd } = await directory(t)
  const open = (): number => readdirSync('/proc/self/fd').length
  for await (const batch of posix.readDirectoryBatches(fd)) t.fail(`nothing is there: ${batch.length}`)
  make(fd, b('x'))
  const before = open()
  for await (const batch of posix.readDirectoryBatches(fd)) {
    t.equal(batch.length, 1)
    break
  }
  t.equal(open(), before)
})

t.test('a file is not listed as a directory', async (t) => {
  const { path, fd } = await directory(t)
  await writeFile(join(path, 'f'), '')
  t.throws(() => posix.openDirectoryAt(fd, b('f')), { code: 'ENOTDIR' })
  const file = posix.openAt(fd, b('f'), O_RDONLY)
  await t.rejects(posix.readDirectory(file), { code: 'ENOTDIR' })
  posix.close(file)
  await posix.syncFileSystem(fd)
  t.throws(() => posix.close(file), { code: 'EBADF' })
})

t.test('a lock has one holder', async (t) => {
  const { path } = await directory(t)
  const one = openSync(join(path, 'lock'), 'w')
  const two = openSync(join(path, 'lock'), 'w')
  t.equal(posix.flockExclusive(one), true)
  t.equal(posix.flockExclusive(two), false)
  closeSync(one)
  t.equal(posix.flockExclusive(two), true)
  closeSync(two)
})

t.test('who is at the other end of a socket', async (t) => {
  const { path } = await directory(t)
  const server = createServer()
  t.teardown(() => server.close())
  await new Promise<void>((resolve) => server.listen(join(path, 's'), resolve))
  const client = connect(join(path, 's'))
  const accepted = await new Promise<{ _handle: { fd: number } }>((resolve) =>
    server.once('connection', (socket) => resolve(socket as unknown as { _handle: { fd: number } })),
  )
  const peer = posix.peerCredentials(accepted._handle.fd)
  t.same(peer, { pid: process.pid, uid: process.geteuid?.(), gid: process.getegid?.() })
  client.destroy()
})

t.test('attributes of descriptors that only name a file', async (t) => {
  const { fd } = await directory(t)
  make(fd, b('f'))
  const held = posix.openAt(fd, b('f'), posix.O_PATH)
  posix.setXattrFd(held, b('user.x'), b('1'))
  t.same(posix.xattrsFd(held), [[b('user.x'), b('1')]])
  posix.removeXattrFd(held, b('user.x'))
  t.same(posix.xattrsAt(fd, b('f')), [])
  posix.close(held)
  t.throws(() => posix.chmodFd(held, 0o600), { code: 'EBADF' })
  t.throws(() => posix.xattrsFd(99_999), { code: /EBADF|ENOENT/ })
  posix.symlinkAt(b('f'), fd, b('s'))
  t.same(posix.xattrsAt(fd, b('s')), [])
  t.throws(
    () => posix.setXattrAt(fd, b('s'), b('user.x'), b('1')),
    { code: 'EPERM' },
    'of the symlink itself',
  )
  if (process.geteuid?.() === 0) {
    posix.setXattrAt(fd, b('s'), b('trusted.x'), b('1'))
    t.same(posix.xattrsAt(fd, b('s')), [[b('trusted.x'), b('1')]])
    t.same(posix.xattrsAt(fd, b('f')), [])
  }
})

function place(
  dirFd: number,
  temporary: Buffer,
  name: Buffer,
  bytes: Buffer,
  attributes: posix.PlacedAttributes | undefined,
): Promise<number> {
  return posix.placeFile({ dirFd, temporary, name, bytes, attributes })
}

t.test('a file is placed whole: bytes, attributes, name', async (t) => {
  const { path, fd } = await directory(t)
  const { uid, gid } = posix.statFd(fd)
  const wanted = { uid, gid, mode: 0o640, mtimeNs: -1_500_000_001n, renameFlags: posix.RENAME_NOREPLACE }
  const bytes = Buffer.alloc(100_000, 'abc')
  t.equal(await place(fd, b('t1'), b('one'), bytes, wanted), -1)
  const stat = posix.statAt(fd, b('one'))
  t.match(stat, { uid, gid, size: bytes.length, mtimeNs: wanted.mtimeNs })
  t.equal(stat.mode & 0o7777, 0o640)
  t.same(await readFile(join(path, 'one')), bytes)
  t.equal(await place(fd, b('t2'), b('empty'), Buffer.alloc(0), wanted), -1)
  t.same(readdirSync(path).sort(), ['empty', 'one'])
})

t.test('what cannot be finished in one call is left open, locked and complete', async (t) => {
  const { path, fd } = await directory(t)
  const { uid, gid } = posix.statFd(fd)
  make(fd, b('taken'), 'before')
  const wanted = { uid, gid, mode: 0o600, mtimeNs: 0n, renameFlags: posix.RENAME_NOREPLACE }
  for (const attributes of [wanted, undefined]) {
    const open = await place(fd, b('temporary'), b('taken'), b('after'), attributes)
    const again = posix.openAt(fd, b('temporary'), O_RDONLY)
    t.equal(posix.flockExclusive(again), false)
    posix.close(again)
    posix.close(open)
    t.same(await readFile(join(path, 'temporary')), b('after'))
    t.same(await readFile(join(path, 'taken')), b('before'))
    await t.rejects(place(fd, b('temporary'), b('taken'), b('x'), wanted), { code: 'EEXIST' })
    posix.unlinkAt(fd, b('temporary'))
  }
  t.equal(await place(fd, b('t'), b('taken'), b('after'), { ...wanted, renameFlags: 0 }), -1)
  t.same(await readFile(join(path, 'taken')), b('after'), 'replaced where that is wanted')
  t.same(readdirSync(path), ['taken'])
})

t.test('many files placed at once: each is whole, and a failure is that of one', async (t) => {
  const { path, fd } = await directory(t)
  const { uid, gid } = posix.statFd(fd)
  const wanted = { uid, gid, mode: 0o600, mtimeNs: 1n, renameFlags: posix.RENAME_NOREPLACE }
  make(fd, b('t7'), 'in the way')
  make(fd, b('f7'), 'in the way')
  const bytes = (i: number) => Buffer.alloc(i * 5000, `file ${i} `)
  const outcomes = await Promise.allSettled(
    Array.from({ length: 40 }, (_, i) =>
      place(fd, b(`t${i}`), b(i === 8 ? '..' : `f${i}`), bytes(i), i === 9 ? undefined : wanted),
    ),
  )
  t.match(outcomes[7], { status: 'rejected', reason: { code: 'EEXIST', syscall: 'openat' } })
  t.match(outcomes[8], { status: 'rejected', reason: { code: 'EINVAL' } }, 'no way out')
  const [open] = [outcomes[9]].map((outcome) => (outcome?.status === 'fulfilled' ? outcome.value : undefined))
  t.equal(posix.statFd(open ?? -1).size, 45_000)
  posix.close(open ?? -1)
  for (const [i, outcome] of outcomes.entries()) {
    if (i >= 7 && i <= 9) continue
    if (outcome.status === 'rejected' || outcome.value !== -1) t.fail(`file ${i} was not placed`)
    if (!(await readFile(join(path, `f${i}`))).equals(bytes(i))) t.fail(`file ${i} has other bytes`)
  }
  t.equal(readdirSync(path).length, 40)
})

t.test('bytes in memory are read without waiting, or not at all', async (t) => {
  const { fd } = await directory(t)
  make(fd, b('file'), 'some bytes')
  const file = posix.openAt(fd, b('file'), O_RDONLY)
  t.teardown(() => posix.close(file))
  const into = Buffer.alloc(5)
  const got = posix.readCached(file, into, 5)
  t.ok(got === undefined || into.equals(b('bytes')), 'the right ones')
  t.ok([0, undefined].includes(posix.readCached(file, into, 10)), 'nothing at the end')
  t.throws(() => posix.readCached(-1, into, 0), { code: 'EBADF' })
})

const smallFlags = { last: 1, spans: 2, regular: 4 }

/** An item of readSmall. */
function item(index: number, fd: number, name: Buffer, flags = smallFlags.regular): Buffer {
  const head = Buffer.alloc(11)
  head.writeUInt32LE(index, 0)
  head.writeUInt8(flags, 4)
  head.writeUInt32LE(fd, 5)
  head.writeUInt16LE(name.length, 9)
  return Buffer.concat([head, name])
}

t.test('small files are read one after the other, up to what is not one', async (t) => {
  const { path, fd } = await directory(t)
  make(fd, b('one'), 'first')
  make(fd, b('two'), 'the second')
  posix.setXattrAt(fd, b('two'), b('user.b'), b('2'))
  posix.setXattrAt(fd, b('two'), b('user.a'), b('1'))
  posix.symlinkAt(b('one'), fd, b('link'))
  posix.mkdirAt(fd, b('folder'))
  const memory = Buffer.alloc(64)
  const found = Buffer.alloc(32 * 1024)
  const read = (request: Buffer, at = 0, used = 0) => {
    posix.readSmall(request, at, memory, used, 50, found)
    const [next = 0, now = 0, stop = 0, end = 0] = [0, 4, 8, 12].map((place) => found.readUInt32LE(place))
    return { next, used: now, stop, bytes: found.subarray(16, end) }
  }
  const request = Buffer.concat([item(5, fd, b('one')), item(6, fd, b('none')), item(7, fd, b('two'))])
  const all = read(request, 0, 3)
  t.match(all, { next: request.length, used: 18, stop: posix.smallStops.end })
  t.equal(memory.toString('latin1', 3, 18), 'firstthe second')
  t.equal(all.bytes.readUInt32LE(0), 5)
  t.same(
    [4, 5, 9, 13].map((at) => all.bytes.readUInt8(at)),
    [0, 3, 5, 52 + 3],
    'place, size and head',
  )
  const behind = 17 + 55
  t.same(all.bytes.subarray(behind, behind + 5), Buffer.from([6, 0, 0, 0, 2]), 'the one that is gone')
  t.ok(all.bytes.toString('latin1').endsWith('two\x06\x01\0\0\0user.a1\x06\x01\0\0\0user.b2'), 'sorted')
  const stat = posix.statAt(fd, b('two'))
  const head = all.bytes.subarray(behind + 5 + 17)
  t.equal(head.readBigInt64LE(12), stat.mtimeNs)
  t.equal(head.readBigInt64LE(20), stat.ctimeNs)
  t.equal(head.readBigUInt64LE(28), stat.ino)

  const first = item(1, fd, b('one'))
  for (const [name, flags] of [
    ['link', smallFlags.regular],
    ['folder', smallFlags.regular],
    ['two', 0],
    ['two', smallFlags.regular | smallFlags.last],
    ['two', smallFlags.regular | smallFlags.spans],
  ] as const) {
    const got = read(Buffer.concat([first, item(2, fd, b(name), flags)]))
    t.match(got, { next: first.length, used: 5, stop: posix.smallStops.special }, `${name} ${flags}`)
  }
  t.match(read(first, 0, 60), { next: 0, used: 60, stop: posix.smallStops.noRoom })
  await writeFile(join(path, 'sparse'), '')
  await truncate(join(path, 'sparse'), 40)
  t.match(read(item(1, fd, b('sparse'))), { next: 0, stop: posix.smallStops.special })
  for (const name of ['', '.', '..', 'a/b', 'a\0b']) t.throws(() => read(item(1, fd, b(name))), TypeError)
  t.throws(() => read(first.subarray(0, first.length - 1)), TypeError)
  t.match(read(item(1, 9999, b('one'))).bytes, Buffer.from([1, 0, 0, 0, 3, 9, 0, 0, 0]), 'EBADF')
})

t.test('what the allocator keeps goes back to the system', async (t) => {
  setFlagsFromString('--expose-gc')
  const collect = runInNewContext('gc') as () => void
  const own = () => Number(/RssAnon:\s+(\d+)/.exec(readFileSync('/proc/self/status', 'utf8'))?.[1]) / 1024
  // Small enough to lie in the heap, which by itself shrinks at its end only: the last one holds that.
  let buffers = Array.from({ length: 2000 }, () => Buffer.alloc(48 * 1024, 1))
  buffers = buffers.slice(-1)
  for (let i = 0; i < 3; i++) {
    collect()
    await new Promise(setImmediate)
  }
  const before = own()
  posix.giveBackMemory()
  t.ok(own() < before - 40, 'of the 94 MiB that were let go')
  t.equal(buffers.length, 1)
})
