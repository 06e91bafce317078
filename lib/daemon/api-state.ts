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

export type PartnerStateInfo = z.infer<typeof partnerState>
