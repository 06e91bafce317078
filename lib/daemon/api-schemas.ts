/** What the parts of the control interface (api.ts) are made of. */
import * as z from 'zod'

export const text = z.string().max(65_536)
/** An absolute path without NUL. */
export const path = z
  .string()
  .min(1)
  .max(16_384)
  .refine((value) => value.startsWith('/') && !value.includes('\0'), 'must be an absolute path')
export const count = z.number().int().nonnegative()
export const time = z.number()
export const hex = z.string().regex(/^[0-9a-f]*$/)
export const dir = z.object({ dir: path.optional() }).strict()
export const nothing = z.object({}).strict()

export const patterns = z.array(z.string().min(1).max(4096)).max(1000).optional()

export const entryTypes = ['file', 'directory', 'symlink', 'fifo', 'socket', 'character', 'block'] as const

/** `/` between names. Where the bytes are no UTF-8, `path` shows them as \xNN, and `raw` holds them in base64. */
export const place = { path: z.string(), raw: z.string().optional() }

export const method = <P extends z.ZodType, R extends z.ZodType>(params: P, result: R) => ({
  params,
  result,
  item: z.never(),
})

/** A method that sends items before its result, in batches, as fast as the client takes them. */
export const listing = <P extends z.ZodType, R extends z.ZodType, I extends z.ZodType>(
  params: P,
  result: R,
  item: I,
) => ({ params, result, item })
