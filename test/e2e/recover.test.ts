// From the phrase alone: of this machine's headers, and a tree with all that a tree can have. The soak has a larger one.
import t from 'tap'
import { lostAndRecovered } from '../helpers/recovered.js'

t.test('a real tree, lost and recovered', (t) =>
  lostAndRecovered(t, {
    made: { bigBytes: 32 * 2 ** 20, wideEntries: 5000 },
    beside: ['/usr/include'],
    leastNames: 10_000,
  }),
)
