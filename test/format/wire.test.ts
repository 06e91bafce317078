import t from 'tap'
import { KithError } from '../../lib/base/errors.js'
import { seeded } from '../../lib/base/random.js'
import {
  decodeFrame,
  encodeError,
  encodeHello,
  encodePut as putParts,
  encodeReply,
  encodeRequest,
  maxFrameBytes,
} from '../../lib/format/wire.js'
import { decodeRelease, encodeRelease } from '../../lib/format/wire-release.js'
import { maxSealedBytes } from '../../lib/format/seal.js'
import { somePact, someTerms } from '../helpers/agreements.js'
import { block, head, identity } from '../helpers/backup.js'
import { mutate } from '../helpers/bytes.js'
import { everyMessage, someFacts } from '../helpers/messages.js'

const ann = identity(1)
const [a, b] = [block(seeded(1)), block(seeded(2))]
const names = [a.name, b.name]
const pact = somePact(3)

const encodePut = (blocks: Parameters<typeof putParts>[0]) => Buffer.concat(putParts(blocks))

t.test('requests and replies come out as they went in', async (t) => {
  const requests = {
    offer: { names },
    commit: {},
    headPut: { head: head(ann, 1) },
    headGet: { volume: Buffer.alloc(16, 4) },
    get: { names },
    prove: { nonce: Buffer.alloc(32, 1), names },
    held: {},
    release: { request: Buffer.alloc(300, 5) },
    pactNewest: { number: 3 },
    pactTerms: {},
    pactOffer: { offer: pact.offer },
    pactEnd: { ending: pact.ending },
    flip: { committed: Buffer.alloc(32, 6) },
    reveal: { r1: Buffer.alloc(32, 7), spread: { bits: 32, draws: 2048 } },
    poolQuery: { facts: someFacts, sketch: Buffer.alloc(2046, 8) },
    probe: { nonce: Buffer.alloc(32, 9), ranges: [{ name: a.name, offset: 2 ** 32 - 1, length: 1024 }] },
  } as const
  const replies = {
    offer: { missing: [true, false, true, true, false, false, true, false, true] },
    commit: { blocks: 0xffffffff, bytes: Number.MAX_SAFE_INTEGER },
    headPut: {},
    headGet: { heads: [head(ann, 1), head(ann, 2)] },
    get: { blocks: [a.bytes, 'absent', 'later', b.bytes] as (Buffer | 'absent' | 'later')[] },
    prove: { proofs: [Buffer.alloc(32, 1), undefined] },
    held: { bytes: 1, blocks: 2, releaseNumber: 3 },
    release: { blocks: 1, bytes: 2 },
    pactNewest: { document: pact.document },
    pactTerms: { terms: someTerms, wants: 1, mark: 2 },
    pactOffer: { kind: 'accepted', document: pact.document } as const,
    pactEnd: {},
    flip: { r2: Buffer.alloc(32, 8) },
    reveal: { drawn: names.map((name) => ({ name, proof: Buffer.alloc(32, 9) })) },
    poolQuery: { facts: someFacts, holds: Buffer.alloc(43, 5) },
    probe: { proofs: [Buffer.alloc(32, 1), undefined] },
  }
  for (const kind of Object.keys(replies) as (keyof typeof replies)[]) {
    const asked = encodeRequest(kind, 77, requests[kind] as never)
    t.same(decodeFrame(asked), { type: 'request', kind, id: 77, message: requests[kind] })
    const answered = encodeReply(kind, 0xffffffff, replies[kind])
    t.same(decodeFrame(answered), { type: 'reply', kind, id: 0xffffffff, message: replies[kind] })
  }
  t.same(decodeFrame(encodeRequest('headGet', 1, {})), {
    type: 'request',
    kind: 'headGet',
    id: 1,
    message: {},
  })
  t.same(decodeFrame(encodePut([a, b])), { type: 'put', blocks: [a, b] })
})

t.test('texts are cut at a character; codes that are not for peers become internal', async (t) => {
  const name = 'ü'.repeat(100)
  t.match(decodeFrame(encodeHello({ version: 1, capabilities: 0, name })), {
    hello: { name: 'ü'.repeat(32) },
  })
  t.match(decodeFrame(encodeError(1, 'badPhrase', 'x'.repeat(500))), {
    code: 'internal',
    text: 'x'.repeat(200),
  })
})

t.test('the largest messages fit, larger ones do not', async (t) => {
  const bytes = Buffer.alloc(maxSealedBytes, 1)
  t.ok(encodePut([{ name: a.name, bytes }]).length <= maxFrameBytes)
  t.doesNotThrow(() => decodeFrame(encodePut([{ name: a.name, bytes }])))
  const many = (count: number) => Array.from({ length: count }, () => a.name)
  t.doesNotThrow(() => decodeFrame(encodeRequest('offer', 1, { names: many(1024) })))
  for (const frame of [
    encodePut([{ name: a.name, bytes: Buffer.alloc(maxSealedBytes + 1) }]),
    encodeRequest('offer', 1, { names: many(1025) }),
    encodeRequest('get', 1, { names: many(65) }),
    encodeRequest('getParts', 1, { parts: many(65).map((name) => ({ name, offset: 0, length: 1 })) }),
    encodeRequest('getParts', 1, { parts: [{ name: a.name, offset: 0, length: 0 }] }),
    encodeRequest('getParts', 1, { parts: many(2).map((name) => ({ name, offset: 0, length: 600_000 })) }),
    encodeReply('headGet', 1, { heads: Array.from({ length: 17 }, () => Buffer.alloc(10)) }),
    encodeReply('prove', 1, { proofs: Array.from({ length: 65 }, () => undefined) }),
    encodeRequest('reveal', 1, { r1: Buffer.alloc(32), spread: { bits: 33, draws: 1 } }),
    encodeRequest('reveal', 1, { r1: Buffer.alloc(32), spread: { bits: 32, draws: 2049 } }),
    encodeRequest('reveal', 1, { r1: Buffer.alloc(32), spread: { bits: 0, draws: 0 } }),
    encodeReply('reveal', 1, { drawn: Array.from({ length: 129 }, () => ({ name: a.name, proof: a.name })) }),
    Buffer.alloc(4),
    Buffer.from([99, 0, 0, 0, 0]),
    Buffer.concat([encodeRequest('held', 1, {}), Buffer.from([0])]),
  ]) {
    t.throws(() => decodeFrame(frame), { code: 'protocol' })
  }
})

t.test('counts and lengths are checked before anything is made for them', async (t) => {
  const frame = encodeRequest('offer', 1, { names })
  frame.writeUInt16LE(1024, 5)
  t.throws(() => decodeFrame(frame), { code: 'protocol' })
  const put = encodePut([a])
  put.writeUInt32LE(0xffffffff, 5 + 2 + 32)
  t.throws(() => decodeFrame(put), { code: 'protocol' })
})

t.test('2,000 mutations a message: decoded or refused, never anything else', async (t) => {
  const random = seeded(3)
  for (const [name, frame] of Object.entries(everyMessage(1))) {
    for (let i = 0; i < 2000; i++) {
      const mutated = mutate(random, frame)
      try {
        decodeFrame(mutated)
      } catch (error) {
        if (!(error instanceof KithError) || error.code !== 'protocol') throw error
      }
    }
    t.pass(name)
  }
})

t.test('releases: whole or refused', async (t) => {
  const good = {
    kind: 'blocks' as const,
    partner: identity(2).id,
    volume: Buffer.alloc(16, 1),
    number: 5,
    names,
  }
  const bytes = encodeRelease(good, ann.keyPair)
  t.same(decodeRelease(bytes), { ...good, owner: ann.id })
  const random = seeded(4)
  for (let i = 0; i < 2000; i++) {
    const mutated = mutate(random, bytes)
    if (!mutated.equals(bytes)) t.throws(() => decodeRelease(mutated), { code: 'denied' })
  }
})
