/**
 * What the messages about agreements carry (wire.ts has their numbers), beside the documents of agreement.ts.
 *
 *     wishes   what a side would sign, 72 bytes: its terms 56 (agreement.ts; `holds`: at most) | bytes that it wants the
 *              other to hold, at most: u64 | highest number of an agreement that it knows: u64
 *     newest   document length u16 (0 or 340) | document | ending length u16 (0 or 148) | ending
 *     answer   u8: 1 accepted, then the document with both signatures; 2 counter, then wishes;
 *              3 declined, then the reason u8: 1 busy, 2 ended, 3 tooLittle, 4 terms, 5 number, 6 late
 */
import { agreementBytes, endingBytes, readTerms, termsBytes, writeTerms, type Terms } from './agreement.js'
import type { Reader, Writer } from './bytes.js'

export const wishesBytes = termsBytes + 16
export const newestBytes = 4 + agreementBytes + endingBytes
export const answerBytes = 1 + agreementBytes

export interface Wishes {
  terms: Terms
  /** bytes that the other side is to hold, at most */
  wants: number
  /** highest number of the pair's agreements and offers that it knows */
  mark: number
}

/**
 * busy: an offer of the other side's is on its way. ended: who ended the last one does not want a new one. tooLittle: less
 * space than is in use. terms: something else that it does not want. number, late: an offer out of date.
 */
export type DeclineReason = 'busy' | 'ended' | 'tooLittle' | 'terms' | 'number' | 'late'

export const declineReasons: readonly DeclineReason[] = [
  'busy',
  'ended',
  'tooLittle',
  'terms',
  'number',
  'late',
]

export type PactAnswer =
  | { kind: 'accepted'; document: Buffer }
  | { kind: 'counter'; wishes: Wishes }
  | { kind: 'declined'; reason: DeclineReason }

export interface Newest {
  document?: Buffer
  ending?: Buffer
}

export function writeWishes(out: Writer, { terms, wants, mark }: Wishes): Writer {
  return writeTerms(out, terms).number(wants).number(mark)
}

export function readWishes(from: Reader): Wishes {
  return { terms: readTerms(from), wants: from.number(), mark: from.number() }
}

export function writeNewest(out: Writer, { document, ending }: Newest): Writer {
  for (const part of [document, ending]) {
    out.u16(part?.length ?? 0)
    if (part) out.raw(part)
  }
  return out
}

export function readNewest(from: Reader): Newest {
  const part = (bytes: number) => {
    const length = from.u16()
    if (length !== 0 && length !== bytes) throw from.damaged('a document has the wrong length')
    return length === 0 ? undefined : from.slice(length)
  }
  const document = part(agreementBytes)
  const ending = part(endingBytes)
  return { ...(document && { document }), ...(ending && { ending }) }
}

export function writeAnswer(out: Writer, answer: PactAnswer): Writer {
  if (answer.kind === 'accepted') return out.u8(1).raw(answer.document)
  if (answer.kind === 'counter') return writeWishes(out.u8(2), answer.wishes)
  return out.u8(3).u8(declineReasons.indexOf(answer.reason) + 1)
}

export function readAnswer(from: Reader): PactAnswer {
  const kind = from.u8()
  if (kind === 1) return { kind: 'accepted', document: from.slice(agreementBytes) }
  if (kind === 2) return { kind: 'counter', wishes: readWishes(from) }
  const reason = declineReasons[from.u8() - 1]
  if (kind !== 3 || reason === undefined) throw from.damaged('an unknown answer')
  return { kind: 'declined', reason }
}
