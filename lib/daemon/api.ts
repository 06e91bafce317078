/**
 * The control interface: every method of the daemon with its parameters, its result and its progress notes, as zod
 * schemas. JSON-RPC 2.0, one JSON text per line, over $KITH_HOME/kithd.sock. The keys of `snapshot`, `snapshots`,
 * `invite` and `status` are relied on by others' scripts (man/kith.1 lists them): add keys, never rename one.
 *
 * The daemon parses parameters and its own results by these schemas. The command line imports the types only: loading
 * zod would double its start time, and what comes out of the socket of its own user has been checked by the daemon.
 *
 * What is long is listed: `items` notes with an `items` array each, before the result. The daemon sends the next when the
 * client has taken the last ones, so that neither holds more than a few.
 *
 * Units: times are ms since 1970 UTC, sizes are bytes, identities and block names are lower-case hex.
 */
import * as z from 'zod'
import { overwriteModes, readBackMethods, restoreResult } from './api-read-back.js'
import {
  count,
  dir,
  entryTypes,
  hex,
  listing,
  method,
  nothing,
  path,
  patterns,
  place,
  text,
  time,
} from './api-schemas.js'
import { engineNames } from '../mount/types.js'
import { checkResult, readData, repairResult } from './api-check.js'
import { budgetParams, placementParams, placementStatus, spaceStatus } from './api-space.js'
import { absenceTold, auditStatus, partnerState } from './api-state.js'
import { schedule } from './schedule.js'

export type { EntryState, OverwriteMode } from './api-read-back.js'

/** A line on the control socket, in bytes without its newline. Longer requests are refused; replies may be longer. */
export const maxLineBytes = 1024 * 1024

const bootstrapAddress = z
  .string()
  .max(300)
  .regex(/^[^\s:]+:\d{1,5}$|^\[[0-9a-fA-F:.]+\]:\d{1,5}$/, 'must be HOST:PORT')
  .refine((value) => Number(value.slice(value.lastIndexOf(':') + 1)) <= 65_535, 'port out of range')

export const bootstrapList = z.array(bootstrapAddress).max(64)

/** A snapshot as `snapshot` and `snapshots` print it. */
export const snapshotInfo = z.object({
  name: text,
  id: text,
  time,
  files: count,
  bytes: count,
  /** files that were written to through every try to read them at rest; `diff` shows which */
  busy: count,
  /** sealed bytes that this snapshot added */
  bytesNew: count,
  /** no rule forgets it */
  pinned: z.boolean(),
  tags: z.array(text),
})

/** Rules for what is kept (store/retention.ts has their meaning). */
export const retentionPolicy = z
  .object({
    last: count.optional(),
    hourly: count.optional(),
    daily: count.optional(),
    weekly: count.optional(),
    monthly: count.optional(),
    yearly: count.optional(),
    withinMs: count.optional(),
    tags: z.array(z.string().max(64)).max(32).optional(),
  })
  .strict()

const tags = z.array(z.string().max(64)).max(32).optional()
/** Exact names, or digits of ids. */
const snapshotNames = z.array(z.string().min(1).max(64)).max(10_000)

/** Names that rules left out: by patterns, as caches (each is one), as too large. */
const excluded = z.object({ pattern: count, cache: count, large: count })

/** What to change of what is left out; what is absent stays. */
const excludeChange = z
  .object({
    /** patterns as in .gitignore */
    add: patterns,
    remove: patterns,
    /** whether directories with a CACHEDIR.TAG are left out */
    caches: z.boolean().optional(),
    /** files of more bytes are left out; null: none */
    largerThan: count.nullable().optional(),
  })
  .strict()

/** A snapshot just taken, and what it had to leave out or could not take at rest (the first few of problemCount). */
const snapshotResult = snapshotInfo.extend({
  problemCount: count,
  problems: z.array(z.object({ path: text, what: z.enum(['unreadable', 'busy', 'mounted']), why: text })),
  excluded,
})

/** What a partner holds of one volume. */
export const partnerStatus = z.object({
  id: hex,
  name: text,
  online: z.boolean(),
  /** sealed bytes of ours that it has acknowledged as durable */
  bytesHeld: count,
  /** sealed bytes of ours that it still lacks, contents of changed files that no snapshot names yet among them */
  bytesPending: count,
  /** the directory as it was then can be got back from this partner alone; null: not yet, or longer ago than is known */
  recoveryPoint: time.nullable(),
  /** when it last proved to hold what it claims; null before the first proof */
  lastProof: time.nullable(),
  /** what is wrong with it, e.g. a failed proof; empty when all is well */
  faults: z.array(text),
  state: partnerState,
})

export const volumeStatus = z.object({
  id: hex,
  dir: text,
  mounted: z.boolean(),
  /** mounted: files are served; lost: kith-fuse died, mount again; unmounted */
  state: z.enum(['mounted', 'lost', 'unmounted']),
  /** by which changes are known: kith-fuse, or watching the plain directory */
  engine: z.enum(engineNames),
  lastSnapshot: snapshotInfo.nullable(),
  /** files and directories changed since */
  changed: count,
  /** sealed bytes that at least one partner still lacks */
  bytesPending: count,
  partners: z.array(partnerStatus),
  /** mount points below: other file systems, which are not backed up */
  leftOut: z.array(text),
  /** what the last snapshot left out by rules */
  excluded,
  /** the circle with whose members its blocks are shared; null: with nobody */
  sharedWith: text.nullable(),
  /** what is wrong with the volume, each one line; empty when all is well */
  problems: z.array(text),
})

export const statusResult = z.object({
  version: text,
  pid: count,
  home: text,
  /** this node's identity; null before `init` */
  id: hex.nullable(),
  name: text,
  network: z.object({
    running: z.boolean(),
    /** the public DHT when empty */
    bootstrap: z.array(text),
    /** circles joined */
    circles: z.array(text),
  }),
  vault: z.object({ bytesHeld: count, bytesQuota: count, owners: count }),
  space: spaceStatus.nullable(),
  placement: placementStatus.nullable(),
  /** null before `init` */
  audits: auditStatus.nullable(),
  /** this node announced to be away until then; null: not */
  awayUntil: time.nullable(),
  volumes: z.array(volumeStatus),
  /** what is wrong with the daemon or its home, each one line */
  problems: z.array(text),
})

/** What one side of an agreement promises. */
const agreementSide = z.object({
  /** bytes that it holds for the other */
  holds: count,
  /** on line, UTC; empty: no promise */
  hours: text,
  /** bytes a second that it takes in at least; 0: no promise */
  bandwidth: count,
  /** from one audit of the other to the next, at most */
  auditHours: z.number(),
  /** it may be out of reach for so long */
  graceDays: z.number(),
  /** restores are not honoured in the first days; 0: at once */
  commitmentDays: z.number(),
  /** it keeps what it holds for so long after the end */
  noticeDays: z.number(),
})

export const agreementInfo = z.object({
  state: z.enum(['active', 'ended', 'expired']),
  /** of the pair's agreements, from 1 */
  number: count,
  made: time,
  /** null: until one side ends it */
  until: time.nullable(),
  ours: agreementSide,
  theirs: agreementSide,
  ended: z.object({ byUs: z.boolean(), time }).nullable(),
  /** of this node's running time, until what it holds for the partner goes; null: nothing was ended */
  noticeLeftMs: z.number().nullable(),
})

export const partnerInfo = z.object({
  id: hex,
  name: text,
  /** those in common; none: a partner from the open pool */
  circles: z.array(text),
  online: z.boolean(),
  /** near: the same network or site; null: not known */
  distance: z.enum(['near', 'far']).nullable(),
  /** of a round trip, ms; null: off line, or too short to be measured */
  roundTrip: count.nullable(),
  /** when this partner was first met */
  since: time,
  lastSeen: time.nullable(),
  /** sealed bytes of ours that it holds */
  bytesHeld: count,
  /** sealed bytes of its own that we hold */
  bytesHeldForIt: count,
  lastProof: time.nullable(),
  faults: z.array(text),
  state: partnerState,
  /** null: none yet, or its kith makes none */
  agreement: agreementInfo.nullable(),
})

/** A change of an agreement: as it is now, and whether the partner was told (else it is off line, and told later). */
const agreementChange = z.object({ partner: partnerInfo, told: z.boolean() })

/** A partner's name, or a beginning of its id. */
const partnerName = z.string().min(1).max(256)
const bytes = count.max(2 ** 52)

const auditResult = z.object({
  partners: z.array(
    z.object({
      id: hex,
      name: text,
      online: z.boolean(),
      /** blocks asked for, and how many of them were proven */
      asked: count,
      proven: count,
      /** this audit or an earlier one found something, and none since found it whole */
      failed: z.boolean(),
      faults: z.array(text),
    }),
  ),
})

/** A progress note of a long job. Totals are 0 while unknown. */
export const progressNote = z.object({
  /** what is being done, in words */
  stage: text,
  done: count,
  total: count,
  unit: z.enum(['bytes', 'files', 'blocks', 'snapshots', 'partners']),
})

/** Programs that have something open in a directory, or stand in it. */
const holders = z.array(z.object({ pid: count, name: text, path: text }))

/** Every method. A method that takes long sends `progress` notes and ends early when its client goes away. */
export const methods = {
  /** Is anybody there, and who? Answered even before `init`. */
  hello: method(nothing, z.object({ version: text, pid: count, home: text, id: hex.nullable() })),

  /** Makes identity and volume keys. The phrase is in the answer and nowhere else. */
  init: method(
    z.object({ name: z.string().min(1).max(64).optional() }).strict(),
    z.object({ id: hex, name: text, phrase: text }),
  ),

  mount: method(
    z
      .object({
        dir: path,
        engine: z.enum(engineNames).optional(),
        excludes: excludeChange.optional(),
        /** the circle with whose members a directory that is new shares blocks */
        share: z.string().min(1).max(64).optional(),
      })
      .strict(),
    z.object({
      dir: text,
      volume: hex,
      /** fuse: kith-fuse serves it; watch: the plain directory is watched */
      engine: z.enum(engineNames),
      /** true when this home protected the directory before */
      continued: z.boolean(),
      /** true when a dead mount was cleared away first */
      recovered: z.boolean(),
      /** programs that work past the mount, because they opened or entered something there before */
      outsiders: holders,
      /** mount points below: other file systems, which are not backed up */
      leftOut: z.array(text),
      /** the circle, when one was given */
      sharedWith: text.optional(),
    }),
  ),

  unmount: method(
    z.object({ dir: path }).strict(),
    z.object({
      dir: text,
      /** files that programs still held open */
      stillOpen: z.array(text),
      holders,
    }),
  ),

  /** What `decommission` of the directory would take away. */
  decommissionPlan: method(
    z.object({ dir: path }).strict(),
    z.object({
      dir: text,
      snapshots: count,
      /** sealed bytes kept here */
      bytesHere: count,
      partners: z.array(partnerStatus),
    }),
  ),

  /** Unmounts, and has every partner release what it holds of the volume. */
  decommission: method(
    z.object({ dir: path, timeoutMs: z.number().positive().max(86_400_000).optional() }).strict(),
    z.object({
      dir: text,
      stillOpen: z.array(text),
      holders,
      released: z.array(z.object({ id: hex, name: text, bytes: count })),
      /** partners off line now: the signed request waits for them */
      waiting: z.array(z.object({ id: hex, name: text, bytes: count })),
    }),
  ),

  snapshot: method(dir.extend({ tags, pinned: z.boolean().optional() }).strict(), snapshotResult),
  snapshots: method(dir, z.array(snapshotInfo)),

  /** Pins, unpins, tags. */
  mark: method(
    dir
      .extend({
        snapshots: snapshotNames.min(1),
        pinned: z.boolean().optional(),
        tags,
        addTags: tags,
        removeTags: tags,
      })
      .strict(),
    z.array(snapshotInfo),
  ),

  /** Takes snapshots off the list: those named, or those that the rules given (else the volume's own) do not keep. */
  forget: method(
    dir
      .extend({
        snapshots: snapshotNames.optional(),
        policy: retentionPolicy.optional(),
        dryRun: z.boolean().optional(),
      })
      .strict(),
    z.object({
      dryRun: z.boolean(),
      /** all that there were, oldest first */
      snapshots: z.array(snapshotInfo.extend({ kept: z.boolean(), reasons: z.array(text) })),
      forgotten: count,
    }),
  ),

  /** Sets, and tells, the room for our own blocks. */
  budget: method(budgetParams, spaceStatus),
  placement: method(placementParams, placementStatus),

  /** Frees what no snapshot of any volume needs any more. */
  prune: method(
    z.object({ dryRun: z.boolean().optional() }).strict(),
    z.object({
      dryRun: z.boolean(),
      /** sealed blocks that went, or would go */
      blocks: count,
      bytes: count,
      blocksKept: count,
      bytesKept: count,
      /** given back to the disk */
      bytesFreed: count,
    }),
  ),

  /** Tells the rules of a volume, after setting them when they are given; null: none, everything is kept. */
  policy: method(
    dir.extend({ policy: retentionPolicy.nullable().optional() }).strict(),
    z.object({ dir: text, policy: retentionPolicy.nullable() }),
  ),
  /** Tells when snapshots are taken, after setting it when it is given; null: as by default. */
  schedule: method(
    dir.extend({ schedule: schedule.nullable().optional() }).strict(),
    z.object({
      dir: text,
      schedule,
      /** the interval in force; null: none */
      everyMinutes: z.number().nullable(),
    }),
  ),
  status: method(dir, statusResult),

  /** Waits until every partner holds the newest snapshot (of every volume, without `dir`). */
  sync: method(
    z
      .object({ dir: path.optional(), timeoutMs: z.number().positive().max(31_536_000_000).optional() })
      .strict(),
    z.object({
      volumes: z.array(z.object({ dir: text, snapshot: text, partners: z.array(partnerStatus) })),
    }),
  ),

  /** What is left out of snapshots, after the change if there is one; it holds from the next snapshot on. */
  exclude: method(
    z.object({ dir: path.optional(), change: excludeChange.optional() }).strict(),
    z.object({
      dir: text,
      patterns: z.array(z.string()),
      caches: z.boolean(),
      largerThan: count.nullable(),
      excluded,
      changed: z.boolean(),
    }),
  ),

  /** What a snapshot would leave out now, with this change. */
  wouldExclude: listing(
    z.object({ dir: path.optional(), change: excludeChange.optional() }).strict(),
    z.object({ dir: text, names: count }),
    z.object({
      ...place,
      type: z.enum(entryTypes),
      size: count,
      reason: z.enum(['pattern', 'cache', 'large']),
    }),
  ),

  ...readBackMethods,

  recover: method(
    z.object({ phrase: z.string().max(4096), to: path, overwrite: z.enum(overwriteModes) }).strict(),
    z.object({
      id: hex,
      volumes: z.array(restoreResult),
      /** what was wrong on the way, and got round; each one line */
      faults: z.array(text),
    }),
  ),

  circleCreate: method(
    z.object({ name: z.string().min(1).max(64) }).strict(),
    z.object({ name: text, id: hex }),
  ),
  invite: method(
    z.object({ circle: z.string().min(1).max(64).optional() }).strict(),
    z.object({ code: text, circle: text }),
  ),
  join: method(z.object({ code: z.string().min(1).max(4096) }).strict(), z.object({ circle: text, id: hex })),
  partners: method(nothing, z.object({ partners: z.array(partnerInfo) })),
  /** What speaks for each partner, one line each; not kept: it would not be chosen again, and why not. */
  why: method(
    nothing,
    z.object({ partners: z.array(z.object({ id: hex, name: text, kept: z.boolean(), why: z.array(text) })) }),
  ),
  /** How much this node lends in all, and to each partner; what it wants of each. null: no bound of its own. Changes what is given. */
  offer: method(
    z
      .object({
        bytes: bytes.positive().optional(),
        each: bytes.positive().nullable().optional(),
        want: bytes.positive().nullable().optional(),
        /** to strangers of the open pool, too */
        open: z.boolean().optional(),
      })
      .strict(),
    z.object({
      bytes: count,
      each: count.nullable(),
      want: count.nullable(),
      open: z.boolean(),
      held: count,
    }),
  ),
  /** How many partners are wanted in all, after setting it when it is given; and how the search in the open pool stands. */
  seek: method(
    z.object({ partners: count.max(64).optional() }).strict(),
    z.object({
      wanted: count,
      /** with an agreement, friends among them */
      have: count,
      /** strangers met in the last round, of those found */
      met: count,
      found: count,
      /** whether this node is announced in the pool now */
      offered: z.boolean(),
    }),
  ),
  /** How fast this node sends to its partners in all, bytes a second; null: no bound. `hours` null: always. Changes what is given. */
  away: method(
    /** null: back; absent: only tell */
    z.object({ until: time.nullable().optional() }).strict(),
    z.object({ until: time.nullable(), partners: absenceTold }),
  ),
  limit: method(
    z
      .object({
        up: bytes.min(1024, 'must be at least 1K a second').nullable().optional(),
        hours: z.string().max(500).nullable().optional(),
      })
      .strict(),
    z.object({ up: count.nullable(), hours: text.nullable(), upNow: count.nullable() }),
  ),
  agreement: method(z.object({ partner: partnerName }).strict(), partnerInfo),
  /** A new agreement: of these sizes from now on, or as things are. */
  agreementRenew: method(
    z.object({ partner: partnerName, holds: bytes.optional(), wants: bytes.optional() }).strict(),
    agreementChange,
  ),
  agreementEnd: method(z.object({ partner: partnerName }).strict(), agreementChange),
  audit: method(z.object({ full: z.boolean() }).strict(), auditResult),

  /** Whether everything is there, and is as it should be, that the snapshots need. Changes nothing. */
  check: method(z.object({ readData: readData.optional() }).strict(), checkResult),

  /** Reads every block, and heals what can be healed. */
  repair: method(z.object({ dryRun: z.boolean() }).strict(), repairResult),

  /** Changes settings that the daemon keeps in config.json. `bootstrap` takes effect when the daemon next starts. */
  configure: method(
    z.object({ bootstrap: bootstrapList.optional() }).strict(),
    z.object({
      /** true when a running network still uses the former value */
      restartNeeded: z.boolean(),
    }),
  ),

  /** Ends the daemon. Mounted directories stay mounted. */
  stop: method(nothing, z.object({ pid: count })),
} as const

export type Methods = typeof methods
export type MethodName = keyof Methods
export type Params<M extends MethodName> = z.infer<Methods[M]['params']>
export type Result<M extends MethodName> = z.infer<Methods[M]['result']>
/** What a listing method sends before its result. */
export type Item<M extends MethodName> = z.infer<Methods[M]['item']>
export type ExcludeChange = z.infer<typeof excludeChange>
export type Excluded = z.infer<typeof excluded>
export type EntryType = (typeof entryTypes)[number]
export type RetentionRules = z.infer<typeof retentionPolicy>
export type SnapshotRow = z.infer<typeof snapshotInfo>
export type PartnerStatus = z.infer<typeof partnerStatus>
export type PartnerInfo = z.infer<typeof partnerInfo>
export type AgreementInfo = z.infer<typeof agreementInfo>
export type VolumeStatus = z.infer<typeof volumeStatus>
export type Status = z.infer<typeof statusResult>
export type EngineName = (typeof engineNames)[number]
export type ProgressNote = z.infer<typeof progressNote>
