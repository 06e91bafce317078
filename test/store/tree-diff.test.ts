import t from 'tap'
import { seeded } from '../../lib/base/random.js'
import type { DirectoryEntry } from '../../lib/format/node.js'
import { diffTrees } from '../../lib/store/tree-diff.js'
import { findInTrees } from '../../lib/store/tree-find.js'
import { TreeReader } from '../../lib/store/tree-reader.js'
import { seededBytes } from '../helpers/bytes.js'
import { MemoryVolume, type Tree } from '../helpers/memory-volume.js'

t.setTimeout(120_000)

/** The inode numbers of the helper's entries differ from tree to tree: what is equal is so for its names and content. */
class World {
  readonly volume = new MemoryVolume()
  /** blocks fetched by a reader without caches filled */
  fetched = 0

  take(tree: Tree): DirectoryEntry {
    this.volume.take(this.volume.records.length * 1000, tree)
    return this.volume.records.at(-1)?.root as DirectoryEntry
  }

  /** A reader that has seen nothing yet. */
  reader(): TreeReader {
    this.fetched = 0
    return new TreeReader({
      keys: this.volume.keys,
      snapshots: () => undefined,
      blocks: {
        get: (name) => {
          this.fetched++
          return Promise.resolve(this.volume.blocks.get(name.toString('hex')))
        },
      },
    })
  }

  async diff(a: DirectoryEntry, b: DirectoryEntry): Promise<string[]> {
    const lines: string[] = []
    for await (const { mark, path } of diffTrees(this.reader(), a, b))
      lines.push(`${mark} ${path.map((name) => name.toString('latin1')).join('/')}`)
    return lines
  }

  async find(roots: DirectoryEntry[], name: string): Promise<string[]> {
    const lines: string[] = []
    const matches = (entry: { name: Buffer }) => entry.name.toString().includes(name)
    for await (const { path, entry, snapshots } of findInTrees(this.reader(), roots, matches))
      lines.push(`${path.map(String).join('/')} ${entry.size} ${snapshots.join()}`)
    return lines
  }
}

const bytes = (text: string) => ({ file: Buffer.from(text) })
const big = (seed: number) => ({ file: seededBytes(seeded(seed), 200_000) })

t.test('every kind of difference has its mark', async (t) => {
  const world = new World()
  const before = world.take({
    added: { directory: {} },
    attributes: { ...bytes('same'), attributes: { xattrs: [] } },
    content: big(1),
    device: { device: 5n },
    gone: { directory: { deep: { directory: { leaf: bytes('x') } } } },
    link: { link: 'here' },
    mode: bytes('same'),
    moved: { directory: { a: bytes('a') } },
    silent: big(2),
    time: bytes('same'),
    type: bytes('file'),
    unchanged: big(3),
    '\xff': bytes('a'),
  })
  const later = { mtimeNs: 1_800_000_000_000_000_000n }
  const after = world.take({
    added: { directory: { new: { directory: { leaf: bytes('x') } } } },
    attributes: { ...bytes('same'), attributes: { xattrs: [[Buffer.from('user.a'), Buffer.from('1')]] } },
    content: { ...big(4), attributes: later },
    device: { device: 6n, attributes: later },
    link: { link: 'elsewhere', attributes: later },
    mode: { ...bytes('same'), attributes: { mode: 0o600, ctimeNs: 5n } },
    moved: { directory: { a: bytes('a') }, attributes: { mode: 0o700 } },
    silent: big(5),
    time: { ...bytes('same'), attributes: later },
    type: { directory: { below: bytes('y') } },
    unchanged: { ...big(3), attributes: { ctimeNs: 7n, nlink: 2 } },
    '\xff': bytes('bc'),
  })
  t.same(await world.diff(before, after), [
    '+ added/new',
    '+ added/new/leaf',
    'U attributes',
    'M content',
    'M device',
    '- gone',
    '- gone/deep',
    '- gone/deep/leaf',
    'M link',
    'U mode',
    'U moved',
    '? silent',
    'U time',
    'T type',
    '+ type/below',
    'M \xff',
  ])
  const back = (await world.diff(after, before)).map((line) => line[0]).join('')
  t.equal(back, '--UMM+++MUU?UT-M')
  t.same(await world.diff(before, before), [])
  t.same((await world.diff(before, { ...before, mode: 0o700 })).join(), 'U ', 'the root itself')
})

t.test('any two trees, against a comparison name by name', async (t) => {
  const random = seeded(7)
  const pick = (n: number) => random() % n
  const tree = (depth: number): Tree => {
    const made: Tree = {}
    for (let i = pick(40); i > 0; i--) {
      const name = `n${pick(200)}`
      made[name] = depth > 0 && pick(6) === 0 ? { directory: tree(depth - 1) } : bytes(`${pick(3)}`)
    }
    return made
  }
  const flat = (from: Tree, at = ''): [string, string][] =>
    Object.entries(from).flatMap(([name, item]): [string, string][] => [
      [`${at}${name}`, item.directory ? 'directory' : String(item.file as Buffer)],
      ...(item.directory ? flat(item.directory, `${at}${name}/`) : []),
    ])
  for (let round = 0; round < 15; round++) {
    const world = new World()
    const [a, b] = [tree(2), tree(2)]
    const [before, after] = [new Map(flat(a)), new Map(flat(b))]
    const expected = new Set<string>()
    for (const [path, what] of before) {
      const now = after.get(path)
      if (now === undefined) expected.add(`- ${path}`)
      else if ((now === 'directory') !== (what === 'directory')) expected.add(`T ${path}`)
      else if (now !== what) expected.add(`? ${path}`)
    }
    for (const path of after.keys()) if (!before.has(path)) expected.add(`+ ${path}`)
    const lines = await world.diff(world.take(a), world.take(b))
    t.same([...lines].sort(), [...expected].sort(), `round ${round}`)
  }
})

/** Many names: a list of several levels, with inode numbers that stay. */
function wide(more: Tree = {}): Tree {
  const made: Tree = {}
  for (let i = 0; i < 8000; i++) made[`file-${String(i).padStart(6, '0')}`] = numbered(i)
  return { ...made, ...more }
}
const numbered = (i: number, size = 1) => ({
  file: Buffer.alloc(size, 1),
  attributes: { ino: BigInt(i + 10) },
})

t.test('costs what the difference costs', async (t) => {
  const world = new World()
  const same = { directory: wide(), attributes: { ino: 1n } }
  const first = world.take({ same, wide: { directory: wide(), attributes: { ino: 2n } } })
  const other = world.take({ other: { directory: wide(), attributes: { ino: 3n, mode: 1 } }, x: bytes('x') })
  t.equal((await world.diff(other, first)).length, 1 + 1 + 8000 + 1 + 16_000 + 1, 'nothing in common')
  const removed = wide({ 'file-000007x': numbered(99_999), 'file-005000': numbered(5000, 2) })
  delete removed['file-007900']
  const second = world.take({ same, wide: { directory: removed, attributes: { ino: 2n } } })
  t.same(await world.diff(first, second), ['+ wide/file-000007x', 'M wide/file-005000', '- wide/file-007900'])
  t.ok(world.fetched <= 16, `${world.fetched} nodes of ${world.volume.blocks.size} read`)

  t.same(await world.find([first, second], '-005000'), [
    'same/file-005000 1 0,1',
    'wide/file-005000 1 0',
    'wide/file-005000 2 1',
  ])
  const found = world.fetched
  t.equal((await world.find([first], 'file-')).length, 16_000, 'every name is seen')
  t.ok(found < world.fetched + 16, `${found} nodes for two snapshots, ${world.fetched} for one`)
})

t.test('finds each state of a name, with its snapshots', async (t) => {
  const world = new World()
  const old = { directory: { note: bytes('1'), other: bytes('x') }, attributes: { ino: 5n } }
  const roots = [
    world.take({ a: old, note: bytes('12') }),
    world.take({ a: old, b: { directory: { note: bytes('123') } } }),
    world.take({ a: { directory: { note: bytes('1234') } }, note: bytes('12') }),
    world.take({ a: old, note: { directory: { note: bytes('12345') } } }),
  ]
  t.same(await world.find(roots, 'note'), [
    'a/note 1 0,1,3',
    'a/note 4 2',
    'b/note 3 1',
    'note 2 0,2',
    'note 4096 3',
    'note/note 5 3',
  ])
  t.same(await world.find([], 'note'), [])
})

t.test('a walk that is cancelled ends', async (t) => {
  const world = new World()
  const [a, b] = [world.take({ a: bytes('1') }), world.take({ a: bytes('2') })]
  const cancelled = AbortSignal.abort()
  await t.rejects(diffTrees(world.reader(), a, b, cancelled).next(), { code: 'cancelled' })
  await t.rejects(findInTrees(world.reader(), [a], () => false, cancelled).next(), { code: 'cancelled' })
})
