import t from 'tap'
import { policyOf } from '../../lib/daemon/agreement.js'
import { defaults } from '../../lib/daemon/config.js'

const day = 86_400

t.test('a commitment outlasts the time in which somebody who keeps nothing is not yet given up', (t) => {
  const commitment = (more: Partial<typeof defaults>) =>
    policyOf({ ...defaults, ...more }).terms.commitment / day
  t.equal(commitment({}), 45)
  t.equal(commitment({ commitmentDays: 0 }), 0, 'none')
  t.equal(commitment({ commitmentDays: 1 }), 34, '30 of grace, three audits, and a day')
  t.equal(commitment({ commitmentDays: 1, graceDays: 10, auditHours: 72 }), 20)
  t.equal(commitment({ commitmentDays: 60 }), 60)
  t.end()
})
