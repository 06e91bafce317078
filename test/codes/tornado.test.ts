import t from 'tap'
import { seeded } from '../../lib/base/random.js'
import { Tornado } from '../../lib/codes/tornado.js'
import { blockName } from '../../lib/format/seal.js'
import { sameAs, some, stripe, without } from '../helpers/stripes.js'

const random = seeded(8)

t.test(
  '1,000 seeded stripes: with as many elements as are needed, or a few less, right or refused',
  async (t) => {
    let right = 0
    let wrong = 0
    let refused = 0
    for (let trial = 0; trial < 1000; trial++) {
      const data = 16 + (random() % 60)
      const code = new Tornado(data, 16 + (random() % 60))
      const elements = await stripe(random, code, 1 + (random() % 100))
      // Every tenth with fewer than are needed, where it may or may not go.
      const few = trial % 10 === 0
      const there = code.needed - (few ? 8 + (random() % 8) : 0)
      const lost = some(random, elements.length, elements.length - there)
      const kept = [...elements.keys()].filter((i) => !lost.includes(i))
      try {
        const decoded = await code.decode(without(elements, lost))
        const made = await code.make(without(elements, lost), lost)
        if (sameAs(elements, decoded, [...elements.keys()].slice(0, data)) && sameAs(elements, made, lost))
          right++
        else wrong++
        if (!code.decodes(kept)) wrong++
      } catch (error) {
        if (!(error instanceof Error) || !('code' in error) || error.code !== 'damaged') throw error
        if (code.decodes(kept)) wrong++
        if (!few) t.comment(`${code.data}+${code.parity} does not decode without ${lost.join(' ')}`)
        refused += few ? 0 : 1
      }
    }
    t.equal(wrong, 0, 'never a wrong byte, and `decodes` knows')
    t.ok(right >= 950)
    t.ok(refused <= 1, `${refused} of 900 refused though as many as are needed were there`)
  },
)

t.test('fewer than the data are refused, and it says how many are needed', async (t) => {
  for (const [data, parity] of [
    [16, 16],
    [100, 50],
    [200, 56],
  ] as const) {
    const code = new Tornado(data, parity)
    const elements = await stripe(random, code, 32)
    for (let trial = 0; trial < 20; trial++) {
      const lost = some(random, data + parity, parity + 1)
      await t.rejects(code.make(without(elements, lost), lost), {
        code: 'damaged',
        message: RegExp(`${data + 16} are needed`),
      })
    }
  }
})

t.test('any one element comes back, and any few that are next to each other', async (t) => {
  const code = new Tornado(64, 32)
  const elements = await stripe(random, code, 2000)
  for (let i = 0; i < 96; i++) {
    for (const length of [1, 16]) {
      const lost = Array.from({ length }, (_, j) => (i + j) % 96)
      if (!sameAs(elements, await code.make(without(elements, lost), lost), lost)) t.fail(`${i}, ${length}`)
    }
  }
  t.pass()
})

/** What the parity elements are sums of: of data elements with one bit each. */
async function sums(code: Tornado): Promise<Buffer> {
  const data = Array.from({ length: code.data }, (_, i) => {
    const element = Buffer.alloc(Math.ceil(code.data / 8))
    element[i >> 3] = 1 << (i & 7)
    return element
  })
  return Buffer.concat(await code.encode(data))
}

t.test('the graph is part of the format', async (t) => {
  t.equal(
    (await sums(new Tornado(16, 16))).toString('hex'),
    '88f55d61045bdd69a9242ab9ead6f4e53e8648170aeb8dfcb7a9c3006b3d1c0d',
  )
  t.equal(
    blockName(await sums(new Tornado(200, 56))).toString('hex'),
    '5c34d3fda58c08493bf07cd4a399af3d4eb62b13b0c8921b56ff8b4c99f8f04d',
  )
})
