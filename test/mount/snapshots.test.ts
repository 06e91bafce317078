import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'
import { seeded } from '../../lib/base/random.js'
import { sealOverhead } from '../../lib/format/seal.js'
import { Mount } from '../../lib/mount/mount.js'
import { localDay } from '../../lib/store/snapshot-info.js'
import { MemoryVolume, type Tree } from '../helpers/memory-volume.js'
import { place, until, type Place } from '../helpers/mounted.js'
import { freeze } from '../helpers/freeze.js'

t.setTimeout(280_000)

const first = Date.UTC(2024, 5, 1, 9, 30, 0)
const second = first + 1000
const third = Date.UTC(2024, 5, 3, 12, 0, 0)
const older = '.snapshots/2024-06-01T09-30-00Z'

function bytes(length: number, seed: number): Buffer {
  const random = seeded(seed)
  const out = Buffer.alloc(length)
  for (let at = 0; at < length; at += 4) out.writeUInt32LE(random(), at - Math.max(0, at + 4 - length))
  return out
}

async function served(t: Test, volume: MemoryVolume): Promise<{ at: Place; mount: Mount }> {
  const at = await place(t)
  const mount = await at.mount()
  mount.serve(volume)
  t.teardown(() => mount.detach())
  return { at, mount }
}

t.test('a snapshot looks as the directory did', async (t) => {
  const big = bytes(1_500_000, 1)
  const sparse = [
    bytes(64 * 1024, 2),
    1 << 20,
    bytes(64 * 1024, 3),
    1 << 21,
    ...[4, 5, 6, 7, 8, 9, 10].map((n) => bytes(70_000, n)),
  ]
  const volume = new MemoryVolume()
  volume.take(first, {
    small: {
      file: Buffer.from('hello\n'),
      attributes: { mode: 0o4755, uid: 12, gid: 34 },
    },
    big: { file: big, attributes: { mtimeNs: -5_000_000_001n } },
    sparse: { file: sparse },
    holes: { file: [bytes(4096, 2), 1 << 20] },
    link: { link: 'small' },
    dangling: { link: '/no/such/place' },
    pipe: { fifo: true },
    device: { device: 0x305n },
    'a\nb': { file: Buffer.from('newline') },
    '\xff\xfe': { file: Buffer.from('no utf-8') },
    one: { file: Buffer.from('x'), attributes: { ino: 77n, nlink: 2 } },
    two: { file: Buffer.from('x'), attributes: { ino: 77n, nlink: 2 } },
    noted: {
      file: Buffer.from('n'),
      attributes: { xattrs: [[Buffer.from('user.note'), Buffer.from('kept')]] },
    },
    secret: {
      directory: { inner: { file: Buffer.from('i') } },
      attributes: { mode: 0o700 },
    },
  })
  const { at } = await served(t, volume)
  const stat = (format: string, name: string) => at.sh(`stat -c '${format}' ${older}/${name}`)

  t.equal(await at.sh(`cat ${older}/small ${older}/link`), 'hello\nhello\n')
  t.equal(await stat('%A %u %g %s %h', 'small'), '-rwsr-xr-x 12 34 6 1\n')
  t.equal(await stat('%.9Y', 'small'), '1700000000.123456789\n')
  t.equal(await stat('%.9Y', 'big'), '-5.000000001\n')
  t.equal(await at.sh(`readlink ${older}/dangling`), '/no/such/place\n')
  t.equal(await stat('%F', 'pipe'), 'fifo\n')
  t.equal(await stat('%F %t %T', 'device'), 'character special file 3 5\n')
  t.equal(await at.sh(`cat ${older}/$'a\\nb' ${older}/$'\\xff\\xfe'`), 'newlineno utf-8')
  t.equal(await at.sh(`getfattr --only-values -n user.note ${older}/noted`), 'kept')
  t.match(await at.sh(`getfattr ${older}/noted`), /^user.note$/m)
  t.equal(
    await at
      .sh(`getfattr -n user.other ${older}/noted 2>&1 || true`)
      .then((out) => out.includes('No such attribute')),
    true,
  )
  t.equal(await stat('%A', 'secret'), 'drwx------\n')

  const inodes = (await at.sh(`stat -c '%i %h' ${older}/one ${older}/two`)).trim().split('\n')
  t.equal(inodes[0], inodes[1], 'hard links keep one number')
  t.equal(await at.sh(`cat ${older}/big | sha256sum`), await at.sh(`cat ${older}/big | sha256sum`))
  t.equal(await at.sh(`base64 -w0 ${older}/big`), big.toString('base64'))
  t.equal(await at.sh(`tail -c 100 ${older}/big | base64 -w0`), big.subarray(-100).toString('base64'))
  t.equal(
    await at.sh(`dd if=${older}/big bs=1000 skip=700 count=1 status=none | base64 -w0`),
    big.subarray(700_000, 701_000).toString('base64'),
  )
  const whole = Buffer.concat(sparse.map((part) => (typeof part === 'number' ? Buffer.alloc(part) : part)))
  t.equal(await at.sh(`base64 -w0 ${older}/sparse`), whole.toString('base64'))
  t.equal(
    await at.sh(
      `cp ${older}/sparse copy && cmp ${older}/sparse copy && [ $(stat -c %b copy) -lt $(($(stat -c %s copy) / 1024)) ] && echo sparse`,
    ),
    'sparse\n',
  )
  t.equal(await stat('%b', 'holes'), '8\n')
  t.equal(
    await at.sh(`cp -a ${older}/small back && cat back && cmp back ${older}/small`),
    'hello\n',
    'cp does not take them for one file',
  )
})

t.test('names of snapshots', async (t) => {
  const volume = new MemoryVolume()
  volume.take(first, { v: { file: Buffer.from('1') } })
  volume.take(second, { v: { file: Buffer.from('2') } })
  const { at, mount } = await served(t, volume)
  const day = localDay(second)
  t.equal(await at.sh('ls -A'), '', 'hidden from the root')
  t.same(
    (await at.sh('ls .snapshots')).split('\n').filter(Boolean).sort(),
    [day, '2024-06-01T09-30-00Z', '2024-06-01T09-30-01Z', 'latest'].sort(),
  )
  t.equal(await at.sh(`cat .snapshots/latest/v .snapshots/${day}/v .snapshots/2024-06-01T09-30-00Z/v`), '221')
  t.match(await at.sh('ls .snapshots/nothing 2>&1 || true'), /No such file/)
  t.equal(
    await at.sh('cd .snapshots/latest && pwd -P').then((path) => path.endsWith('.snapshots/latest\n')),
    true,
  )

  // What is open under `latest` stays what it was.
  const reader = at.sh(
    'cd .snapshots/latest; touch ../../there; while [ ! -e ../../go ]; do sleep 0.01; done; cat v; cat ../latest/v',
  )
  await until('the reader is there', async () => (await at.sh('ls')) === 'there\n')
  volume.take(third, { v: { file: Buffer.from('3') } })
  await mount.snapshotsChanged()
  await at.sh('[ "$(cat .snapshots/latest/v)" = 3 ] && touch go')
  t.equal(await reader, '23')
  t.match(await at.sh('ls .snapshots'), /2024-06-03T12-00-00Z/)
  t.equal(await at.sh('ls .snapshots | wc -l'), '6\n')

  // Though the kernel keeps exact names, one whose snapshot was removed is gone at once.
  t.equal(await at.sh(`cat ${older}/v`), '1')
  volume.records.shift()
  await mount.snapshotsChanged()
  t.match(await at.sh(`cat ${older}/v 2>&1 || true`), /No such file/)
  t.match(await at.sh(`ls ${older} 2>&1 || true`), /No such file/)
  t.equal(await at.sh('ls .snapshots | wc -l'), '5\n')
})

t.test('directories of snapshots listed by many at once', async (t) => {
  const entries = (count: number): Tree =>
    Object.fromEntries(Array.from({ length: count }, (_, k) => [`name-${k}`, { file: Buffer.from('') }]))
  const tree: Tree = {}
  for (let i = 0; i < 80; i++) tree[`dir${i}`] = { directory: entries(10) }
  tree.big = { directory: entries(3500) }
  const volume = new MemoryVolume()
  volume.take(first, tree)
  const { at } = await served(t, volume)
  const script = `import os
tops = ["${older}/dir%d" % i for i in range(80)] + ["${older}/big"] * 3
found, streams = {top: [] for top in tops}, []
for top in tops:
    stream = os.scandir(top)
    streams.append((top, stream))
    found[top].append(next(stream).name)
while streams:
    left = []
    for top, stream in streams:
        names = [entry.name for _, entry in zip(range(600), stream)]
        found[top].extend(names)
        if names: left.append((top, stream))
    streams = left
for top in tops:
    assert len(set(found[top])) == (3500 if "big" in top else 10), (top, len(found[top]))
assert len(found[tops[-1]]) == 3 * 3500
print("all")`
  t.equal(await at.sh(`python3 -c '${script}'`), 'all\n')
})

t.test('nothing can be changed', async (t) => {
  const volume = new MemoryVolume()
  volume.take(first, {
    file: { file: Buffer.from('x') },
    dir: { directory: {} },
  })
  const { at } = await served(t, volume)
  await at.sh('echo live > live')
  const attempts = [
    `echo y > ${older}/file`,
    `echo y >> ${older}/file`,
    `echo y > ${older}/new`,
    `mkdir ${older}/new`,
    `rmdir ${older}/dir`,
    `rm ${older}/file`,
    `mv ${older}/file ${older}/other`,
    `mv live ${older}/live`,
    `ln -s x ${older}/link`,
    `ln ${older}/file ${older}/hard`,
    `mkfifo ${older}/pipe`,
    `chmod 777 ${older}/file`,
    `chown 5 ${older}/file`,
    `touch ${older}/file`,
    `truncate -s 0 ${older}/file`,
    `setfattr -n user.x -v y ${older}/file`,
    'touch .snapshots/new',
    'rmdir .snapshots/latest',
    'mkdir .snapshots/new',
  ]
  for (const attempt of attempts) {
    const out = await at.sh(`{ ${attempt}; } 2>&1 && echo DONE || true`)
    t.match(out, /Read-only file system/, attempt)
    t.notMatch(out, /DONE/, attempt)
  }
  t.equal(await at.sh(`cat ${older}/file live`), 'xlive\n')
})

t.test('a directory of 20,000 entries, and seeking in it', async (t) => {
  const tree: Tree = {}
  for (let i = 0; i < 20_000; i++) tree[`name-${i}-of-many`] = { file: Buffer.from(String(i)) }
  const volume = new MemoryVolume()
  volume.take(first, { many: { directory: tree } })
  const { at } = await served(t, volume)
  t.equal(await at.sh(`ls -U ${older}/many | sort | uniq | wc -l`), '20000\n')
  t.equal(await at.sh(`cat ${older}/many/name-19999-of-many`), '19999')
  const seek = `import os, ctypes
libc = ctypes.CDLL(None, use_errno=True)
libc.opendir.restype = ctypes.c_void_p
for name in ("telldir", "seekdir", "readdir"): getattr(libc, name).argtypes = [ctypes.c_void_p] + ([ctypes.c_long] if name == "seekdir" else [])
libc.telldir.restype = ctypes.c_long
libc.readdir.restype = ctypes.c_void_p
d = libc.opendir(b"${older}/many")
def name():
    e = libc.readdir(d)
    return ctypes.string_at(e + 19) if e else None
places = []
while True:
    at = libc.telldir(d)
    found = name()
    if not found: break
    places.append((at, found))
for at, found in places[::977] + places[::-1993]:
    libc.seekdir(d, at)
    assert name() == found, (at, found)
print(len(places))`
  t.equal(await at.sh(`python3 -c '${seek}'`), '20002\n')
  t.equal(
    await at.sh(`find ${older}/many -type f -newermt 2020-01-01 | wc -l`),
    '20000\n',
    'with their attributes',
  )
})

/** Kept inline, of one chunk, empty, and larger than what is sent ahead. */
function smallFiles(count: number): Map<string, Buffer> {
  const sizes = [100, 3000, 0, 60_000, 70_000]
  return new Map(
    Array.from({ length: count }, (_, i) => [
      `file-${String(i).padStart(3, '0')}`,
      bytes(sizes[i % sizes.length] ?? 0, i + 1),
    ]),
  )
}

function treeOf(files: Map<string, Buffer>): Tree {
  return Object.fromEntries([...files].map(([name, file]) => [name, { file }]))
}

t.test('small files, read in order, backwards, mixed, and by several at once', async (t) => {
  const files = smallFiles(300)
  const wanted = [...files]
    .map(([name, file]) => `${createHash('sha256').update(file).digest('hex')}  ${name}\n`)
    .join('')
  const volume = new MemoryVolume()
  // A snapshot for each, so that the kernel has seen none of it.
  const names = [0, 1, 2, 3].map((n) => volume.take(first + n * 1000, treeOf(files)))
  const { at } = await served(t, volume)
  for (const [i, readers] of [
    'xargs sha256sum',
    'tac | xargs sha256sum',
    'shuf --random-source=/dev/zero | xargs sha256sum',
    'xargs -n 7 -P 4 sha256sum',
  ].entries())
    t.equal(await at.sh(`cd .snapshots/${names[i]} && ls | ${readers} | LC_ALL=C sort -k 2`), wanted, readers)
})

t.test('a small file that is damaged hinders none but its own readers', async (t) => {
  const files = smallFiles(40)
  const volume = new MemoryVolume()
  const spoilt = files.get('file-021')
  files.delete('file-021')
  const name = volume.take(second, treeOf(files))
  const before = new Set(volume.blocks.keys())
  files.set('file-021', spoilt ?? Buffer.alloc(0))
  const whole = volume.take(third, treeOf(files))
  for (const [block, { length }] of volume.blocks)
    if (!before.has(block) && length === 3000 + sealOverhead) volume.blocks.delete(block)
  const { at } = await served(t, volume)
  t.equal(
    await at.sh(`cat .snapshots/${name}/* | wc -c`),
    `${[...files.values()].reduce((sum, f) => sum + f.length, -3000)}\n`,
  )
  t.equal(
    await at.sh(`cd .snapshots/${whole} && cat * 2>&1 > /dev/null | cat`),
    'cat: file-021: Input/output error\n',
  )
})

t.test('a program is run from a snapshot, mapped and sent', async (t) => {
  const volume = new MemoryVolume()
  const program = await readFile('/bin/echo')
  volume.take(first, { echo: { file: program, attributes: { mode: 0o755 } } })
  const { at } = await served(t, volume)
  t.equal(await at.sh(`${older}/echo run`), 'run\n')
  const script = `import mmap, os, sys
f = open("${older}/echo", "rb")
m = mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ)
out = open("sent", "wb")
at = 0
while True:
    n = os.sendfile(out.fileno(), f.fileno(), at, 1 << 20)
    if n == 0: break
    at += n
out.close()
assert m[:] == open("sent", "rb").read()
print(len(m))`
  t.equal(await at.sh(`python3 -c '${script}'`), `${program.length}\n`)
  t.equal(await at.sh(`cmp ${older}/echo /bin/echo && cmp sent /bin/echo && echo same`), 'same\n')
})

t.test('a damaged block is an error and never a wrong byte', async (t) => {
  const volume = new MemoryVolume()
  const before = new Set(volume.blocks.keys())
  volume.take(first, {
    good: { file: bytes(1000, 1) },
    bad: { file: bytes(300_000, 2) },
  })
  for (const [name, block] of volume.blocks)
    if (!before.has(name) && block.length > 60_000)
      volume.blocks.set(name, Buffer.concat([block.subarray(0, -1), Buffer.from([1])]))
  const { at } = await served(t, volume)
  t.equal(await at.sh(`wc -c < ${older}/good`), '1000\n')
  t.match(await at.sh(`cat ${older}/bad 2>&1 >/dev/null || true`), /Input\/output error/)
})

t.test('a daemon that goes and comes again', async (t) => {
  const volume = new MemoryVolume()
  volume.take(first, {
    dir: { directory: { file: { file: Buffer.from('x') } } },
    big: { file: bytes(4_000_000, 1) },
  })
  const { at, mount } = await served(t, volume)
  t.equal(await at.sh(`cat ${older}/dir/file`), 'x')
  mount.detach()
  t.match(
    await at.sh(`cat ${older}/big 2>&1 >/dev/null || true`),
    /temporarily unavailable/,
    'bounded without one',
  )
  t.equal(await at.sh('echo live > live && cat live'), 'live\n', 'and the live tree does not care')

  // A request that came while there was none is answered by the next one.
  const early = at.sh(`wc -c < ${older}/big`)
  const again = await Mount.reattach(at.options)
  if (!again) throw new Error('the mount is there')
  again.serve(volume)
  t.equal(await early, '4000000\n')
  t.equal(await at.sh(`cat ${older}/dir/file && ls ${older}`), 'xbig\ndir\n')
  t.same(await again.stop(), { stillOpen: [], holders: [] })
  await until('it is unmounted', async () => (await at.sh('ls')) === 'live\n')
})

t.test('a daemon that is stopped, one that takes over, one that is killed', async (t) => {
  const at = await place(t)
  ;(await at.mount()).detach()
  const program = fileURLToPath(new URL('../helpers/snapshot-server.js', import.meta.url))
  const daemon = async () => {
    const { dir, home, volumeId } = at.options
    const child = spawn(process.execPath, [program, dir, home, volumeId.toString('hex')], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    t.teardown(() => child.kill('SIGKILL'))
    const ended = new Promise<number | null>((resolve) => child.on('exit', resolve))
    await new Promise((resolve) => child.stdout?.once('data', resolve))
    return { child, ended }
  }
  const first = await daemon()
  t.equal(await at.sh(`cat ${older}/file`), 'served')
  await freeze(first.child.pid ?? 0)
  t.match(await at.sh(`timeout 20 ls ${older}/nothing 2>&1 || true`), /temporarily unavailable/, 'bounded')
  t.equal(await at.sh('echo live > live; cat live'), 'live\n')
  first.child.kill('SIGCONT')
  t.match(await at.sh(`ls ${older}/nothing 2>&1 || true`), /No such file/)

  const second = await daemon()
  t.equal(await first.ended, 3, 'the first one was told that it is replaced')
  t.match(await at.sh(`ls ${older}/nothing 2>&1 || true`), /No such file/)
  second.child.kill('SIGKILL')
  await second.ended
  const asked = at.sh(`ls ${older}/still-nothing 2>&1 || true`)
  await daemon()
  t.match(await asked, /No such file|temporarily/)
  t.match(await at.sh(`ls ${older}/nothing 2>&1 || true`), /No such file/)
})
