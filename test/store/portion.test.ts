import { isDeepStrictEqual } from 'node:util'
import t from 'tap'
import { decodeHeader, headerBytes } from '../../lib/blocks/segments.js'
import { seeded } from '../../lib/base/random.js'
import { Reader } from '../../lib/format/bytes.js'
import { bytesOfExtent, extentBytesAt, extentSlotBytes, readExtents } from '../../lib/format/entry.js'
import {
  chunkId,
  chunkKey,
  chunkKeys,
  keyAndIdBytes,
  openChunk,
  recordOverhead,
  sealPortion,
} from '../../lib/format/seal.js'
import { isSoundPart, partEncoding, partId, partIdBytes, partRowBytes } from '../../lib/store/parts.js'
import { packHeadBytes, packRowBytes, readPacks, rowBytes } from '../../lib/store/seal-messages.js'
import { seededBytes } from '../helpers/bytes.js'

const convergence = Buffer.alloc(32, 3)
const packBytes = 256 * 1024

/** What is known already, as the answer has it: a chunk, or a part of a pack. */
const known = {
  name: Buffer.alloc(32, 7),
  key: Buffer.alloc(32, 8),
  sealedBytes: 900,
  plainBytes: 90_000,
  offset: 11,
}

interface Made {
  plain: Buffer
  isFile: boolean
  known: 'no' | 'chunk' | 'part'
}

/** Chunks and small files, some of them twins of earlier ones, some known; with a few bytes between them. */
function made(seed: number): Made[] {
  const random = seeded(seed)
  const all: Made[] = []
  const count = 1 + (random() % 60)
  for (let i = 0; i < count; i++) {
    const twin = all.length > 0 && random() % 5 === 0 ? all[random() % all.length] : undefined
    const isFile = random() % 4 > 0
    const bytes = isFile ? 513 + (random() % 30_000) : 1 + (random() % 90_000)
    const plain = twin?.plain ?? seededBytes(random, bytes)
    const answers = ['no', 'no', 'no', 'no', 'chunk', isFile ? 'part' : 'chunk'] as const
    all.push({ plain, isFile, known: twin?.known ?? answers[random() % 6] ?? 'no' })
  }
  // A part of a pack is asked for, and answered, as a file only.
  return all.map((one) => (one.known === 'part' && !one.isFile ? { ...one, known: 'chunk' } : one))
}

function answer(chunks: readonly Made[]): Buffer {
  const rows = Buffer.alloc(chunks.length * (rowBytes + packRowBytes))
  for (const [i, { known: what }] of chunks.entries()) {
    if (what === 'no') continue
    known.name.copy(rows, i * rowBytes)
    rows.writeUInt32LE(known.sealedBytes, i * rowBytes + 32)
    if (what !== 'part') continue
    const at = chunks.length * rowBytes + i * packRowBytes
    rows.writeUInt32LE(known.plainBytes, at)
    known.key.copy(rows, at + 4)
    rows.writeUInt32LE(known.offset, at + 36)
  }
  return rows
}

function seal(chunks: readonly Made[]) {
  const gap = Buffer.from('gap')
  const data = Buffer.concat(chunks.flatMap(({ plain }) => [gap, plain]))
  const pairs = new Uint32Array(chunks.length * 2)
  let end = 0
  for (const [i, { plain }] of chunks.entries()) pairs.set([end + 3, (end += 3 + plain.length)], 2 * i)
  const ranges = Buffer.from(pairs.buffer)
  const keys = Buffer.alloc(chunks.length * keyAndIdBytes)
  chunkKeys(convergence, data, ranges, keys)
  const room = (each: number) => Buffer.alloc(chunks.length * each)
  const out = {
    records: Buffer.alloc(data.length + chunks.length * recordOverhead),
    ids: room(32),
    packs: room(packHeadBytes + partRowBytes),
    extents: room(extentSlotBytes),
  }
  const files = Buffer.from(chunks.map(({ isFile }) => Number(isFile)))
  const [sealed, bytes, packed] = sealPortion(
    convergence,
    { data, ranges, files, keys, rows: answer(chunks) },
    out,
  )
  const blocks = new Map<string, Buffer>()
  for (let at = 0; at < bytes;) {
    const header = decodeHeader(out.records.subarray(at, at + headerBytes))
    if (!header) throw new Error('a record is not whole')
    at += headerBytes
    blocks.set(header.name.toString('hex'), out.records.subarray(at, (at += header.bytes)))
  }
  return { sealed, blocks, packs: [...readPacks(out.packs.subarray(0, packed))], extents: out.extents }
}

t.test('every extent leads to its bytes, and every row of a pack to its file', async (t) => {
  for (let seed = 1; seed <= 20; seed++) {
    const chunks = made(seed)
    const { sealed, blocks, packs, extents } = seal(chunks)
    t.equal(blocks.size, sealed)
    const wrong = chunks.filter(({ plain, isFile, known: what }, i) => {
      const at = i * extentSlotBytes
      const slot = extents.subarray(at, at + extentBytesAt(extents, at))
      const from = new Reader(slot, 'extent')
      const [extent] = readExtents(from, 1, true)
      from.end()
      if (!extent || extent.kind === 'hole' || (extent.kind === 'part' && !isFile)) return true
      if (what === 'no') {
        const block = blocks.get(extent.chunk.name.toString('hex'))
        return !block || !bytesOfExtent(extent, openChunk(extent.chunk, block)).equals(plain)
      }
      const { name, key, sealedBytes, plainBytes, offset } = known
      const bytes = plain.length
      const chunk = { name, key: chunkKey(convergence, plain), sealedBytes, plainBytes: bytes }
      const part = { kind: 'part', chunk: { name, key, sealedBytes, plainBytes }, offset, bytes }
      return !isDeepStrictEqual(extent, what === 'part' ? part : { kind: 'chunk', chunk })
    })
    t.same(wrong.length, 0, `seed ${seed}`)
    for (const { ref, rows } of packs) {
      const plain = openChunk(ref, blocks.get(ref.name.toString('hex')) as Buffer)
      t.ok(rows.length >= 2 * partRowBytes && plain.length <= packBytes)
      for (let at = 0; at < rows.length; at += partRowBytes) {
        const id = rows.subarray(at, at + partIdBytes)
        const row = partEncoding.decode(rows.subarray(at + partIdBytes, at + partRowBytes))
        const file = plain.subarray(row.offset, row.offset + row.bytes)
        if (!isSoundPart(id, row) || !row.pack.equals(ref.name.subarray(0, 8))) t.fail(`row of seed ${seed}`)
        if (!partId(chunkId(chunkKey(convergence, file))).equals(id)) t.fail(`file of seed ${seed}`)
      }
    }
  }
})

t.test('of files that follow one another, each is in a pack; what is alone is a chunk', async (t) => {
  const random = seeded(5)
  const file = (bytes: number): Made => ({ plain: seededBytes(random, bytes), isFile: true, known: 'no' })
  const chunk: Made = { plain: seededBytes(random, 70_000), isFile: false, known: 'no' }
  const { sealed, packs } = seal([
    file(600),
    file(700),
    chunk,
    file(800),
    chunk,
    ...Array<Made>(5).fill(file(60_000)),
  ])
  t.equal(sealed, 4, 'a pack, the chunk once, a file, and a file whose twins need nothing')
  t.same(
    packs.map(({ rows }) => rows.length / partRowBytes),
    [2],
  )
  const many = seal(Array.from({ length: 9 }, () => file(60_000)))
  t.same(
    many.packs.map(({ rows }) => rows.length / partRowBytes),
    [4, 4],
    'and one more, which is a chunk',
  )
  t.equal(many.sealed, 3)
})

t.test('what does not fit is refused', async (t) => {
  const data = seededBytes(seeded(6), 4000)
  const keys = Buffer.alloc(2 * keyAndIdBytes)
  const out = (each: number) => Buffer.alloc(2 * each)
  const room = { ids: out(32), packs: out(packHeadBytes + partRowBytes), extents: out(extentSlotBytes) }
  const records = Buffer.alloc(data.length + 2 * recordOverhead)
  const files = Buffer.from([1, 1])
  const rows = out(rowBytes + packRowBytes)
  const ranges = (...pairs: number[]) => Buffer.from(new Uint32Array(pairs).buffer)
  const parts = { data, ranges: ranges(0, 1000, 1000, 2000), files, keys, rows }
  t.throws(
    () => sealPortion(convergence, { ...parts, ranges: ranges(1000, 2000, 0, 1000) }, { ...room, records }),
    TypeError,
  )
  t.throws(
    () => sealPortion(convergence, { ...parts, ranges: ranges(0, 1000, 500, 2000) }, { ...room, records }),
    TypeError,
  )
  t.throws(
    () => sealPortion(convergence, { ...parts, rows: rows.subarray(1) }, { ...room, records }),
    TypeError,
  )
  t.throws(() => sealPortion(convergence, parts, { ...room, records: records.subarray(0, 1500) }), TypeError)
  t.throws(
    () => sealPortion(convergence, parts, { ...room, records, extents: room.extents.subarray(1) }),
    TypeError,
  )
})
