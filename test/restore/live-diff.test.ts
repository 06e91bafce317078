// What changed from a snapshot to the live directory: by the marks that a snapshot taken now would give.
import t from 'tap'
import {
  chmodSync,
  linkSync,
  mkdirSync,
  readdirSync,
  rmSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { KithError } from '../../lib/base/errors.js'
import { seeded } from '../../lib/base/random.js'
import type { PartExtent } from '../../lib/format/entry.js'
import { chunkKey, sealChunk } from '../../lib/format/seal.js'
import type { TreeSource } from '../../lib/restore/types.js'
import { compareEntries, diffTrees } from '../../lib/store/tree-diff.js'
import { seededBytes } from '../helpers/bytes.js'
import { changeSomething, growTree, lineOf, liveDiff, rootOf, stampWhole } from '../helpers/live-tree.js'
import { protect } from '../helpers/store.js'

t.setTimeout(120_000)

t.test('every kind of difference has its mark', async (t) => {
  const fixture = await protect(t)
  const at = (...names: string[]) => join(fixture.dir, ...names)
  const stamp = (path: string) => utimesSync(path, 1_600_000_000, 1_600_000_000)
  mkdirSync(at('gone', 'deep'), { recursive: true })
  writeFileSync(at('gone', 'deep', 'leaf'), 'x')
  mkdirSync(at('grown'))
  for (const name of ['mode', 'same', 'size', 'time', 'type']) writeFileSync(at(name), 'text')
  writeFileSync(at('content'), seededBytes(seeded(1), 400_000))
  writeFileSync(at('silent'), seededBytes(seeded(2), 400_000))
  writeFileSync(at('small-silent'), 'one')
  writeFileSync(at('sparse'), 'begin')
  truncateSync(at('sparse'), 3_000_000)
  symlinkSync('here', at('link'))
  for (const name of readdirSync(fixture.dir)) if (name !== 'link') stamp(at(name))
  await fixture.volume.recordEverything()
  await fixture.volume.snapshot(fixture.rootFd)
  const root = await rootOf(fixture)
  t.same(await liveDiff(fixture, root, true), [], 'nothing yet')

  rmSync(at('gone'), { recursive: true })
  mkdirSync(at('grown', 'new'))
  writeFileSync(at('grown', 'new', 'leaf'), 'x')
  chmodSync(at('mode'), 0o600)
  writeFileSync(at('size'), 'longer text')
  utimesSync(at('time'), 1, 1)
  rmSync(at('type'))
  mkdirSync(at('type'))
  writeFileSync(at('content'), seededBytes(seeded(3), 400_000))
  writeFileSync(at('silent'), seededBytes(seeded(4), 400_000))
  writeFileSync(at('small-silent'), 'two')
  stamp(at('silent'))
  stamp(at('small-silent'))
  writeFileSync(at('sparse'), 'b', { flag: 'r+' })
  rmSync(at('link'))
  symlinkSync('there', at('link'))
  linkSync(at('same'), at('same-too'))
  const told = [
    'M content',
    '- gone',
    '- gone/deep',
    '- gone/deep/leaf',
    '+ grown/new',
    '+ grown/new/leaf',
    'M link',
    'U mode',
    '+ same-too',
    'M size',
    'U sparse',
    'U time',
    'T type',
  ]
  t.same(await liveDiff(fixture, root, false), told)
  const silent = ['? silent', '? small-silent']
  const all = [...told.slice(0, 9), silent[0], 'M size', silent[1], ...told.slice(10)]
  t.same(await liveDiff(fixture, root, true), all, 'what the times hide is seen by reading')
})

t.test('what is left out is no difference; a stop is heard', async (t) => {
  const fixture = await protect(t)
  const at = (...names: string[]) => join(fixture.dir, ...names)
  writeFileSync(at('.kithignore'), '*.o\n')
  mkdirSync(at('d'))
  mkdirSync(at('cache'))
  writeFileSync(at('d', 'kept'), 'kept')
  await fixture.volume.setExcludes({ patterns: ['/private/'], caches: true, largerThan: 1000 })
  await fixture.volume.recordEverything()
  await fixture.volume.snapshot(fixture.rootFd)
  const root = await rootOf(fixture)
  mkdirSync(at('private'))
  writeFileSync(at('private', 'diary'), 'dear')
  writeFileSync(at('d', 'x.o'), 'object')
  writeFileSync(at('d', 'large'), seededBytes(seeded(1), 2000))
  writeFileSync(at('d', '.kithignore'), 'scratch\n')
  writeFileSync(at('d', 'scratch'), '')
  writeFileSync(at('cache', 'CACHEDIR.TAG'), 'Signature: 8a477f597d28d172789f06886806bc55')
  writeFileSync(at('cache', 'entry'), 'again')
  t.same(await liveDiff(fixture, root, false), ['+ cache/CACHEDIR.TAG', '+ d/.kithignore'])
  const stop = AbortSignal.abort()
  await t.rejects(liveDiff(fixture, root, false, { signal: stop }), { code: 'cancelled' })
})

t.test('small files that share a block', async (t) => {
  const fixture = await protect(t)
  const names = ['f0', 'f1', 'f2', 'f3']
  const at = (i: number) => join(fixture.dir, names[i] ?? '')
  const random = seeded(1)
  const stamp = (path: string) => utimesSync(path, 1_600_000_000, 1_600_000_000)
  const contents = names.map(() => seededBytes(random, 2000))
  contents.forEach((bytes, i) => {
    writeFileSync(at(i), bytes)
    stamp(at(i))
  })
  await fixture.volume.recordEverything()
  await fixture.volume.snapshot(fixture.rootFd)
  const root = await rootOf(fixture)
  const reader = fixture.volume.reader(fixture.store.blocks)
  // The same snapshot, as one whose files lie in a pack.
  const pack = Buffer.concat(contents)
  const { ref } = sealChunk(chunkKey(fixture.volume.keys.convergence, pack), pack)
  const source: TreeSource = {
    list: async (...given) =>
      (await reader.list(...given)).map((entry) => {
        if (entry.type !== 'file') return entry
        const offset = 2000 * names.indexOf(entry.name.toString())
        const part: PartExtent = { kind: 'part', chunk: ref, offset, bytes: 2000 }
        return { ...entry, content: { kind: 'extents', extents: [part] } }
      }),
    pieces: (...given) => reader.pieces(...given),
    chunk: (wanted) => (wanted.name.equals(ref.name) ? Promise.resolve(pack) : reader.chunk(wanted)),
  }
  t.same(await liveDiff(fixture, root, true, { source }), [], 'nothing has changed')
  utimesSync(at(0), 1, 1)
  writeFileSync(at(1), seededBytes(random, 2000))
  writeFileSync(at(2), seededBytes(random, 2000))
  stamp(at(2))
  t.same(await liveDiff(fixture, root, false, { source }), ['U f0', 'M f1'])
  t.same(await liveDiff(fixture, root, true, { source }), ['U f0', 'M f1', '? f2'])
  const away: TreeSource = { ...source, chunk: () => Promise.reject(new KithError('noPartners', 'away')) }
  t.same(await liveDiff(fixture, root, false, { source: away }), ['M f0', 'M f1'], 'as the times say')
  await t.rejects(liveDiff(fixture, root, true, { source: away }), { code: 'noPartners', message: /f2|f3/ })
})

for (let seed = 1; seed <= 6; seed++) {
  t.test(`as the diff to a snapshot taken now: seed ${seed}`, async (t) => {
    const fixture = await protect(t)
    const { dir, rootFd, store, volume } = fixture
    const random = seeded(seed)
    growTree(dir, random, 60)
    stampWhole(dir)
    await volume.recordEverything()
    await volume.snapshot(rootFd)
    const before = await rootOf(fixture)
    for (let i = 0; i < 40; i++) changeSomething(dir, random, `c${i}`)
    const live = await liveDiff(fixture, before, true)
    await volume.recordEverything()
    await volume.snapshot(rootFd)
    const told: string[] = []
    const after = await rootOf(fixture)
    for await (const found of diffTrees(volume.reader(store.blocks), before, after)) {
      // The time of a directory that has what it had is told by snapshots only.
      const { before: old, after: now } = found
      const ofDirectory = old?.type === 'directory' && now?.type === 'directory'
      if (ofDirectory && !compareEntries({ ...old, mtimeNs: now.mtimeNs }, now)) continue
      told.push(lineOf(found.mark, found.path))
    }
    t.ok(told.length > 5)
    t.same(live, told)
  })
}
