/** The names of a volume's nodes, in the table of now and in the one of earlier versions. */
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { blockKind } from '../../lib/format/seal.js'
import { type Fixture, protect, sameAsDirectory } from '../helpers/store.js'

const hex = (names: Iterable<Buffer>) => [...names].map((name) => name.toString('hex')).sort()

/** Names of all blocks of the store that are nodes, by what lies there. */
async function nodesThere({ store }: Fixture): Promise<string[]> {
  const found: Buffer[] = []
  for (const name of [...store.blocks.names()].map((each) => Buffer.from(each))) {
    const bytes = await store.blocks.peek(name)
    if (bytes && blockKind(bytes) === 'node') found.push(name)
  }
  return hex(found)
}

function namesIn({ volume, store }: Fixture): { all: string[]; made: string[]; nodes: string[] } {
  const { made, nodes } = volume.checked.state
  const chunks = new Set(hex([...volume.checked.state.chunks.range()].map(({ value }) => value.name)))
  const all = hex(store.blockNames(volume.id)).filter((name) => !chunks.has(name))
  return { all, made: hex([...made.range()].map(({ value }) => value)), nodes: hex(nodes.keysOf()) }
}

t.test('nodes that an earlier version noted are known, and forgotten when they go', async (t) => {
  const fixture = await protect(t)
  const { dir, rootFd, store, volume } = fixture
  for (const name of ['a', 'b', 'c']) {
    mkdirSync(join(dir, name))
    for (let i = 0; i < 5; i++) writeFileSync(join(dir, name, `${i}`), `${name} ${i}`.repeat(200))
  }
  await volume.snapshot(rootFd)
  const { made, nodes } = volume.checked.state
  const before = [...made.range()].map(({ key, value }) => ({ key, name: Buffer.from(value) }))
  t.equal(before.length, 5, 'three directories, the root, the list of snapshots')
  await store.db.transaction(() => {
    for (const { key, name } of before) {
      made.remove(key)
      nodes.put(name, Buffer.alloc(0))
    }
  })
  await fixture.reopen()
  writeFileSync(join(dir, 'a/0'), 'another')
  await fixture.volume.recordEverything()
  await fixture.volume.snapshot(rootFd)
  t.same(namesIn(fixture).all, await nodesThere(fixture))
  t.equal(namesIn(fixture).nodes.length, 5, 'no new ones come there')

  const [oldest] = fixture.volume.snapshots()
  await fixture.volume.forget([oldest?.name ?? ''])
  await fixture.store.prune({ dryRun: false })
  const left = namesIn(fixture)
  t.equal(left.nodes.length, 2, 'two directories have not changed')
  t.same(left.all, await nodesThere(fixture))
  t.same([...left.made, ...left.nodes].sort(), left.all)
  await sameAsDirectory(t, fixture)
})
