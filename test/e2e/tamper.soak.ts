/**
 * Partners whose vaults were tampered with on disk: found out, named in status, got round in a recovery; and with nobody
 * else left, a clear failure that writes no wrong byte. All by the `kith` command, every node a process of its own.
 */
import {
  cpSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { seeded } from '../../lib/base/random.js'
import { seededBytes } from '../helpers/bytes.js'
import { KithNode, KithWorld, until } from '../helpers/kith.js'

t.setTimeout(580_000)

const vaultOf = (node: KithNode) => join(node.home, 'vault')

/** The segment files of a node's vault that hold something. */
function segments(node: KithNode): string[] {
  const dir = join(vaultOf(node), 'segments')
  return readdirSync(dir)
    .map((name) => join(dir, name))
    .filter((file) => statSync(file).size > 0)
}

/** Where the records of a segment are: 40 bytes of header, the length at 36. */
function records(bytes: Buffer): { start: number; end: number }[] {
  const found = []
  for (let start = 0; start + 40 <= bytes.length;) {
    const end = start + 40 + bytes.readUInt32LE(start + 36)
    found.push({ start, end })
    start = end
  }
  return found
}

function rewrite(node: KithNode, change: (bytes: Buffer) => Buffer): void {
  const [file] = segments(node)
  if (file === undefined) throw new Error(`${node.name} holds nothing`)
  writeFileSync(file, change(readFileSync(file)))
}

/** One byte in the middle of one block. */
function flipByte(node: KithNode): void {
  rewrite(node, (bytes) => {
    const all = records(bytes)
    const { start, end } = all[all.length >> 1] ?? { start: 0, end: 0 }
    const at = (start + 40 + end) >> 1
    bytes[at] = (bytes[at] ?? 0) ^ 1
    return bytes
  })
}

/** The first two records, whole and valid, in each other's place. */
function swapBlocks(node: KithNode): void {
  rewrite(node, (bytes) => {
    const [a, b] = records(bytes)
    if (!a || !b) throw new Error('two blocks at least')
    return Buffer.concat([
      bytes.subarray(b.start, b.end),
      bytes.subarray(a.start, a.end),
      bytes.subarray(b.end),
    ])
  })
}

function truncate(node: KithNode): void {
  for (const file of segments(node)) truncateSync(file, statSync(file).size >> 1)
}

/** One byte of every block. */
function flipEverywhere(node: KithNode): void {
  for (const file of segments(node)) {
    const bytes = readFileSync(file)
    for (const { start } of records(bytes)) bytes[start + 50] = (bytes[start + 50] ?? 0) ^ 1
    writeFileSync(file, bytes)
  }
}

async function stop(node: KithNode): Promise<void> {
  await node.run('stop')
  await until(`${node.name} has stopped`, 20, () => Promise.resolve(node.daemonPid() === undefined))
}

/** Stops the nodes, changes their files, and starts them again. */
async function tamper(nodes: KithNode[], changes: ((node: KithNode) => void)[]): Promise<void> {
  await Promise.all(nodes.map(stop))
  for (const [i, node] of nodes.entries()) changes[i]?.(node)
  for (const node of nodes) await node.status()
}

const heldBy = (node: KithNode) => segments(node).reduce((sum, file) => sum + statSync(file).size, 0)

type Files = Map<string, Buffer>

function write(dir: string, prefix: string, random: () => number, count: number): Files {
  const files: Files = new Map()
  mkdirSync(join(dir, prefix), { recursive: true })
  for (let i = 0; i < count; i++) {
    const path = join(prefix, `file-${i}`)
    const bytes = seededBytes(random, 1000 + (random() % 200_000))
    writeFileSync(join(dir, path), bytes)
    files.set(path, bytes)
  }
  return files
}

function read(dir: string): Files {
  const files: Files = new Map()
  for (const entry of readdirSync(dir, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue
    const path = join(entry.parentPath, entry.name)
    files.set(path.slice(dir.length + 1), readFileSync(path))
  }
  return files
}

const faultsOf = async (owner: KithNode, dir: string) =>
  new Map((await owner.volume(dir)).partners.map(({ name, faults }) => [name, faults.join('; ')]))

t.test('tampered vaults', async (t) => {
  const random = seeded(1)
  const world = await KithWorld.start(t)
  const { owner, partners } = await world.circle(3)
  const [first, second, third] = partners
  if (!first || !second || !third) throw new Error('three partners')
  const dir = world.directory('protected')
  await owner.run('mount', dir)
  const files = write(dir, 'one', random, 15)
  await owner.snapshot(dir)
  await owner.sync(dir)

  const old = world.path('old-vault')
  await stop(third)
  cpSync(vaultOf(third), old, { recursive: true })
  await third.status()
  await owner.waitForPartners(3)
  for (const [path, bytes] of write(dir, 'two', random, 15)) files.set(path, bytes)
  await owner.snapshot(dir)
  await owner.sync(dir)
  // So that no audit of the daemon's own is due that could find and mend the faults before the test looks.
  await owner.run('audit')
  t.same(await faultsOf(owner, dir), new Map(partners.map(({ name }) => [name, ''])), 'all is well')

  await t.test('are found out and named; one that went back in time gets all anew at once', async (t) => {
    const before = heldBy(third)
    await tamper(partners, [
      flipByte,
      swapBlocks,
      (node) => {
        rmSync(vaultOf(node), { recursive: true })
        cpSync(old, vaultOf(node), { recursive: true })
      },
    ])
    await owner.waitForPartners(3)
    await until(`${third.name} holds as much as before`, 60, () => Promise.resolve(heldBy(third) >= before))
    await owner.sync(dir)
    const audit = await owner.try('audit', '--full')
    t.equal(audit.code, 9, audit.stderr)
    for (const { name } of [first, second]) t.match(audit.stderr, name)
    t.notMatch(audit.stderr, third.name)
    const faults = await faultsOf(owner, dir)
    t.match(faults.get(first.name), /lacks blocks that it acknowledged \(1 bad/)
    t.match(faults.get(second.name), /lacks blocks that it acknowledged \(2 bad/)
    t.equal(faults.get(third.name), '')
    await owner.sync(dir)
    await until('everything is sent again and proven', 60, async () => {
      return (await owner.try('audit', '--full')).code === 0
    })
    t.same(await faultsOf(owner, dir), new Map(partners.map(({ name }) => [name, ''])))
  })

  await t.test('do not keep a recovery from succeeding, while one is whole', async (t) => {
    await owner.killDaemon()
    await owner.killFuse()
    world.unmountAll()
    rmSync(owner.home, { recursive: true })
    rmSync(dir, { recursive: true })
    await tamper([first, second], [flipEverywhere, truncate])
    const again = new KithNode(world, 'recovered')
    const to = world.path('recovered')
    await again.run('recover', '--phrase-file', owner.phraseFile, '--to', to)
    t.same(read(to), files)
    await again.killDaemon()
    rmSync(again.home, { recursive: true })
  })

  await t.test('alone: a clear failure, and no wrong byte', async (t) => {
    await tamper(partners, [flipEverywhere, flipEverywhere, flipEverywhere])
    const again = new KithNode(world, 'recovered')
    const to = world.path('never')
    const { code, stderr } = await again.try('recover', '--phrase-file', owner.phraseFile, '--to', to)
    t.equal(code, 9, stderr)
    t.equal(stderr.trim().split('\n').length, 1, 'one line')
    t.match(stderr, /missing|damaged/)
    for (const [path, bytes] of read(to))
      t.ok(files.get(path)?.equals(bytes), `${path} is right or not there`)
  })
})
