/** Of the control interface (api.ts): what a partner is by now. */
import * as z from 'zod'
import { stateNames } from '../planning/partner-state.js'
import { count, hex, text, time } from './api-schemas.js'

export const partnerState = z.object({
  name: z.enum(stateNames),
  since: time,
  /** ms until it has reneged, if it does not come back; null: not in grace */
  graceLeftMs: count.nullable(),
  /** it announced to be away until then; null: not */
  awayUntil: time.nullable(),
  /** by the commitment of its agreement it gives nothing back until then; null: it does */
  committedUntil: time.nullable(),
  record: z.object({ kept: count, reneged: count, days: z.number() }),
})

/** What each partner takes of an announced absence: until when; 0: nothing; null: it is off line, and not told yet. */
export const absenceTold = z.array(z.object({ id: hex, name: text, until: time.nullable() }))

/** A partner that lost the part `lost` of what it holds is found out within that time with that confidence. */
export const auditStatus = z.object({
  lost: z.number(),
  confidence: z.number(),
  /** null: nobody holds anything yet */
  caughtWithinMs: count.nullable(),
  /** both ways with one partner: the most of any in the last day, and what is taken on average */
  bytesLastDay: count,
  bytesPerDay: count,
})

export type AuditStatus = z.infer<typeof auditStatus>
export type PartnerStateInfo = z.infer<typeof partnerState>
