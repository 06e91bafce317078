/** Of the control interface (api.ts): what a partner is by now. */
import { z } from 'zod'
import { stateNames } from '../planning/partner-state.js'
import { count, time } from './api-schemas.js'

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
