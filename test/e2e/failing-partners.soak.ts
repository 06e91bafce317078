// Every failure of a partner, at every time that one can come at.
import t from 'tap'
import { whyNot } from '../../scripts/namespaces/sites.js'
import { failingPartners, type Failure } from '../helpers/failing-partners.js'

t.setTimeout(1_000_000)

const all: Failure[] = ['killed', 'frozen', 'cut off', 'wiped']

t.test('erasure:2+1 over five partners that fail', { skip: whyNot() ?? false }, (t) =>
  failingPartners(t, { placing: all, repairing: all, restoring: all }),
)
