import t from 'tap'
import { seeded } from '../../lib/base/random.js'
import { attestationBytes, decodeAttestation, encodeAttestation } from '../../lib/format/wire-attestation.js'
import { identity } from '../helpers/backup.js'
import { mutate } from '../helpers/bytes.js'

const [ann, bob] = [identity(1), identity(2)]
const given = { about: bob.id, made: 1_700_000_000_000, days: 90, kept: 3, reneged: 1 }

t.test('an attestation is what was signed; a known one reads the same for ever', (t) => {
  const bytes = encodeAttestation(given, ann.keyPair)
  t.equal(bytes.length, attestationBytes)
  t.same(decodeAttestation(bytes), { ...given, by: ann.id })
  t.equal(bytes.subarray(0, 4).toString('hex'), '01000000')
  t.equal(bytes.subarray(68, 84).toString('hex'), '0068e5cf8b010000' + '5a00' + '0300' + '0100' + '0000')
  const much = encodeAttestation({ ...given, days: 1e9, kept: 70_000.5 }, ann.keyPair)
  t.match(decodeAttestation(much), { days: 0xffff, kept: 0xffff, reneged: 1 })
  t.end()
})

t.test('nobody attests of itself, nor in the name of another', (t) => {
  const own = encodeAttestation({ ...given, about: ann.id }, ann.keyPair)
  t.throws(() => decodeAttestation(own), { code: 'denied' })
  const forged = encodeAttestation(given, { publicKey: ann.id, secretKey: bob.keyPair.secretKey })
  t.throws(() => decodeAttestation(forged), { code: 'denied' })
  t.end()
})

t.test('10,000 mutations: none is taken', (t) => {
  const random = seeded(71)
  const bytes = encodeAttestation(given, ann.keyPair)
  let taken = 0
  for (let i = 0; i < 10_000; i++) {
    const changed = mutate(random, bytes)
    if (changed.equals(bytes)) continue
    try {
      decodeAttestation(changed)
      taken++
    } catch (error) {
      if ((error as { code?: string }).code !== 'denied') t.fail(String(error))
    }
  }
  t.equal(taken, 0)
  t.end()
})
