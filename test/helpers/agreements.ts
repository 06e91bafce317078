/** Agreements between two identities, for tests of what handles them. */
import {
  countersign,
  encodeEnding,
  encodeOffer,
  pairOf,
  type Agreement,
  type Terms,
} from '../../lib/format/agreement.js'
import { parseWeek } from '../../lib/format/week.js'
import { identity } from './backup.js'

const day = 86_400

export const someTerms: Terms = {
  holds: 1_000_000,
  hours: parseWeek('mon-fri 8-18, sun 0-24'),
  bandwidth: 1000,
  audit: day,
  grace: 3 * day,
  commitment: 0,
  notice: 10 * day,
}

/** Ann's offer to Bob, what both signed, and Bob's end of it. */
export function somePact(
  number: number,
  ann = identity(1),
  bob = identity(2),
  change: Partial<Agreement> = {},
) {
  const agreement: Agreement = {
    ...pairOf({ key: ann.id, terms: someTerms }, { key: bob.id, terms: { ...someTerms, holds: 2_000_000 } }),
    number,
    made: 1_700_000_000_000,
    until: 0,
    signBy: 1_700_000_600_000,
    ...change,
  }
  const offer = encodeOffer(agreement, ann.keyPair)
  const ending = encodeEnding({ other: ann.id, number, time: 1_700_000_000_001 }, bob.keyPair)
  return { agreement, offer, document: countersign(offer, bob.keyPair), ending }
}
