import { EventEmitter } from 'node:events'
import t from 'tap'
import { endWhenSilent, silenceBound } from '../../lib/partners/silence.js'
import { Hand } from '../helpers/hand-clock.js'

class Stream extends EventEmitter {
  rawStream = { bytesReceived: 0 }
  reason: Error | undefined
  destroy(error: Error): void {
    this.reason = error
    this.emit('close')
  }
}

function heard(): { stream: Stream; clock: Hand } {
  const [stream, clock] = [new Stream(), new Hand()]
  endWhenSilent(stream, clock)
  return { stream, clock }
}

t.test('a stream over which something comes stays', async (t) => {
  const { stream, clock } = heard()
  for (let i = 0; i < 20; i++) {
    await clock.pass(silenceBound - 1)
    stream.rawStream.bytesReceived += 20
  }
  t.equal(stream.reason, undefined)
})

t.test('one over which nothing comes any more ends', async (t) => {
  const { stream, clock } = heard()
  stream.rawStream.bytesReceived = 3_000_000_000
  await clock.pass(silenceBound - 1)
  t.equal(stream.reason, undefined, 'not early')
  await clock.pass(6_000)
  t.match(stream.reason, /nothing came/)
})

t.test('one that never heard anything ends', async (t) => {
  const { stream, clock } = heard()
  await clock.pass(silenceBound)
  t.match(stream.reason, /nothing came/)
})

t.test('a stream that is closed is not looked at any more', async (t) => {
  const { stream, clock } = heard()
  let looks = 0
  Object.defineProperty(stream, 'rawStream', { get: () => (looks++, { bytesReceived: looks }) })
  await clock.pass(10_000)
  t.equal(looks, 2)
  stream.emit('close')
  await clock.pass(silenceBound * 10)
  t.equal(looks, 2)
  t.equal(stream.reason, undefined)
})
