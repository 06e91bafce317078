/** The part of the control interface (api.ts) that reads snapshots: looks into them, compares, copies out. */
import * as z from 'zod'
import { count, entryTypes, listing, method, path, patterns, place, text, time } from './api-schemas.js'

export const overwriteModes = ['never', 'if-changed', 'always'] as const

const restoreParams = z
  .object({
    dir: path.optional(),
    snapshot: z.string().min(1).max(256),
    /** inside the snapshot, relative; the whole snapshot when absent */
    path: text.optional(),
    to: path,
    overwrite: z.enum(overwriteModes),
    /** patterns as in .gitignore */
    include: patterns,
    exclude: patterns,
    /** also remove what the snapshot has not, below `to`, but for what is left out of snapshots */
    delete: z.boolean().optional(),
  })
  .strict()

export const restoreResult = z.object({
  snapshot: text,
  to: text,
  files: count,
  bytes: count,
  /** left alone because they were there already and the same, under if-changed */
  skipped: count,
  /** under `delete`: names that went, and those that the snapshot has not and that stay (left out by rules, changed) */
  removed: count,
  stayed: count,
  /** what could not be carried over, though every byte was: owners, devices...; each one line */
  notes: z.array(text),
})

/** What a snapshot says of a name, without the name. */
export const entryState = z.object({
  type: z.enum(entryTypes),
  /** permission bits, 07777 */
  mode: count,
  uid: count,
  gid: count,
  links: count,
  size: count,
  mtime: time,
  /** of a symlink; bytes that are no UTF-8 as \xNN */
  target: text.optional(),
  /** of a device */
  rdev: count.optional(),
  /** it was written to through every try to read it at rest */
  busy: z.literal(true).optional(),
})

/** How a name differs. */
const differenceItem = z.object({
  change: z.enum(['+', '-', 'M', 'U', 'T', '?']),
  ...place,
  before: entryState.nullable(),
  after: entryState.nullable(),
})

/** Part of a snapshot: relative, `/` between names; the whole snapshot when absent. */
const part = { dir: path.optional(), snapshot: z.string().min(1).max(256), path: text.optional() }

export const readBackMethods = {
  restore: method(restoreParams, restoreResult),

  /** What `restore` would do: one item for each name that it would change. Nothing is written. */
  restorePlan: listing(
    restoreParams,
    z.object({
      snapshot: text,
      to: text,
      /** items by their mark */
      made: count,
      written: count,
      updated: count,
      replaced: count,
      removed: count,
      /** files that look the same and would be written again, under `always`: not told one by one */
      again: count,
      /** names that could not be restored, as a directory is in their place: then nothing is removed */
      blocked: count,
      /** to be written, and to be removed */
      bytes: count,
      bytesRemoved: count,
    }),
    differenceItem.extend({ blocked: z.literal(true).optional() }),
  ),

  /** The names in a directory of a snapshot, or the one name that `path` is; with `recursive`, all below. */
  ls: listing(
    z.object({ ...part, recursive: z.boolean() }).strict(),
    z.object({ snapshot: text, entries: count }),
    entryState.extend(place),
  ),

  /** The bytes of a file: items in order, each of data (base64) or of so many zeros. */
  cat: listing(
    z.object(part).strict(),
    z.object({ snapshot: text, bytes: count }),
    z.union([z.object({ data: z.string() }), z.object({ zeros: count })]),
  ),

  /** What changed from the snapshot `before` to `after`; without `after`, to the directory as it is now. */
  diff: listing(
    z
      .object({
        dir: path.optional(),
        before: z.string().min(1).max(256),
        after: z.string().min(1).max(256).optional(),
        /** of the directory as it is now: read files whose size and times are as they were, too */
        content: z.boolean().optional(),
      })
      .strict(),
    z.object({ before: text, after: text.nullable(), changes: count }),
    differenceItem,
  ),

  /** Names in all snapshots that match a pattern: one item for each state that such a name has had. */
  find: listing(
    z
      .object({
        dir: path.optional(),
        pattern: z.string().min(1).max(1024),
        type: z.enum(entryTypes).optional(),
      })
      .strict(),
    z.object({ snapshots: count, found: count }),
    entryState.extend({
      ...place,
      /** runs of neighbouring snapshots that have it in this state, oldest first */
      snapshots: z.array(z.object({ first: text, last: text, count })),
    }),
  ),

  /** Shows all snapshots at `mountpoint`: one item when they can be seen, the result when they no longer can. */
  browse: listing(
    z.object({ dir: path.optional(), mountpoint: path }).strict(),
    z.object({
      dir: text,
      mountpoint: text,
      /** stopped: by `browseStop`, or the client went away; unmounted: by another; died: its process did */
      ended: z.enum(['stopped', 'unmounted', 'died']),
    }),
    z.object({ dir: text, mountpoint: text }),
  ),

  /** Ends the one at `mountpoint`, or all. */
  browseStop: method(
    z.object({ mountpoint: path.optional() }).strict(),
    z.object({ stopped: z.array(text) }),
  ),
} as const

export type EntryState = z.infer<typeof entryState>
export type OverwriteMode = (typeof overwriteModes)[number]
