import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import t from 'tap'
import { randomBytes } from '../../lib/base/random.js'
import {
  parseBootstrap,
  isLoopback,
  decodeAddresses,
  encodeAddresses,
  Limiter,
} from '../../lib/partners/addresses.js'
import { freePort, runDhtNode } from '../../lib/partners/dht-node.js'
import { openNetwork, until } from '../helpers/dht.js'

t.setTimeout(120_000)

t.test('one process is a whole DHT', async (t) => {
  const dht = await runDhtNode({ host: '127.0.0.1', port: 0 })
  t.teardown(() => dht.close())
  t.match(dht.address, /^127\.0\.0\.1:\d+$/)
  const [a, b] = [await openNetwork(t, dht.address), await openNetwork(t, dht.address)]
  const topic = randomBytes(32)
  const announced = a.topic(topic, { announce: true })
  await announced.settled
  t.ok(announced.heard)
  b.topic(topic, { announce: false })
  await until(() => b.connection(a.publicKey) !== undefined, 5)
  t.ok(a.nodes().length > 0, 'nodes to start from another time')
})

t.test('it starts again on the same port, and nodes come back by themselves', async (t) => {
  const port = freePort()
  const first = await runDhtNode({ host: '127.0.0.1', port })
  const [a, b] = [await openNetwork(t, first.address), await openNetwork(t, first.address)]
  const topic = randomBytes(32)
  await a.topic(topic, { announce: true }).settled
  await first.close()
  const second = await runDhtNode({ host: '127.0.0.1', port })
  t.teardown(() => second.close())
  t.equal(second.address, first.address)
  a.hurry()
  b.topic(topic, { announce: true })
  await until(() => b.connection(a.publicKey) !== undefined, 40)
})

t.test('bad addresses and a port that is taken', async (t) => {
  await t.rejects(runDhtNode({ host: '0.0.0.0', port: 0 }), { code: 'usage' })
  await t.rejects(runDhtNode({ host: 'localhost', port: 0 }), { code: 'usage' })
  const socket = createSocket('udp4')
  socket.bind(0, '127.0.0.1')
  await once(socket, 'listening')
  t.teardown(() => socket.close())
  await t.rejects(runDhtNode({ host: '127.0.0.1', port: socket.address().port }), { code: 'busy' })
  await t.rejects(
    runDhtNode({ host: '192.0.2.1', port: 0 }),
    { code: 'busy' },
    'not an address of this machine',
  )
})

t.test('bootstrap lists', async (t) => {
  t.same(parseBootstrap('127.0.0.1:1, node.example.org:65535,'), ['127.0.0.1:1', 'node.example.org:65535'])
  t.same(parseBootstrap(''), [])
  for (const bad of ['127.0.0.1', ':1', 'a:0', 'a:65536', 'a:1:2', 'a b:1', 'a:x'])
    t.throws(() => parseBootstrap(bad), { code: 'usage' }, bad)
  t.ok(isLoopback(['127.0.0.1:1', 'localhost:2']))
  t.notOk(isLoopback(['127.0.0.1:1', '10.0.0.1:2']))
  t.notOk(isLoopback([]))
})

t.test('stored addresses', async (t) => {
  const list = [
    { host: '10.1.2.3', port: 1 },
    { host: '255.0.255.0', port: 65535 },
  ]
  t.same(decodeAddresses(encodeAddresses(list)), list)
  t.same(decodeAddresses(encodeAddresses([])), [])
  t.same(decodeAddresses(encodeAddresses([{ host: '::1', port: 1 }])), [])
  for (const bad of ['', '01', '21', 'ff00', '0200'])
    t.same(decodeAddresses(Buffer.from(bad, 'hex')), [], bad)
})

t.test('a limiter lets a burst pass, then a rate, and remembers a bounded number', async (t) => {
  let now = 0
  const clock = { now: () => now, monotonic: () => now, after: () => ({ cancel: () => undefined }) }
  const limiter = new Limiter(clock, { burst: 3, perMinute: 6, capacity: 2 })
  const tries = () => Array.from({ length: 4 }, () => limiter.take('a'))
  t.same(tries(), [true, true, true, false])
  now += 10_000
  t.same(tries(), [true, false, false, false])
  t.ok(limiter.take('b'))
  t.ok(limiter.take('c'), 'a is forgotten')
  t.ok(limiter.take('a'))
})
