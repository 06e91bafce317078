import { constants } from 'node:os'
import t from 'tap'
import { systemClock } from '../../lib/base/clock.js'
import { silentLog } from '../../lib/base/log.js'
import { seeded } from '../../lib/base/random.js'
import { frameTypes, maxPayloadBytes } from '../../lib/format/bridge.js'
import { Reader, Writer } from '../../lib/format/bytes.js'
import { SnapshotFs } from '../../lib/mount/snapshot-fs.js'
import { MemoryVolume } from '../helpers/memory-volume.js'

const { EINVAL, EIO, ENODATA, ENOENT, ENOTDIR, ENXIO } = constants.errno
const name = '2024-06-01T09-30-00Z'
const noon = Date.UTC(2024, 5, 1, 9, 30)

function request(path: string[], rest: (out: Writer) => void = () => undefined): Buffer {
  const out = new Writer()
  out.u16(path.length)
  for (const part of path) out.u16(part.length).raw(Buffer.from(part))
  rest(out)
  return out.finish()
}
const text = (value: string) => (out: Writer) => void out.u16(value.length).raw(Buffer.from(value))
const range = (offset: number, length: number) => (out: Writer) => void out.number(offset).u32(length)

function make(): { volume: MemoryVolume; fs: SnapshotFs } {
  const volume = new MemoryVolume()
  volume.take(noon, {
    file: { file: Buffer.from('0123456789') },
    sparse: { file: [1 << 20, Buffer.alloc(4096, 1), 1 << 20] },
    dir: {
      directory: {
        inner: {
          file: Buffer.from('x'),
          attributes: { xattrs: [[Buffer.from('user.a'), Buffer.from('b')]] },
        },
      },
    },
    link: { link: 'file' },
  })
  return {
    volume,
    fs: new SnapshotFs({
      catalog: volume,
      clock: systemClock,
      log: silentLog(),
    }),
  }
}

t.test('errors are errnos', async (t) => {
  const { fs } = make()
  const errno = async (type: number, payload: Buffer) => (await fs.answer(type, payload)).errno
  t.equal(await errno(frameTypes.lookup, request([], text('nothing'))), ENOENT)
  t.equal(await errno(frameTypes.lookup, request([name], text('nothing'))), ENOENT)
  t.equal(await errno(frameTypes.lookup, request([name, 'file'], text('x'))), ENOTDIR)
  t.equal(await errno(frameTypes.getattr, request(['latest'])), ENOENT, 'paths are canonical')
  t.equal(await errno(frameTypes.readdir, request([name, 'file'], text(''))), ENOTDIR)
  t.equal(await errno(frameTypes.readlink, request([name, 'file'])), EINVAL)
  t.equal(await errno(frameTypes.read, request([name, 'dir'], range(0, 1))), EINVAL)
  t.equal(await errno(frameTypes.getxattr, request([name, 'dir', 'inner'], text('user.b'))), ENODATA)
  t.equal(await errno(frameTypes.seek, request([name, 'file'], range(10, 0))), ENXIO)
  t.equal(await errno(99, request([])), EINVAL)
  t.equal(await errno(frameTypes.read, Buffer.alloc(1)), EIO)
})

t.test('reads end where the file ends, and seeks find data and holes', async (t) => {
  const { fs } = make()
  const read = async (offset: number, length: number) =>
    (await fs.answer(frameTypes.read, request([name, 'file'], range(offset, length)))).body.toString()
  t.equal(await read(0, 4), '0123')
  t.equal(await read(8, 100), '89')
  t.equal(await read(10, 100), '')
  t.equal(await read(2 ** 52, 0xffffffff), '')
  const seek = async (offset: number, hole: number) => {
    const { errno, body } = await fs.answer(frameTypes.seek, request([name, 'sparse'], range(offset, hole)))
    return errno === 0 ? Number(body.readBigUInt64LE(0)) : -errno
  }
  t.equal(await seek(0, 0), 1 << 20)
  t.equal(await seek(0, 1), 0)
  t.equal(await seek((1 << 20) + 5, 0), (1 << 20) + 5)
  t.equal(await seek((1 << 20) + 5, 1), (1 << 20) + 4096)
  t.equal(await seek((1 << 20) + 4096, 0), -ENXIO)
})

t.test('inode numbers: never of the live tree, never of another snapshot', async (t) => {
  const { volume, fs } = make()
  const later = volume.take(noon + 5000, {
    file: { file: Buffer.from('x'), attributes: { ino: 77n } },
  })
  const ino = async (...path: string[]) =>
    (await fs.answer(frameTypes.getattr, request(path))).body.readBigUInt64LE(0)
  const first = await ino(name, 'file')
  t.ok(first >> 63n === 1n)
  t.equal(await ino(name, 'file'), first)
  t.not(await ino(later, 'file'), (1n << 63n) | 77n)
  t.equal(
    await new SnapshotFs({
      catalog: volume,
      clock: systemClock,
      log: silentLog(),
    })
      .answer(frameTypes.getattr, request([name, 'file']))
      .then(({ body }) => body.readBigUInt64LE(0)),
    first,
    'the next daemon gives the same',
  )
})

t.test('a block that is missing is EIO, and the read is tried again when it is back', async (t) => {
  const { volume, fs } = make()
  const blocks = [...volume.blocks]
  const payload = request([name, 'sparse'], range(1 << 20, 10))
  t.equal((await fs.answer(frameTypes.getattr, request([name, 'sparse']))).errno, 0)
  volume.blocks.clear()
  t.equal((await fs.answer(frameTypes.read, payload)).errno, EIO)
  for (const [key, block] of blocks) volume.blocks.set(key, block)
  t.same((await fs.answer(frameTypes.read, payload)).body, Buffer.alloc(10, 1))
})

t.test('small files come with the ones after them, as far as those can be had', async (t) => {
  const volume = new MemoryVolume()
  volume.take(noon, {
    a: { file: Buffer.from('A') },
    b: { directory: {} },
    c: { file: Buffer.alloc(2000, 'c') },
    d: { file: Buffer.alloc(70_000, 'd') },
    e: { file: Buffer.alloc(0) },
    f: { file: Buffer.from('F') },
    g: { file: Buffer.from('G') },
  })
  const fs = new SnapshotFs({
    catalog: volume,
    clock: systemClock,
    log: silentLog(),
  })
  const files = async (first: string, count: number) => {
    const payload = request([name], (out) => (text(first)(out), out.u32(count)))
    const { errno, body } = await fs.answer(frameTypes.files, payload)
    if (errno !== 0) return errno
    const from = new Reader(body, 'answer')
    const got: Record<string, number> = {}
    while (from.left > 0) {
      const file = from.slice(from.u16()).toString()
      got[file] = from.slice(from.u32()).length
    }
    return got
  }
  t.same(await files('a', 1), { a: 1 })
  t.same(await files('a', 6), { a: 1, c: 2000, e: 0, f: 1 }, 'the sixth is f')
  t.same(await files('f', 0xffffffff), { f: 1, g: 1 })
  t.equal(await files('b', 4), EINVAL)
  t.equal(await files('x', 4), ENOENT)
  const later = new SnapshotFs({
    catalog: volume,
    clock: systemClock,
    log: silentLog(),
  })
  const before = [...volume.blocks]
  volume.take(noon + 1000, {
    c: { file: Buffer.alloc(1999, 'y') },
    d: { file: Buffer.from('D') },
  })
  for (const [key, block] of volume.blocks)
    if (!before.some(([known]) => known === key) && block.length < 100) volume.blocks.delete(key)
  const damagedPath = request(['2024-06-01T09-30-01Z'], (out) => (text('d')(out), out.u32(4)))
  t.equal((await later.answer(frameTypes.files, damagedPath)).body.toString('latin1', 7), 'D')
  const missing = request(['2024-06-01T09-30-01Z'], (out) => (text('c')(out), out.u32(4)))
  t.equal((await later.answer(frameTypes.files, missing)).errno, EIO, 'the one asked for is missing')
})

t.test('the list of snapshots is made once for all its names', async (t) => {
  const volume = new MemoryVolume()
  for (let second = 0; second < 300; second++) volume.take(noon + second * 1000, {})
  let lists = 0
  const catalog = { list: () => (lists++, volume.list()), reader: () => volume.reader() }
  const fs = new SnapshotFs({ catalog, clock: systemClock, log: silentLog() })
  const { errno, body } = await fs.answer(frameTypes.readdir, request([], text('')))
  t.equal(errno, 0)
  t.equal(body.readUInt32LE(0), 302, 'all instants, the day and the latest')
  for (const { name } of volume.list())
    if ((await fs.answer(frameTypes.lookup, request([], text(name)))).errno !== 0) t.fail(`no ${name}`)
  t.equal(lists, 1)
  const late = volume.take(noon + 1_000_000, {})
  fs.listChanged()
  t.equal((await fs.answer(frameTypes.lookup, request([], text(late)))).errno, 0, 'until it changes')
})

t.test('any request is answered, within bounds', async (t) => {
  const { fs } = make()
  const random = seeded(11)
  const good = [
    request([], text('latest')),
    request([name], text('file')),
    request([name, 'dir'], text('')),
    request([name, 'file'], range(0, 100)),
    request([name, 'dir', 'inner'], text('user.a')),
    request([name], (out) => (text('file')(out), out.u32(9))),
  ]
  for (let round = 0; round < 10_000; round++) {
    const bytes = Buffer.from(good[random() % good.length] ?? [])
    for (let flips = random() % 4; flips > 0; flips--) bytes[random() % bytes.length] = random() & 0xff
    const cut = random() % 5 === 0 ? random() % bytes.length : bytes.length
    const { errno, body } = await fs.answer(16 + (random() % 10), bytes.subarray(0, cut))
    if (errno < 0 || errno > 4095 || body.length > maxPayloadBytes - 8)
      t.fail(`errno ${errno}, ${body.length} bytes`)
  }
  t.pass('10,000 seeded requests')
})
