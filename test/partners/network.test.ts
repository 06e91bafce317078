import { spawn, type ChildProcess } from 'node:child_process'
import { EventEmitter, once } from 'node:events'
import { createSocket } from 'node:dgram'
import { fileURLToPath } from 'node:url'
import HyperDHT, { type NoiseStream } from 'hyperdht'
import { pino } from 'pino'
import t, { type Test } from 'tap'
import { randomBytes, seeded } from '../../lib/base/random.js'
import { keyPair } from '../../lib/format/hash.js'
import { freePort, runDhtNode } from '../../lib/partners/dht-node.js'
import type { Connection, Network } from '../../lib/partners/network.js'
import { openNetwork, privateDht, until } from '../helpers/dht.js'

function connected(a: Network, b: Network): boolean {
  return a.connection(b.publicKey) !== undefined && b.connection(a.publicKey) !== undefined
}

/** Sends one message from a to b over the connections that both have now. */
async function speak(a: Network, b: Network, text: string): Promise<string> {
  const from = a.connection(b.publicKey)
  const to = b.connection(a.publicKey)
  if (!from || !to) throw new Error('not connected')
  from.stream.write(Buffer.from(text))
  const [bytes] = (await once(to.stream, 'data')) as [Buffer]
  return bytes.toString()
}

t.setTimeout(120_000)

t.test('two nodes find each other under a topic', async (t) => {
  const dht = await privateDht(t)
  const a = await openNetwork(t, dht.address)
  const b = await openNetwork(t, dht.address)
  const topic = randomBytes(32)
  await a.topic(topic, { announce: true }).settled
  const start = performance.now()
  b.topic(topic, { announce: true })
  await until(() => connected(a, b))
  t.ok(performance.now() - start < 1500, 'within a moment')
  t.equal(await speak(a, b, 'hello'), 'hello')
  t.equal(await speak(b, a, 'hello yourself'), 'hello yourself')
  const [left, right] = [a.connection(b.publicKey), b.connection(a.publicKey)]
  t.ok(left && right && left.handshakeHash.equals(right.handshakeHash), 'one session')
  t.equal(left?.handshakeHash.length, 64)
  t.not(left?.initiator, right?.initiator)
})

t.test('many that dial each other at once end with one session a pair', async (t) => {
  const dht = await privateDht(t)
  const nodes = await Promise.all(Array.from({ length: 5 }, () => openNetwork(t, dht.address)))
  for (const a of nodes) for (const b of nodes) if (a !== b) a.connect(b.publicKey)
  const pairs = nodes.flatMap((a, i) => nodes.slice(i + 1).map((b) => [a, b] as const))
  const agreed = () =>
    pairs.every(([a, b]) => {
      const [x, y] = [a.connection(b.publicKey), b.connection(a.publicKey)]
      return x && y && !x.stream.destroying && x.handshakeHash.equals(y.handshakeHash)
    })
  await until(agreed)
  for (const [a, b] of pairs) t.equal(await speak(a, b, 'x'), 'x')
  t.ok(agreed(), 'and it stays so')
})

for (const isSmaller of [true, false])
  t.test(
    `a dial that took longer than the peer's own replaces nothing: the ${isSmaller ? 'smaller' : 'larger'} key's`,
    async (t) => {
      const dht = await privateDht(t)
      const keys = [keyPair(randomBytes(32)), keyPair(randomBytes(32))].sort((x, y) =>
        Buffer.compare(x.publicKey, y.publicKey),
      )
      const [own, peers] = isSmaller ? keys : keys.reverse()
      if (!own || !peers) throw new Error('two keys')
      const a = await openNetwork(t, dht.address, { keyPair: own })
      const peer = new HyperDHT({ bootstrap: [dht.address], host: '127.0.0.1', port: freePort() })
      t.teardown(() => peer.destroy({ force: true }))
      const door = new EventEmitter()
      const [knock, late] = [once(door, 'knock'), once(door, 'stream')]
      const firewall = async () => {
        const opened = once(door, 'open')
        door.emit('knock')
        await opened
        return false
      }
      const server = peer.createServer({ firewall }, (dialled) => door.emit('stream', dialled))
      await server.listen(peers)
      a.connect(peers.publicKey)
      await knock
      const stream = peer.connect(a.publicKey, { keyPair: peers })
      stream.on('error', () => undefined)
      stream.sendKeepAlive()
      const there = () => a.connection(peers.publicKey)
      await until(() => (there()?.stream.rawBytesRead ?? 0) > 0)
      const first = there()
      door.emit('open')
      const [dialled] = (await late) as [NoiseStream]
      dialled.on('error', () => undefined)
      await new Promise((resolve) => dialled.once('close', resolve))
      t.equal(dialled.rawBytesRead, 0, 'nothing was sent on it')
      t.equal(there(), first)
      t.notOk(stream.destroying)
      stream.write(Buffer.from('still here'))
      const [bytes] = (await once(first?.stream as NoiseStream, 'data')) as [Buffer]
      t.equal(bytes.toString(), 'still here')
    },
  )

t.test('a topic that is only looked up tells who is there, and dials nobody', async (t) => {
  const dht = await privateDht(t)
  const a = await openNetwork(t, dht.address)
  const b = await openNetwork(t, dht.address)
  const topic = randomBytes(32)
  await a.topic(topic, { announce: true }).settled
  const found: string[] = []
  const lookup = b.topic(topic, { announce: false, found: (key) => found.push(key.toString('hex')) })
  await lookup.settled
  t.same(found, [a.publicKey.toString('hex')])
  t.equal(b.connections().length, 0)
})

t.test('an announcement that was taken back is not found', async (t) => {
  const dht = await privateDht(t)
  const a = await openNetwork(t, dht.address)
  const b = await openNetwork(t, dht.address)
  const topic = randomBytes(32)
  const announced = a.topic(topic, { announce: true })
  await announced.settled
  await announced.close()
  let found = 0
  await b.topic(topic, { announce: false, found: () => found++ }).settled
  t.equal(found, 0)
})

function startEcho(t: Test, seed: Buffer, bootstrap: string, topic: Buffer, port: number): ChildProcess {
  const script = fileURLToPath(new URL('../helpers/echo-node.js', import.meta.url))
  const args = [script, seed.toString('hex'), bootstrap, topic.toString('hex'), String(port)]
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] })
  t.teardown(() => child.kill('SIGKILL'))
  return child
}

t.test('a peer that was killed and started again is there again', async (t) => {
  const dht = await privateDht(t)
  const a = await openNetwork(t, dht.address)
  const seed = randomBytes(32)
  const key = keyPair(seed).publicKey
  const topic = randomBytes(32)
  const seen: Connection[] = []
  a.on('connection', (connection) => seen.push(connection))
  const port = freePort()
  const first = startEcho(t, seed, dht.address, topic, port)
  a.connect(key)
  a.topic(topic, { announce: true })
  await until(() => seen.length > 0)
  first.kill('SIGKILL')
  await once(first, 'exit')
  const before = seen.length
  startEcho(t, seed, dht.address, topic, port)
  await until(() => seen.length > before && a.connection(key) === seen.at(-1), 60)
  const stream = a.connection(key)?.stream
  stream?.write(Buffer.from('still there?'))
  const [bytes] = stream ? ((await once(stream, 'data')) as [Buffer]) : [undefined]
  t.equal(bytes?.toString(), 'still there?')
})

t.test('known partners connect though the DHT is dead', async (t) => {
  const dht = await runDhtNode({ host: '127.0.0.1', port: 0 })
  const a = await openNetwork(t, dht.address)
  await dht.close()
  const b = await openNetwork(t, dht.address)
  const start = performance.now()
  b.connect(a.publicKey, [{ host: '127.0.0.1', port: a.port }])
  await until(() => connected(a, b))
  t.ok(performance.now() - start < 3000, 'soon')
  t.equal(await speak(b, a, 'hello'), 'hello')
})

t.test('an outdated address is no obstacle while the DHT lives', async (t) => {
  const dht = await privateDht(t)
  const a = await openNetwork(t, dht.address)
  const b = await openNetwork(t, dht.address)
  await a.topic(randomBytes(32), { announce: true }).settled
  b.connect(a.publicKey, [{ host: '127.0.0.1', port: 1 }])
  await until(() => connected(a, b))
})

t.test('nobody can pass for the owner of another key', async (t) => {
  const dht = await privateDht(t)
  const victim = keyPair(randomBytes(32))
  const lines: string[] = []
  const log = pino({ level: 'warn' }, { write: (line: string) => lines.push(line) })
  const a = await openNetwork(t, dht.address, { log })
  a.connect(victim.publicKey)
  const imposter = new HyperDHT({ bootstrap: [dht.address], host: '127.0.0.1', port: freePort() })
  t.teardown(() => imposter.destroy({ force: true }))
  await a.topic(randomBytes(32), { announce: true }).settled
  // The victim's public key with a secret key of the imposter's own.
  const stream = imposter.connect(a.publicKey, {
    keyPair: { publicKey: victim.publicKey, secretKey: keyPair(randomBytes(32)).secretKey },
  })
  stream.on('error', () => undefined)
  stream.write(Buffer.from('it is me'))
  // The handshake fails at the other end, so the dial waits in vain.
  const opened = await Promise.race([
    stream.opened,
    new Promise<boolean>((resolve) => setTimeout(() => resolve(false), 2000)),
  ])
  t.equal(opened, false)
  const accepted = a.connection(victim.publicKey)
  t.equal(accepted?.stream.rawBytesRead ?? 0, 0, 'nothing was ever read under the stolen key')
  t.match(lines, [/claims to be this partner, and cannot prove it/], 'told, once')
  t.match(lines[0], victim.publicKey.toString('hex'))
  stream.destroy()
})

t.test('garbage on the port and in the stream', async (t) => {
  const dht = await privateDht(t)
  const a = await openNetwork(t, dht.address)
  const b = await openNetwork(t, dht.address)
  const random = seeded(7)
  const noise = (length: number) => Buffer.from(Array.from({ length }, () => random() & 255))
  const socket = createSocket('udp4')
  t.teardown(() => socket.close())
  const send = (bytes: Buffer) =>
    new Promise<void>((resolve) => socket.send(bytes, a.port, '127.0.0.1', () => resolve()))
  for (let i = 0; i < 2000; i++) {
    const bytes = noise(1 + (random() % 200))
    // Half of them look like DHT requests or replies at their beginning.
    if (i % 2) bytes[0] = i % 4 === 1 ? 0x03 : 0x13
    await send(bytes)
  }
  await a.topic(randomBytes(32), { announce: true }).settled
  b.connect(a.publicKey)
  await until(() => connected(a, b))
  t.equal(await speak(a, b, 'unharmed'), 'unharmed')
})

t.test('a stranger who knocks too often is kept out', async (t) => {
  const dht = await privateDht(t)
  const a = await openNetwork(t, dht.address)
  await a.topic(randomBytes(32), { announce: true }).settled
  const stranger = new HyperDHT({ bootstrap: [dht.address], host: '127.0.0.1', port: freePort() })
  t.teardown(() => stranger.destroy({ force: true }))
  const pair = keyPair(randomBytes(32))
  let refused = 0
  for (let i = 0; i < 30 && refused === 0; i++) {
    const stream = stranger.connect(a.publicKey, { keyPair: pair })
    stream.on('error', () => refused++)
    await Promise.race([stream.opened, new Promise((resolve) => setTimeout(resolve, 1000))])
    if (!stream.destroyed && a.connection(pair.publicKey) === undefined && i > 10) refused++
    stream.destroy()
  }
  t.ok(refused > 0, 'at last')
})

t.test('closing ends streams, timers and sockets', async (t) => {
  const dht = await privateDht(t)
  const a = await openNetwork(t, dht.address)
  const b = await openNetwork(t, dht.address)
  a.topic(randomBytes(32), { announce: true })
  b.connect(a.publicKey)
  b.connect(randomBytes(32))
  await until(() => connected(a, b))
  const closed = new Promise<void>((resolve) => a.connection(b.publicKey)?.stream.once('close', resolve))
  await b.close()
  await closed
  t.equal(b.connections().length, 0)
  await b.close()
})
