import t from 'tap'
import { mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { connect, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { systemClock } from '../../lib/base/clock.js'
import { KithError } from '../../lib/base/errors.js'
import { silentLog } from '../../lib/base/log.js'
import { seeded } from '../../lib/base/random.js'
import { maxLineBytes, methods } from '../../lib/daemon/api.js'
import { ControlClient } from '../../lib/daemon/control-client.js'
import { ControlServer, type Handlers, type Job } from '../../lib/daemon/control-server.js'

const info = {
  name: '2024-06-01T09-30-00Z',
  id: '00',
  time: 1,
  files: 2,
  bytes: 3,
  busy: 0,
  bytesNew: 4,
  pinned: false,
  tags: [],
}

/** A home with a server in it. `snapshot` is a job that runs until `finish` or until it is cancelled. */
async function serve(test: { teardown(end: () => Promise<void>): unknown }, homeName = 'home') {
  const base = mkdtempSync(join(tmpdir(), 'kith-control-'))
  const home = join(base, homeName)
  mkdirSync(home, { recursive: true, mode: 0o700 })
  const jobs: (Job & { finish(): void })[] = []
  let sent = 0
  const refuse = async () => {
    throw new KithError('notFound', 'nothing here')
  }
  const handlers: Handlers = {
    ...(Object.fromEntries(Object.keys(methods).map((name) => [name, refuse])) as unknown as Handlers),
    hello: async () => ({ version: '1', pid: process.pid, home, id: null }),
    snapshot: (_params, job) =>
      new Promise((resolve, reject) => {
        jobs.push({
          ...job,
          finish: () =>
            resolve({ ...info, problemCount: 0, problems: [], excluded: { pattern: 0, cache: 0, large: 0 } }),
        })
        job.signal.addEventListener('abort', () => reject(new Error('aborted')))
      }),
  }
  handlers.ls = async ({ recursive }, job) => {
    const item = { type: 'file' as const, mode: 0, uid: 0, gid: 0, links: 1, size: 0, mtime: 0 }
    let entries = 0
    // Without an end, when it is asked to be recursive.
    for (; recursive || entries < 1000; entries += 100) {
      sent = entries
      await job.send(Array.from({ length: 100 }, (_, i) => ({ ...item, path: `${entries + i}`.padEnd(200) })))
    }
    return { snapshot: 'x', entries }
  }
  const server = new ControlServer(home, handlers, { clock: systemClock, log: silentLog() })
  await server.listen()
  test.teardown(async () => {
    server.stopListening()
    await server.end()
    rmSync(base, { recursive: true })
  })
  return { home, server, jobs, sent: () => sent }
}

/** Sends bytes, and collects what comes back until the connection ends. */
class Raw {
  readonly socket: Socket
  lines: string[] = []
  #rest = ''
  readonly closed: Promise<void>
  #changed: () => void = () => undefined

  constructor(home: string) {
    this.socket = connect(join(home, 'kithd.sock'))
    this.socket.on('error', () => undefined)
    this.socket.on('data', (data: Buffer) => {
      const parts = (this.#rest + data.toString()).split('\n')
      this.#rest = parts.pop() ?? ''
      this.lines.push(...parts)
      this.#changed()
    })
    this.closed = new Promise((resolve) =>
      this.socket.on('close', () => {
        resolve()
        this.#changed()
      }),
    )
  }

  async reply(count: number): Promise<Record<string, unknown>[]> {
    while (this.lines.length < count && !this.socket.destroyed) {
      await new Promise<void>((resolve) => (this.#changed = resolve))
    }
    return this.lines.map((line) => JSON.parse(line) as Record<string, unknown>)
  }
}

function request(id: unknown, method: string, params: unknown = {}): string {
  return `${JSON.stringify({ jsonrpc: '2.0', id, method, params })}\n`
}

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setImmediate(resolve))
}

t.test('answers requests, by id, and refuses what is none', async (t) => {
  const { home } = await serve(t)
  t.equal(statSync(join(home, 'kithd.sock')).mode & 0o777, 0o600, 'the socket is for its user only')
  const raw = new Raw(home)
  raw.socket.write(
    request(1, 'hello') + request('two', 'nonsense') + request(3, 'mount', { dir: 'relative' }),
  )
  raw.socket.write(`[]\n42\n{"jsonrpc":"1.0","id":1,"method":"hello"}\n${request(undefined, 'hello')}`)
  raw.socket.write(
    request(4, 'mount', { dir: '/x', more: 1 }) + request(5, 'constructor') + request(6, 'status'),
  )
  const replies = await raw.reply(9)
  const byId = (id: unknown) =>
    replies.find((reply) => reply.id === id) as { error?: { code: number; data?: { code: string } } }
  t.match(byId(1), { jsonrpc: '2.0', result: { pid: process.pid, home } })
  t.equal(byId('two').error?.code, -32601)
  t.match(byId(3).error, { code: -32602, data: { code: 'usage' } })
  t.match(byId(4).error, { code: -32602, data: { code: 'usage' } }, 'unknown parameters are refused')
  t.equal(byId(5).error?.code, -32601, 'no method comes from a prototype')
  t.equal(byId(6).error?.data?.code, 'notFound')
  t.equal(replies.filter(({ id }) => id === null).length, 3, 'what is no request gets an error without an id')
  raw.socket.destroy()
})

t.test('ends a connection that sends no JSON, no UTF-8, or a line without end', async (t) => {
  const { home } = await serve(t)
  for (const bytes of [
    Buffer.from('hello?\n'),
    Buffer.from([0x22, 0xff, 0x22, 10]),
    Buffer.alloc(maxLineBytes + 2, 'x'),
  ]) {
    const raw = new Raw(home)
    raw.socket.write(bytes)
    await raw.closed
    t.match(JSON.parse(raw.lines[0] ?? '{}'), { id: null, error: { code: -32700 } })
  }
})

t.test('the client gets results, errors and progress', async (t) => {
  const { home, jobs } = await serve(t)
  const client = await ControlClient.connect(home)
  if (!client) throw new Error('no server')
  t.equal((await client.call('hello', {})).home, home)
  await t.rejects(client.call('status', {}), { code: 'notFound', message: 'nothing here' })
  const notes: number[] = []
  const running = client.call('snapshot', {}, { onProgress: ({ done }) => notes.push(done) })
  await until(() => jobs.length === 1)
  for (let done = 0; done <= 1000; done++) jobs[0]?.progress({ stage: 'x', done, total: 1000, unit: 'files' })
  jobs[0]?.finish()
  t.match(await running, info)
  t.equal(notes[0], 0, 'the first note comes')
  t.equal(notes.at(-1), 1000, 'and the last')
  t.ok(notes.length < 100, 'not all of them')
  client.close()
  await client.closed
  await t.rejects(client.call('hello', {}), { code: 'noDaemon' })
})

t.test('a client that goes away cancels its job', async (t) => {
  const { home, jobs } = await serve(t)
  const client = await ControlClient.connect(home)
  const running = client?.call('snapshot', {})
  await until(() => jobs.length === 1)
  client?.close()
  if (running) await t.rejects(running, { code: 'noDaemon' })
  await until(() => jobs[0]?.signal.aborted === true)
  t.pass('aborted')
})

t.test('an ending server answers its jobs', async (t) => {
  const { home, jobs, server } = await serve(t)
  const client = await ControlClient.connect(home)
  const running = client?.call('snapshot', {})
  await until(() => jobs.length === 1)
  server.stopListening()
  if (running) await t.rejects(running, { code: 'cancelled' })
  t.equal(await ControlClient.connect(home), undefined, 'nobody else gets in')
  await server.end()
  await client?.closed
  t.pass('the connection ended')
})

t.test('bounds requests at work and connections', async (t) => {
  const { home, jobs } = await serve(t)
  const raw = new Raw(home)
  for (let id = 0; id < 40; id++) raw.socket.write(request(id, 'snapshot'))
  const other = new Raw(home)
  other.socket.write(request(1, 'hello'))
  await other.reply(1)
  await until(() => jobs.length === 16)
  t.equal(jobs.length, 16, 'further ones wait')
  for (let finished = 0; finished < 40; finished++) {
    await until(() => jobs.length > finished)
    jobs[finished]?.finish()
  }
  t.equal((await raw.reply(40)).length, 40, 'and get their turn')
  const more: Raw[] = []
  for (let i = 0; i < 62; i++) {
    const one = new Raw(home)
    one.socket.write(request(1, 'hello'))
    await one.reply(1)
    more.push(one)
  }
  const tooMany = new Raw(home)
  await tooMany.closed
  t.match(tooMany.lines[0], /too many connections/)
  for (const one of [...more, raw, other]) one.socket.destroy()
})

t.test('a home with a long path, and a dead socket in it', async (t) => {
  const { home } = await serve(t, join('a'.repeat(120), 'b'.repeat(120)))
  const client = await ControlClient.connect(home)
  t.equal((await client?.call('hello', {}))?.home, home)
  client?.close()

  const stale = mkdtempSync(join(tmpdir(), 'kith-stale-'))
  t.teardown(() => rmSync(stale, { recursive: true }))
  writeFileSync(join(stale, 'kithd.sock'), '')
  t.equal(await ControlClient.connect(stale), undefined, 'nobody serves it')
  const server = new ControlServer(stale, {} as Handlers, { clock: systemClock, log: silentLog() })
  await server.listen()
  const fresh = await ControlClient.connect(stale)
  t.ok(fresh, 'served now')
  fresh?.close()
  server.stopListening()
  await server.end()
})

t.test('10,000 seeded mutations of requests: no crash, no hang', async (t) => {
  const { home, jobs } = await serve(t)
  const random = seeded(7)
  const pick = <T>(list: readonly T[]): T => list[random() % list.length] as T
  const names = Object.keys(methods).filter((name) => name !== 'snapshot')
  const params = [
    {},
    { dir: '/tmp/x' },
    { snapshot: 'latest', to: '/tmp/y', overwrite: 'never', path: 'a/b' },
    { code: 'abc' },
    { bootstrap: ['127.0.0.1:1'] },
    { phrase: 'abandon '.repeat(24), to: '/z', overwrite: 'always' },
    { full: true },
  ]
  const mutate = (bytes: Buffer): Buffer => {
    let out = Buffer.from(bytes)
    for (let n = random() % 4; n >= 0; n--) {
      const at = random() % (out.length + 1)
      const kind = random() % 5
      if (kind === 0 && at < out.length) out.writeUInt8(random() & 255, at)
      else if (kind === 1) out = out.subarray(0, at)
      else if (kind === 2) out = Buffer.concat([out.subarray(0, at), pick(tokens), out.subarray(at)])
      else if (kind === 3) out = Buffer.concat([out.subarray(0, at), out.subarray(at + (random() % 16))])
      else out = Buffer.concat([out, out.subarray(at)])
    }
    return out
  }
  const tokens = [
    '{',
    '}',
    '[',
    '"',
    ',',
    ':',
    'null',
    '-1e999',
    '\\u0000',
    '\n',
    '"__proto__":{"x":1},',
    '[[[[[[',
    '\0',
  ]
    .concat(['{"jsonrpc":"2.0"}', ' '.repeat(1000), '9'.repeat(400)])
    .map((token) => Buffer.from(token))
  const perConnection = 5 // the first that is no JSON ends its connection
  for (let sent = 0; sent < 10_000; sent += perConnection) {
    const raw = new Raw(home)
    for (let i = 0; i < perConnection; i++) {
      raw.socket.write(mutate(Buffer.from(request(random() % 10, pick(names), pick(params)))))
    }
    raw.socket.end('\n')
    await raw.closed
    for (const line of raw.lines) if (!line.startsWith('{"jsonrpc":"2.0"')) t.fail(`strange reply ${line}`)
  }
  t.equal(jobs.length, 0)
  const client = await ControlClient.connect(home)
  t.equal((await client?.call('hello', {}))?.home, home, 'it still serves')
  client?.close()
})

t.test('items of a listing come in order, each taken before the next', async (t) => {
  const { home } = await serve(t)
  const client = await ControlClient.connectOrStart(home)
  const seen: number[] = []
  let taking = 0
  const onItems = async (items: unknown[]) => {
    t.equal(++taking, 1, 'one batch at a time')
    await new Promise((resolve) => setImmediate(resolve))
    for (const item of items) seen.push(Number((item as { path: string }).path))
    taking--
  }
  const result = await client.call('ls', { snapshot: 'x', recursive: false }, { onItems })
  t.equal(result.entries, 1000)
  t.same(
    seen,
    Array.from({ length: 1000 }, (_, i) => i),
  )
  const failing = { onItems: () => Promise.reject(new KithError('noSpace', 'cannot write')) }
  await t.rejects(client.call('ls', { snapshot: 'x', recursive: false }, failing), { code: 'noSpace' })
  client.close()
})

t.test('a listing waits for a client that does not read, and ends with it', async (t) => {
  const { home, sent } = await serve(t)
  const raw = new Raw(home)
  raw.socket.pause()
  raw.socket.write(request(1, 'ls', { snapshot: 'x', recursive: true }))
  await until(() => sent() > 0)
  const rest = async () => {
    for (let i = 0; i < 200; i++) await new Promise((resolve) => setImmediate(resolve))
    return sent()
  }
  let before = -1
  for (let now = sent(); now !== before; now = await rest()) before = now
  t.ok(before < 100_000, `${before} items were sent`)
  raw.socket.destroy()
  await raw.closed
})
