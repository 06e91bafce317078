import t from 'tap'
import { seeded } from '../../lib/base/random.js'
import { absenceBytes, decodeAbsence, encodeAbsence } from '../../lib/format/wire-away.js'
import { identity } from '../helpers/backup.js'
import { mutate } from '../helpers/bytes.js'

const [ann, bob] = [identity(1), identity(2)]
const given = { partner: bob.id, made: 1_700_000_000_000, until: 1_700_600_000_000 }

t.test('an announced absence is what was signed; a known one reads the same for ever', (t) => {
  const bytes = encodeAbsence(given, ann.keyPair)
  t.equal(bytes.length, absenceBytes)
  t.same(decodeAbsence(bytes), { ...given, who: ann.id })
  t.equal(bytes.subarray(0, 4).toString('hex'), '01000000')
  t.equal(bytes.subarray(68, 84).toString('hex'), '0068e5cf8b010000' + '00aea8f38b010000')
  t.end()
})

t.test('10,000 mutations: none is taken', (t) => {
  const random = seeded(70)
  const bytes = encodeAbsence(given, ann.keyPair)
  let taken = 0
  for (let i = 0; i < 10_000; i++) {
    const changed = mutate(random, bytes)
    if (changed.equals(bytes)) continue
    try {
      decodeAbsence(changed)
      taken++
    } catch (error) {
      if ((error as { code?: string }).code !== 'denied') t.fail(String(error))
    }
  }
  t.equal(taken, 0)
  t.end()
})
