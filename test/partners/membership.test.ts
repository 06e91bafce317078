import t, { type Test } from 'tap'
import { systemClock } from '../../lib/base/clock.js'
import { silentLog } from '../../lib/base/log.js'
import { randomBytes, seeded } from '../../lib/base/random.js'
import { Database } from '../../lib/blocks/database.js'
import { Circles } from '../../lib/partners/circle.js'
import * as wire from '../../lib/partners/gate-wire.js'
import { Invites, inviteToken } from '../../lib/partners/invite.js'
import { Gate } from '../../lib/partners/membership.js'
import { muxOf } from '../../lib/partners/mux.js'
import type { Network } from '../../lib/partners/network.js'
import { openNetwork, privateDht, until } from '../helpers/dht.js'

interface Node {
  network: Network
  circles: Circles
  invites: Invites
  gates: Gate[]
  admitted: Gate[]
  refused: Gate[]
  holds: Set<string>
  expects: boolean
}

async function openNode(t: Test, bootstrap: string): Promise<Node> {
  const network = await openNetwork(t, bootstrap)
  const db = Database.open(t.testdir({}) + randomBytes(4).toString('hex'))
  t.teardown(() => db.close())
  const circles = new Circles(db, systemClock)
  const invites = new Invites(db, systemClock)
  const node: Node = {
    network,
    circles,
    invites,
    gates: [],
    admitted: [],
    refused: [],
    holds: new Set(),
    expects: false,
  }
  network.on('connection', (connection) => {
    const gate = new Gate(connection, {
      self: network.publicKey,
      circles,
      invites,
      name: 'somebody',
      holdsFor: (key) => node.holds.has(key.toString('hex')),
      port: () => network.port,
      expectsJoiners: () => node.expects,
      admitted: (gate) => node.admitted.push(gate),
      changed: () => undefined,
      refused: (gate) => {
        node.refused.push(gate)
        network.disconnect(gate.connection.remotePublicKey)
      },
      clock: systemClock,
      log: silentLog(),
    })
    node.gates.push(gate)
  })
  return node
}

function meet(a: Node, b: Node): void {
  a.network.connect(b.network.publicKey, [{ host: '127.0.0.1', port: b.network.port }])
}

t.setTimeout(120_000)

t.test('members of one circle admit each other', async (t) => {
  const dht = await privateDht(t)
  const [a, b] = [await openNode(t, dht.address), await openNode(t, dht.address)]
  const { secret } = await a.circles.create('shared')
  await a.circles.create('only a')
  await b.circles.add({ name: 'shared, too', secret })
  meet(a, b)
  await until(() => a.admitted.length === 1 && b.admitted.length === 1)
  t.same(
    a.admitted[0]?.common.map(({ name }) => name),
    ['shared'],
  )
  t.same(
    b.admitted[0]?.common.map(({ name }) => name),
    ['shared, too'],
  )
  t.equal(a.admitted[0]?.standing, 'member')
  t.equal(a.admitted[0]?.theirs, 'member')
  t.equal(a.admitted[0]?.port, b.network.port)
})

t.test('strangers refuse each other, also when each is in circles', async (t) => {
  const dht = await privateDht(t)
  const [a, b] = [await openNode(t, dht.address), await openNode(t, dht.address)]
  await a.circles.create('of a')
  await b.circles.create('of a')
  meet(a, b)
  await until(() => a.refused.length === 1 || b.refused.length === 1)
  await until(() => a.network.connections().length === 0 && b.network.connections().length === 0)
  t.equal(a.admitted.length + b.admitted.length, 0)
})

t.test('an owner whose data we hold is let in as owner, no more', async (t) => {
  const dht = await privateDht(t)
  const [holder, owner] = [await openNode(t, dht.address), await openNode(t, dht.address)]
  await holder.circles.create('lost to the owner')
  holder.holds.add(owner.network.publicKey.toString('hex'))
  meet(owner, holder)
  await until(() => holder.admitted.length === 1 && owner.admitted.length === 1)
  t.equal(holder.admitted[0]?.standing, 'owner')
  t.equal(owner.admitted[0]?.standing, 'nobody', 'the holder may do nothing here')
  t.equal(owner.admitted[0]?.theirs, 'owner')
})

t.test('an invite makes a stranger a member on the same connection', async (t) => {
  const dht = await privateDht(t)
  const [a, b] = [await openNode(t, dht.address), await openNode(t, dht.address)]
  const circle = await a.circles.create('friends')
  const { code } = await a.invites.create(circle)
  a.expects = true
  b.expects = true
  meet(b, a)
  await until(() => b.gates.length === 1)
  const token = inviteToken(code)
  const grant = await b.gates[0]?.join(token)
  t.equal(grant?.name, 'friends')
  if (grant) await b.circles.add(grant)
  b.gates[0]?.confirm(token)
  await until(() => a.admitted.length === 1 && b.admitted.length === 1)
  t.equal(a.admitted[0]?.standing, 'member')
  t.equal(b.admitted[0]?.standing, 'member')
  await t.rejects(async () => void (await b.gates[0]?.join(token)), { code: 'denied', message: /used/ })
})

t.test('a circle that both join later is proven on the connection there is', async (t) => {
  const dht = await privateDht(t)
  const [a, b] = [await openNode(t, dht.address), await openNode(t, dht.address)]
  const one = await a.circles.create('one')
  await b.circles.add(one)
  meet(a, b)
  await until(() => a.admitted.length === 1 && b.admitted.length === 1)
  const two = await b.circles.create('two')
  await a.circles.add(two)
  await until(() => a.gates[0]?.common.length === 2 && b.gates[0]?.common.length === 2)
  t.equal(a.gates.length, 1)
})

t.test('proofs are bound to session, sender and receiver', async (t) => {
  const [secret, hash, a, b] = [randomBytes(32), randomBytes(64), randomBytes(32), randomBytes(32)]
  const proof = wire.membershipProof(secret, hash, a, b)
  t.notOk(proof.equals(wire.membershipProof(secret, hash, b, a)))
  t.notOk(proof.equals(wire.membershipProof(secret, randomBytes(64), a, b)))
  t.equal(wire.encodeHello([]).length, wire.encodeHello([proof]).length, 'numbers of circles do not show')
})

t.test('garbage at the gate costs the connection, and nothing else', async (t) => {
  const dht = await privateDht(t)
  const a = await openNode(t, dht.address)
  await a.circles.create('quiet')
  a.expects = true
  const random = seeded(11)
  const samples = [
    wire.encodeHello([randomBytes(32)]),
    wire.encodeVerdict('member', 1),
    wire.encodeJoin(randomBytes(32), randomBytes(32)),
    wire.encodeAnswer({ granted: true, proof: randomBytes(32), sealed: randomBytes(100) }),
    wire.encodeJoined(randomBytes(32)),
  ]
  const mutate = (bytes: Buffer) => {
    const copy = Buffer.from(bytes).subarray(0, random() % 4 ? bytes.length : random() % bytes.length)
    for (let i = random() % 4; i > 0 && copy.length > 0; i--) copy[random() % copy.length] = random() & 255
    return copy
  }
  for (let round = 0; round < 12; round++) {
    const b = await openNetwork(t, dht.address)
    b.connect(a.network.publicKey, [{ host: '127.0.0.1', port: a.network.port }])
    await until(() => b.connection(a.network.publicKey) !== undefined)
    const stream = b.connection(a.network.publicKey)?.stream
    if (!stream) throw new Error('not connected')
    const channel = muxOf(stream).createChannel({
      protocol: wire.gateProtocol,
      messages: samples.map(() => ({ onmessage: () => undefined })),
    })
    channel?.open()
    for (let i = 0; i < 100; i++) {
      const number = random() % samples.length
      channel?.messages[number]?.send(mutate(samples[number] ?? Buffer.alloc(0)))
    }
    // Also pieces that are no frames of protomux at all.
    if (round % 3 === 0) stream.write(randomBytes(1 + (random() % 1000)))
    await until(() => stream.destroyed)
    await b.close()
  }
  t.equal(a.admitted.length, 0)
  const [c, secret] = [await openNode(t, dht.address), a.circles.find().secret]
  await c.circles.add({ name: 'quiet', secret })
  meet(c, a)
  await until(() => a.admitted.length === 1 && c.admitted.length === 1)
})
