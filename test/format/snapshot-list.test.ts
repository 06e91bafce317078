import t from 'tap'
import { seeded } from '../../lib/base/random.js'
import {
  compareSnapshots,
  cutRecords,
  cutSnapshotChildren,
  decodeSnapshotNode,
  encodeSnapshotNode,
  parseSnapshotName,
  snapshotName,
  type SnapshotNode,
  type SnapshotRecord,
} from '../../lib/format/snapshot-list.js'
import { fuzzCodec, golden, seededBytes } from '../helpers/bytes.js'
import { someDirectory, someNodeRef } from '../helpers/entries.js'

const start = Date.UTC(2024, 5, 1, 9, 30, 0)

function records(random: () => number, count: number): SnapshotRecord[] {
  return Array.from({ length: count }, (_, i) => ({
    id: seededBytes(random, 16),
    time: start + Math.floor(i / 2) * 3_600_000 + (i % 2),
    ordinal: 1 + (i % 2),
    bytesNew: random(),
    pinned: i % 3 === 1,
    tags: i % 4 === 0 ? [`t${i}`, 'zwölf'] : [],
    root: someDirectory(random, Buffer.alloc(0)),
  }))
}

function index(random: () => number, count: number): SnapshotNode {
  const children = Array.from({ length: count }, (_, i) => ({
    node: someNodeRef(random),
    records: 1 + i,
    lastTime: start + i * 5000,
    lastOrdinal: 1 + (random() % 3),
  }))
  return { kind: 'snapshots', level: 1, children }
}

t.test('names', (t) => {
  t.equal(snapshotName(start + 999, 1), '2024-06-01T09-30-00Z')
  t.equal(snapshotName(start, 2), '2024-06-01T09-30-00Z-2')
  t.equal(snapshotName(0, 1), '1970-01-01T00-00-00Z')
  t.same(parseSnapshotName('2024-06-01T09-30-00Z'), { second: start, ordinal: 1 })
  t.same(parseSnapshotName('2024-06-01T09-30-00Z-65535'), { second: start, ordinal: 65_535 })
  for (const bad of [
    '2024-06-01',
    'latest',
    '2024-06-01T09-30-00',
    '2024-06-01T09:30:00Z',
    '2024-06-01T09-30-00Z-1',
    '2024-06-01T09-30-00Z-02',
    '2024-06-01T09-30-00Z-65536',
    '2024-06-31T09-30-00Z',
    '2024-06-01T24-00-00Z',
    '2024-06-01T09-30-60Z',
    '2024-06-01T09-30-00Z\n',
    '1969-12-31T23-59-59Z',
    '',
  ])
    t.equal(parseSnapshotName(bad), undefined, JSON.stringify(bad))
  t.end()
})

t.test('order', (t) => {
  t.ok(compareSnapshots({ time: start, ordinal: 2 }, { time: start + 1000, ordinal: 1 }) < 0)
  t.ok(compareSnapshots({ time: start + 900, ordinal: 1 }, { time: start + 100, ordinal: 2 }) < 0)
  t.equal(compareSnapshots({ time: start, ordinal: 1 }, { time: start + 1, ordinal: 1 }), 0)
  t.end()
})

t.test('lists come back', (t) => {
  const random = seeded(1)
  for (const count of [0, 1, 100]) {
    const node: SnapshotNode = { kind: 'snapshots', level: 0, records: records(random, count) }
    t.same(decodeSnapshotNode(encodeSnapshotNode(node)), node)
  }
  const node = index(random, 30)
  t.same(decodeSnapshotNode(encodeSnapshotNode(node)), node)
  t.end()
})

t.test('the decoder is strict', (t) => {
  const [a, b] = records(seeded(2), 2) as [SnapshotRecord, SnapshotRecord]
  const leaf = (list: SnapshotRecord[]): Buffer =>
    encodeSnapshotNode({ kind: 'snapshots', level: 0, records: list })
  t.equal(decodeSnapshotNode(leaf([a, b])).level, 0)
  t.throws(() => decodeSnapshotNode(leaf([b, a])), { code: 'damaged' })
  t.throws(
    () => decodeSnapshotNode(leaf([a, { ...b, ordinal: 1 }])),
    { code: 'damaged' },
    'one second, one ordinal',
  )
  t.throws(() => decodeSnapshotNode(leaf([{ ...a, ordinal: 0 }])), { code: 'damaged' })
  t.throws(() => decodeSnapshotNode(leaf([{ ...a, time: 1e15 }])), { code: 'damaged' }, 'year 33658')
  const tagged = leaf([{ ...a, tags: ['aa', 'bb'] }])
  const at = tagged.indexOf('aa')
  for (const [bytes, why] of [
    [Buffer.from('\x02bb\x02aa'), 'tags out of order'],
    [Buffer.from('\x02aa\x02aa'), 'one tag twice'],
    [Buffer.from('\x02a \x02bb'), 'a tag with a space'],
    [Buffer.from([2, 0xff, 0xfe, 2, 98, 98]), 'a tag that is no text'],
  ] as const) {
    const wrong = Buffer.from(tagged)
    bytes.copy(wrong, at - 1)
    t.throws(() => decodeSnapshotNode(wrong), { code: 'damaged' }, why)
  }
  const marked = Buffer.from(tagged)
  marked[at - 3] = 2
  t.throws(() => decodeSnapshotNode(marked), { code: 'damaged' }, 'an unknown mark')
  const named = { ...a, root: { ...a.root, name: Buffer.from('x') } }
  t.throws(() => decodeSnapshotNode(leaf([named])), { code: 'damaged' }, 'a root with a name')
  t.end()
})

t.test('a new snapshot re-writes the last leaf only', (t) => {
  const all = records(seeded(3), 3000)
  const before = cutRecords(all.slice(0, -1))
  const after = cutRecords(all)
  t.same(after.flat().length, 3000)
  t.ok(after.length > 10)
  t.same(after.slice(0, before.length - 1), before.slice(0, -1))
  const children = before.map((group) => {
    const last = group.at(-1)
    return {
      node: someNodeRef(seeded(4)),
      records: group.length,
      lastTime: last?.time ?? 0,
      lastOrdinal: last?.ordinal ?? 1,
    }
  })
  t.same(cutSnapshotChildren(children, 1).flat(), children)
  t.end()
})

t.test('what an earlier kith wrote', (t) => {
  const random = seeded(91)
  const nodes: SnapshotNode[] = [
    { kind: 'snapshots', level: 0, records: records(random, 5) },
    index(random, 5),
  ]
  const [leaf, above] = nodes as [SnapshotNode, SnapshotNode]
  for (const [file, node] of [
    ['format-2/snapshots-0', leaf],
    ['format-1/snapshots-1', above],
  ] as const) {
    const bytes = golden(file, () => encodeSnapshotNode(node))
    t.same(decodeSnapshotNode(bytes), node)
    t.ok(encodeSnapshotNode(node).equals(bytes))
  }
  const old = decodeSnapshotNode(golden('format-1/snapshots-0', () => Buffer.alloc(0)))
  const unmarked = 'records' in leaf ? leaf.records.map((r) => ({ ...r, pinned: false, tags: [] })) : []
  t.same(old, { ...leaf, records: unmarked }, 'records of version 1 have no marks')
  t.end()
})

t.test('10,000 mutations', (t) => {
  const random = seeded(5)
  const samples = [
    ...[1, 8].map((n): SnapshotNode => ({ kind: 'snapshots', level: 0, records: records(random, n) })),
    index(random, 8),
  ]
  t.same(
    fuzzCodec(random, samples.map(encodeSnapshotNode), 10_000, decodeSnapshotNode, encodeSnapshotNode),
    [],
  )
  t.end()
})
