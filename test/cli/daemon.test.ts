import t from 'tap'
import { chmodSync, existsSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { spawn } from 'node:child_process'
import { connect } from 'node:net'
import { join } from 'node:path'
import { exitCodes } from '../../lib/base/errors.js'
import { heapFlags } from '../../lib/base/heap.js'
import { kithMain, TestHome, until } from '../helpers/cli.js'

t.setTimeout(280_000)

t.test('started on demand, once, for two commands at a time; ended by stop', async (t) => {
  const home = new TestHome(t)
  const both = await Promise.all([home.kith(['status', '--json']), home.kith(['status', '--json'])])
  const [first, second] = both.map(({ code, stderr, json }) => {
    t.equal(code, 0, stderr)
    return json as { pid: number; id: null }
  })
  t.equal(first?.pid, second?.pid, 'one daemon')
  t.equal(first?.id, null)
  for (const [file, mode] of [
    ['kithd.sock', 0o600],
    ['kithd.log', 0o600],
    ['.', 0o700],
  ] as const) {
    t.equal(statSync(join(home.home, file)).mode & 0o777, mode, file)
  }
  const pid = home.daemonPid()
  t.equal(pid, first?.pid)
  const begun = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0')
  t.strictSame(begun.slice(1, 1 + heapFlags.length), heapFlags, "V8's flags are on its command line")
  t.match(await home.kith(['stop', '--json']), { code: 0, json: { pid } })
  await until(() => home.daemonPid() === undefined)
  t.notOk(existsSync(join(home.home, 'kithd.sock')), 'the socket is gone')
  t.match(await home.kith(['stop']), { code: exitCodes.noDaemon, stderr: /^kith: no daemon runs for .*\n$/ })
})

t.test('one daemon per home; a killed one leaves nothing in the way', async (t) => {
  const home = new TestHome(t)
  await home.ask(['status'])
  const pid = home.daemonPid()
  t.match(await home.kith(['daemon']), {
    code: exitCodes.busy,
    stderr: new RegExp(`kith: a daemon \\(process ${pid}\\) serves .* already; end it by: kith stop\\n$`),
  })
  process.kill(pid as number, 'SIGKILL')
  await until(() => home.daemonPid() === undefined)
  t.ok(existsSync(join(home.home, 'kithd.sock')), 'a dead socket is left')
  const next = await home.ask<{ pid: number }>(['status'])
  t.not(next.pid, pid)
})

t.test('a daemon whose home was removed ends by itself', async (t) => {
  const home = new TestHome(t)
  await home.ask(['init'])
  const pid = home.daemonPid() as number
  rmSync(home.home, { recursive: true })
  await until(() => !existsSync(`/proc/${pid}`), 60)
  t.pass('ended')
})

t.test('in the foreground, until a signal', async (t) => {
  const home = new TestHome(t)
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    const child = spawn(process.execPath, [kithMain, 'daemon', '--json', '--home', home.home])
    let out = ''
    child.stdout.on('data', (data: Buffer) => (out += data.toString()))
    const ended = new Promise<number | null>((resolve) => child.on('exit', resolve))
    await until(() => out.includes('\n'))
    t.match(JSON.parse(out), { pid: child.pid, home: home.home })
    t.equal((await home.ask<{ pid: number }>(['status'])).pid, child.pid)
    child.kill(signal)
    t.equal(await ended, 0, `${signal} ends it in order`)
  }
})

t.test('what keeps a daemon from starting is said by the command', async (t) => {
  const home = new TestHome(t)
  mkdirSync(home.home, { mode: 0o700 })
  const config = join(home.home, 'config.json')
  writeFileSync(config, '{"snapshotHour": 1}')
  t.match(await home.kith(['status']), {
    code: exitCodes.usage,
    stderr: /^kith: .*config\.json: .*snapshotHour.*\n$/,
  })
  writeFileSync(config, '{"bootstrap": ["nowhere"]}')
  t.match(await home.kith(['status']), {
    code: exitCodes.usage,
    stderr: /^kith: .*bootstrap\.0: must be HOST:PORT.*\n$/,
  })
  writeFileSync(config, 'hello')
  t.match(await home.kith(['status', '--json']), {
    code: exitCodes.usage,
    stderr: /^\{"error":\{"code":"usage","message":".*is no JSON.*"\}\}\n$/,
  })
  writeFileSync(config, '{}')
  chmodSync(home.home, 0o755)
  t.match(await home.kith(['status']), {
    code: exitCodes.denied,
    stderr: /^kith: .* open to other users; run: chmod 700 .*\n$/,
  })
  chmodSync(home.home, 0o700)
  await home.ask(['init'])
  await home.kith(['stop'])
  const keys = join(home.home, 'keys')
  t.equal(statSync(keys).mode & 0o777, 0o600)
  chmodSync(keys, 0o644)
  t.match(await home.kith(['status']), { code: exitCodes.denied, stderr: /chmod 600/ })
  chmodSync(keys, 0o600)
  const bytes = readFileSync(keys)
  bytes.writeUInt8(bytes.readUInt8(20) ^ 1, 20)
  writeFileSync(keys, bytes)
  t.match(await home.kith(['status']), { code: exitCodes.damaged, stderr: /keys is damaged/ })
})

t.test('garbage on the socket of a real daemon', async (t) => {
  const home = new TestHome(t)
  const { pid } = await home.ask<{ pid: number }>(['status'])
  const socket = connect(join(home.home, 'kithd.sock'))
  const closed = new Promise((resolve) => socket.on('close', resolve))
  socket.on('error', () => undefined)
  socket.on('data', () => undefined)
  for (let i = 0; i < 64; i++) socket.write(Buffer.alloc(65_536, i))
  await closed
  t.equal((await home.ask<{ pid: number }>(['status'])).pid, pid, 'it is the same daemon, and serves')
})

t.test('bootstrap is kept in the home, and changed by giving another', async (t) => {
  const home = new TestHome(t)
  const kept = () =>
    (JSON.parse(readFileSync(join(home.home, 'config.json'), 'utf8')) as { bootstrap: string[] }).bootstrap
  await home.ask(['status', '--bootstrap', '127.0.0.1:1,127.0.0.1:2'])
  t.same(kept(), ['127.0.0.1:1', '127.0.0.1:2'])
  await home.ask(['init'])
  const changed = await home.kith(['status', '--bootstrap', '127.0.0.1:3'])
  t.match(changed.stderr, /used when the daemon starts next/)
  t.same(kept(), ['127.0.0.1:3'])
  await home.ask(['status', '--bootstrap', 'public'])
  t.same(kept(), [])
  t.match(await home.kith(['status', '--bootstrap', 'nowhere']), {
    code: exitCodes.usage,
    stderr: /^kith: --bootstrap wants/,
  })
})
