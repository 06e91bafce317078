import type { NoiseStream } from 'hyperdht'
import t, { type Test } from 'tap'
import { seeded } from '../../lib/base/random.js'
import { encodeHello, encodePut, encodeRequest } from '../../lib/format/wire.js'
import { Holder } from '../../lib/partners/holder.js'
import { muxOf } from '../../lib/partners/mux.js'
import { maxOutstanding, type Session, windowBytes } from '../../lib/partners/session.js'
import type { Vault } from '../../lib/vault/vault.js'
import { mutate } from '../helpers/bytes.js'
import { until } from '../helpers/dht.js'
import {
  block,
  connect,
  head,
  identity,
  member,
  open,
  openVault,
  quickStreams,
  streams,
  TestClock,
} from '../helpers/backup.js'
import { everyMessage } from '../helpers/messages.js'

t.setTimeout(240_000)

const eve = identity(1)
const holder = identity(2)
const hello = encodeHello({ version: 1, capabilities: 0, name: 'eve' })

interface Attack {
  session: Session
  stream: NoiseStream
  send(frame: Buffer): void
  /** frames that came from the session under attack */
  received: Buffer[]
}

/** A session of ours, and a peer that writes frames by hand. */
async function attack(t: Test, vault: Vault, greets = true): Promise<Attack> {
  const [left, right] = await quickStreams(t, eve, holder)
  const received: Buffer[] = []
  const channel = muxOf(left).createChannel({
    protocol: 'kith/partner/1',
    messages: [{ onmessage: (bytes) => received.push(bytes) }],
  })
  channel?.open()
  const session = open(right, new Holder(vault, eve.id, member))
  const send = (frame: Buffer) => void channel?.messages[0]?.send(frame)
  if (greets) {
    send(hello)
    await session.ready
  }
  return { session, stream: left, send, received }
}

/** An honest peer is still served. */
async function alive(t: Test, vault: Vault): Promise<void> {
  const { owner } = await connect(t, identity(7), holder, vault)
  await owner.request('held', {})
  owner.close('enough')
}

const violations: { name: string; greets?: false; frames: () => Buffer[] }[] = [
  { name: 'no hello first', greets: false, frames: () => [encodeRequest('held', 1, {})] },
  { name: 'hello twice', frames: () => [hello] },
  { name: 'an unknown message', frames: () => [Buffer.from([200, 0, 0, 0, 0])] },
  { name: 'credit never got', frames: () => [Buffer.from([2, 0, 0, 0, 0, 1, 0, 0, 0])] },
  { name: 'an answer never asked for', frames: () => [everyMessage(1).holding ?? hello] },
  {
    name: 'a swapped block',
    frames: () => [Buffer.concat(encodePut([{ name: Buffer.alloc(32, 1), bytes: Buffer.alloc(100) }]))],
  },
  { name: 'an oversized frame', frames: () => [Buffer.alloc(8 * 1024 * 1024, 18)] },
  {
    name: 'more requests at once than allowed',
    frames: () => Array.from({ length: 2 * maxOutstanding }, (_, i) => encodeRequest('commit', i, {})),
  },
]

for (const { name, greets, frames } of violations) {
  t.test(`${name}: the session ends with the reason`, async (t) => {
    const vault = await openVault(t, holder)
    const { session, send } = await attack(t, vault, greets)
    for (const frame of frames()) send(frame)
    t.match(await session.ended, /broke the protocol/)
    await alive(t, vault)
  })
}

t.test('more than the window: the session ends with the reason', async (t) => {
  const [left, right] = await streams(t, eve, holder)
  const channel = muxOf(left).createChannel({
    protocol: 'kith/partner/1',
    messages: [{ onmessage: () => undefined }],
  })
  channel?.open()
  const never = () => new Promise<never>(() => undefined)
  const session = open(right, { put: never, answer: never })
  const one = block(seeded(1), 1_000_000)
  channel?.messages[0]?.send(hello)
  for (let i = 0; i < 1 + windowBytes / 1_000_000; i++)
    channel?.messages[0]?.send(Buffer.concat(encodePut([one])))
  t.match(await session.ended, /beyond the window/)
})

t.test('10,000 mutations of every message on a live session: ended or answered, nothing else', async (t) => {
  const vault = await openVault(t, holder)
  const random = seeded(5)
  const one = block(random)
  await vault.put(identity(7).id, one.name, one.bytes)
  await vault.commit(identity(7).id)
  await vault.putHead(identity(7).id, head(identity(7), 1))
  const messages = Object.values(everyMessage(2))
  let live = await attack(t, vault)
  let ended = 0
  let sent = 0
  for (let i = 0; i < 10_000; i++) {
    const frame = mutate(random, messages[i % messages.length] ?? hello)
    if (live.session.closed) {
      ended++
      live = await attack(t, vault)
    }
    live.send(frame)
    sent++
    // Let it be read, now and then together with others.
    if (random() % 4 > 0) await new Promise((resolve) => setImmediate(resolve))
  }
  t.equal(sent, 10_000)
  t.ok(ended > 1000, `${ended} sessions ended`)
  live.session.close('enough')
  await alive(t, vault)
  t.same(await vault.get(identity(7).id, one.name), one.bytes)
  t.equal(vault.heads(identity(7).id).length, 1)
})

t.test('2,000 mutations of the framing around messages', async (t) => {
  const vault = await openVault(t, holder)
  const random = seeded(6)
  const open = Buffer.from([0, 1, 1, 14, ...Buffer.from('kith/partner/1'), 0])
  const body = everyMessage(3).offer ?? hello
  const framings = [
    open,
    Buffer.from([0, 2, 1]),
    Buffer.from([0, 3, 1]),
    Buffer.from([0, 2, 0]),
    Buffer.from([0, 1, 0, 1, 65, 0]),
    Buffer.concat([Buffer.from([1, 0]), hello]),
    Buffer.concat([
      Buffer.from([0, 0, 1, 1 + hello.length, 0]),
      hello,
      Buffer.from([1 + body.length, 0]),
      body,
    ]),
    Buffer.concat([Buffer.from([0, 0, 0, open.length - 1]), open.subarray(1), Buffer.from([0, 1, 2, 0, 1])]),
    Buffer.from([0, 0, 0, 2, 0, 1]),
  ]
  let stream: NoiseStream | undefined
  let session: Session | undefined
  let ended = 0
  for (let i = 0; i < 2000; i++) {
    if (!stream || !session || session.closed) {
      ended++
      const [left, right] = await quickStreams(t, eve, holder)
      left.resume()
      stream = left
      session = openSession(right, vault)
      if (random() % 2 === 0) stream.write(open)
    }
    stream.write(mutate(random, framings[i % framings.length] ?? open))
    if (random() % 4 > 0) await new Promise((resolve) => setImmediate(resolve))
  }
  t.ok(ended > 200, `${ended} sessions ended`)
  session?.close('enough')
  await alive(t, vault)
})

function openSession(stream: NoiseStream, vault: Vault): Session {
  return open(stream, new Holder(vault, eve.id, member))
}

t.test('a flood of channels ends the connection', async (t) => {
  const vault = await openVault(t, holder)
  const { session, stream } = await attack(t, vault)
  for (let i = 0; i < 1000; i++) stream.write(Buffer.from([0, 1, 2, 1, 65, 0]))
  t.match(await session.ended, /connection ended/)
})

t.test('a flood of allowed requests is slowed down, and costs no memory', async (t) => {
  const vault = await openVault(t, holder)
  const { owner, holder: there } = await connect(t, eve, holder, vault)
  let answered = 0
  let stop = false
  const floods = Array.from({ length: maxOutstanding }, async () => {
    while (!stop) {
      await owner.request('held', {}).catch(() => (stop = true))
      answered++
    }
  })
  const started = performance.now()
  await until(() => answered > 6000)
  const seconds = (performance.now() - started) / 1000
  t.ok(answered <= 4000 + 2100 * seconds, `${answered} answered in ${seconds.toFixed(1)} s`)
  stop = true
  await Promise.all(floods)
  t.notOk(there.closed)
})

t.test('an owner that takes no answers is left after a while', async (t) => {
  const clock = new TestClock()
  const vault = await openVault(t, holder)
  const blocks = [1, 2, 3].map((seed) => block(seeded(seed), 1_000_000))
  for (const { name, bytes } of blocks) await vault.put(eve.id, name, bytes)
  await vault.commit(eve.id)
  const [left, right] = await streams(t, eve, holder)
  const received: Buffer[] = []
  const channel = muxOf(left).createChannel({
    protocol: 'kith/partner/1',
    messages: [{ onmessage: (bytes) => received.push(bytes) }],
  })
  channel?.open()
  const session = open(right, new Holder(vault, eve.id, member), { clock })
  channel?.messages[0]?.send(hello)
  await session.ready
  for (let id = 0; id < maxOutstanding; id++) {
    channel?.messages[0]?.send(encodeRequest('get', id, { names: blocks.map(({ name }) => name) }))
  }
  await until(() => received.length >= 8)
  await new Promise((resolve) => setImmediate(resolve))
  const bytes = received.reduce((sum, frame) => sum + frame.length, 0)
  t.ok(bytes <= windowBytes, 'no more than the window was sent')
  clock.pass(70_000)
  t.match(await session.ended, /does not answer/)
})
