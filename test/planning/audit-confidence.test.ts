import t from 'tap'
import { seeded } from '../../lib/base/random.js'
import { drawnWindows, maxBits, spreadOver } from '../../lib/format/coin.js'
import { auditsUntilCaught, caughtWithin } from '../../lib/planning/audit-confidence.js'

const dayMs = 86_400_000

t.test(
  'who lost one in a hundred blocks is caught after as many audits, in trials by the coin itself',
  (t) => {
    const random = seeded(6)
    const bytes = () => {
      const out = Buffer.alloc(32)
      for (let i = 0; i < 32; i += 4) out.writeUInt32LE(random(), i)
      return out
    }
    const trials = 400
    for (const blocks of [500, 3000]) {
      const audits = auditsUntilCaught(blocks, 0.01, 0.99)
      const spread = spreadOver(blocks)
      const escapes = [0, 0]
      for (let trial = 0; trial < trials; trial++) {
        const lost = Array.from({ length: blocks * 0.01 }, () => random() >>> (maxBits - spread.bits))
        let first = Infinity
        for (let audit = 1; audit <= audits && first === Infinity; audit++) {
          const drawn = new Set(drawnWindows(bytes(), bytes(), spread))
          if (lost.some((window) => drawn.has(window))) first = audit
        }
        if (first > audits) escapes[0] = (escapes[0] ?? 0) + 1
        if (first > audits / 2) escapes[1] = (escapes[1] ?? 0) + 1
      }
      // 1 % are 4; more than 12 come once in 3,000 runs of other seeds.
      t.ok(
        (escapes[0] ?? 0) <= 12,
        `${escapes[0] ?? 0} of ${trials} were not caught after ${audits} audits of ${blocks}`,
      )
      t.ok((escapes[1] ?? 0) > 12, `half as many audits are too few: ${escapes[1] ?? 0}`)
    }
    t.end()
  },
)

t.test('what the schedule means in days', (t) => {
  const within = (blocks: number, lost = 0.01, confidence = 0.99) =>
    caughtWithin({ blocks, lost, confidence }, dayMs) / dayMs
  t.equal(within(1), 1)
  t.equal(within(128), 1, 'all are asked for')
  t.equal(within(100_000), 8)
  t.equal(within(10_000_000), 8, 'it does not depend on how many there are')
  t.equal(within(100_000, 0.1), 1)
  t.equal(within(100_000, 0.01, 0.5), 2)
  t.equal(within(100_000, 0), 7194, 'a single block')
  t.end()
})
