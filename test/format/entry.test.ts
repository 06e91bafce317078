import t from 'tap'
import { seeded } from '../../lib/base/random.js'
import { Reader, Writer } from '../../lib/format/bytes.js'
import {
  bytesOfExtent,
  decodeFileNode,
  encodeFileNode,
  entryBytes,
  isName,
  maxXattrValueBytes,
  readEntry,
  spanOf,
  totalsOf,
  writeEntry,
  type Entry,
  type Extent,
  type FileEntry,
  type PartExtent,
} from '../../lib/format/node.js'
import { fuzzCodec, golden, seededBytes } from '../helpers/bytes.js'
import { someAttributes, someChunkRef, someDirectory, someEntry, somePartFile } from '../helpers/entries.js'

function encode(entry: Entry): Buffer {
  const out = new Writer(16)
  writeEntry(out, entry)
  return out.finish()
}

function decode(bytes: Buffer, root = false): Entry {
  const from = new Reader(bytes, 'entry')
  const entry = readEntry(from, root)
  from.end()
  return entry
}

const random = seeded(5)

function file(content: FileEntry['content'], size: number, name = Buffer.from('f')): FileEntry {
  return { ...someAttributes(random, name), type: 'file', size, content }
}

t.test('entries of every kind come back', (t) => {
  for (let i = 0; i < 400; i++) {
    const entry = someEntry(random)
    const bytes = encode(entry)
    t.equal(bytes.length, entryBytes(entry))
    t.same(decode(bytes), entry)
  }
  t.end()
})

t.test('extremes', (t) => {
  const every = Buffer.from(Array.from({ length: 255 }, (_, i) => i + 1).filter((byte) => byte !== 0x2f))
  const bare = someAttributes(random, every)
  const base: Entry = { ...bare, type: 'file', content: { kind: 'inline', bytes: Buffer.alloc(0) } }
  const big = seededBytes(random, maxXattrValueBytes)
  const extremes: Entry[] = [
    base,
    { ...base, mtimeNs: -1n, ctimeNs: -(2n ** 63n) },
    {
      ...base,
      mtimeNs: 2n ** 63n - 1n,
      ino: 2n ** 64n - 1n,
      uid: 2 ** 32 - 1,
      gid: 2 ** 32 - 1,
      nlink: 2 ** 32 - 1,
    },
    {
      ...base,
      xattrs: [
        [Buffer.from('security.a'), big],
        [Buffer.from('user.'.padEnd(255, 'x')), Buffer.alloc(0)],
      ],
    },
    {
      ...base,
      size: 2 ** 53 - 1,
      content: { kind: 'extents', extents: [{ kind: 'hole', bytes: 2 ** 53 - 1 }] },
    },
    { ...bare, type: 'symlink', size: 4095, target: Buffer.alloc(4095, 0xff) },
    { ...bare, type: 'symlink', size: 0, target: Buffer.alloc(0) },
  ]
  for (const entry of extremes) t.same(decode(encode(entry)), entry)
  t.end()
})

t.test('more xattrs than an entry can hold is said, not cut', (t) => {
  const value = Buffer.alloc(65_536)
  const xattrs = Array.from({ length: 12 }, (_, i): [Buffer, Buffer] => [
    Buffer.from(`user.${i + 10}`),
    value,
  ])
  const entry = { ...file({ kind: 'inline', bytes: Buffer.alloc(0) }, 0), xattrs }
  t.throws(() => encode(entry), { code: 'unsupported' })
  t.end()
})

t.test('small files in packs', (t) => {
  for (let i = 0; i < 100; i++) {
    const entry = somePartFile(random)
    const bytes = encode(entry)
    t.equal(bytes.length, entryBytes(entry))
    t.same(decode(bytes), entry)
  }
  const chunk = { ...someChunkRef(random), plainBytes: 10 }
  const part = (offset: number, bytes: number): PartExtent => ({ kind: 'part', chunk, offset, bytes })
  const of = (...extents: Extent[]) => file({ kind: 'extents', extents }, spanOf(extents))
  for (const good of [part(0, 9), part(9, 1), part(1, 9)].map((one) => of(one)))
    t.same(decode(encode(good)), good)
  const bad: [string, FileEntry][] = [
    ['an empty part', of(part(3, 0))],
    ['all of the pack', of(part(0, 10))],
    ['beyond the pack', of(part(2, 9))],
    ['beyond all numbers of 32 bits', of(part(2 ** 32 - 1, 2))],
    ['another size', { ...of(part(0, 9)), size: 8 }],
    ['two parts', of(part(0, 5), part(5, 4))],
    ['a part beside a chunk', of({ kind: 'chunk', chunk }, part(0, 5))],
    ['a part beside a hole', of(part(0, 5), { kind: 'hole', bytes: 5 })],
  ]
  for (const [what, entry] of bad) t.throws(() => decode(encode(entry)), { code: 'damaged' }, what)
  t.throws(() => decodeFileNode(encodeFileNode({ kind: 'file', level: 0, extents: [part(0, 5)] })), {
    code: 'damaged',
  })
  t.ok(bytesOfExtent(part(2, 3), Buffer.from('0123456789')).equals(Buffer.from('234')))
  t.end()
})

t.test('names', (t) => {
  for (const good of ['a', '...', '.a', ' ', '\n', '\xff\xfe', 'x'.repeat(255)])
    t.ok(isName(Buffer.from(good, 'latin1')), JSON.stringify(good))
  for (const bad of ['', '.', '..', 'a/b', '/', 'a\0', 'x'.repeat(256)])
    t.notOk(isName(Buffer.from(bad)), JSON.stringify(bad.slice(0, 9)))
  t.end()
})

t.test('the decoder is strict', (t) => {
  const chunk = { kind: 'chunk', chunk: { ...someChunkRef(random), plainBytes: 10 } } as const
  const hole = { kind: 'hole', bytes: 5 } as const
  const plain = file({ kind: 'inline', bytes: Buffer.from('12') }, 2)
  const a: [Buffer, Buffer] = [Buffer.from('user.a'), Buffer.alloc(0)]
  const b: [Buffer, Buffer] = [Buffer.from('user.b'), Buffer.alloc(0)]
  const bad: [string, Entry][] = [
    ['a slash', { ...plain, name: Buffer.from('a/b') }],
    ['dot dot', { ...plain, name: Buffer.from('..') }],
    ['no name', { ...plain, name: Buffer.alloc(0) }],
    ['xattrs out of order', { ...plain, xattrs: [b, a] }],
    ['an xattr twice', { ...plain, xattrs: [a, a] }],
    ['an xattr without a name', { ...plain, xattrs: [[Buffer.alloc(0), Buffer.alloc(0)]] }],
    ['an xattr with a NUL', { ...plain, xattrs: [[Buffer.from('a\0'), Buffer.alloc(0)]] }],
    ['inline of another size', { ...plain, size: 1 }],
    ['extents of another size', file({ kind: 'extents', extents: [chunk] }, 11)],
    ['no extents', file({ kind: 'extents', extents: [] }, 0)],
    ['nine extents', file({ kind: 'extents', extents: Array.from({ length: 9 }, () => chunk) }, 90)],
    ['an empty hole', file({ kind: 'extents', extents: [chunk, { kind: 'hole', bytes: 0 }] }, 10)],
    ['two holes', file({ kind: 'extents', extents: [hole, hole] }, 10)],
    [
      'a chunk beyond 1 MiB',
      file(
        { kind: 'extents', extents: [{ kind: 'chunk', chunk: { ...chunk.chunk, plainBytes: 2 ** 21 } }] },
        2 ** 21,
      ),
    ],
    ['a link to a NUL', { ...plain, type: 'symlink', target: Buffer.from('a\0b') }],
  ]
  for (const [what, entry] of bad) t.throws(() => decode(encode(entry)), { code: 'damaged' }, what)
  const bytes = encode(plain)
  const patched = (at: number, value: number): Buffer => Buffer.from(bytes).fill(value, at, at + 1)
  t.throws(() => decode(patched(0, 0)), { code: 'damaged' }, 'type 0')
  t.throws(() => decode(patched(0, 8)), { code: 'damaged' }, 'type 8')
  t.throws(() => decode(patched(1, 2)), { code: 'damaged' }, 'unknown flag')
  t.throws(() => decode(patched(3, 0x10)), { code: 'damaged' }, 'file type bits in the mode')
  t.throws(() => decode(patched(47, 0x80)), { code: 'damaged' }, 'a size beyond exact numbers')
  t.end()
})

t.test('root entries have no name, others must', (t) => {
  const root = someDirectory(random, Buffer.alloc(0))
  t.same(decode(encode(root), true), root)
  t.throws(() => decode(encode(root)), { code: 'damaged' })
  t.throws(() => decode(encode(someDirectory(random)), true), { code: 'damaged' })
  t.throws(() => decode(encode({ ...root, type: 'fifo' }), true), { code: 'damaged' })
  t.end()
})

t.test('totals', (t) => {
  const directory = someDirectory(random)
  t.same(totalsOf(directory), directory.totals)
  const one = { ...file({ kind: 'inline', bytes: Buffer.from('12') }, 2), busy: true }
  t.same(totalsOf(one), { files: 1, bytes: 2, busy: 1 })
  t.end()
})

t.test('what an earlier kith wrote', (t) => {
  const fixed = seeded(77)
  const entries = Array.from({ length: 30 }, () => someEntry(fixed))
  const bytes = golden('format-1/entries', () => Buffer.concat(entries.map(encode)))
  t.ok(Buffer.concat(entries.map(encode)).equals(bytes))
  const from = new Reader(bytes, 'entry')
  for (const entry of entries) t.same(readEntry(from), entry)
  from.end()
  t.end()
})

t.test('small files in packs, as an earlier kith wrote them', (t) => {
  const fixed = seeded(78)
  const entries = Array.from({ length: 10 }, () => somePartFile(fixed))
  const bytes = golden('format-1/parts', () => Buffer.concat(entries.map(encode)))
  t.ok(Buffer.concat(entries.map(encode)).equals(bytes))
  const from = new Reader(bytes, 'entry')
  for (const entry of entries) t.same(readEntry(from), entry)
  from.end()
  t.end()
})

t.test('10,000 mutations', (t) => {
  const samples = Array.from({ length: 40 }, (_, i) =>
    encode(i % 4 === 0 ? somePartFile(random) : someEntry(random)),
  )
  t.same(fuzzCodec(seeded(6), samples, 10_000, decode, encode), [])
  t.end()
})
