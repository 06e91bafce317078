/**
 * config.json: the settings of a home. Written by the daemon, may be edited by hand while no daemon runs; an unknown
 * key or a bad value is refused with its name, so that a slip of the pen does not go unnoticed.
 */
import { readFileSync } from 'node:fs'
import { hostname } from 'node:os'
import * as z from 'zod'
import { asKithError, KithError } from '../base/errors.js'
import { errnoCode } from '../base/posix.js'
import { bootstrapList, retentionPolicy } from './api.js'
import { parseWeek } from '../format/week.js'
import { parsePlacement } from '../planning/placement.js'
import { writeDurably } from '../base/durable.js'
import type { Home } from './home.js'
import { schedule } from './schedule.js'

const hours = z.number().positive().max(8760)

const bytes = z
  .number()
  .int()
  .positive()
  .max(2 ** 52)
const weekText = z
  .string()
  .max(500)
  .superRefine((text, issues) => {
    try {
      parseWeek(text)
    } catch (error) {
      issues.addIssue({ code: 'custom', message: asKithError(error).message })
    }
  })

const placementText = z
  .string()
  .max(64)
  .superRefine((text, issues) => {
    try {
      parsePlacement(text)
    } catch (error) {
      issues.addIssue({ code: 'custom', message: asKithError(error).message })
    }
  })

const schema = z
  .object({
    /** what partners call this node */
    name: z.string().min(1).max(64).optional(),
    /** HOST:PORT of nodes of a private DHT; empty: the public one */
    bootstrap: bootstrapList.default([]),
    /** bytes of others' blocks that this node holds at most */
    vaultQuotaBytes: z
      .number()
      .int()
      .positive()
      .default(100 * 2 ** 30),
    /** of that, what each partner may fill at most; the whole when absent */
    partnerQuotaBytes: bytes.optional(),
    /** bytes that each partner is to hold for us at most; as much as it offers when absent */
    wantBytes: bytes.optional(),
    /** lends to strangers of the open pool, too */
    openPool: z.boolean().default(false),
    /** partners wanted in all; while there are fewer, strangers of the open pool are sought */
    poolPartners: z.number().int().min(0).max(64).default(0),
    /** where this machine stands, in words of the user's, e.g. eu-north; told to strangers of the pool */
    region: z.string().max(32).optional(),
    /** hours in which this node promises to be on line, UTC, like: mon-fri 8-18, sat-sun 0-24; none when absent */
    onlineHours: weekText.optional(),
    /** days that this node may be out of reach, and a partner still keeps the agreement */
    graceDays: z.number().int().min(1).max(3650).default(30),
    /** days for which restores are not honoured in a fresh agreement with a stranger, more than the grace; 0: at once */
    commitmentDays: z.number().int().min(0).max(3650).default(45),
    /** days that this node keeps a partner's data after an agreement ended */
    noticeDays: z.number().int().min(1).max(3650).default(30),
    /** days that a friend's data is kept after it was last heard of, at least */
    silentDays: z.number().int().min(1).max(36_500).default(365),
    /** days that an agreement lasts, renewed while both meet; until one side ends it when absent */
    agreementDays: z.number().int().min(1).max(3650).optional(),
    /** bytes a second that go out to all partners together at most; as fast as it goes when absent */
    limitUpBytes: bytes.min(1024).optional(),
    /** hours in which that holds, by this machine's zone; always when absent */
    limitUpHours: weekText.optional(),
    /** bytes that our own blocks take here at most, once partners hold them; null: all are kept */
    storeBudgetBytes: z.number().int().positive().nullable().default(null),
    /** partners that must hold a block before it may go from here */
    copies: z.number().int().positive().max(999).default(2),
    /** how our blocks are laid out over partners (planning/placement.ts) */
    placement: placementText.default('replica'),
    /** a snapshot this often, when something changed and the volume's schedule says nothing else */
    snapshotHours: hours.default(1),
    /** each partner is audited at least this often */
    auditHours: hours.default(24),
    /** bytes that audits of one partner take a day, on average */
    auditBytesPerDay: bytes.min(20_000).default(100_000),
    /** what no snapshot needs is freed by itself, this often, after snapshots were forgotten */
    pruneHours: hours.default(24),
    /** what partners drop is held back so long, by this machine's clock */
    dropDelayHours: hours.default(72),
    /** when snapshots are taken, by volume id */
    schedules: z.record(z.string(), schedule).default({}),
    /** rules for what is kept, by volume id; those of volumes not named here keep everything */
    retention: z.record(z.string(), retentionPolicy).default({}),
  })
  .strict()

export type Settings = z.infer<typeof schema>

export const defaults: Readonly<Settings> = schema.parse({})

export class Config {
  #home: Home
  #settings: Settings

  private constructor(home: Home, settings: Settings) {
    this.#home = home
    this.#settings = settings
  }

  /** Throws `usage` naming the key that is wrong. */
  static open(home: Home): Config {
    const file = home.file('config.json')
    let text
    try {
      text = readFileSync(file, 'utf8')
    } catch (error) {
      if (errnoCode(error) !== 'ENOENT') throw error
      return new Config(home, defaults)
    }
    return new Config(home, parse(text, file))
  }

  get settings(): Readonly<Settings> {
    return this.#settings
  }

  get name(): string {
    return this.#settings.name ?? hostname().slice(0, 64)
  }

  set(change: Partial<Settings>): void {
    const settings = schema.parse({ ...this.#settings, ...change })
    writeDurably(this.#home.file('config.json'), Buffer.from(`${JSON.stringify(settings, null, 2)}\n`))
    this.#settings = settings
  }
}

function parse(text: string, file: string): Settings {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (error) {
    const why = error instanceof Error ? error.message : ''
    throw new KithError('usage', `${file} is no JSON (${why}); correct it or remove it`)
  }
  const result = schema.safeParse(value)
  if (result.success) return result.data
  const issue = result.error.issues[0]
  const at = issue && issue.path.length > 0 ? `${issue.path.join('.')}: ` : ''
  throw new KithError('usage', `${file}: ${at}${issue?.message ?? 'bad settings'}; correct it or remove it`)
}
