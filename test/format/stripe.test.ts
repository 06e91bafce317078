import t from 'tap'
import { seeded } from '../../lib/base/random.js'
import { maxElementBytes } from '../../lib/format/shard.js'
import {
  decodePage,
  decodeStripe,
  elementBytesFor,
  elementsOf,
  encodePage,
  encodeStripe,
  placeIn,
  stripeId,
  type Stripe,
} from '../../lib/format/stripe.js'
import { seededBytes } from '../helpers/bytes.js'

function someStripe(random: () => number, data = 3, parity = 2): Stripe {
  const blocks = Array.from({ length: 1 + (random() % 20) }, () => ({
    name: seededBytes(random, 32),
    bytes: 1 + (random() % 60_000),
  }))
  const total = blocks.reduce((sum, { bytes }) => sum + bytes, 0)
  const shards = Array.from({ length: data + parity }, () => ({
    partner: seededBytes(random, 32),
    name: seededBytes(random, 32),
  }))
  return { code: 'reed-solomon', data, parity, elementBytes: elementBytesFor(total, data), blocks, shards }
}

t.test('a stripe comes back as it was; what is cut or changed is damaged, or another', (t) => {
  const random = seeded(1)
  for (let i = 0; i < 50; i++) {
    const stripe = someStripe(random, 1 + (random() % 9), 1 + (random() % 5))
    const bytes = encodeStripe(stripe)
    t.same(decodeStripe(bytes), stripe)
    t.throws(() => decodeStripe(bytes.subarray(0, random() % bytes.length)), { code: 'damaged' })
    const flipped = Buffer.from(bytes)
    const at = random() % 12
    flipped[at] = (flipped[at] ?? 0) ^ (1 << (random() % 8))
    let other: Stripe | undefined
    try {
      other = decodeStripe(flipped)
    } catch (error) {
      t.match(error, { code: 'damaged' })
    }
    if (other) t.notSame(stripeId(other), stripeId(stripe))
  }
  t.end()
})

t.test('the id fixes the blocks, their order and the code', (t) => {
  const stripe = someStripe(seeded(2))
  const id = stripeId(stripe)
  t.same(stripeId({ ...stripe, shards: [] } as Stripe), id, 'whoever holds the shards')
  t.notSame(stripeId({ ...stripe, blocks: [...stripe.blocks].reverse() }), id)
  t.notSame(stripeId({ ...stripe, code: 'parity' }), id)
  t.notSame(stripeId({ ...stripe, elementBytes: stripe.elementBytes + 64 }), id)
  t.end()
})

t.test('elements have room for all, at most an eighth of it padding, in few lengths', (t) => {
  const random = seeded(3)
  const lengths = new Set<number>()
  for (let i = 0; i < 2000; i++) {
    const data = 1 + (random() % 12)
    const total = 10_000 + (random() % (data * maxElementBytes - 10_000))
    const bytes = elementBytesFor(total, data)
    const least = Math.ceil(total / data)
    if (
      bytes < least ||
      bytes > Math.max(64, least * 1.125 + 64) ||
      bytes > maxElementBytes ||
      bytes % 64 > 0
    )
      t.fail(`${total} in ${data}: ${bytes}`)
    lengths.add(bytes)
  }
  t.ok(lengths.size < 300)
  t.end()
})

t.test('blocks lie end to end in the elements', (t) => {
  const random = seeded(4)
  const stripe = someStripe(random)
  const blocks = stripe.blocks.map(({ bytes }) => seededBytes(random, bytes))
  const all = Buffer.concat(elementsOf(stripe, blocks))
  stripe.blocks.forEach(({ name }, i) => {
    const place = placeIn(stripe, name)
    if (!place) return t.fail('each has a place')
    t.ok(all.subarray(place.offset, place.offset + place.bytes).equals(blocks[i] ?? Buffer.alloc(0)))
  })
  t.equal(placeIn(stripe, Buffer.alloc(32)), undefined)
  t.end()
})

t.test('pages come back as they were', (t) => {
  const random = seeded(5)
  const stripes = Array.from({ length: 20 }, (_, i) => ({ number: 7 + i, ...someStripe(random) }))
  const leaf = { level: 0 as const, stripes }
  t.same(decodePage(encodePage(leaf)), leaf)
  const above = { level: 2, pages: [{ name: seededBytes(random, 32), sealedBytes: 99 }] }
  t.same(decodePage(encodePage(above)), above)
  t.throws(() => decodePage(encodePage(leaf).subarray(0, 500)), { code: 'damaged' })
  t.end()
})
