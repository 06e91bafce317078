import t from 'tap'
import { seeded } from '../../lib/base/random.js'
import { codeFor } from '../../lib/codes/codes.js'
import type { Code } from '../../lib/codes/types.js'
import { sameAs, some, stripe, without } from '../helpers/stripes.js'

const random = seeded(6)
const damaged = { code: 'damaged' }

const kinds: [name: string, next: () => Code][] = [
  ['reed-solomon', () => codeFor('reed-solomon', 1 + (random() % 16), 1 + (random() % 10))],
  ['parity', () => codeFor('parity', 1 + (random() % 16), 1)],
]

for (const [name, next] of kinds) {
  t.test(`${name}: 1,000 seeded stripes, each without as many elements as it can lose`, async (t) => {
    let same = 0
    let refused = 0
    for (let trial = 0; trial < 1000; trial++) {
      const code = next()
      const elements = await stripe(random, code, 1 + (random() % 300))
      const lost = some(random, elements.length, elements.length - code.needed)
      const decoded = await code.decode(without(elements, lost))
      const made = await code.make(without(elements, lost), lost)
      if (sameAs(elements, decoded, [...elements.keys()].slice(0, code.data)) && sameAs(elements, made, lost))
        same++
      // One more is lost, of the data: nothing can give it back.
      const more = [
        ...lost,
        some(random, elements.length, elements.length).find((i) => !lost.includes(i)) ?? 0,
      ]
      await code.make(without(elements, more), more).catch((error: { code?: string }) => {
        if (error.code === 'damaged') refused++
      })
    }
    t.equal(same, 1000, 'byte-identical, decoded and made again')
    t.equal(refused, 1000, 'and refused with one element less')
  })
}

t.test('the layouts that are simulated, at each pattern of losses', async (t) => {
  for (const [data, parity] of [
    [2, 1],
    [3, 3],
    [4, 4],
    [6, 3],
  ] as const) {
    const code = codeFor('reed-solomon', data, parity)
    const elements = await stripe(random, code, 40)
    for (let pattern = 0; pattern < 1 << (data + parity); pattern++) {
      const lost = elements.flatMap((_, i) => ((pattern >> i) & 1 ? [i] : []))
      if (lost.length > parity) continue
      const decoded = await code.decode(without(elements, lost))
      if (!decoded.every((element, i) => element.equals(elements[i] ?? Buffer.alloc(0)))) {
        t.fail(`${data}+${parity} without ${lost.join(' ')}`)
      }
    }
    t.pass(`${data}+${parity}`)
  }
})

t.test('lengths around the strips that are coded at once, and the greatest counts', async (t) => {
  for (const length of [1, 31, 32, 33, 16_383, 16_384, 16_385, 40_000]) {
    for (const code of [
      codeFor('reed-solomon', 5, 5),
      codeFor('reed-solomon', 12, 8),
      codeFor('parity', 7, 1),
    ]) {
      const elements = await stripe(random, code, length)
      const lost = some(random, elements.length, code.parity)
      const made = await code.make(without(elements, lost), lost)
      t.ok(
        made.every((element, i) => elements[lost[i] ?? 0]?.equals(element)),
        `${code.name} ${code.data}+${code.parity}, ${length} bytes`,
      )
    }
  }
  const widest = codeFor('reed-solomon', 200, 56)
  const elements = await stripe(random, widest, 64)
  const lost = some(random, 256, 56)
  t.ok((await widest.decode(without(elements, lost))).every((element, i) => elements[i]?.equals(element)))
})

t.test('a part of a lost element comes from the same part of others', async (t) => {
  for (const code of [codeFor('reed-solomon', 4, 3), codeFor('parity', 4, 1), codeFor('tornado', 16, 16)]) {
    const elements = await stripe(random, code, 1000)
    const parts = elements.map((element) => element.subarray(300, 417))
    const [part] = await code.make(without(parts, [2]), [2])
    t.ok(part?.equals(parts[2] ?? Buffer.alloc(0)), code.name)
  }
})

t.test('what is whole is given back as it is, from the data alone', async (t) => {
  for (const code of [codeFor('reed-solomon', 3, 2), codeFor('parity', 3, 1)]) {
    const elements = await stripe(random, code, 100)
    const decoded = await code.decode(without(elements, [3, 4]).slice(0, code.data + code.parity))
    t.ok(
      decoded.every((element, i) => element === elements[i]),
      `${code.name}: no copies`,
    )
    t.ok((await code.make(without(elements, [0, 1]), [2]))[0] === elements[2], 'though two others are lost')
  }
})

/** The product in GF(2^8) with 0x11d, bit by bit. */
function product(a: number, b: number): number {
  let sum = 0
  for (let bit = 7; bit >= 0; bit--) {
    sum = (sum << 1) ^ (sum & 0x80 ? 0x11d : 0)
    if ((b >> bit) & 1) sum ^= a
  }
  return sum
}

t.test('the bytes of the codes are part of the format: the same by plain arithmetic', async (t) => {
  const inverse = Array.from({ length: 256 }, (_, a) =>
    Array.from({ length: 256 }, (_, b) => b).find((b) => product(a, b) === 1),
  )
  const elements = await stripe(random, codeFor('reed-solomon', 12, 8), 100)
  for (let i = 12; i < 20; i++) {
    const plain = Buffer.alloc(100)
    for (let j = 0; j < 12; j++) {
      const factor = inverse[i ^ j] ?? 0
      elements[j]?.forEach((byte, at) => (plain[at] = (plain[at] ?? 0) ^ product(byte, factor)))
    }
    t.ok(elements[i]?.equals(plain), `element ${i}`)
  }
  const few = await codeFor('reed-solomon', 12, 2).encode(elements.slice(0, 12))
  t.same(few, elements.slice(12, 14), 'a row does not depend on how many there are')
  const [one, two, sum] = await stripe(random, codeFor('parity', 2, 1), 100)
  t.ok(sum?.every((byte, i) => byte === ((one?.[i] ?? 0) ^ (two?.[i] ?? 0))))
})

t.test('counts that a code does not have are refused', (t) => {
  t.throws(() => codeFor('parity', 4, 2), { code: 'usage' })
  for (const [data, parity] of [
    [0, 1],
    [1, 0],
    [250, 7],
    [1.5, 2],
    [-1, 3],
    [NaN, 1],
  ] as const) {
    t.throws(() => codeFor('reed-solomon', data, parity), { code: 'usage' }, `${data}+${parity}`)
  }
  t.throws(() => codeFor('tornado', 15, 40), { code: 'usage' })
  t.throws(() => codeFor('tornado', 40, 15), { code: 'usage' })
  t.end()
})

t.test('a refusal says how many are needed', async (t) => {
  const code = codeFor('reed-solomon', 4, 2)
  const elements = await stripe(random, code, 10)
  await t.rejects(code.decode(without(elements, [0, 2, 4])), {
    ...damaged,
    message: /3 of its elements.*4 are needed/,
  })
})
