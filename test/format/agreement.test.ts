import t from 'tap'
import { KithError } from '../../lib/base/errors.js'
import { seeded } from '../../lib/base/random.js'
import {
  agreementBytes,
  countersign,
  decodeAgreement,
  decodeEnding,
  decodeOffer,
  encodeEnding,
  encodeOffer,
  endingBytes,
  pairOf,
  sideOf,
} from '../../lib/format/agreement.js'
import { sign } from '../../lib/format/hash.js'
import { somePact, someTerms } from '../helpers/agreements.js'
import { identity } from '../helpers/backup.js'
import { mutate } from '../helpers/bytes.js'

const [ann, bob, eve] = [identity(1), identity(2), identity(3)]
const { agreement, offer, document, ending } = somePact(7)

t.test('documents come out as they went in', (t) => {
  t.equal(document.length, agreementBytes)
  t.equal(ending.length, endingBytes)
  t.same(decodeAgreement(document), agreement)
  t.same(decodeOffer(offer), { agreement, by: sideOf(agreement, ann.id) })
  const fromBob = encodeOffer(agreement, bob.keyPair)
  t.same(decodeOffer(fromBob), { agreement, by: sideOf(agreement, bob.id) })
  t.same(countersign(fromBob, ann.keyPair), document, 'whoever signs first')
  t.same(decodeEnding(ending), { by: bob.id, other: ann.id, number: 7, time: 1_700_000_000_001 })
  t.equal(sideOf(agreement, eve.id), undefined)
  t.end()
})

t.test('what is forged is refused', (t) => {
  const denied = { code: 'denied' }
  t.throws(() => decodeAgreement(offer), denied, 'one signature does not bind')
  t.throws(() => decodeOffer(document), denied, 'and two are no offer')
  t.throws(() => decodeOffer(Buffer.concat([offer.subarray(0, 212), Buffer.alloc(128)])), denied, 'none')
  const other = somePact(8)
  for (const [at, to] of [
    [212, 276],
    [276, 340],
  ] as const) {
    const swapped = Buffer.from(document)
    other.document.copy(swapped, at, at, to)
    t.throws(() => decodeAgreement(swapped), denied, 'a signature of another number')
    const wrongSpace = Buffer.from(document)
    const signer = at === 212 ? agreement.first : agreement.second
    const pair = signer.equals(ann.id) ? ann.keyPair : bob.keyPair
    sign(pair.secretKey, 'kith release', document.subarray(0, 212)).copy(wrongSpace, at)
    t.throws(() => decodeAgreement(wrongSpace), denied, 'a signature of another namespace')
  }
  const eves = somePact(7, ann, eve)
  const crossed = Buffer.from(eves.document)
  document.copy(crossed, 0, 0, 212)
  t.throws(() => decodeAgreement(crossed), denied, 'signatures of another pair')
  t.throws(() => countersign(offer, ann.keyPair), /by the other side/)
  const forged = encodeEnding({ other: ann.id, number: 7, time: 1 }, eve.keyPair)
  bob.id.copy(forged, 4)
  t.throws(() => decodeEnding(forged), denied, 'an end that somebody else signed')
  t.end()
})

t.test('what makes no sense is not encoded, and not decoded with signatures', (t) => {
  const bad = { ...someTerms, grace: 100, commitment: 100 }
  const terms = pairOf({ key: ann.id, terms: bad }, { key: bob.id, terms: bad }).terms
  t.throws(
    () => decodeOffer(somePact(1, ann, bob, { terms }).offer),
    { code: 'denied' },
    'commitment <= grace',
  )
  t.throws(() => somePact(0), { code: 'denied' }, 'numbers start at 1')
  const turned = { ...agreement, first: agreement.second, second: agreement.first }
  t.throws(() => encodeOffer(turned, ann.keyPair), /smaller key/)
  t.throws(() => encodeOffer(agreement, eve.keyPair), /a side of it/)
  t.end()
})

t.test('10,000 mutations of each: refused, every one that differs', (t) => {
  const random = seeded(5)
  const decoders: [Buffer, (bytes: Buffer) => unknown][] = [
    [document, decodeAgreement],
    [offer, decodeOffer],
    [ending, decodeEnding],
  ]
  for (const [sample, decode] of decoders) {
    const wrong: string[] = []
    for (let i = 0; i < 10_000 && wrong.length < 10; i++) {
      const mutated = mutate(random, sample)
      if (mutated.equals(sample)) continue
      try {
        decode(mutated)
        wrong.push(`${i}: taken`)
      } catch (error) {
        if (!(error instanceof KithError && error.code === 'denied')) wrong.push(`${i}: ${String(error)}`)
      }
    }
    t.same(wrong, [])
  }
  t.end()
})
