import t from 'tap'
import { seeded } from '../../lib/base/random.js'
import { hash } from '../../lib/format/hash.js'
import { deriveIdentity, partnershipKey } from '../../lib/format/keys.js'
import { blockName, maxSealedBytes } from '../../lib/format/seal.js'
import {
  maxElementBytes,
  openPiece,
  openShard,
  pieceBytes,
  piecesFor,
  sealShard,
  sealShards,
  shardBytes,
  type ShardRef,
} from '../../lib/format/shard.js'
import { mutate, seededBytes } from '../helpers/bytes.js'

const random = seeded(7)
const damaged = { code: 'damaged' }
const owner = deriveIdentity(Buffer.alloc(32, 1))
const partner = deriveIdentity(Buffer.alloc(32, 2)).id
const other = deriveIdentity(Buffer.alloc(32, 3)).id

function ref(elementBytes: number, changed: Partial<ShardRef> = {}): ShardRef {
  return {
    key: partnershipKey(owner.kek, partner),
    owner: owner.id,
    partner,
    stripe: Buffer.alloc(32, 9),
    code: 'reed-solomon',
    index: 4,
    elementBytes,
    ...changed,
  }
}

const lengths = [1, 63, 64, 65, 1000, pieceBytes - 1, pieceBytes, pieceBytes + 1, 200_000, maxElementBytes]

t.test('elements of all lengths come back, whole and by pieces', async (t) => {
  for (const length of lengths) {
    const element = seededBytes(random, length)
    const { name, bytes } = await sealShard(ref(length), element)
    t.ok(name.equals(blockName(bytes)), `${length}: named as any block`)
    t.equal(bytes.length, shardBytes(length))
    t.ok(bytes.length <= maxSealedBytes)
    if (length >= pieceBytes) t.ok(bytes.length <= length * 1.001, 'the seal costs 0.1 % at most')
    t.ok(openShard(ref(length), bytes).equals(element))
    const offset = random() % length
    const wanted = 1 + (random() % (length - offset))
    const pieces = piecesFor(length, offset, wanted).map(({ piece, cipher, tag }) => {
      return openPiece(ref(length), piece, bytes.subarray(...cipher), bytes.subarray(...tag))
    })
    const from = Math.floor(offset / pieceBytes) * pieceBytes
    const read = Buffer.concat(pieces).subarray(offset - from, offset - from + wanted)
    t.ok(read.equals(element.subarray(offset, offset + wanted)), 'a range of it')
    t.ok(!bytes.includes(element.subarray(0, 32)) || length < 32, 'and nothing of it can be read')
  }
})

t.test('a shard made again is the same block; that of another partner is another', async (t) => {
  const element = seededBytes(random, 100_000)
  const first = await sealShard(ref(element.length), element)
  t.same(await sealShard(ref(element.length), element), first)
  const second = await sealShard(
    ref(element.length, { partner: other, key: partnershipKey(owner.kek, other) }),
    element,
  )
  t.notOk(second.bytes.subarray(8, 32).equals(first.bytes.subarray(8, 32)))
  const [a, b] = [first.bytes.subarray(32, 96), second.bytes.subarray(32, 96)]
  t.notOk(a.equals(b), 'no partner can make the other one from its own')
  t.same(
    new Set([partnershipKey(owner.kek, partner), partnershipKey(owner.kek, other), owner.kek].map(String))
      .size,
    3,
  )
})

t.test(
  'what was sealed for another owner, partner, stripe, place, code or length does not open',
  async (t) => {
    const element = seededBytes(random, 70_000)
    const { bytes } = await sealShard(ref(70_000), element)
    const wrong: Record<string, Partial<ShardRef>> = {
      key: { key: Buffer.alloc(32, 5) },
      owner: { owner: other },
      partner: { partner: other },
      stripe: { stripe: hash('kith other stripe') },
      index: { index: 5 },
      code: { code: 'parity' },
      elementBytes: { elementBytes: 69_999 },
    }
    for (const [field, changed] of Object.entries(wrong)) {
      const asked = ref(70_000, changed)
      t.throws(() => openShard(asked, bytes), damaged, field)
      const [piece] = piecesFor(70_000, 0, 10)
      t.throws(
        () =>
          openPiece(
            asked,
            0,
            bytes.subarray(...(piece?.cipher ?? [])),
            bytes.subarray(...(piece?.tag ?? [])),
          ),
        damaged,
        `a piece: ${field}`,
      )
    }
  },
)

t.test('several at once are the same as one by one', async (t) => {
  const refs = [100, 70_000, 3, 128, 65_536, 1, 300].map((length, index) => ref(length, { index }))
  const elements = refs.map(({ elementBytes }) => seededBytes(random, elementBytes))
  const together = await sealShards(refs, elements)
  for (const [i, one] of together.entries()) {
    const [of, element] = [refs[i], elements[i]]
    if (!of || !element) throw new Error('an element for each')
    t.same(one, await sealShard(of, element))
    t.ok(openShard(of, one.bytes).equals(element))
    t.ok(one.name.equals(blockName(one.bytes)))
  }
  t.same(await sealShards([], []), [])
})

t.test('each flipped bit is refused', async (t) => {
  const { bytes } = await sealShard(ref(300), seededBytes(random, 300))
  let opened = 0
  for (let bit = 0; bit < bytes.length * 8; bit++) {
    const flipped = Buffer.from(bytes)
    flipped[bit >> 3] = (flipped[bit >> 3] ?? 0) ^ (1 << (bit & 7))
    try {
      openShard(ref(300), flipped)
      opened++
    } catch (error) {
      if (!(error instanceof Error) || !('code' in error) || error.code !== 'damaged') throw error
    }
  }
  t.equal(opened, 0)
})

t.test('cut, lengthened and mutated shards are refused', async (t) => {
  const length = pieceBytes + 500
  const { bytes } = await sealShard(ref(length), seededBytes(random, length))
  const damages = [0, 1, 8, 31, 32, 48, length, bytes.length - 1].map((at) => bytes.subarray(0, at))
  damages.push(Buffer.concat([bytes, Buffer.alloc(1)]))
  for (let i = 0; i < 500; i++) damages.push(mutate(random, bytes))
  let opened = 0
  for (const damage of damages) {
    if (damage.equals(bytes)) continue
    try {
      openShard(ref(length), damage)
      opened++
    } catch (error) {
      if (!(error instanceof Error) || !('code' in error) || error.code !== 'damaged') throw error
    }
  }
  t.equal(opened, 0)
})

t.test('pieces that change places are refused', async (t) => {
  const length = 3 * pieceBytes
  const { bytes } = await sealShard(ref(length), seededBytes(random, length))
  const [a, b] = piecesFor(length, 0, 2 * pieceBytes)
  if (!a || !b) throw new Error('two pieces')
  const cut = (range: [number, number]): Buffer => bytes.subarray(...range)
  t.ok(openPiece(ref(length), 0, cut(a.cipher), cut(a.tag)))
  t.throws(() => openPiece(ref(length), 1, cut(a.cipher), cut(a.tag)), damaged)
  t.throws(() => openPiece(ref(length), 0, cut(b.cipher), cut(b.tag)), damaged)
  t.throws(() => openPiece(ref(length), 0, cut(a.cipher), cut(b.tag)), damaged)
  t.throws(() => openPiece(ref(length), 3, cut(a.cipher), cut(a.tag)), damaged, 'beyond the last')
  t.throws(() => openPiece(ref(length), 0, cut(a.cipher).subarray(1), cut(a.tag)), damaged)
  t.throws(() => openPiece(ref(length), 0, Buffer.alloc(0), cut(a.tag)), damaged)
  t.throws(() => openPiece(ref(length), 0, cut(a.cipher), cut(a.tag).subarray(1)), damaged)
  const swapped = Buffer.from(bytes)
  cut(b.cipher).copy(swapped, a.cipher[0])
  cut(a.cipher).copy(swapped, b.cipher[0])
  cut(b.tag).copy(swapped, a.tag[0])
  cut(a.tag).copy(swapped, b.tag[0])
  t.throws(() => openShard(ref(length), swapped), damaged, 'with their tags, within a shard')
})

t.test('the bytes of a shard are part of the format', async (t) => {
  const { name } = await sealShard(ref(100_000), Buffer.alloc(100_000, 'element '))
  t.equal(name.toString('hex'), '12f007c6832740d86a2a74837105639c56f71cc454542f777c311386c3e615d6')
})
