import { isDeepStrictEqual } from 'node:util'
import t from 'tap'
import sodium from 'sodium-native'
import type { KithError } from '../../lib/base/errors.js'
import { seeded } from '../../lib/base/random.js'
import {
  blockHeader,
  blockName,
  blockNames,
  chunkId,
  chunkKey,
  chunkKeys,
  keyAndIdBytes,
  maxPlainBytes,
  maxSealedBytes,
  openChunk,
  openChunkAside,
  openNode,
  recordOverhead,
  sealChunk,
  sealNode,
  sealOverhead,
  sealPortion,
} from '../../lib/format/seal.js'
import { encodeHeader } from '../../lib/blocks/segments.js'
import { extentSlotBytes } from '../../lib/format/entry.js'
import { partRowBytes } from '../../lib/store/parts.js'
import { packHeadBytes, packRowBytes, rowBytes } from '../../lib/store/seal-messages.js'
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

/** Chunks, one behind the other, sealed by the portion's call; of `known`, the row of the answer is this. */
function sealAll(plain: readonly Buffer[], known: ReadonlyMap<number, Buffer> = new Map()) {
  const count = plain.length
  const ranges = new Uint32Array(count * 2)
  let end = 6
  plain.forEach((chunk, i) => ranges.set([end, (end += chunk.length)], 2 * i))
  const data = Buffer.concat([Buffer.from('before'), ...plain])
  const pairs = Buffer.from(ranges.buffer)
  const keys = Buffer.alloc(count * keyAndIdBytes)
  chunkKeys(convergence, data, pairs, keys)
  const rows = Buffer.alloc(count * (rowBytes + packRowBytes))
  for (const [i, row] of known) row.copy(rows, i * rowBytes)
  const chunks = { data, ranges: pairs, files: Buffer.alloc(count), keys, rows }
  const out = {
    records: Buffer.alloc(data.length + count * recordOverhead),
    ids: Buffer.alloc(count * 32),
    packs: Buffer.alloc(count * (packHeadBytes + partRowBytes)),
    extents: Buffer.alloc(count * extentSlotBytes),
  }
  const [sealed, bytes, packBytes] = sealPortion(convergence, chunks, out)
  return { chunks, out, sealed, bytes, packBytes }
}

/** What an extent says of a chunk: its name, its key, and both lengths (format/entry.ts). */
function extentOf(extents: Buffer, i: number): object {
  const at = i * extentSlotBytes
  const [name, key] = [extents.subarray(at + 1, at + 33), extents.subarray(at + 33, at + 65)]
  return {
    kind: extents[at],
    ...{ name, key, plainBytes: extents.readUInt32LE(at + 65), sealedBytes: extents.readUInt32LE(at + 69) },
  }
}

t.test('chunks of a portion: what is not known, each once, as single blocks and as records', (t) => {
  const texts = [
    seededBytes(random, 700),
    Buffer.alloc(5000, 'text '),
    Buffer.from('x'),
    Buffer.alloc(5000, 'text '),
    seededBytes(random, 70_000),
  ]
  const row = Buffer.alloc(rowBytes, 9)
  const { chunks, out, sealed, bytes, packBytes } = sealAll(texts, new Map([[4, row]]))
  t.equal(sealed, 3, 'not the known one, and the twins once')
  t.equal(packBytes, 0, 'chunks share nothing')
  let at = 0
  for (const i of [0, 1, 2]) {
    const plain = texts[i] as Buffer
    const key = chunkKey(convergence, plain)
    t.ok(chunks.keys.subarray(i * keyAndIdBytes, i * keyAndIdBytes + 32).equals(key))
    t.ok(out.ids.subarray(i * 32, i * 32 + 32).equals(chunkId(key)))
    const { ref, bytes: block } = sealChunk(key, plain)
    const record = out.records.subarray(at)
    t.ok(record.subarray(0, 40).equals(encodeHeader(ref.name, block.length)))
    t.ok(record.subarray(40, 40 + block.length).equals(block))
    t.same(extentOf(out.extents, i), { kind: 1, ...ref })
    at += 40 + block.length
  }
  t.equal(bytes, at)
  t.same(extentOf(out.extents, 3), extentOf(out.extents, 1), 'the twin')
  const known = { name: row.subarray(0, 32), sealedBytes: row.readUInt32LE(32) }
  const last = texts[4] as Buffer
  t.same(
    extentOf(out.extents, 4),
    { kind: 1, key: chunkKey(convergence, last), plainBytes: last.length, ...known },
    'what was known is as the answer has it',
  )
  const outside = Buffer.from(new Uint32Array([0, chunks.data.length + 1]).buffer)
  t.throws(() => chunkKeys(convergence, chunks.data, outside, chunks.keys), TypeError)
  t.throws(() => sealPortion(convergence, chunks, { ...out, records: Buffer.alloc(100) }), TypeError)
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

t.test('chunks opened aside, many at once, are what they are when opened here', async (t) => {
  const sizes = [1, 8 * 1024, 8 * 1024 + 1, 50_000, 300_000, maxPlainBytes]
  const chunks = Array.from({ length: 60 }, (_, i) => {
    const size = sizes[i % sizes.length] as number
    const plain = i % 2 ? seededBytes(random, size) : Buffer.alloc(size, `text ${i} `)
    const { ref, bytes } = sealChunk(chunkKey(convergence, plain), plain)
    return { ref, sealed: i < 30 ? bytes : mutate(random, bytes) }
  })
  for (const { ref, sealed } of chunks.slice(0, 6)) {
    chunks.push({ ref: { ...ref, plainBytes: ref.plainBytes + 1 }, sealed })
    chunks.push({ ref: { ...ref, plainBytes: maxPlainBytes + 1 }, sealed })
    chunks.push({ ref: { ...ref, sealedBytes: 1 }, sealed })
    chunks.push({ ref: { ...ref, key: Buffer.alloc(32) }, sealed })
    chunks.push({ ref: { ...ref, key: Buffer.alloc(31) }, sealed })
    chunks.push({ ref: { ...ref, name: Buffer.alloc(32) }, sealed })
    const node = sealNode(nodeKey, Buffer.alloc(ref.plainBytes, 'a node'))
    chunks.push({ ref: { ...ref, ...node.ref, key: nodeKey }, sealed: node.bytes })
  }
  const aside = await Promise.allSettled(chunks.map(({ ref, sealed }) => openChunkAside(ref, sealed)))
  const wrong = chunks.filter(({ ref, sealed }, i) => {
    const outcome = aside[i]
    try {
      const plain = openChunk(ref, sealed)
      return outcome?.status !== 'fulfilled' || !outcome.value.equals(plain)
    } catch (error) {
      return outcome?.status !== 'rejected' || !isDeepStrictEqual(shown(outcome.reason), shown(error))
    }
  })
  t.equal(wrong.length, 0)
  t.equal(aside.filter(({ status }) => status === 'fulfilled').length, 30)
})

function shown(error: unknown): unknown {
  const { code, message } = error as KithError
  return { code, message }
}

/** The zstd frame inside the block of `plain`. */
function frameOf(plain: Buffer): Buffer {
  const { bytes } = sealNode(nodeKey, plain)
  const frame = Buffer.alloc(bytes.length - sealOverhead)
  const [body, ad] = [bytes.subarray(32), bytes.subarray(0, 8)]
  sodium.crypto_aead_xchacha20poly1305_ietf_decrypt(frame, null, body, ad, bytes.subarray(8, 32), nodeKey)
  return frame
}

t.test('what a key holder forges is bounded by the length the header tells', (t) => {
  const bomb = Buffer.concat(Array.from({ length: 64 }, () => frameOf(Buffer.alloc(maxPlainBytes))))
  for (const [message, plainBytes, what] of [
    [bomb, maxPlainBytes, 'a frame that holds more than it says'],
    [frameOf(Buffer.alloc(100)), 101, 'a frame that holds less'],
    [seededBytes(random, 90), 100, 'no frame at all'],
    [Buffer.concat([frameOf(Buffer.alloc(100)), Buffer.from('x')]), 100, 'a frame and more'],
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

t.test(
  'keys, ids and names of many chunks at once are those of one at a time, whatever their lengths',
  (t) => {
    const lengths = [
      1, 2, 100, 111, 112, 113, 116, 117, 118, 127, 128, 129, 239, 240, 241, 256, 384, 1000, 65_536,
    ]
    for (const count of [1, 2, 3, 4, 5, 9, 40]) {
      const plain = Array.from({ length: count }, () =>
        seededBytes(random, lengths[random() % lengths.length] ?? 1),
      )
      const { chunks, out } = sealAll(plain)
      const wrong = plain.filter((chunk, i) => {
        const key = chunkKey(convergence, chunk)
        const at = i * keyAndIdBytes
        const { ref } = sealChunk(key, chunk)
        return !(
          chunks.keys.subarray(at, at + 32).equals(key) &&
          chunks.keys.subarray(at + 32, at + 64).equals(chunkId(key)) &&
          isDeepStrictEqual(extentOf(out.extents, i), { kind: 1, ...ref })
        )
      })
      t.same(wrong, [], `${count} chunks`)
    }
    t.end()
  },
)

t.test(
  'what zstd makes smaller is compressed, however little it looks like it; what it does not is stored',
  (t) => {
    const isSmaller = (plain: Buffer): boolean => {
      const { ref } = sealChunk(chunkKey(convergence, plain), plain)
      return ref.sealedBytes < plain.length
    }
    const noise = seededBytes(random, 128 * 1024)
    t.notOk(isSmaller(noise), 'noise')
    const block = noise.subarray(0, 32 * 1024)
    t.ok(isSmaller(Buffer.concat([noise.subarray(32 * 1024), block, block])), 'noise that is repeated')
    t.ok(isSmaller(noise.map((byte) => byte & 0x7f) as Buffer), 'noise of seven bits')
    t.ok(isSmaller(Buffer.concat([noise, Buffer.alloc(8 * 1024, 'text at the end ')])), 'text at the end')
    t.ok(isSmaller(Buffer.concat([Buffer.alloc(8 * 1024), noise])), 'zeros at the beginning')
    for (const at of [1, 3000, 70_000, 110_000]) {
      const holed = Buffer.from(noise)
      holed.fill(0, at, at + 16 * 1024)
      t.ok(isSmaller(holed), `a hole at ${at}`)
    }
    const words = Array.from({ length: 9000 }, () => (random() % 5000).toString(36)).join(' ')
    const told = Buffer.concat([block, Buffer.from(words), noise.subarray(0, 40_000)])
    t.ok(isSmaller(told), 'text amid noise')
    const again = Buffer.concat([noise.subarray(0, 70_001), noise.subarray(0, 50_000)])
    t.ok(isSmaller(again), 'a copy at an odd distance')
    t.end()
  },
)

t.test('names of many blocks at once are those of each', (t) => {
  for (let count = 0; count < 12; count++) {
    const blocks = Array.from({ length: count }, () => seededBytes(random, random() % 3000))
    t.same(blockNames(blocks), blocks.map(blockName))
  }
  t.throws(() => blockNames([Buffer.alloc(1), 'text' as unknown as Buffer]), 'only of memory')
  t.end()
})
