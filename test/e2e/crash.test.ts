/** kill -9 of either side while files are copied: nobody who works in the directory notices, and nothing is missed. */
import { execFileSync, spawn, type ChildProcess } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { KithWorld, until, type KithNode } from '../helpers/kith.js'
import { makeTree } from '../helpers/made-tree.js'
import { compareTrees, describeTree, type Described } from '../helpers/tree.js'

t.setTimeout(560_000)

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
  makeTree(join(dir, 'made'), { bigBytes: 30_000_000, wideEntries: 1000 })
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

/** Waits until another kith-fuse than before serves the directory. */
async function healed(owner: KithNode, dir: string, before: number | undefined): Promise<void> {
  await until(`${dir} is mounted again`, 60, async () => {
    const now = owner.fusePid()
    return now !== undefined && now !== before && (await owner.volume(dir)).state === 'mounted'
  })
}

t.test('kill -9 of kith-fuse: it is mounted again by itself, and nothing is missed', async (t) => {
  const world = await KithWorld.start(t)
  const owner = await world.node('owner')
  const dir = world.directory('protected')
  await owner.run('mount', dir)
  mkdirSync(join(dir, 'sub'))
  writeFileSync(join(dir, 'sub', 'kept'), 'kept')
  await owner.snapshot(dir)
  writeFileSync(join(dir, 'sub', 'written just before'), 'x'.repeat(100_000))
  // Somebody goes on writing all the while: to the mount, to the bare directory, to the next mount.
  const script =
    'i=0; while [ ! -e "$2/stop" ]; do i=$((i+1)); echo "$i" > "$1/file $i" && echo "$i" >> "$2/told"; done; echo end > "$2/end"'
  const said = world.directory('said')
  const writer = spawn('sh', ['-c', script, 'sh', dir, said], { stdio: 'ignore' })
  const told = () =>
    existsSync(join(said, 'told')) ? readFileSync(join(said, 'told'), 'utf8').split('\n').length : 0
  for (let round = 0; round < 3; round++) {
    const [before, had] = [owner.fusePid(), told()]
    await until('something is written', 60, async () => told() > had + 10)
    await owner.killFuse()
    await healed(owner, dir, before)
  }
  writeFileSync(join(said, 'stop'), '')
  await ended(writer)
  t.ok(existsSync(join(said, 'end')))
  t.equal(readFileSync(join(dir, 'sub', 'kept'), 'utf8'), 'kept')
  t.equal(readFileSync(join(dir, 'sub', 'written just before'), 'utf8').length, 100_000)
  t.equal(world.mounts().filter((path) => path === dir).length, 1, 'mounted once')
  const files = new Set(readdirSync(dir))
  const missing = readFileSync(join(said, 'told'), 'utf8')
    .split('\n')
    .filter((i) => i !== '' && !files.has(`file ${i}`))
  t.same(missing, [], 'every write that was told to be done is there')
  await owner.snapshot(dir)
  t.same(compareTrees(await describeTree(dir), await restored(owner, world.path('restored'))), [])

  // Files changed while nobody looked: kith-fuse and daemon dead, the dead mount taken away.
  await owner.killDaemon()
  await owner.killFuse()
  world.unmountAll()
  writeFileSync(join(dir, 'sub', 'kept'), 'changed while kith was away')
  execFileSync('rm', [join(dir, 'sub', 'written just before')])
  t.equal((await owner.volume(dir)).state, 'mounted', 'the next command brings both back')
  await owner.snapshot(dir)
  t.same(compareTrees(await describeTree(dir), await restored(owner, world.path('restored again'))), [])
})

t.test('two volumes of one home and one of another, all killed and back', async (t) => {
  const world = await KithWorld.start(t)
  const [one, other] = [await world.node('one'), await world.node('other')]
  const places: [KithNode, string][] = [
    [one, world.directory('first')],
    [one, world.directory('second')],
    [other, world.directory('third')],
  ]
  for (const [node, dir] of places) {
    await node.run('mount', dir)
    writeFileSync(join(dir, 'before'), dir)
  }
  const servers = () => world.processes().filter(({ args }) => args[0]?.endsWith('kith-fuse'))
  const before = servers().map(({ pid }) => pid)
  t.equal(before.length, 3)
  for (const pid of before) process.kill(pid, 'SIGKILL')
  const newServers = () => servers().filter(({ pid }) => !before.includes(pid)).length
  await until('all are served anew', 60, async () => newServers() === 3)
  for (const node of [one, other]) await node.killDaemon()
  for (const { pid } of servers()) process.kill(pid, 'SIGKILL')
  await until('all are dead', 60, async () => servers().length === 0)
  for (const [node, dir] of places) {
    t.equal((await node.volume(dir)).state, 'mounted')
    writeFileSync(join(dir, 'after'), dir)
    await node.snapshot(dir)
    t.same(readdirSync(join(dir, '.snapshots', 'latest')), ['after', 'before'])
    t.equal(readFileSync(join(dir, '.snapshots', 'latest', 'before'), 'utf8'), dir)
  }
})
