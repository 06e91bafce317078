import t from 'tap'
import sodium from 'sodium-native'
import zstd from 'zstd-napi'
import { seeded } from '../../lib/base/random.js'
import {
  blockHeader,
  blockName,
  chunkId,
  chunkKey,
  maxPlainBytes,
  maxSealedBytes,
  openChunk,
  openNode,
  sealChunk,
  sealNode,
  sealOverhead,
} from '../../lib/format/seal.js'
import { golden, mutate, seededBytes } from '../helpers/bytes.js'

const random = seeded(1)
const convergence = Buffer.alloc(32, 1)
const nodeKey = Buffer.alloc(32, 2)
const damaged = { code: 'damaged' }

/** Seals bytes of our choice as a node, as only the holder of the key could: to reach what lies behind the tag. */
function forge(
  header: number[],
  plainBytes: number,
  message: Buffer,
): { ref: { name: Buffer; sealedBytes: number }; bytes: Buffer } {
  const bytes = Buffer.alloc(message.length + sealOverhead)
  Buffer.from(header).copy(bytes)
  bytes.writeUInt32LE(plainBytes, 4)
  const ad = bytes.subarray(0, 8)
  const out = bytes.subarray(32)
  sodium.crypto_aead_xchacha20poly1305_ietf_encrypt(out, message, ad, null, bytes.subarray(8, 32), nodeKey)
  return { ref: { name: blockName(bytes), sealedBytes: bytes.length }, bytes }
}

t.test('chunks of all lengths come back', (t) => {
  for (const length of [1, 2, 63, 64, 65, 512, 4095, 65_536, 262_144, maxPlainBytes]) {
    for (const plain of [seededBytes(random, length), Buffer.alloc(length, 'text ')]) {
      const key = chunkKey(convergence, plain)
      const { ref, bytes } = sealChunk(key, plain)
      t.ok(bytes.length <= length + sealOverhead && bytes.length <= maxSealedBytes)
      t.same({ ...ref }, { name: blockName(bytes), key, plainBytes: length, sealedBytes: bytes.length })
      t.ok(openChunk(ref, bytes).equals(plain))
      t.same(blockHeader(bytes), { kind: 'chunk', plainBytes: length })
    }
  }
  t.end()
})

t.test('equal chunks are equal blocks under one secret, and unlike under another', (t) => {
  const plain = seededBytes(random, 5000)
  const one = sealChunk(chunkKey(convergence, plain), plain)
  const two = sealChunk(chunkKey(convergence, Buffer.from(plain)), Buffer.from(plain))
  t.same(one, two)
  const other = sealChunk(chunkKey(Buffer.alloc(32, 3), plain), plain)
  t.notSame(other.bytes, one.bytes)
  t.notSame(chunkId(one.ref.key), one.ref.key)
  t.end()
})

t.test('compression is kept only where it is smaller', (t) => {
  const text = Buffer.alloc(10_000, 'compressible ')
  t.ok(sealChunk(chunkKey(convergence, text), text).bytes.length < 200)
  const noise = seededBytes(random, 10_000)
  t.equal(sealChunk(chunkKey(convergence, noise), noise).bytes.length, 10_000 + sealOverhead)
  t.end()
})

t.test('two compressed forms of one plaintext share a key and never a nonce', (t) => {
  const plain = Buffer.from(Array.from({ length: 3000 }, (_, i) => `${i * i} `).join(''))
  const key = chunkKey(convergence, plain)
  const nonces = new Set<string>()
  const messages = new Set<string>()
  for (const level of [1, 3, 9, 19]) {
    for (const sealed of [sealChunk(key, plain, level), sealNode(key, plain, level)]) {
      const nonce = sealed.bytes.toString('hex', 8, 32)
      messages.add(sealed.bytes.toString('hex', 0, 8) + sealed.bytes.toString('hex', 32))
      nonces.add(nonce)
    }
    const again = sealChunk(key, plain, level)
    t.ok(openChunk(again.ref, again.bytes).equals(plain))
  }
  t.ok(messages.size > 4)
  t.equal(nonces.size, messages.size)
  t.end()
})

t.test('a block opens only as what it is', (t) => {
  const plain = seededBytes(random, 3000)
  const key = chunkKey(convergence, plain)
  const chunk = sealChunk(key, plain)
  const node = sealNode(nodeKey, plain)
  t.ok(openNode(nodeKey, node.ref, node.bytes).equals(plain))
  t.throws(() => openNode(key, chunk.ref, chunk.bytes), damaged, 'a chunk as a node')
  t.throws(
    () => openChunk({ ...node.ref, key: nodeKey, plainBytes: 3000 }, node.bytes),
    damaged,
    'a node as a chunk',
  )
  t.throws(() => openNode(convergence, node.ref, node.bytes), damaged, 'another key')
  t.throws(() => openChunk({ ...chunk.ref, plainBytes: 2999 }, chunk.bytes), damaged, 'another length')
  t.throws(() => openChunk({ ...chunk.ref, sealedBytes: 1 }, chunk.bytes), damaged, 'another sealed length')
  t.throws(() => openChunk(chunk.ref, node.bytes), damaged, 'a swapped block')
  t.throws(() => openChunk(chunk.ref, Buffer.alloc(0)), damaged, 'nothing')
  t.end()
})

t.test('what a key holder forges is bounded by the length the header tells', (t) => {
  const bomb = zstd.compress(Buffer.alloc(64 * maxPlainBytes))
  for (const [message, plainBytes, what] of [
    [bomb, maxPlainBytes, 'a frame that holds more than it says'],
    [zstd.compress(Buffer.alloc(100)), 101, 'a frame that holds less'],
    [seededBytes(random, 90), 100, 'no frame at all'],
    [Buffer.concat([zstd.compress(Buffer.alloc(100)), Buffer.from('x')]), 100, 'a frame and more'],
  ] as const) {
    const { ref, bytes } = forge([1, 2, 1, 0], plainBytes, message)
    t.throws(() => openNode(nodeKey, ref, bytes), damaged, what)
  }
  for (const header of [
    [0, 2, 0, 0],
    [2, 2, 0, 0],
    [1, 3, 0, 0],
    [1, 2, 2, 0],
    [1, 2, 0, 1],
  ]) {
    const { ref, bytes } = forge(header, 100, seededBytes(random, 100))
    t.throws(() => openNode(nodeKey, ref, bytes), damaged, `header ${header.join(' ')}`)
  }
  const tooLong = forge([1, 2, 0, 0], maxPlainBytes + 1, Buffer.alloc(maxPlainBytes + 1))
  t.throws(() => openNode(nodeKey, tooLong.ref, tooLong.bytes), damaged, 'longer than a block may be')
  t.end()
})

t.test('blocks of an earlier kith: same bytes where stored, same content where compressed', (t) => {
  const plain = Buffer.from(Array.from({ length: 256 }, (_, i) => i))
  const key = chunkKey(convergence, plain)
  const stored = golden('format-1/chunk-stored', () => sealChunk(key, plain).bytes)
  t.ok(sealChunk(key, plain).bytes.equals(stored))
  const text = Buffer.alloc(400, 'kith keeps ')
  const textKey = chunkKey(convergence, text)
  const chunk = golden('format-1/chunk-zstd', () => sealChunk(textKey, text).bytes)
  const ref = { name: blockName(chunk), key: textKey, plainBytes: 400, sealedBytes: chunk.length }
  t.ok(openChunk(ref, chunk).equals(text))
  const node = golden('format-1/node-sealed', () => sealNode(nodeKey, text).bytes)
  t.ok(openNode(nodeKey, { name: blockName(node), sealedBytes: node.length }, node).equals(text))
  t.end()
})

t.test('10,000 mutations: none opens, even under its own name', (t) => {
  const text = Buffer.alloc(700, 'some content, ')
  const samples = [
    sealNode(nodeKey, text).bytes,
    sealNode(nodeKey, seededBytes(random, 600)).bytes,
    sealNode(nodeKey, Buffer.from([1])).bytes,
  ]
  let opened = 0
  for (let i = 0; i < 10_000; i++) {
    const sample = samples[i % samples.length] ?? Buffer.alloc(0)
    const bytes = mutate(random, sample)
    if (bytes.equals(sample)) continue
    blockHeader(bytes)
    try {
      openNode(nodeKey, { name: blockName(bytes), sealedBytes: bytes.length }, bytes)
      opened++
    } catch (error) {
      if ((error as { code?: string }).code !== 'damaged') throw error
    }
  }
  t.equal(opened, 0)
  t.end()
})
