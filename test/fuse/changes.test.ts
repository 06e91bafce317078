// What the change log says after each operation, once the operation has returned.
import t from 'tap'
import { createHash } from 'node:crypto'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import {
  appendFileSync,
  chmodSync,
  closeSync,
  constants,
  copyFileSync,
  fsyncSync,
  linkSync,
  lstatSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmdirSync,
  statSync,
  symlinkSync,
  unlinkSync,
  utimesSync,
  writeSync,
} from 'node:fs'
import type { Change } from '../../lib/format/changes.js'
import { ChangeLogReader } from '../../lib/mount/change-log.js'
import { mountForTest, ran, type TestMount } from '../helpers/fuse-mount.js'

t.setTimeout(120_000)

/** From this size on the ranges that a writer writes are told, and not only that it wrote. */
const big = 64 << 20

/** `data:1:0+5` for bytes 0 to 5 of inode 1, with inode numbers as the names given. */
function described(changes: Change[], names: Record<string, string>): string[] {
  const name = (ino: bigint) => names[String(ino)] ?? '?'
  return changes
    .map(({ kind, ino, parent, offset, length, name: of }) => {
      if (kind === 'names') return `names ${name(parent)} ${name(ino)} ${String(of)}`
      if (kind === 'data') return `data ${name(ino)} ${offset}+${length}`
      if (kind === 'truncate') return `truncate ${name(ino)} ${offset}`
      return `${kind} ${name(ino)}`
    })
    .sort()
}

class Watched {
  readonly names: Record<string, string> = {}

  private constructor(
    readonly mount: TestMount,
    readonly log: ChangeLogReader,
  ) {
    this.knows('root', '')
  }

  static async start(t: { teardown(fn: () => Promise<void>): void }, mount: TestMount): Promise<Watched> {
    const log = await ChangeLogReader.open(join(mount.state, 'changes'))
    t.teardown(() => log.close())
    return new Watched(mount, log)
  }

  path(name: string): string {
    return join(this.mount.dir, name)
  }

  knows(word: string, name: string): void {
    this.names[String(lstatSync(this.path(name), { bigint: true }).ino)] = word
  }

  /** What the log has since the last call. */
  async said(): Promise<string[]> {
    const { changes } = await this.log.take()
    const said = described(changes, this.names)
    await this.log.done()
    return said
  }

  /** The same without what is told of handles that the kernel serves alone: their RELEASE comes some time after close(2). */
  async done(): Promise<string[]> {
    return (await this.said()).filter((line) => !/^(open|close) /.test(line))
  }
}

t.test('each operation is in the log when it has returned', async (t) => {
  const watched = await Watched.start(t, await mountForTest(t))
  const at = (name: string) => watched.path(name)
  await watched.said()

  closeSync(openSync(at('f'), 'w'))
  watched.knows('f', 'f')
  t.same(await watched.done(), ['names root f f', 'truncate f 0'])
  await ran('truncate', ['-s', String(big), at('f')])
  t.same(await watched.done(), [`truncate f ${big}`])
  const fd = openSync(at('f'), constants.O_WRONLY)
  writeSync(fd, 'hello', 100)
  t.same(await watched.done(), ['data f 100+5'])
  closeSync(fd)
  t.same(await watched.done(), [])
  appendFileSync(at('f'), 'more')
  t.same(await watched.done(), [`data f ${big}+4`])
  await ran('truncate', ['-s', '50', at('f')])
  t.same(await watched.done(), ['truncate f 50'])
  for (const change of [
    () => chmodSync(at('f'), 0o600),
    () => utimesSync(at('f'), 1, 2),
    () => ran('setfattr', ['-n', 'user.a', '-v', 'b', at('f')]),
    () => ran('setfattr', ['-x', 'user.a', at('f')]),
    () => ran('setfacl', ['-m', 'u:1000:r', at('f')]),
    () => ran('chown', ['7:8', at('f')]),
  ]) {
    await change()
    t.same([...new Set(await watched.done())], ['attributes f'], change.toString())
  }
  mkdirSync(at('d'))
  watched.knows('d', 'd')
  t.same(await watched.done(), ['names root d d'])
  linkSync(at('f'), at('d/g'))
  t.same(await watched.done(), ['attributes f', 'names d f g'])
  renameSync(at('f'), at('d/h'))
  t.same(await watched.done(), ['names d f h', 'names root f f'])
  symlinkSync('x', at('s'))
  watched.knows('s', 's')
  t.same(await watched.done(), ['names root s s'])
  renameSync(at('s'), at('d/g'))
  t.same(await watched.done(), ['names d f g', 'names d s g', 'names root s s'], 'the replaced one, too')
  renameSync(at('d/h'), at('d/i'))
  t.same(await watched.done(), ['names d f h', 'names d f i'])
  renameSync(at('d/i'), at('d/h'))
  await watched.done()
  unlinkSync(at('d/g'))
  unlinkSync(at('d/h'))
  rmdirSync(at('d'))
  t.same(await watched.done(), ['names d f h', 'names d s g', 'names root d d'])
  t.throws(() => rmdirSync(at('d')))
  t.throws(() => mkdirSync(at('none/d')))
  t.same(await watched.done(), [], 'what failed is not there')
})

t.test('copies inside the kernel, holes, and bytes that nobody sees being written', async (t) => {
  const watched = await Watched.start(t, await mountForTest(t))
  const at = (name: string) => watched.path(name)
  const script = (text: string) =>
    ran('python3', ['-c', `import os, mmap\nos.chdir('${watched.mount.dir}')\n${text}`])
  await script(`open('a', 'wb').write(b'a' * 20_000); open('b', 'wb')`)
  watched.knows('a', 'a')
  watched.knows('b', 'b')
  await watched.done()
  await script(
    `os.copy_file_range(os.open('a', os.O_RDONLY), os.open('b', os.O_WRONLY), 10_000, 5_000, 7)
os.posix_fallocate(os.open('b', os.O_WRONLY), 0, 30_000)`,
  )
  t.same(await watched.done(), ['data b 0+30000'], 'records of one file are joined')
  readFileSync(at('a'))
  t.same(await watched.done(), [], 'readers leave no trace')

  await script(`
fd = os.open('a', os.O_RDWR)
view = mmap.mmap(fd, 20_000)
view[5:10] = b'apple'
os.pwrite(fd, b'plum', 100)
before = os.stat('a').st_mtime_ns
os.utime('a', ns=(1, 1))
view[4096:4100] = b'late'
view.flush()`)
  // Where the kernel does not serve such a handle itself, each write is seen.
  const told = (lines: string[]) => lines.includes('open a') || lines.some((line) => /^data a 0\+/.test(line))
  let said: string[] = []
  while (!told(said)) said = said.concat(await watched.said())
  t.ok(said.length > 0)
  const sum = (path: string) => createHash('sha256').update(readFileSync(path)).digest('hex')
  t.equal(sum(at('a')), sum(join(watched.mount.under, 'a')))
  copyFileSync(at('a'), at('c'))
  t.equal(statSync(at('c')).size, 20_000)
})

t.test(
  'a file that is written by the kernel alone counts as changing until its last writer is gone',
  async (t) => {
    const watched = await Watched.start(t, await mountForTest(t))
    const at = (name: string) => watched.path(name)
    const fd = openSync(at('f'), 'w')
    watched.knows('f', 'f')
    const first = await watched.said()
    if (!first.includes('open f')) return t.pass('here the kernel serves nobody alone')
    const closed = async () => {
      const said: string[] = []
      while (!said.includes('close f')) said.push(...(await watched.said()))
      t.same(said, ['close f'])
    }
    writeSync(fd, 'hello')
    t.same(await watched.said(), [])
    closeSync(fd)
    await closed()

    const [one, other] = [1, 2].map(() => openSync(at('f'), constants.O_WRONLY)) as [number, number]
    t.same(await watched.said(), ['open f'])
    closeSync(one)
    writeSync(other, 'HE')
    fsyncSync(other)
    t.same(await watched.said(), [])
    closeSync(other)
    await closed()
  },
)

t.test('of a huge file each change is told by its place, also of who reads and maps it', async (t) => {
  const watched = await Watched.start(t, await mountForTest(t))
  const file = JSON.stringify(watched.path('huge'))
  const python = (script: string) =>
    ran('python3', ['-c', `import mmap, os\nfile = ${file}\nhuge = 1 << 30\n${script}`])
  await python(`os.truncate(os.open(file, os.O_WRONLY | os.O_CREAT), huge)`)
  watched.knows('huge', 'huge')
  await watched.said()
  await python(`
reader = os.open(file, os.O_RDONLY)
view = mmap.mmap(reader, huge, prot=mmap.PROT_READ)
both = os.open(file, os.O_RDWR)
os.pwrite(both, b'beside', 1000)
assert view[1000:1006] == b'beside'
`)
  t.ok((await watched.said()).includes('open huge'), 'all of it, as somebody maps the file below')
  // Its RELEASE comes some time after the end; from then on who asks for the attributes has the end told.
  let isOver = false
  while (!isOver) {
    statSync(watched.path('huge'))
    isOver = (await watched.said()).includes('close huge')
    await delay(5)
  }
  await python(`
both = os.open(file, os.O_RDWR)
assert os.pread(both, 6, 1000) == b'beside'
reader = os.open(file, os.O_RDONLY)
writer = os.open(file, os.O_WRONLY)
view = mmap.mmap(both, huge)
os.pwrite(both, b'both', 500000000)
os.pwrite(writer, b'writer', 600000000)
view[700416000:700416006] = b'mapped'
for at, text in (500000000, b'both'), (600000000, b'writer'), (700416000, b'mapped'):
    assert os.pread(reader, len(text), at) == text and view[at:at + len(text)] == text, text
view.flush()
`)
  t.same(await watched.said(), ['data huge 500000000+4', 'data huge 600000000+6', 'data huge 700416000+4096'])
  await python(`
reader = os.open(file, os.O_RDONLY)
assert os.pread(reader, 6, 700416000) == b'mapped'
assert os.path.getsize(file) == huge
writer = os.open(file, os.O_WRONLY)
os.pwrite(writer, b'again!', 700416000)
both = os.open(file, os.O_RDWR)
assert os.pread(both, 6, 700416000) == b'again!'
`)
})
