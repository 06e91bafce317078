import t from 'tap'
import { seeded } from '../../lib/base/random.js'
import {
  decodeHead,
  encodeHead,
  newestHeads,
  openOwnerState,
  sealOwnerState,
  type Head,
  type OwnerState,
} from '../../lib/format/head.js'
import { sign } from '../../lib/format/hash.js'
import {
  deriveIdentity,
  encryptUnder,
  volumeContext,
  wrapVolumeKeys,
  unwrapVolumeKeys,
} from '../../lib/format/keys.js'
import { fuzzCodec, golden, mutate } from '../helpers/bytes.js'

const owner = deriveIdentity(Buffer.alloc(32, 1))
const stranger = deriveIdentity(Buffer.alloc(32, 2))
const volumeId = Buffer.alloc(16, 3)
const keys = { convergence: Buffer.alloc(32, 4), node: Buffer.alloc(32, 5), gear: Buffer.alloc(32, 6) }
const state: OwnerState = {
  label: '/home/someone/protected \u{1f600}',
  circles: [
    { name: 'family', secret: Buffer.alloc(32, 7) },
    { name: '', secret: Buffer.alloc(32, 8) },
  ],
}

function head(sequence: number, volume = volumeId, by = owner): Head {
  return {
    owner: by.id,
    volumeId: volume,
    sequence,
    time: 1_717_234_200_000,
    blocks: 12,
    bytes: 2 ** 40,
    snapshots: { name: Buffer.alloc(32, 9), sealedBytes: 200 },
    wrappedKeys: wrapVolumeKeys(by.kek, by.id, volume, keys),
    sealedState: sealOwnerState(by.kek, by.id, volume, state),
  }
}

t.test('a head comes back, and opens with the phrase alone', (t) => {
  const made = head(2 ** 40)
  const read = decodeHead(encodeHead(made, owner))
  t.same(read, made)
  t.same(unwrapVolumeKeys(owner.kek, read.owner, read.volumeId, read.wrappedKeys), keys)
  t.same(openOwnerState(owner.kek, read.owner, read.volumeId, read.sealedState), state)
  t.throws(() => openOwnerState(stranger.kek, read.owner, read.volumeId, read.sealedState), {
    code: 'damaged',
  })
  t.throws(() => openOwnerState(owner.kek, read.owner, Buffer.alloc(16), read.sealedState), {
    code: 'damaged',
  })
  t.end()
})

t.test('a head signed by another, or under another namespace, is refused', (t) => {
  const bytes = encodeHead(head(1), owner)
  const body = bytes.subarray(0, -64)
  const by = (key: Buffer, namespace: 'kith head' | 'kith release'): Buffer =>
    Buffer.concat([body, sign(key, namespace, body)])
  t.same(decodeHead(by(owner.keyPair.secretKey, 'kith head')), decodeHead(bytes))
  t.throws(() => decodeHead(by(stranger.keyPair.secretKey, 'kith head')), /does not verify/)
  t.throws(() => decodeHead(by(owner.keyPair.secretKey, 'kith release')), /does not verify/)
  t.end()
})

t.test('of many heads the newest of each volume counts', (t) => {
  const other = Buffer.alloc(16, 77)
  const forged = encodeHead(head(99), owner)
  forged[60] = (forged[60] ?? 0) ^ 1
  const candidates = [
    encodeHead(head(1), owner),
    encodeHead(head(7), owner),
    encodeHead(head(3), owner),
    encodeHead(head(2, other), owner),
    encodeHead(head(500, volumeId, stranger), stranger),
    forged,
    Buffer.alloc(0),
    Buffer.alloc(500, 1),
  ]
  const newest = newestHeads(candidates, owner.id)
  t.same(
    newest.map(({ head }) => [head.volumeId, head.sequence]),
    [
      [volumeId, 7],
      [other, 2],
    ],
  )
  t.equal(newest[0]?.bytes, candidates[1])
  t.end()
})

t.test('the owner state is bounded', (t) => {
  const context = volumeContext('kith owner state', owner.id, volumeId)
  const open = (plain: Buffer): OwnerState =>
    openOwnerState(owner.kek, owner.id, volumeId, encryptUnder(owner.kek, context, plain))
  t.same(open(Buffer.from([1, 0, 0, 0])), { label: '', circles: [] })
  for (const plain of [[], [2, 0, 0, 0], [1, 65, 0, 0], [1, 0, 255, 255], [1, 1, 0, 0], [1, 0, 0, 0, 0]])
    t.throws(() => open(Buffer.from(plain)), { code: 'damaged' }, plain.join(' '))
  t.throws(() => openOwnerState(owner.kek, owner.id, volumeId, Buffer.alloc(70_000)), { code: 'damaged' })
  t.end()
})

t.test('what an earlier kith wrote', (t) => {
  const bytes = golden('format-1/head', () => encodeHead(head(41), owner))
  const read = decodeHead(bytes)
  t.equal(read.sequence, 41)
  t.ok(encodeHead(read, owner).equals(bytes))
  t.same(unwrapVolumeKeys(owner.kek, owner.id, volumeId, read.wrappedKeys), keys)
  t.same(openOwnerState(owner.kek, owner.id, volumeId, read.sealedState), state)
  t.end()
})

t.test('10,000 mutations, as they are and signed again', (t) => {
  const random = seeded(3)
  const sample = encodeHead(head(5), owner)
  const wrong: string[] = []
  for (let i = 0; i < 2000; i++) {
    const bytes = mutate(random, sample)
    if (bytes.equals(sample)) continue
    try {
      decodeHead(bytes)
      wrong.push(bytes.toString('hex'))
    } catch (error) {
      if ((error as { code?: string }).code !== 'damaged') wrong.push(String(error))
    }
  }
  t.same(wrong, [])
  // Only the owner could send what follows; it must not crash a partner all the same.
  const signed = (body: Buffer): Buffer =>
    Buffer.concat([body, sign(owner.keyPair.secretKey, 'kith head', body)])
  const decode = (body: Buffer): Head => decodeHead(signed(body))
  const encode = (value: Head): Buffer => {
    if (!value.owner.equals(owner.id)) throw new Error('only the owner signs')
    return encodeHead(value, owner).subarray(0, -64)
  }
  t.same(fuzzCodec(random, [sample.subarray(0, -64)], 8000, decode, encode), [])
  t.end()
})
