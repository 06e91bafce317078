import { execFileSync, spawn } from 'node:child_process'
import { linkSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { systemClock } from '../../lib/base/clock.js'
import { silentLog } from '../../lib/base/log.js'
import { close, openRoot } from '../../lib/base/posix.js'
import { seeded } from '../../lib/base/random.js'
import type { BlockReader } from '../../lib/blocks/block-store.js'
import { decodeHead, openOwnerState } from '../../lib/format/head.js'
import { identityFrom, sharedVolumeKeys } from '../../lib/format/keys.js'
import { localDay } from '../../lib/store/snapshot-info.js'
import { Store } from '../../lib/store/store.js'
import { seededBytes } from '../helpers/bytes.js'
import { movableClock } from '../helpers/fast-clock.js'
import { change, inoOf, linesOfSnapshot, protect, sameAsDirectory, testIdentity } from '../helpers/store.js'

t.setTimeout(280_000)

const asRoot = { skip: process.getuid?.() !== 0 && 'only root can mount' }
const options = { clock: systemClock, log: silentLog(), identity: testIdentity, workers: 1 }

t.test('another machine takes a volume over by its head, and goes on', async (t) => {
  const old = await protect(t)
  for (let i = 0; i < 100; i++) writeFileSync(join(old.dir, `f${i}`), seededBytes(seeded(i), 10_000 + i))
  await old.volume.snapshot(old.rootFd)
  writeFileSync(join(old.dir, 'f1'), 'changed')
  await old.volume.recordChanges([change('close', inoOf(old.rootFd, 'f1'))])
  await old.volume.snapshot(old.rootFd)
  const head = old.volume.head() as Buffer
  let fetched = 0
  const remote: BlockReader = {
    get(name) {
      fetched++
      return old.store.blocks.get(name)
    },
  }

  const home = join(old.home, 'new home')
  let store = await Store.open(home, options)
  const other = identityFrom(Buffer.alloc(32, 9), Buffer.alloc(32, 8))
  const stranger = await Store.open(join(old.home, 'stranger'), { ...options, identity: other })
  await t.rejects(stranger.importVolume({ head, dir: '/x', blocks: remote }), { code: 'damaged' })
  await stranger.close()
  await t.rejects(store.importVolume({ head: head.fill(0, 60, 61), dir: '/x', blocks: remote }), {
    code: 'damaged',
  })
  const good = old.volume.head() as Buffer
  let volume = await store.importVolume({ head: good, dir: old.dir, blocks: remote })
  t.ok(fetched <= 3, 'only the snapshot list')
  t.same(volume.snapshots(), old.volume.snapshots())
  await t.rejects(store.importVolume({ head: good, dir: '/y', blocks: remote }), { code: 'exists' })
  const reader = volume.reader(volume.adopting(remote))
  const oldReader = old.volume.reader(old.store.blocks)
  t.same(
    await linesOfSnapshot(reader, await reader.snapshot('latest')),
    await linesOfSnapshot(oldReader, await oldReader.snapshot('latest')),
  )
  const sofar = fetched
  await linesOfSnapshot(reader, await reader.snapshot('latest'))
  t.equal(fetched, sofar, 'what was fetched is kept')
  const { chunks } = await volume.rebuildIndex(reader)
  t.ok(chunks >= 99)

  await store.close()
  store = await Store.open(home, options)
  volume = store.volumes()[0] as typeof volume
  t.equal(volume.snapshots().length, 2)
  const before = store.blocks.count
  await volume.snapshot(old.rootFd)
  t.ok(store.blocks.count - before < 10, 'no chunk is new')
  t.equal(decodeHead(volume.head() as Buffer).sequence, 3)
  await sameAsDirectory(t, { ...old, store, volume })
  await store.close()
})

t.test('a lying remote is found out', async (t) => {
  const { volume, store, rootFd, dir } = await protect(t)
  for (let i = 0; i < 20; i++) writeFileSync(join(dir, `f${i}`), seededBytes(seeded(i), 5000))
  await volume.snapshot(rootFd)
  const names = [...store.blocks.names()].map((name) => Buffer.from(name))
  const lies: ((name: Buffer, i: number) => Promise<Buffer | undefined>)[] = [
    async (name) => {
      const bytes = Buffer.from((await store.blocks.get(name)) as Buffer)
      bytes[bytes.length - 1] = (bytes.at(-1) ?? 0) ^ 1
      return bytes
    },
    async (name) => (await store.blocks.get(name))?.subarray(0, -1),
    async (_, i) => store.blocks.get(names[(i + 1) % names.length] as Buffer),
    async () => undefined,
    async () => Buffer.alloc(0),
  ]
  for (const [kind, lie] of lies.entries()) {
    for (const [i, bad] of names.entries()) {
      const get = async (name: Buffer) => (name.equals(bad) ? lie(name, i) : store.blocks.get(name))
      const reader = volume.reader({ get })
      const lines = async () => linesOfSnapshot(reader, await reader.snapshot('latest'))
      await t.rejects(lines(), { code: 'damaged' }, `lie ${kind} about block ${i}`)
    }
  }
})

t.test('names of snapshots: exact, of a day, latest', async (t) => {
  const clock = movableClock()
  const { volume, store, rootFd, dir } = await protect(t, clock)
  const reader = volume.reader(store.blocks)
  await t.rejects(reader.snapshot('latest'), { code: 'notFound' })
  const taken = []
  for (const hours of [0, 1, 30, 5]) {
    clock.move(hours * 3_600_000)
    writeFileSync(join(dir, `after ${taken.length}`), '')
    await volume.recordChanges([change('names', 0n, { parent: inoOf(rootFd) })])
    taken.push(await volume.snapshot(rootFd))
  }
  const ino = async (name: string) => (await reader.list(await reader.snapshot(name))).length
  for (const [i, { name }] of taken.entries()) t.equal(await ino(name), i + 1, name)
  t.equal(await ino('latest'), 4)
  const day = localDay(taken[0]?.time ?? 0)
  const last = taken.filter(({ time }) => localDay(time) === day).length
  t.equal(await ino(day), last)
  for (const name of ['', '2024-06-01', '2024-06-01T00-00-00Z', 'Latest', '../x', '2024-6-1']) {
    await t.rejects(reader.snapshot(name), { code: 'notFound' }, name)
  }
})

t.test('paging through a directory, and reads at any place', async (t) => {
  const { volume, store, rootFd, dir } = await protect(t)
  for (let i = 0; i < 1500; i++) writeFileSync(join(dir, `n${i}`), '')
  const content = seededBytes(seeded(1), 3_000_000)
  writeFileSync(join(dir, 'content'), content)
  await volume.snapshot(rootFd)
  const reader = volume.reader(store.blocks)
  const root = await reader.snapshot('latest')
  const seen: string[] = []
  for (let after: Buffer | undefined; ;) {
    const page = await reader.list(root, after, 100)
    if (page.length === 0) break
    seen.push(...page.map(({ name }) => name.toString()))
    after = page.at(-1)?.name
  }
  t.equal(seen.length, 1501)
  t.same(seen, [...seen].sort())
  t.equal((await reader.list(root, Buffer.from('n99'), 1))[0]?.name.toString(), 'n990')
  t.equal(await reader.lookup(root, Buffer.from('n1500')), undefined)
  const file = await reader.resolve(root, [Buffer.from('content')])
  const next = seeded(2)
  for (let i = 0; i < 200; i++) {
    const offset = next() % 3_100_000
    const length = next() % (i % 2 ? 100 : 700_000)
    const got = await reader.read(file, offset, length)
    if (!got.equals(content.subarray(offset, offset + length))) t.fail(`${offset} + ${length}`)
  }
  await t.rejects(reader.resolve(root, [Buffer.from('content'), Buffer.from('x')]), { code: 'notFound' })
  await t.rejects(reader.list(file), { code: 'notFound' })
  await t.rejects(reader.read(root, 0, 1), { code: 'notFound' })
})

t.test('a file that never rests is taken all the same, and said to be busy', async (t) => {
  const fixture = await protect(t)
  const { dir, volume, store, rootFd } = fixture
  const path = join(dir, 'log')
  // So large that the writer gets its turn within every reading, however busy the machine.
  writeFileSync(path, Buffer.alloc(40_000_000, seededBytes(seeded(1), 1_000_003)))
  linkSync(path, join(dir, 'log by another name'))
  writeFileSync(join(dir, 'quiet'), 'quiet')
  const script = `const fs = require('fs'); const fd = fs.openSync(process.argv[1], 'r+')
    const bytes = Buffer.alloc(4096); fs.writeSync(1, '.')
    for (let i = 0; ; i++) { bytes.fill(i); fs.writeSync(fd, bytes, 0, 4096, (i % 400) * 4096) }`
  const writer = spawn(process.execPath, ['-e', script, path], { stdio: ['ignore', 'pipe', 'inherit'] })
  await new Promise((resolve) => writer.stdout.once('data', resolve))
  const result = await volume.snapshot(rootFd)
  writer.kill('SIGKILL')
  await new Promise((resolve) => writer.on('close', resolve))
  t.equal(result.problemCount, 2)
  t.match(result.problems, [{ what: 'busy' }, { what: 'busy' }])
  const reader = volume.reader(store.blocks)
  const root = await reader.snapshot('latest')
  t.equal(root.totals.busy, 2)
  const log = await reader.lookup(root, Buffer.from('log'))
  t.ok(log?.busy)
  t.equal(log?.size, 40_000_000)
  t.equal((await volume.snapshot(rootFd)).problemCount, 0, 'it is looked at again')
  t.same(
    volume.snapshots().map(({ busy }) => busy),
    [2, 0],
  )
  await sameAsDirectory(t, fixture)
})

t.test('another file system inside is left out, and said so', asRoot, async (t) => {
  const { dir, volume, store, rootFd } = await protect(t)
  mkdirSync(join(dir, 'inner'))
  writeFileSync(join(dir, 'file'), '')
  execFileSync('mount', ['-t', 'tmpfs', 'tmpfs', join(dir, 'inner')])
  t.teardown(() => execFileSync('umount', ['-l', join(dir, 'inner')]))
  const result = await volume.snapshot(rootFd)
  t.match(result.problems, [{ path: 'inner', what: 'mounted' }])
  const reader = volume.reader(store.blocks)
  t.same(
    (await reader.list(await reader.snapshot('latest'))).map(({ name }) => name.toString()),
    ['file'],
  )
})

t.test(
  'a full disk under the store: the snapshot fails, the last one stays, the next works',
  asRoot,
  async (t) => {
    const { dir, rootFd } = await protect(t)
    const disk = mkdtempSync(join(tmpdir(), 'kith-disk-'))
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=16m', 'tmpfs', disk])
    t.teardown(() => {
      execFileSync('umount', ['-l', disk])
      rmSync(disk, { recursive: true })
    })
    let store = await Store.open(join(disk, 'home'), options)
    let volume = await store.createVolume({ dir })
    writeFileSync(join(dir, 'small'), 'small')
    await volume.snapshot(rootFd)
    writeFileSync(join(dir, 'large'), seededBytes(seeded(1), 40_000_000))
    await volume.recordChanges([change('names', inoOf(rootFd, 'large'), { parent: inoOf(rootFd) })])
    for (let i = 0; i < 2; i++) await t.rejects(volume.snapshot(rootFd), { code: 'noSpace' })
    t.equal(volume.snapshots().length, 1)
    await store.close()
    store = await Store.open(join(disk, 'home'), options)
    volume = store.volumes()[0] as typeof volume
    t.equal(volume.snapshots().length, 1)
    t.ok(volume.pending().inodes > 0)
    const reader = volume.reader(store.blocks)
    t.equal((await linesOfSnapshot(reader, await reader.snapshot('latest'))).length, 1)
    execFileSync('mount', ['-o', 'remount,size=100m', disk])
    await volume.snapshot(rootFd)
    await sameAsDirectory(t, { dir, home: disk, rootFd, store, volume, reopen: async () => undefined })
    await store.close()
  },
)

t.test('volumes are made, renewed, moved and removed', async (t) => {
  const base = t.testdir({ a: { x: 'content of a, a bit longer'.repeat(100) }, b: { y: 'b'.repeat(1000) } })
  let circles = [{ name: 'friends', secret: Buffer.alloc(32, 3) }]
  const store = await Store.open(join(base, 'home'), { ...options, circles: () => circles })
  const a = await store.createVolume({ dir: join(base, 'a') })
  const b = await store.createVolume({ dir: join(base, 'b') })
  await t.rejects(store.createVolume({ dir: join(base, 'a') }), { code: 'exists' })
  t.equal(a.head(), undefined)
  await a.renewHead()
  t.equal(a.head(), undefined, 'nothing to renew')
  for (const volume of [a, b]) {
    const fd = openRoot(volume.dir)
    await volume.snapshot(fd)
    close(fd)
  }
  const stateOf = (volume: typeof a) => {
    const head = decodeHead(volume.head() as Buffer)
    const { kek, id } = testIdentity
    return { sequence: head.sequence, ...openOwnerState(kek, id, head.volumeId, head.sealedState) }
  }
  t.match(stateOf(a), { sequence: 1, label: join(base, 'a'), circles: [{ name: 'friends' }] })
  circles = []
  await a.renewHead()
  t.match(stateOf(a), { sequence: 2, circles: [] })
  await a.setDir('/elsewhere')
  t.equal(a.dir, '/elsewhere')
  const { bytes } = store.blocks
  await store.removeVolume(a.id)
  t.ok(store.blocks.bytes < bytes)
  t.equal(store.volumes().length, 1)
  t.equal(store.blocks.has(Buffer.alloc(32)), false)
  await t.rejects(store.removeVolume(a.id), { code: 'notFound' })
  const fd = openRoot(b.dir)
  await b.snapshot(fd)
  close(fd)
  await store.removeVolume(b.id)
  t.equal(store.blocks.bytes, 0)
  await store.close()
})

t.test('of two volumes that share with one circle, what both have stays when one is removed', async (t) => {
  const same = seededBytes(seeded(8), 300_000)
  const base = t.testdir({ a: { x: same, own: 'a'.repeat(2000) }, b: { y: same, own: 'b'.repeat(2000) } })
  const store = await Store.open(join(base, 'home'), options)
  t.teardown(() => store.close())
  const [a, b] = await Promise.all(
    ['a', 'b'].map((name) => {
      const keys = sharedVolumeKeys(Buffer.alloc(32, 4))
      return store.createVolume({ dir: join(base, name), keys })
    }),
  )
  if (!a || !b) throw new Error('two volumes were made')
  for (const volume of [a, b]) {
    const fd = openRoot(volume.dir)
    await volume.snapshot(fd)
    close(fd)
  }
  const { bytes } = store.blocks
  t.ok(bytes < 500_000, 'it is here once')
  const released = store.blockNames(a.id)
  await store.removeVolume(a.id)
  for (const name of released) t.notOk(store.blocks.has(name), 'what partners let go of, too, is not in use')
  t.equal((await store.check({ wanted: () => true })).bad.size, 0)
  const rootFd = openRoot(b.dir)
  t.teardown(() => close(rootFd))
  const { dir } = b
  await sameAsDirectory(t, { dir, home: base, rootFd, store, volume: b, reopen: () => store.close() })
  t.ok(store.pruneIsDue)
  const before = store.blocks.bytes
  await store.prune({})
  t.ok(store.blocks.bytes < before, 'what only the other had goes with the next prune')
  t.equal((await store.check({ wanted: () => true })).bad.size, 0)
})

t.test('a snapshot can be cancelled', async (t) => {
  const { dir, volume, rootFd } = await protect(t)
  for (let i = 0; i < 300; i++) writeFileSync(join(dir, `f${i}`), seededBytes(seeded(i), 1000))
  const stop = new AbortController()
  await t.rejects(volume.snapshot(rootFd, { signal: stop.signal, progress: () => stop.abort() }), {
    code: 'cancelled',
  })
  t.same(volume.snapshots(), [])
  await volume.snapshot(rootFd)
  t.equal(volume.snapshots().length, 1)
})
