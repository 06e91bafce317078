/** kill -9 of either side while files are copied: nobody who works in the directory notices, and nothing is missed. */
import { execFile, execFileSync, spawn, type ChildProcess } from 'node:child_process'
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import t from 'tap'
import { KithWorld, until, type KithNode } from '../helpers/kith.js'
import { makeTree } from '../helpers/made-tree.js'
import { compareTrees, describeTree, type Described } from '../helpers/tree.js'

const run = promisify(execFile)

/** The newest snapshot, copied out by `kith restore`. */
async function restored(owner: KithNode, to: string): Promise<Described[]> {
  await owner.run('restore', 'latest', '--to', to)
  return describeTree(to)
}

/** Copies a tree again and again under new names, until ended. */
function keepCopying(from: string, to: string): ChildProcess {
  const script =
    'i=0; while [ ! -e "$2/stop" ]; do cp -a "$1" "$2/copy $i" || exit 1; i=$((i+1)); done; rm "$2/stop"'
  return spawn('sh', ['-c', script, 'sh', from, to], { stdio: 'ignore' })
}

function ended(child: ChildProcess): Promise<number | null> {
  return new Promise((resolve) => {
    if (child.exitCode !== null) resolve(child.exitCode)
    else child.once('exit', resolve)
  })
}

t.test('kill -9 of the daemon while files are copied', async (t) => {
  const world = await KithWorld.start(t)
  const owner = await world.node('owner')
  const dir = world.directory('protected')
  const source = world.path('source')
  makeTree(source, { bigBytes: 4_000_000, sparseBytes: 8_000_000, wideEntries: 200, depth: 20 })
  await owner.run('mount', dir)
  await owner.snapshot(dir)
  const copying = keepCopying(source, dir)
  for (let round = 1; round <= 3; round++) {
    const copies = (): number => readdirSync(dir).length
    const had = copies()
    await until('another copy is made', 60, () => Promise.resolve(copies() > had))
    await owner.killDaemon()
    await until('copying goes on without the daemon', 60, () => Promise.resolve(copies() > had + 1))
    writeFileSync(join(dir, `written without a daemon ${round}`), `in round ${round}`)
    t.equal(readFileSync(join(dir, `written without a daemon ${round}`), 'utf8'), `in round ${round}`)
    if (round < 3) t.ok((await owner.volume(dir)).mounted, 'the daemon is back, and so is the mount')
  }
  writeFileSync(join(dir, 'stop'), '')
  t.equal(await ended(copying), 0, 'the copying never failed')
  await owner.snapshot(dir)
  t.same(compareTrees(await describeTree(dir), await restored(owner, world.path('restored'))), [])
})

t.test('kill -9 of the daemon during a snapshot: the one before is intact, the next is whole', async (t) => {
  const world = await KithWorld.start(t)
  const owner = await world.node('owner')
  const dir = world.directory('protected')
  await owner.run('mount', dir)
  writeFileSync(join(dir, 'first'), 'first')
  const before = await owner.snapshot(dir)
  makeTree(join(dir, 'made'), { bigBytes: 60_000_000, wideEntries: 2000 })
  for (const wait of [0, 150, 600]) {
    const attempt = owner.try('snapshot', dir)
    await new Promise((resolve) => setTimeout(resolve, wait))
    await owner.killDaemon()
    await attempt
    const names = (await owner.snapshots(dir)).map(({ name }) => name)
    t.equal(names[0], before.name)
    const old = world.path(`first after ${wait}`)
    await owner.run('restore', `${before.name}:first`, '--to', old)
    t.equal(readFileSync(old, 'utf8'), 'first')
  }
  await owner.snapshot(dir)
  t.same(compareTrees(await describeTree(dir), await restored(owner, world.path('restored'))), [])
})

t.test('kill -9 of kith-fuse: the next mount recovers by itself', async (t) => {
  const world = await KithWorld.start(t)
  const owner = await world.node('owner')
  const dir = world.directory('protected')
  await owner.run('mount', dir)
  mkdirSync(join(dir, 'sub'))
  writeFileSync(join(dir, 'sub', 'kept'), 'kept')
  await owner.snapshot(dir)
  writeFileSync(join(dir, 'sub', 'written just before'), 'x'.repeat(100_000))
  await owner.killFuse()
  // Whoever looks now sees a dead mount, or the plain directory once the daemon has cleared it away.
  await run('ls', [dir]).catch(() => undefined)
  const mounted = await owner.run<{ recovered: boolean }>('mount', dir)
  t.type(mounted.recovered, 'boolean')
  t.equal(readFileSync(join(dir, 'sub', 'kept'), 'utf8'), 'kept')
  t.equal(readFileSync(join(dir, 'sub', 'written just before'), 'utf8').length, 100_000)
  t.equal(world.mounts().filter((path) => path === dir).length, 1, 'mounted once')
  await owner.snapshot(dir)
  t.same(compareTrees(await describeTree(dir), await restored(owner, world.path('restored'))), [])

  // Files changed while nobody looked: kith-fuse and daemon dead, the dead mount taken away.
  await owner.killFuse()
  await owner.killDaemon()
  world.unmountAll()
  writeFileSync(join(dir, 'sub', 'kept'), 'changed while kith was away')
  execFileSync('rm', [join(dir, 'sub', 'written just before')])
  await owner.run('mount', dir)
  await owner.snapshot(dir)
  t.same(compareTrees(await describeTree(dir), await restored(owner, world.path('restored again'))), [])
})
