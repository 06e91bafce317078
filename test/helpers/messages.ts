/** One well-formed frame of every kind, for tests that mutate them. */
import { seeded } from '../../lib/base/random.js'
import {
  encodeCredit,
  encodeError,
  encodeHello,
  encodePut,
  encodeReply,
  encodeRequest,
} from '../../lib/format/wire.js'
import { encodeSketch } from '../../lib/format/sketch.js'
import type { Facts } from '../../lib/format/wire-pool.js'
import { sketchOf } from '../../lib/planning/sketch.js'
import { encodeAttestation } from '../../lib/format/wire-attestation.js'
import { encodeAbsence } from '../../lib/format/wire-away.js'
import { encodeFellowList, sealPartnerList } from '../../lib/format/wire-fellows.js'
import { encodeAddresses } from '../../lib/partners/addresses.js'
import { fellowsOf } from '../../lib/partners/fellows.js'
import { encodeRelease } from '../../lib/format/wire-release.js'
import { somePact, someTerms } from './agreements.js'
import { block, head, identity } from './backup.js'

export function everyMessage(seed: number): Record<string, Buffer> {
  const random = seeded(seed)
  const ann = identity(1)
  const blocks = Array.from({ length: 3 }, () => block(random, 1 + (random() % 300)))
  const names = blocks.map(({ name }) => name)
  const id = random() % 100
  const release = encodeRelease(
    { kind: 'blocks', partner: identity(2).id, volume: Buffer.alloc(16, 1), number: 5, names },
    ann.keyPair,
  )
  return {
    hello: encodeHello({ version: 1, capabilities: 1, name: 'ann' }),
    credit: encodeCredit(4711),
    error: encodeError(id, 'noSpace', 'no room'),
    put: Buffer.concat(encodePut(blocks)),
    offer: encodeRequest('offer', id, { names }),
    commit: encodeRequest('commit', id, {}),
    headPut: encodeRequest('headPut', id, { head: head(ann, 1) }),
    headGet: encodeRequest('headGet', id, { volume: Buffer.alloc(16, 1) }),
    get: encodeRequest('get', id, { names }),
    prove: encodeRequest('prove', id, { nonce: Buffer.alloc(32, 3), names }),
    held: encodeRequest('held', id, {}),
    generation: encodeRequest('generation', id, {}),
    release: encodeRequest('release', id, { request: release }),
    flip: encodeRequest('flip', id, { committed: Buffer.alloc(32, 4) }),
    reveal: encodeRequest('reveal', id, { r1: Buffer.alloc(32, 5), spread: { bits: 12, draws: 900 } }),
    missing: encodeReply('offer', id, { missing: names.map((_, i) => i % 2 === 0) }),
    durable: encodeReply('commit', id, { blocks: 3, bytes: 5 }),
    headStored: encodeReply('headPut', id, {}),
    heads: encodeReply('headGet', id, { heads: [head(ann, 1), head(ann, 2, 2)] }),
    blocks: encodeReply('get', id, { blocks: [blocks[0]?.bytes ?? 'absent', 'absent', 'later'] }),
    proofs: encodeReply('prove', id, { proofs: [Buffer.alloc(32, 1), undefined] }),
    holding: encodeReply('held', id, { bytes: 5, blocks: 6, releaseNumber: 7 }),
    madeWith: encodeReply('generation', id, { generation: Buffer.alloc(16, 8) }),
    flipped: encodeReply('flip', id, { r2: Buffer.alloc(32, 6) }),
    drawn: encodeReply('reveal', id, { drawn: names.map((name) => ({ name, proof: Buffer.alloc(32, 7) })) }),
    released: encodeReply('release', id, { blocks: 1, bytes: 2 }),
    away: encodeRequest('away', id, {
      notice: encodeAbsence({ partner: identity(2).id, made: 5, until: 9 }, ann.keyPair),
    }),
    awayTaken: encodeReply('away', id, { until: 1_700_000_000_000 }),
    fellowsPut: encodeRequest('fellowsPut', id, { list: someList }),
    fellowsKept: encodeReply('fellowsPut', id, { number: 1_700_000_000_000 }),
    fellowsGet: encodeRequest('fellowsGet', id, {}),
    fellowsGiven: encodeReply('fellowsGet', id, { list: someList }),
    seen: encodeRequest('seen', id, { owner: ann.id }),
    seenAge: encodeReply('seen', id, { ageMs: 5000 }),
    missed: encodeRequest('missed', id, { partner: identity(2).id }),
    missedTold: encodeReply('missed', id, {}),
    attest: encodeRequest('attest', id, {}),
    attested: encodeReply('attest', id, { own: someAttestation(1, 2), shown: [someAttestation(3, 1)] }),
    ...pactMessages(id),
    ...poolMessages(id),
  }
}

function someAttestation(by: number, about: number): Buffer {
  const said = { about: identity(about).id, made: 1_700_000_000_000, days: 90, kept: 1, reneged: 0 }
  return encodeAttestation(said, identity(by).keyPair)
}

/** Ann's to the second of her partners. */
export const someList = (() => {
  const ann = identity(1)
  const partners = [2, 3, 4]
    .map((n) => ({
      key: identity(n).id,
      agreement: n,
      until: 0,
      addresses: encodeAddresses([{ host: '10.0.0.1', port: n }]),
    }))
    .sort((a, b) => Buffer.compare(a.key, b.key))
  const sealed = sealPartnerList(ann.kek, ann.id, 7, partners)
  const partner = identity(2).id
  const content = {
    partner,
    number: 7,
    made: 1_700_000_000_000,
    fellows: fellowsOf(partners, partner),
    sealed,
  }
  return encodeFellowList(content, ann.keyPair)
})()

export const someFacts: Facts = {
  space: 2 ** 40,
  wants: Number.MAX_SAFE_INTEGER,
  hours: Buffer.alloc(21, 0x5a),
  system: 'linux',
  architecture: 'arm64',
  region: 'eu-nörd',
}

function poolMessages(id: number): Record<string, Buffer> {
  const random = seeded(id)
  const rows = Array.from({ length: 500 }, (_, i) => ({ name: block(random).name, bytes: 1000 + i }))
  const sketch = encodeSketch(sketchOf(rows, Buffer.alloc(32, 8)))
  const ranges = rows.slice(0, 3).map(({ name }) => ({ name, offset: 77, length: 1000 }))
  return {
    poolQuery: encodeRequest('poolQuery', id, { facts: someFacts, sketch }),
    poolFacts: encodeReply('poolQuery', id, { facts: someFacts, holds: Buffer.alloc(43, 3) }),
    getParts: encodeRequest('getParts', id, { parts: ranges }),
    parts: encodeReply('getParts', id, { blocks: [Buffer.alloc(9, 4), 'absent'] }),
    probe: encodeRequest('probe', id, { nonce: Buffer.alloc(32, 3), ranges }),
    shown: encodeReply('probe', id, { proofs: [Buffer.alloc(32, 1), undefined, Buffer.alloc(32, 2)] }),
  }
}

function pactMessages(id: number): Record<string, Buffer> {
  const { document, offer, ending } = somePact(5)
  const wishes = { terms: someTerms, wants: 7, mark: 8 }
  return {
    pactNewest: encodeRequest('pactNewest', id, { number: 4 }),
    pactTerms: encodeRequest('pactTerms', id, {}),
    pactOffer: encodeRequest('pactOffer', id, { offer }),
    pactEnd: encodeRequest('pactEnd', id, { ending }),
    pactGiven: encodeReply('pactNewest', id, { document, ending }),
    pactWishes: encodeReply('pactTerms', id, wishes),
    accepted: encodeReply('pactOffer', id, { kind: 'accepted', document }),
    counter: encodeReply('pactOffer', id, { kind: 'counter', wishes }),
    declined: encodeReply('pactOffer', id, { kind: 'declined', reason: 'late' }),
    pactEnded: encodeReply('pactEnd', id, {}),
  }
}
