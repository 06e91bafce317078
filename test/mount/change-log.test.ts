import { execFileSync, spawn, type ChildProcess } from 'node:child_process'
import { closeSync, openSync, readSync, truncateSync, writeFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface, type Interface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'
import type { Change } from '../../lib/format/changes.js'
import { ChangeLogReader } from '../../lib/mount/change-log.js'
import { until } from '../helpers/mounted.js'

t.setTimeout(120_000)

/** Bytes of an inode in the race. */
const slots = 64
const root = fileURLToPath(new URL('../../..', import.meta.url))
const build = await mkdtemp(join(tmpdir(), 'kith-log-writer-'))
t.teardown(() => rm(build, { recursive: true, force: true }))
const writerProgram = join(build, 'log-writer')
const sources = ['test/mount/native/log-writer.cc', 'native/kith-fuse/changes.cc']
const flags = ['-std=c++20', '-g', '-Wall', '-Wextra', '-fsanitize=address,undefined', '-pthread']
execFileSync('g++', [...flags, '-Inative/kith-fuse', ...sources, '-o', writerProgram], { cwd: root })

class Writer {
  readonly child: ChildProcess
  readonly #lines: Interface
  readonly #waiting: ((line: string) => void)[] = []

  constructor(t: Test, dir: string) {
    this.child = spawn(writerProgram, [dir], { stdio: ['pipe', 'pipe', 'inherit'] })
    if (!this.child.stdout) throw new Error('it has an output')
    this.#lines = createInterface(this.child.stdout)
    this.#lines.on('line', (line) => this.#waiting.shift()?.(line))
    t.teardown(() => this.child.kill('SIGKILL'))
  }

  /** Carries out one line; gives the records written so far, and `lost`. */
  async do(line: string): Promise<{ written: number; lost: number }> {
    const answer = await new Promise<string>((resolve) => {
      this.#waiting.push(resolve)
      this.child.stdin?.write(`${line}\n`)
    })
    const [written = NaN, lost = NaN] = answer.split(' ').map(Number)
    return { written, lost }
  }

  async kill(): Promise<void> {
    this.child.kill('SIGKILL')
    await new Promise((resolve) => this.child.once('close', resolve))
  }
}

async function setUp(t: Test): Promise<{ dir: string; writer: Writer; log: ChangeLogReader }> {
  const dir = await mkdtemp(join(tmpdir(), 'kith-log-'))
  t.teardown(() => rm(dir, { recursive: true, force: true }))
  const writer = new Writer(t, dir)
  await writer.do('nothing')
  const log = await ChangeLogReader.open(join(dir, 'changes'))
  t.teardown(() => log.close())
  t.same(await log.take(), { changes: [], lost: true }, 'a new log has seen nothing yet')
  await log.done()
  return { dir, writer, log }
}

function brief(changes: Change[]): string[] {
  return changes.map(
    ({ kind, ino, parent, offset, length, name }) =>
      `${kind} ${ino} ${parent} ${name ? String(name) : `${offset}+${length}`}`,
  )
}

t.test('what the server writes, the daemon reads', async (t) => {
  const { writer, log } = await setUp(t)
  for (const line of ['data 5 100 50', 'truncate 6 77', 'attributes 7', 'names 8 9 n', 'open 10', 'close 11'])
    await writer.do(line)
  const expected = [
    'data 5 0 100+50',
    'truncate 6 0 77+0',
    'attributes 7 0 0+0',
    'names 9 8 n',
    'open 10 0 0+0',
    'close 11 0 0+0',
  ]
  t.same(brief((await log.take()).changes), expected)
  t.same(brief((await log.take()).changes), expected, 'again, until it is done')
  await log.done()
  t.same(await log.take(), { changes: [], lost: false })
})

t.test('changes that lie together make one record', async (t) => {
  const { writer, log } = await setUp(t)
  for (const line of [
    'data 5 100 50',
    'data 5 150 50',
    'data 5 120 10',
    'data 5 90 10',
    'data 6 0 1',
    'data 5 500 1',
  ])
    await writer.do(line)
  for (const line of [
    'open 7',
    'close 7',
    'open 7',
    'attributes 5',
    'attributes 5',
    'names 1 5 a',
    'names 1 5 a',
    'names 1 5 b',
    'names 2 5 a',
    'names 1 5 b',
    'truncate 9 50',
    'truncate 9 10',
    'truncate 9 80',
  ])
    await writer.do(line)
  t.same(brief((await log.take()).changes), [
    'data 5 0 90+110',
    'data 6 0 0+1',
    'data 5 0 500+1',
    'open 7 0 0+0',
    'attributes 5 0 0+0',
    'names 5 1 a',
    'names 5 1 b',
    'names 5 2 a',
    'truncate 9 0 10+0',
  ])
  await writer.do('data 5 501 1')
  await log.done()
  t.same(
    brief((await log.take()).changes),
    ['data 5 0 501+1'],
    'a record that was taken takes in nothing more',
  )
})

t.test('scattered writes to one file do not fill the log of the others', async (t) => {
  const { writer, log } = await setUp(t)
  for (let i = 0; i < 600; i++) await writer.do(`data 5 ${i * 10} 1`)
  const { changes } = await log.take()
  t.ok(changes.length <= 257, `${changes.length} records`)
  for (let i = 0; i < 600; i++)
    if (!changes.some(({ offset, length }) => offset <= i * 10 && i * 10 + 1 <= offset + length))
      t.fail(`the write at ${i * 10} is not covered`)
})

t.test('names of every length, also across the end of the ring', async (t) => {
  const { writer, log } = await setUp(t)
  await writer.do('repeat 65530 1000000')
  await log.take()
  await log.done()
  const names = [1, 31, 32, 33, 64, 255].map((length) => 'abcdefghij'.repeat(26).slice(0, length))
  for (const name of names) await writer.do(`names 1 5 ${name}`)
  const { changes, lost } = await log.take()
  t.notOk(lost)
  t.same(
    changes.map(({ name }) => String(name)),
    names,
  )
  await log.done()
  await writer.do('repeat 65530 1')
  const full = await writer.do(`names 1 5 ${names[5]}`)
  t.equal(full.lost, 2, 'a name for which there is no room is lost as a whole')
  const taken = await log.take()
  t.same([taken.changes.length, taken.lost], [65_530, true])
})

t.test('the ring goes round, and overflows into `lost`', async (t) => {
  const { writer, log } = await setUp(t)
  for (let round = 0; round < 3; round++) {
    const { lost } = await writer.do(`repeat 50000 ${1 + round * 50_000}`)
    t.equal(lost, 1)
    const taken = await log.take()
    t.notOk(taken.lost)
    t.equal(taken.changes.length, 50_000)
    t.equal(taken.changes[0]?.ino, BigInt(1 + round * 50_000))
    t.equal(taken.changes.at(-1)?.ino, BigInt(50_000 + round * 50_000))
    await log.done()
  }
  const { written, lost } = await writer.do('repeat 70000 1000000')
  t.equal(written, 150_000 + 65_536)
  t.ok(lost > 1)
  const taken = await log.take()
  t.equal(taken.changes.length, 65_536)
  t.ok(taken.lost)
  await log.done()
  await writer.do('data 1 0 1')
  t.same(await log.take().then(({ changes, lost }) => [changes.length, lost]), [1, false], 'and goes on')
})

t.test('records outlive either side', async (t) => {
  const { dir, writer, log } = await setUp(t)
  await writer.do('data 5 0 10')
  await log.take()
  await log.close()
  const reader = await ChangeLogReader.open(join(dir, 'changes'))
  t.teardown(() => reader.close())
  const session = (await reader.header()).session
  t.same(brief((await reader.take()).changes), ['data 5 0 0+10'], 'the daemon was killed before done()')
  t.throws(() => execFileSync(writerProgram, [dir, 'x'], { stdio: 'ignore' }), 'one server at a time')
  await writer.kill()
  const next = new Writer(t, dir)
  await next.do('data 6 0 10')
  t.not((await reader.header()).session, session)
  const taken = await reader.take()
  t.same(brief(taken.changes), ['data 5 0 0+10', 'data 6 0 0+10'])
  t.ok(taken.lost, 'what the dead server had not written down is unknown')
  await reader.done()
  t.same(await reader.take(), { changes: [], lost: false })
})

t.test('a log that is no log is made anew', async (t) => {
  const { dir, writer } = await setUp(t)
  await writer.kill()
  writeFileSync(join(dir, 'changes'), 'something else')
  await t.rejects(ChangeLogReader.open(join(dir, 'changes')), { code: 'damaged' })
  const next = new Writer(t, dir)
  await next.do('data 5 0 10')
  const log = await ChangeLogReader.open(join(dir, 'changes'))
  t.same(await log.take().then(({ changes, lost }) => [changes.length, lost]), [1, true])
  await log.close()
  await next.kill()
  truncateSync(join(dir, 'changes'), 100_000)
  const last = new Writer(t, dir)
  await last.do('data 5 0 10')
  const again = await ChangeLogReader.open(join(dir, 'changes'))
  t.ok((await again.take()).lost)
  await again.close()
})

t.test('no change is missed, however taking and writing meet', async (t) => {
  const dir = await mkdtemp(join(tmpdir(), 'kith-log-'))
  t.teardown(() => rm(dir, { recursive: true, force: true }))
  const [threads, inodes] = [3, 6_000]
  const total = (threads * inodes + 1) * slots
  const child = spawn(writerProgram, [dir, 'race', `${threads}`, `${inodes}`], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  t.teardown(() => child.kill('SIGKILL'))
  let output = ''
  let ended = false
  child.stdout?.on('data', (bytes: Buffer) => (output += bytes.toString()))
  child.once('close', () => (ended = true))
  let log: ChangeLogReader | undefined
  await until('the log is there', async () => {
    log = await ChangeLogReader.open(join(dir, 'changes')).catch(() => undefined)
    return ((await log?.header())?.written ?? 0) > 0
  })
  if (!log) return
  const truth = openSync(join(dir, 'truth'), 'r')
  const seen = Buffer.alloc(total)
  const look = (from: number, length: number) => readSync(truth, seen, from, length, from)
  let takes = 0
  for (let last = false; !last;) {
    last = ended
    const { changes, lost } = await log.take()
    takes++
    if (lost) look(0, total)
    for (const { ino, offset, length } of changes) look(Number(ino) * slots + offset, length)
    await log.done()
    if (!(await log.sleep()) && !ended) await new Promise((resolve) => setImmediate(resolve))
  }
  const missed = seen.subarray(slots).filter((byte) => byte !== 1).length
  t.equal(missed, 0)
  const wakes = output.split('wake').length - 1
  t.match(output, /done/)
  t.ok(takes > 10 && wakes > 0 && wakes <= takes, `${takes} takes, ${wakes} wake-ups`)
  closeSync(truth)
  await log.close()
})
