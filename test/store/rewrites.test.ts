import { createCipheriv, createHash } from 'node:crypto'
import { execFileSync } from 'node:child_process'
import {
  appendFileSync,
  closeSync,
  mkdirSync,
  openSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  unlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { gzipSync } from 'node:zlib'
import t, { type Test } from 'tap'
import { seeded } from '../../lib/base/random.js'
import { seededBytes } from '../helpers/bytes.js'
import { change, type Fixture, protect } from '../helpers/store.js'

t.setTimeout(280_000)

/** What people write: it compresses. */
function prose(n: number, bytes = 9000): Buffer {
  const next = seeded(n)
  const words = Array.from({ length: Math.ceil(bytes / 5) }, () => (next() % 4000).toString(36))
  return Buffer.from(words.join(' ').slice(0, bytes))
}

function encrypted(bytes: Buffer, seed = 1): Buffer {
  const key = createHash('sha256').update(String(seed)).digest()
  const cipher = createCipheriv('aes-256-ctr', key, Buffer.alloc(16, seed))
  return Buffer.concat([cipher.update(bytes), cipher.final()])
}

const count = 40

/** All that was counted, for whatever snapshot. */
function taken({ rewrites }: Fixture['volume']) {
  const all = { files: 0, scrambled: 0 }
  for (const { files, scrambled } of rewrites.take()) {
    all.files += files
    all.scrambled += scrambled
  }
  return all
}

/** Documents and pictures of several sizes, in one snapshot; changes are found by looking at everything. */
async function documents(t: Test) {
  const fixture = await protect(t)
  const { dir, rootFd, volume } = fixture
  mkdirSync(join(dir, 'letters'))
  const paths: string[] = []
  for (let n = 0; n < count; n++) {
    const isPicture = n % 4 === 0
    const bytes = 700 + ((n * 7919) % 200_000)
    const path = join(dir, n % 2 ? 'letters' : '.', `${isPicture ? 'picture' : 'letter'}${n}.doc`)
    writeFileSync(path, isPicture ? seededBytes(seeded(n), bytes) : prose(n, bytes))
    paths.push(path)
  }
  writeFileSync(join(dir, 'tiny'), 'hello')
  await volume.snapshot(rootFd)
  const first = taken(volume)
  t.same(first, { files: count, scrambled: 0 }, 'what is new is not scrambled')
  return { fixture, paths, dir }
}

async function after({ volume, rootFd }: Fixture) {
  await volume.recordEverything()
  await volume.snapshot(rootFd)
  return taken(volume)
}

/** In place, as many programs do who do not want to be noticed. */
function overwrite(path: string, bytes: Buffer): void {
  const fd = openSync(path, 'r+')
  writeSync(fd, bytes, 0, bytes.length, 0)
  closeSync(fd)
}

const attacks: [string, (path: string) => void][] = [
  ['in place', (path) => overwrite(path, encrypted(readFileSync(path)))],
  [
    'by a new file in its place',
    (path) => {
      writeFileSync(`${path}~`, encrypted(readFileSync(path)))
      renameSync(`${path}~`, path)
    },
  ],
  [
    'by a new file beside it, which goes then',
    (path) => {
      writeFileSync(`${path}.locked`, encrypted(readFileSync(path)))
      unlinkSync(path)
    },
  ],
  [
    'in place, then renamed',
    (path) => {
      overwrite(path, encrypted(readFileSync(path)))
      renameSync(path, `${path}-pay`)
    },
  ],
  [
    'with a trailer',
    (path) => {
      overwrite(path, encrypted(readFileSync(path)))
      appendFileSync(path, seededBytes(seeded(3), 512))
    },
  ],
]
for (const [how, attack] of attacks)
  t.test(`encrypted ${how}`, async (t) => {
    const { fixture, paths } = await documents(t)
    for (const path of paths) attack(path)
    t.same(await after(fixture), { files: count, scrambled: count })
  })

t.test('the same, told of by the log and read ahead of a snapshot', async (t) => {
  const { fixture, paths } = await documents(t)
  const { volume, rootFd } = fixture
  const ino = (path: string) => statSync(path, { bigint: true }).ino
  for (const [n, path] of paths.entries()) {
    if (n % 2) {
      overwrite(path, encrypted(readFileSync(path)))
      await volume.recordChanges([change('truncate', ino(path)), change('close', ino(path))])
      continue
    }
    writeFileSync(`${path}.locked`, encrypted(readFileSync(path)))
    const named = { parent: ino(dirname(path)), name: Buffer.from(basename(`${path}.locked`)) }
    await volume.recordChanges([
      change('names', ino(`${path}.locked`), named),
      change('close', ino(`${path}.locked`)),
    ])
  }
  await volume.readAhead(rootFd, volume.changedFiles())
  t.same(taken(volume), { files: count, scrambled: count })
  await volume.snapshot(rootFd)
  t.same(taken(volume), { files: 0, scrambled: 0 }, 'the snapshot has only to name them')
})

t.test('who asks late learns what came before each snapshot', async (t) => {
  const { fixture, paths } = await documents(t)
  const { volume, rootFd } = fixture
  const [first] = volume.snapshots()
  for (const path of paths.slice(0, 10)) overwrite(path, encrypted(readFileSync(path)))
  await volume.recordEverything()
  const second = await volume.snapshot(rootFd)
  for (const path of paths.slice(0, 4)) writeFileSync(path, prose(7))
  const ino = (path: string) => statSync(path, { bigint: true }).ino
  await volume.recordChanges(paths.slice(0, 4).map((path) => change('close', ino(path))))
  await volume.readAhead(rootFd, volume.changedFiles())
  await volume.mark([second.name], { pinned: true })
  const counts = volume.rewrites.take()
  t.match(counts, [
    { since: { name: first?.name }, files: 10, scrambled: 10 },
    { since: { name: second.name }, files: 4, scrambled: 0 },
  ])
  t.equal(counts.length, 2, 'marks make no other snapshot of it')
  t.match(volume.rewrites.take(), [{ since: { name: second.name }, files: 0, scrambled: 0 }])
})

t.test('a large file', async (t) => {
  const fixture = await protect(t)
  const { dir, rootFd, volume } = fixture
  const large = join(dir, 'large')
  writeFileSync(large, prose(1, 12_000_000))
  await volume.snapshot(rootFd)
  appendFileSync(large, 'a tail')
  t.same(await after(fixture), { files: 2, scrambled: 0 }, 'first it was new, then it grew')
  overwrite(large, prose(2, 12_000_000))
  t.same(await after(fixture), { files: 1, scrambled: 0 }, 'other prose is no encryption')
  overwrite(large, encrypted(readFileSync(large)))
  t.same(await after(fixture), { files: 1, scrambled: 1 })
  overwrite(large, seededBytes(seeded(4), 1_000_000))
  t.same(await after(fixture), { files: 1, scrambled: 0 }, 'most of it is as it was')
})

const benign: [string, (dir: string, paths: string[]) => void][] = [
  ['edited', (_, paths) => paths.forEach((path, n) => writeFileSync(path, prose(100 + n)))],
  [
    'new pictures among the old',
    (dir) => {
      for (let n = 0; n < 30; n++)
        writeFileSync(join(dir, `new${n}.jpg`), seededBytes(seeded(500 + n), 80_000))
    },
  ],
  [
    'removed, and others unpacked, which may get their inode numbers',
    (dir, paths) => {
      const sizes = paths.map((path) => statSync(path).size)
      for (const path of paths) unlinkSync(path)
      for (const [n, size] of sizes.entries())
        writeFileSync(join(dir, `other${n}.jpg`), seededBytes(seeded(n + 900), size))
    },
  ],
  [
    'compressed one by one',
    (_, paths) => {
      for (const path of paths.filter((path) => path.includes('letter'))) {
        writeFileSync(`${path}.gz`, gzipSync(readFileSync(path)))
        unlinkSync(path)
      }
    },
  ],
  ['moved', (dir) => renameSync(join(dir, 'letters'), join(dir, 'post'))],
  ['touched', (_, paths) => paths.forEach((path) => writeFileSync(path, readFileSync(path)))],
  [
    'copied, the copy renamed over it',
    (_, paths) => {
      for (const path of paths) {
        writeFileSync(`${path}~`, readFileSync(path))
        renameSync(`${path}~`, path)
      }
    },
  ],
  [
    'small files filled with data',
    (dir) => {
      writeFileSync(join(dir, 'tiny'), seededBytes(seeded(1), 50_000))
      writeFileSync(join(dir, 'empty'), '')
    },
  ],
]
for (const [what, work] of benign)
  t.test(`no encryption: ${what}`, async (t) => {
    const { fixture, paths, dir } = await documents(t)
    work(dir, paths)
    t.equal((await after(fixture)).scrambled, 0)
  })

t.test('no encryption: git gc', async (t) => {
  const fixture = await protect(t)
  const { dir, rootFd, volume } = fixture
  const git = (...args: string[]) =>
    execFileSync('git', ['-C', dir, '-c', 'user.name=t', '-c', 'user.email=t@t', ...args], { stdio: 'pipe' })
  git('init', '-q')
  for (let n = 0; n < 8; n++) {
    for (let file = 0; file < 20; file++) writeFileSync(join(dir, `f${file}`), prose(n * 20 + file, 3000))
    git('add', '.')
    git('commit', '-q', '-m', `${n}`)
  }
  await volume.snapshot(rootFd)
  taken(volume)
  git('gc', '-q')
  t.ok(readdirSync(join(dir, '.git/objects/pack')).length > 0)
  t.equal((await after(fixture)).scrambled, 0)
  rmSync(join(dir, '.git'), { recursive: true })
})
