import t from 'tap'
import { seeded } from '../../lib/base/random.js'
import {
  cutDirectoryChildren,
  cutEntries,
  cutExtents,
  cutFileChildren,
  cutItems,
  decodeDirectoryNode,
  decodeFileNode,
  directoryNodeSpan,
  encodeDirectoryNode,
  encodeFileNode,
  fileNodeBytes,
  isBoundary,
  maxNodeItems,
  type DirectoryChild,
  type DirectoryNode,
  type Entry,
  type FileChild,
  type FileNode,
} from '../../lib/format/node.js'
import { hash } from '../../lib/format/hash.js'
import { maxPlainBytes } from '../../lib/format/seal.js'
import { fuzzCodec, golden, seededBytes } from '../helpers/bytes.js'
import { someAttributes, someEntries, someExtents, someNodeRef } from '../helpers/entries.js'

const damaged = { code: 'damaged' }

function directoryIndex(random: () => number, count: number, level = 1): DirectoryNode {
  const names = someEntries(random, count).map((entry) => entry.name)
  const children = names.map((last) => ({ node: someNodeRef(random), entries: 1 + random(), last }))
  return { kind: 'directory', level, children }
}

function fileIndex(random: () => number, count: number, level = 1): FileNode {
  const children = Array.from({ length: count }, () => ({
    node: someNodeRef(random),
    bytes: 1 + random() * 16,
  }))
  return { kind: 'file', level, children }
}

// The list of a million takes a while beside other tests.
t.setTimeout(120_000)

t.test('nodes come back', (t) => {
  const random = seeded(1)
  for (const count of [0, 1, 2, 200, maxNodeItems]) {
    const entries = someEntries(random, Math.min(count, 1000))
    const directory: DirectoryNode = { kind: 'directory', level: 0, entries }
    t.same(decodeDirectoryNode(encodeDirectoryNode(directory)), directory)
    t.same(directoryNodeSpan(directory), { entries: entries.length, last: entries.at(-1)?.name })
    const file: FileNode = { kind: 'file', level: 0, extents: someExtents(random, count) }
    t.same(decodeFileNode(encodeFileNode(file)), file)
    if (count === 0) continue
    for (const level of [1, 7]) {
      const index = directoryIndex(random, Math.min(count, 1000), level)
      t.same(decodeDirectoryNode(encodeDirectoryNode(index)), index)
      const list = fileIndex(random, count, level)
      t.same(decodeFileNode(encodeFileNode(list)), list)
    }
  }
  t.end()
})

t.test('a file beyond 2^32 bytes', (t) => {
  const random = seeded(2)
  const children = Array.from({ length: 3 }, () => ({ node: someNodeRef(random), bytes: 2 ** 33 + 1 }))
  const node = decodeFileNode(encodeFileNode({ kind: 'file', level: 1, children }))
  t.equal(fileNodeBytes(node), 3 * (2 ** 33 + 1))
  const tooMany = children.map((child) => ({ ...child, bytes: 2 ** 53 - 1 }))
  t.throws(() => decodeFileNode(encodeFileNode({ kind: 'file', level: 1, children: tooMany })), damaged)
  t.end()
})

t.test('entries of several nodes, some of them changed, are written as if each were new', (t) => {
  const random = seeded(7)
  const ascending = (entries: Entry[]) => entries.sort((a, b) => Buffer.compare(a.name, b.name))
  const node = (entries: Entry[]): DirectoryNode => ({ kind: 'directory', level: 0, entries })
  // Copies have no bytes from which they could be written.
  const anew = (entries: Entry[]) => encodeDirectoryNode(node(entries.map((entry) => ({ ...entry }))))
  const all = ascending(someEntries(random, 300)).filter(
    ({ name }, i, sorted) => !sorted[i + 1]?.name.equals(name),
  )
  const read = (entries: Entry[]) => {
    const decoded = decodeDirectoryNode(encodeDirectoryNode(node(entries)))
    return 'entries' in decoded ? decoded.entries : []
  }
  let entries = [...read(all.slice(0, 100)), ...all.slice(100, 130), ...read(all.slice(130))]
  const seen: { entries: Entry[]; bytes: Buffer }[] = []
  for (let round = 0; round < 200; round++) {
    const bytes = encodeDirectoryNode(node(entries))
    if (!bytes.equals(anew(entries))) return t.fail(`round ${round}`)
    seen.push({ entries, bytes: Buffer.from(bytes) })
    const at = random() % entries.length
    const old = entries[at] as Entry
    const changed = { ...old, mtimeNs: old.mtimeNs + 1n }
    const [from, others] = [random() % entries.length, random() % 3]
    if (random() % 4 > 0) entries = entries.toSpliced(at, 1, changed)
    else if (random() % 2 === 0) entries = entries.toSpliced(from, others)
    else entries = [...entries.slice(0, from), ...read(entries.slice(from))]
  }
  // Earlier nodes say what they said, though later ones have some of their entries.
  for (const { entries: then, bytes } of seen) t.ok(encodeDirectoryNode(node(then)).equals(bytes))
  t.end()
})

t.test('the decoders are strict', (t) => {
  const random = seeded(3)
  const [a, b] = someEntries(random, 2) as [Entry, Entry]
  const leaf = (entries: Entry[]): Buffer => encodeDirectoryNode({ kind: 'directory', level: 0, entries })
  t.throws(() => decodeDirectoryNode(leaf([b, a])), damaged, 'names out of order')
  t.throws(() => decodeDirectoryNode(leaf([a, a])), damaged, 'a name twice')
  t.throws(
    () => decodeDirectoryNode(Buffer.concat([leaf([a]), Buffer.from([0])])),
    damaged,
    'a byte too many',
  )
  t.throws(() => decodeDirectoryNode(leaf([a]).subarray(0, -1)), damaged, 'a byte too few')
  t.throws(() => decodeDirectoryNode(Buffer.alloc(0)), damaged, 'nothing')
  t.throws(() => decodeFileNode(leaf([a])), damaged, 'a directory as a file')
  t.throws(() => decodeDirectoryNode(Buffer.alloc(maxPlainBytes + 1, 1)), damaged, 'longer than a block')
  const header = (bytes: number[]): Buffer => Buffer.from(bytes)
  t.throws(() => decodeDirectoryNode(header([2, 1, 0, 0, 0, 0, 0, 0])), /newer kith/, 'a later version')
  t.throws(() => decodeDirectoryNode(header([1, 1, 8, 0, 1, 0, 0, 0])), damaged, 'level 8')
  t.throws(() => decodeDirectoryNode(header([1, 1, 1, 0, 0, 0, 0, 0])), damaged, 'an empty index')
  t.throws(() => decodeDirectoryNode(header([1, 1, 0, 1, 0, 0, 0, 0])), damaged, 'a reserved byte')
  t.throws(() => decodeDirectoryNode(header([1, 1, 0, 0, 255, 255, 255, 255])), damaged, 'four billion items')
  const index = directoryIndex(random, 2)
  if (!('children' in index)) throw new Error('an index')
  const [x, y] = index.children as [DirectoryChild, DirectoryChild]
  const indexOf = (children: DirectoryChild[]): Buffer => encodeDirectoryNode({ ...index, children })
  t.throws(() => decodeDirectoryNode(indexOf([y, x])), damaged, 'last names out of order')
  t.throws(() => decodeDirectoryNode(indexOf([{ ...x, entries: 0 }])), damaged, 'a child without entries')
  t.throws(
    () => decodeDirectoryNode(indexOf([{ ...x, last: Buffer.from('..') }])),
    damaged,
    'a bad last name',
  )
  const bytes = encodeFileNode({ kind: 'file', level: 1, children: [{ node: x.node, bytes: 0 }] })
  t.throws(() => decodeFileNode(bytes), damaged, 'a child without bytes')
  t.end()
})

t.test('a node stays within a block, whatever its entries hold', (t) => {
  const random = seeded(4)
  const value = seededBytes(random, 65_536)
  const entries = Array.from({ length: 60 }, (_, i): Entry => {
    const xattrs = Array.from({ length: i % 11 }, (_, k): [Buffer, Buffer] => [
      Buffer.from(`user.${k}`.padEnd(9)),
      value,
    ])
    const attributes = {
      ...someAttributes(random, Buffer.from(`name ${i + 100}`)),
      xattrs: xattrs.sort((p, q) => Buffer.compare(p[0], q[0])),
    }
    return { ...attributes, type: 'fifo' }
  })
  const groups = cutEntries(entries)
  t.same(groups.flat(), entries)
  for (const group of groups) {
    const bytes = encodeDirectoryNode({ kind: 'directory', level: 0, entries: group })
    t.ok(bytes.length <= maxPlainBytes)
    t.ok(group.length === 1 || bytes.length <= 256 * 1024 + 8)
    t.equal(decodeDirectoryNode(bytes).level, 0)
  }
  t.end()
})

t.test('names chosen against the boundary are cut all the same', (t) => {
  const names: Buffer[] = []
  for (let i = 0; names.length < 10_000; i++) {
    const name = Buffer.from(`n${String(i).padStart(8, '0')}`)
    if (!isBoundary(name, 0)) names.push(name)
  }
  const groups = cutItems(
    names,
    0,
    () => 60,
    (name) => name,
  )
  t.ok(groups.every((group) => group.length <= maxNodeItems))
  t.equal(groups.length, 3)
  t.end()
})

/** Cuts a whole list to its root; the number of nodes, and the names of all of them. */
function pyramid(names: Buffer[]): { nodes: Set<string>; levels: number } {
  const nodes = new Set<string>()
  const name = (parts: Buffer[]): Buffer => {
    const digest = hash('kith test node', ...parts)
    nodes.add(digest.toString('latin1'))
    return digest
  }
  let level = 0
  let children: DirectoryChild[] = cutItems(
    names,
    0,
    () => 200,
    (n) => n,
  ).map((group) => {
    const node = { name: name(group), sealedBytes: 100 }
    return { node, entries: group.length, last: group.at(-1) ?? Buffer.alloc(0) }
  })
  while (children.length > 1) {
    level++
    children = cutDirectoryChildren(children, level).map((group) => {
      const node = { name: name(group.map((child) => child.node.name)), sealedBytes: 100 }
      const entries = group.reduce((sum, child) => sum + child.entries, 0)
      return { node, entries, last: group.at(-1)?.last ?? Buffer.alloc(0) }
    })
  }
  t.equal(children[0]?.entries, names.length)
  return { nodes, levels: level + 1 }
}

t.test('a directory of 1,000,000: one change re-writes a node a level', (t) => {
  const names = Array.from({ length: 1_000_000 }, (_, i) => Buffer.from(`file-${String(i).padStart(7, '0')}`))
  const before = pyramid(names)
  t.ok(before.levels <= 5, `${before.levels} levels`)
  t.ok(before.nodes.size > 5000 && before.nodes.size < 12_000, `${before.nodes.size} nodes`)
  const changed = names.toSpliced(777_777, 1).toSpliced(432_100, 0, Buffer.from('file-0432099 copy'))
  const after = pyramid(changed)
  const fresh = [...after.nodes].filter((node) => !before.nodes.has(node))
  t.ok(fresh.length < 4 * after.levels, `${fresh.length} new nodes after an insertion and a removal`)
  t.end()
})

t.test('a list may be cut again from any node start', (t) => {
  const random = seeded(8)
  const extents = someExtents(random, 5000)
  const groups = cutExtents(extents)
  t.same(groups.flat().length, extents.length)
  t.same(cutExtents(groups.slice(3).flat()), groups.slice(3))
  const children: FileChild[] = Array.from({ length: 3000 }, () => ({ node: someNodeRef(random), bytes: 1 }))
  const upper = cutFileChildren(children, 1)
  t.same(cutFileChildren(upper.slice(5).flat(), 1), upper.slice(5))
  t.ok(upper.length > 20 && upper.length < 120, `${upper.length} index nodes`)
  t.end()
})

t.test('what an earlier kith wrote', (t) => {
  const random = seeded(90)
  const nodes: DirectoryNode[] = [
    { kind: 'directory', level: 0, entries: someEntries(random, 12) },
    directoryIndex(random, 9),
  ]
  for (const [i, node] of nodes.entries()) {
    const bytes = golden(`format-1/directory-${i}`, () => encodeDirectoryNode(node))
    t.same(decodeDirectoryNode(bytes), node)
    t.ok(encodeDirectoryNode(node).equals(bytes))
  }
  const files: FileNode[] = [
    { kind: 'file', level: 0, extents: someExtents(random, 12) },
    fileIndex(random, 9),
  ]
  for (const [i, node] of files.entries()) {
    const bytes = golden(`format-1/file-${i}`, () => encodeFileNode(node))
    t.same(decodeFileNode(bytes), node)
    t.ok(encodeFileNode(node).equals(bytes))
  }
  t.equal(isBoundary(Buffer.from('a name that ends a node'), 0), false)
  const ends = Array.from({ length: 2000 }, (_, i) => i).filter((i) =>
    isBoundary(Buffer.from(`name ${i}`), i % 8),
  )
  t.equal(
    hash('kith test ends', Buffer.from(ends.join())).toString('hex', 0, 8),
    'bce7e8add5e637a2',
    'boundaries are part of the format',
  )
  t.end()
})

t.test('20,000 mutations', (t) => {
  const random = seeded(7)
  const directories = [
    ...[1, 3, 20].map((n): DirectoryNode => ({
      kind: 'directory',
      level: 0,
      entries: someEntries(random, n),
    })),
    directoryIndex(random, 12, 2),
  ].map(encodeDirectoryNode)
  t.same(fuzzCodec(seeded(9), directories, 10_000, decodeDirectoryNode, encodeDirectoryNode), [])
  const files = [
    ...[1, 3, 20].map((n): FileNode => ({ kind: 'file', level: 0, extents: someExtents(random, n) })),
    fileIndex(random, 12, 2),
  ].map(encodeFileNode)
  t.same(fuzzCodec(seeded(10), files, 10_000, decodeFileNode, encodeFileNode), [])
  t.end()
})
