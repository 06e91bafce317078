import t from 'tap'
import { seeded } from '../../lib/base/random.js'
import { Tornado } from '../../lib/codes/tornado.js'
import { some } from '../helpers/stripes.js'

t.test('10,000 seeded sets of as many elements as are needed, at each width', (t) => {
  const random = seeded(9)
  for (const [data, parity] of [
    [16, 16],
    [32, 16],
    [32, 32],
    [64, 32],
    [64, 64],
    [100, 50],
    [100, 100],
    [128, 128],
    [200, 56],
  ] as const) {
    const code = new Tornado(data, parity)
    let failed = 0
    for (let trial = 0; trial < 10_000; trial++) {
      if (!code.decodes(some(random, data + parity, code.needed))) failed++
    }
    t.ok(failed <= 5, `${data}+${parity}: ${failed} of 10,000 do not decode`)
  }
  t.end()
})
