/** Of the control interface (api.ts): the room that our own blocks take here. */
import * as z from 'zod'

const count = z.number().int().nonnegative()

/** In `status` null before `init`. */
export const spaceStatus = z.object({
  /** what our own blocks take on this disk, and may take; null: no budget */
  bytesHere: count,
  bytesBudget: count.nullable(),
  /** partners that must hold a block before it may go from here */
  copies: count,
  /** sealed bytes that only partners have now, and of those, what fewer good partners hold than `copies` */
  bytesEvicted: count,
  bytesThin: count,
  /** above the budget, and nothing more can go: the intake is slow */
  full: z.boolean(),
})

/** What is absent stays. */
export const budgetParams = z
  .object({
    /** null: no budget */
    bytes: count.min(1).nullable().optional(),
    copies: count.min(1).max(999).optional(),
  })
  .strict()

/** In `status` null before `init`. */
export const placementStatus = z.object({
  /** as it was set: replica, replica:3, erasure:3+2, auto, ... */
  policy: z.string(),
  /** what new data is laid out by, like 3+2; null: each partner gets everything */
  shape: z.string().nullable(),
  /** partners that it takes, and that could be given a part now */
  needs: count,
  have: count,
  /** stripes there are, and of those, what could not be read from partners alone yet */
  stripes: count,
  unreadable: count,
  /** parts of stripes made again, as partners with them are lost; null: nothing is to be done */
  repair: z
    .object({
      /** since it began: stripes with such parts, and of those, the ones done with */
      stripes: count,
      done: count,
      /** still to be sent */
      bytes: count,
      /** parts without a partner that has room, parts that too few partners on line could give, and stripes lost */
      noRoom: count,
      noSource: count,
      gone: count,
    })
    .nullable(),
  /** the account of what is where was not taken over whole by `recover` */
  isPartial: z.boolean(),
})

export const placementParams = z.object({ policy: z.string().max(64).optional() }).strict()

export type SpaceStatus = z.infer<typeof spaceStatus>
