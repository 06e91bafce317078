import { execFileSync, spawn, type ChildProcess } from 'node:child_process'
import { mkdtemp, rm, stat } from 'node:fs/promises'
import { constants, tmpdir } from 'node:os'
import { join } from 'node:path'
import { createConnection, type Socket } from 'node:net'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'
import { systemClock } from '../../lib/base/clock.js'
import { silentLog } from '../../lib/base/log.js'
import { seeded } from '../../lib/base/random.js'
import { decodeStop, encodeDaemonHello, encodeFrame, frameHeaderBytes } from '../../lib/format/bridge.js'
import { BridgeClient } from '../../lib/mount/bridge-client.js'
import { until } from '../helpers/mounted.js'
import { freeze } from '../helpers/freeze.js'

t.setTimeout(180_000)

const root = fileURLToPath(new URL('../../..', import.meta.url))
const build = await mkdtemp(join(tmpdir(), 'kith-bridge-'))
t.teardown(() => rm(build, { recursive: true, force: true }))
const program = join(build, 'bridge-server')
const sources = [
  'test/mount/native/bridge-server.cc',
  'native/kith-fuse/bridge.cc',
  'native/kith-fuse/changes.cc',
]
const flags = ['-std=c++20', '-g', '-Wall', '-Wextra', '-fsanitize=address,undefined', '-pthread']
execFileSync(
  'g++',
  [...flags, '-fno-sanitize-recover=undefined', '-Inative/kith-fuse', ...sources, '-o', program],
  { cwd: root },
)

const options = { clock: systemClock, log: silentLog() }
const { EAGAIN } = constants.errno

class Server {
  readonly child: ChildProcess
  readonly lines: string[] = []
  ended: number | null | undefined

  constructor(readonly dir: string) {
    this.child = spawn(program, [dir], { stdio: ['pipe', 'pipe', 'inherit'] })
    if (!this.child.stdout) throw new Error('it has an output')
    createInterface(this.child.stdout).on('line', (line) => this.lines.push(line))
    this.child.on('exit', (code) => (this.ended = code))
  }

  static async start(t: Test): Promise<Server> {
    const dir = await mkdtemp(join(build, 'state-'))
    const server = new Server(dir)
    t.teardown(() => server.child.kill('SIGKILL'))
    await until('it is ready', () => server.lines.includes('ready'))
    return server
  }

  say(line: string): void {
    this.child.stdin?.write(`${line}\n`)
  }

  answers(): string[] {
    return this.lines.filter((line) => line.startsWith('answer'))
  }
}

t.test('greeting, questions both ways, wake-ups, the end', async (t) => {
  const server = await Server.start(t)
  t.equal((await stat(join(server.dir, 'bridge.sock'))).mode & 0o777, 0o600)
  const { client, hello } = await BridgeClient.connect(server.dir, options)
  t.match(hello, { version: 1, pid: server.child.pid, rootDev: 1n, rootIno: 2n })
  client.handle(async (type) => ({ errno: type === 17 ? 0 : 5, body: Buffer.from('four') }))
  server.say('ask 3')
  await until('they are answered', () => server.answers().length === 3)
  t.same(server.answers(), ['answer 0 0 4', 'answer 1 0 4', 'answer 2 0 4'])
  t.equal((await client.command('sync')).length, 8)
  t.same(decodeStop(await client.command('stop')).map(String), ['a/b', 'c'])
  await client.command('invalidate')
  t.equal((await client.command('status')).length, 48)
  await until('all was done', () =>
    ['sync', 'stop', 'invalidate'].every((line) => server.lines.includes(line)),
  )
  const closed = new Promise<void>((resolve) => client.on('closed', resolve))
  server.child.stdin?.end()
  await closed
  await t.rejects(client.command('sync'), { code: 'cancelled' })
  await until('it ends in order', () => server.ended === 0)
  await t.rejects(stat(join(server.dir, 'bridge.sock')), { code: 'ENOENT' })
})

t.test('without a daemon, requests wait a little, and then fail', async (t) => {
  const server = await Server.start(t)
  const started = systemClock.monotonic()
  server.say('ask 2')
  await until('they fail', () => server.answers().length === 2)
  const waited = systemClock.monotonic() - started
  t.same(server.answers().sort(), [`answer 0 ${EAGAIN} 0`, `answer 1 ${EAGAIN} 0`])
  t.ok(waited > 1500 && waited < 9000, `${Math.round(waited)} ms`)
  server.say('ask 1')
  const { client } = await BridgeClient.connect(server.dir, options)
  client.handle(async () => ({ errno: 0, body: Buffer.alloc(0) }))
  await until('the next one is answered', () => server.answers().length === 3)
  t.equal(server.answers()[2], 'answer 2 0 0')
  client.close()
})

t.test('too many requests at once are refused', async (t) => {
  const server = await Server.start(t)
  server.say('ask 5000')
  await until('some are refused', () => server.answers().length >= 904)
  await until('the rest fail in time', () => server.answers().length === 5000)
  t.equal(new Set(server.answers()).size, 5000, 'each exactly once')
})

t.test('what a daemon left unanswered goes to the next one', async (t) => {
  const server = await Server.start(t)
  const first = await BridgeClient.connect(server.dir, options)
  first.client.handle(() => new Promise(() => undefined))
  let replaced = false
  first.client.on('replaced', () => (replaced = true))
  server.say('ask 4')
  await until('it knows them', async () => (await first.client.command('status')).readUInt32LE(44) === 4)
  const second = await BridgeClient.connect(server.dir, options)
  second.client.handle(async () => ({ errno: 2, body: Buffer.alloc(0) }))
  await until('they are answered', () => server.answers().length === 4)
  t.same(
    server.answers().sort(),
    [0, 1, 2, 3].map((i) => `answer ${i} 2 0`),
  )
  await until('the first one is told', () => replaced && !first.client.open)
  second.client.close()
})

t.test('a daemon that says nothing holds nobody up for ever', async (t) => {
  const server = await Server.start(t)
  const { client } = await BridgeClient.connect(server.dir, options)
  client.handle(() => new Promise(() => undefined))
  const started = systemClock.monotonic()
  server.say('ask 1')
  await new Promise((resolve) => setTimeout(resolve, 50))
  t.same(server.answers(), [])
  while (server.answers().length === 0 && systemClock.monotonic() - started < 20_000)
    await new Promise((resolve) => setTimeout(resolve, 50))
  t.same(server.answers(), [`answer 0 ${EAGAIN} 0`])
  server.say('ask 1')
  const again = systemClock.monotonic()
  await until('the next one fails sooner', () => server.answers().length === 2)
  t.ok(systemClock.monotonic() - again < 6000)
  client.close()
})

t.test('wake-ups come when the daemon sleeps, and only then', async (t) => {
  const { ChangeLogReader } = await import('../../lib/mount/change-log.js')
  const server = await Server.start(t)
  const { client } = await BridgeClient.connect(server.dir, options)
  const log = await ChangeLogReader.open(join(server.dir, 'changes'))
  let wakes = 0
  client.on('wake', () => wakes++)
  t.ok(await log.sleep(), 'there is something already')
  await log.take()
  await log.done()
  t.notOk(await log.sleep())
  for (let i = 0; i < 10; i++) server.say('change')
  await until('it wakes', () => wakes === 1)
  await log.take()
  await log.done()
  for (let i = 0; i < 10; i++) server.say('change')
  await until('they are logged', async () => (await log.take()).changes.length > 0)
  await client.command('status')
  t.equal(wakes, 1)
  t.ok(await log.sleep())
  await log.close()
  client.close()
})

/** Sends bytes and waits until the server closes, or for an answer to a question asked after them. */
function throwAt(server: Server, bytes: Buffer): Promise<void> {
  return new Promise((resolve) => {
    const socket: Socket = createConnection(join(server.dir, 'bridge.sock'))
    const done = () => {
      socket.destroy()
      resolve()
    }
    socket.on('error', done)
    socket.on('close', done)
    let got = 0
    socket.on('data', (data: Buffer) => {
      got += data.length
      // Its greeting has 56 bytes; anything after it came because of ours.
      if (got > 56) done()
    })
    socket.end(bytes)
  })
}

t.test('garbage: 3,000 seeded connections, no crash, no hang', async (t) => {
  const server = await Server.start(t)
  const random = seeded(7)
  const hello = encodeDaemonHello()
  for (let round = 0; round < 3_000; round++) {
    const parts = [hello]
    for (let frames = random() % 4; frames > 0; frames--) {
      const type = random() % 4 === 0 ? random() & 0xffff : random() % 24
      // Never `stop` as a whole: what follows would be its answer.
      parts.push(
        encodeFrame(
          type === 3 ? 2 : type,
          BigInt(random() % 8),
          Buffer.alloc(random() % 3 === 0 ? random() % 64 : 0, random()),
        ),
      )
    }
    const bytes = Buffer.concat(parts)
    for (let flips = random() % 3; flips > 0; flips--) bytes[random() % bytes.length] = random() & 0xff
    const length = random() % 5 === 0 ? random() % (bytes.length + 1) : bytes.length
    if (round % 200 === 0) server.say('ask 20')
    await throwAt(server, bytes.subarray(0, length))
    if (server.ended !== undefined) break
  }
  t.equal(server.ended, undefined, 'it lives')
  const { client } = await BridgeClient.connect(server.dir, options)
  client.handle(async () => ({ errno: 0, body: Buffer.alloc(0) }))
  await client.command('status')
  const before = server.answers().length
  server.say('ask 1')
  await until('it serves', () => server.answers().length > before)
  client.close()
})

t.test('connections that never greet are bounded, and do not keep a daemon out', async (t) => {
  const server = await Server.start(t)
  const sockets = Array.from({ length: 4 }, () => createConnection(join(server.dir, 'bridge.sock')))
  for (const socket of sockets) socket.on('error', () => undefined)
  await until('they are connected', () => sockets.every((socket) => socket.readyState === 'open'))
  sockets[0]?.write(Buffer.alloc(frameHeaderBytes, 0xff))
  let client: BridgeClient | undefined
  while (!client)
    client = await BridgeClient.connect(server.dir, options).then(
      (got) => got.client,
      () => undefined,
    )
  await client.command('status')
  client.close()
  for (const socket of sockets) socket.destroy()
})

t.test('a kith-fuse that does not answer is given up on, by the clock', async (t) => {
  const server = await Server.start(t)
  const due: (() => void)[] = []
  const clock = {
    ...systemClock,
    after: (_ms: number, run: () => void) => (due.push(run), { cancel: () => undefined }),
  }
  const { client } = await BridgeClient.connect(server.dir, { ...options, clock })
  await freeze(server.child.pid ?? 0)
  const asked = client.command('status')
  for (const run of due) run()
  await t.rejects(asked, { code: 'timeout' })
  await t.rejects(
    Promise.all([
      BridgeClient.connect(server.dir, { ...options, clock }),
      until('it waits', () => due.length > 2).then(() => due.at(-1)?.()),
    ]),
    {
      code: 'timeout',
    },
  )
  server.child.kill('SIGCONT')
  client.close()
})
