// Each failure of a partner at one time; the soak has every one at every time.
import t from 'tap'
import { whyNot } from '../../scripts/namespaces/sites.js'
import { failingPartners } from '../helpers/failing-partners.js'

t.setTimeout(500_000)

t.test('erasure:2+1 over five partners that fail', { skip: whyNot() ?? false }, (t) =>
  failingPartners(t, { placing: ['killed', 'wiped'], repairing: ['cut off'], restoring: ['frozen'] }),
)
