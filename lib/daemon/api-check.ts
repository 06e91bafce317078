/** Of the control interface (api.ts): what `check` and `repair` find and heal. */
import * as z from 'zod'
import { count, text } from './api-schemas.js'

/** A number and the first few of what it counts. */
const some = z.object({ count, first: z.array(text) })

export const checkResult = z.object({
  /** blocks here, and what was read of them */
  blocks: count,
  blocksRead: count,
  bytesRead: count,
  /** bad blocks that snapshots need: damaged here; neither here nor at a partner on line */
  damaged: count,
  missing: count,
  /** damaged blocks that no snapshot needs, as far as snapshots can be read */
  unused: count,
  volumes: z.array(
    z.object({
      dir: text,
      snapshots: count,
      /** list nodes opened */
      nodes: count,
      /** blocks that are not here, and that a partner has */
      away: count,
      /** paths that need a bad block, and the snapshots that have them */
      hurt: some,
      hurtSnapshots: some,
      problems: z.array(text),
    }),
  ),
  /** what is held for others */
  vault: z.object({ blocks: count, blocksRead: count, damaged: count, problems: z.array(text) }),
  /** what is wrong with the index of blocks, each one line */
  problems: z.array(text),
})

export const repairResult = z.object({
  dryRun: z.boolean(),
  /** what was wrong before */
  before: checkResult,
  /** blocks healed (on a dry run: that could be), by where they were whole: behind a damaged header; at a partner; in the
   * live file; in an older copy */
  healed: z.object({ record: count, partner: count, live: count, copy: count }),
  /** rows of the index written anew; heads signed anew */
  rows: count,
  heads: count,
  /** files and directories that the next snapshot reads anew, since they need what could not be healed */
  marked: count,
  /** damaged blocks of others that were dropped: their owners send them again */
  dropped: count,
  /** what is wrong now; on a dry run as before */
  after: checkResult,
})

/** Which blocks to read: the nth of t parts, by name; or so many percent of them, others each time. */
export const readData = z.union([
  z.object({ part: z.number().int().positive(), of: z.number().int().positive().max(1_000_000) }).strict(),
  z.object({ percent: z.number().positive().max(100) }).strict(),
])
