/**
 * What a snapshot leaves out, and how it sees that the rules changed. Only directories on the way to a change are
 * looked at; so each is compared with the rules it had (`rules`), and where they differ, or where a directory was moved
 * and rules depend on places, all names below are looked at again. Files that stay cost nothing then.
 *
 * Where that begins, the row is made one that equals no rules before anything below is written (places may be written
 * long before the head), and made right when the directory's own place is. So a snapshot that ends early leaves a row
 * that makes the next visit look again: never a directory whose place was written under rules that no longer hold.
 *
 * `leftOut` has every name that is left out, and thereby tells what came or went; a cache is one, under the empty name.
 * Counts are kept beside it, in the same transaction.
 */
import type { DirectoryEntry as Listed, FileStat } from '../base/posix.js'
import { Reader, Writer } from '../format/bytes.js'
import { hashBytes } from '../format/hash.js'
import {
  dependOnPlace,
  type ExcludeSettings,
  type LeftOutReason,
  leftOutReasons,
  noExcludes,
  type OwnRules,
  placed,
  readOwnRules,
  RuledDirectory,
  rulesHash,
} from './rules.js'
import type { Location, VolumeState } from './state.js'

/** Rows of one directory; none where it has no rules of its own. */
export interface RulesRow {
  /** false: what is below may have been looked at under other rules */
  settled: boolean
  cache: boolean
  /** what its patterns match depends on where the directory stands */
  placed: boolean
  /** of its .kithignore */
  hash: Buffer | undefined
}

/** How many names are left out, and caches. */
export type LeftOutCounts = Record<LeftOutReason, number>

const flags = { unsettled: 1, cache: 2, placed: 4, hash: 8 } as const

/** [0] flags: 1 unsettled, 2 cache, 4 depends on places, 8 hash; then the hash, 32 bytes, or nothing */
export const rulesEncoding = {
  encode: (row: RulesRow) => {
    const bits = (row.settled ? 0 : flags.unsettled) | (row.cache ? flags.cache : 0)
    const rest = (row.placed ? flags.placed : 0) | (row.hash ? flags.hash : 0)
    const out = new Writer(1 + hashBytes).u8(bits | rest)
    return (row.hash ? out.raw(row.hash) : out).finish()
  },
  decode(bytes: Buffer): RulesRow {
    const from = new Reader(bytes, 'rules row')
    const bits = from.u8()
    const has = (flag: number) => (bits & flag) !== 0
    const ruleHash = has(flags.hash) ? from.slice(hashBytes) : undefined
    return {
      settled: !has(flags.unsettled),
      cache: has(flags.cache),
      placed: has(flags.placed),
      hash: ruleHash,
    }
  },
}

/** [0] its place in leftOutReasons */
export const reasonEncoding = {
  encode: (reason: LeftOutReason) => Buffer.from([leftOutReasons.indexOf(reason)]),
  decode(bytes: Buffer): LeftOutReason {
    const from = new Reader(bytes, 'row of a name left out')
    const reason = leftOutReasons[from.u8()]
    if (!reason) throw from.damaged('its reason is unknown')
    return reason
  },
}

/** [0] version, 1 [1] flags: 1 caches, 2 size [2..10) size, u64 [10..12) patterns, u16; each: length u16, UTF-8 */
export const settingsEncoding = {
  encode({ patterns, caches, largerThan }: ExcludeSettings) {
    const out = new Writer(256).u8(1).u8((caches ? 1 : 0) | (largerThan === null ? 0 : 2))
    out.number(largerThan ?? 0).u16(patterns.length)
    for (const pattern of patterns) {
      const bytes = Buffer.from(pattern)
      out.u16(bytes.length).raw(bytes)
    }
    return out.finish()
  },
  decode(bytes: Buffer): ExcludeSettings {
    const from = new Reader(bytes, 'exclude settings')
    if (from.u8() !== 1) throw from.damaged('its version is unknown; a newer kith wrote it')
    const bits = from.u8()
    const size = from.number()
    const patterns = Array.from({ length: from.u16() }, () => from.slice(from.u16()).toString())
    return { patterns, caches: (bits & 1) !== 0, largerThan: (bits & 2) !== 0 ? size : null }
  },
}

/** In the order of leftOutReasons, u64 each. */
export const countsEncoding = {
  encode(counts: LeftOutCounts) {
    const out = new Writer(leftOutReasons.length * 8)
    for (const reason of leftOutReasons) out.number(counts[reason])
    return out.finish()
  },
  decode(bytes: Buffer): LeftOutCounts {
    const from = new Reader(bytes, 'counts of what is left out')
    return { pattern: from.number(), cache: from.number(), large: from.number() }
  },
}

/** The one key of the tables `excludes` and `leftOutCounts`. */
export const onlyKey = 1
const noName = Buffer.alloc(0)

export function settingsOf(state: VolumeState): ExcludeSettings {
  return state.excludes.get(onlyKey) ?? noExcludes
}

export function countsOf(state: VolumeState): LeftOutCounts {
  return state.leftOutCounts.get(onlyKey) ?? { pattern: 0, cache: 0, large: 0 }
}

/** A directory on the way, and what the snapshot needs to know of it. */
export interface Ruled {
  ino: bigint
  rules: RuledDirectory
  /** every name below is to be looked at */
  again: boolean
  problem: string | undefined
}

/** Where the directory was found. */
export interface Found {
  fd: number
  ino: bigint
  name: Buffer
  /** undefined for the root */
  above: Ruled | undefined
  /** it stood elsewhere in the last snapshot */
  moved: boolean
  listed: readonly Listed[] | undefined
}

interface Noted extends Location {
  reason: LeftOutReason | undefined
}

export class Exclusions {
  private readonly settings: ExcludeSettings
  /** Rules that depend on places, anywhere: what is moved must be looked at again. */
  private readonly placedRows = new Set<bigint>()
  private placedSettings: boolean
  private readonly hadRules: boolean
  private hasLeftOut: boolean
  /** Rows not written yet. */
  private rows = new Map<bigint, RulesRow | undefined>()
  private noted = new Map<string, Noted>()
  /** What the rows of directories are to be when they are done. */
  private readonly open = new Map<bigint, RulesRow | undefined>()

  constructor(private readonly state: VolumeState) {
    this.settings = settingsOf(state)
    this.placedSettings = dependOnPlace(this.settings.patterns)
    this.hadRules = state.rules.count() > 0
    this.hasLeftOut = state.leftOut.count() > 0
    for (const { key, value } of state.rules.range()) if (value.placed) this.placedRows.add(key)
  }

  /** Names and rows not written yet. */
  get size(): number {
    return this.rows.size + this.noted.size
  }

  /** Whether what a moved directory has must be looked at again. */
  get dependOnPlace(): boolean {
    return this.placedSettings || this.placedRows.size > 0
  }

  enter({ fd, ino, name, above, moved, listed }: Found): Ruled {
    const own = readOwnRules(fd, this.settings.caches, listed)
    const rules = above ? above.rules.child(name, own) : RuledDirectory.root(this.settings, own)
    const now = rowOf(own, rules.cache, above === undefined)
    const before = this.hadRules ? this.state.rules.get(ino) : undefined
    const changed = !sameRows(before, now)
    if (now?.placed) this.placedRows.add(ino)
    if (changed || moved) {
      this.rows.set(ino, { settled: false, cache: false, placed: now?.placed ?? false, hash: undefined })
      this.open.set(ino, now)
    }
    if (changed || rules.cache) this.note(ino, noName, rules.cache ? 'cache' : undefined)
    return { ino, rules, again: above?.again === true || changed || moved, problem: own.problem }
  }

  /** The directory's place is known, and so is everything below. */
  settle(ino: bigint): void {
    if (!this.open.has(ino)) return
    this.rows.set(ino, this.open.get(ino))
    this.open.delete(ino)
  }

  /** Names of a directory that were left out in the last snapshot, by their bytes as latin1. */
  knownIn(ino: bigint): Map<string, Buffer> {
    const names = new Map<string, Buffer>()
    if (!this.hasLeftOut) return names
    for (const { name } of this.state.leftOut.keysOf(rangeOf(ino)))
      if (name.length > 0) names.set(name.toString('latin1'), name)
    return names
  }

  /** Why the name is left out, if it is. One in a cache is not counted: the cache is. */
  verdict({ ino, rules }: Ruled, name: Buffer, stat: FileStat): LeftOutReason | undefined {
    const reason = rules.leavesOut(name, stat)
    this.note(ino, name, reason === 'cache' ? undefined : reason)
    return reason
  }

  /** The name is there no more. */
  gone(ino: bigint, name: Buffer): void {
    this.note(ino, name, undefined)
  }

  /** Takes the rows gathered so far; what is returned writes them, inside a transaction. */
  write(): () => void {
    const { rows, noted } = this
    this.rows = new Map()
    this.noted = new Map()
    return () => {
      for (const [ino, row] of rows) {
        if (row) this.state.rules.put(ino, row)
        else this.state.rules.remove(ino)
      }
      if (noted.size > 0) settleNames(this.state, noted.values())
    }
  }

  private note(parent: bigint, name: Buffer, reason: LeftOutReason | undefined): void {
    if (reason === undefined && !this.hasLeftOut) return
    const key = `${parent}/${name.toString('latin1')}`
    if (reason === undefined && !this.noted.has(key) && !this.state.leftOut.has({ parent, name })) return
    this.hasLeftOut = true
    this.noted.set(key, { parent, name, reason })
  }
}

/** Inside a transaction: what was known of directories that are gone. */
export function forgetRules(state: VolumeState, directories: readonly bigint[]): void {
  if (directories.length === 0) return
  const withRules = state.rules.count() > 0
  const names = state.leftOut.count() > 0
  for (const ino of directories) {
    if (withRules) state.rules.remove(ino)
    if (!names) continue
    const gone = [...state.leftOut.keysOf(rangeOf(ino))].map((key) => ({ ...key, reason: undefined }))
    if (gone.length > 0) settleNames(state, gone)
  }
}

function settleNames(state: VolumeState, noted: Iterable<Noted>): void {
  const counts = { ...countsOf(state) }
  for (const { reason, ...place } of noted) {
    const before = state.leftOut.get(place)
    if (before === reason) continue
    if (before) counts[before]--
    if (reason) {
      counts[reason]++
      state.leftOut.put(place, reason)
    } else state.leftOut.remove(place)
  }
  state.leftOutCounts.put(onlyKey, counts)
}

function rangeOf(ino: bigint): { start: Location; end: Location } {
  return { start: { parent: ino, name: noName }, end: { parent: ino + 1n, name: noName } }
}

function rowOf(own: OwnRules, cache: boolean, root: boolean): RulesRow | undefined {
  if (!own.text && !cache) return undefined
  const placedRules = own.text !== undefined && (!root || dependOnPlace(placed(own.text, '')))
  return { settled: true, cache, placed: placedRules, hash: own.text && rulesHash(own.text) }
}

function sameRows(a: RulesRow | undefined, b: RulesRow | undefined): boolean {
  if (!a || !b) return a === b
  if (!a.settled || a.cache !== b.cache) return false
  return a.hash && b.hash ? a.hash.equals(b.hash) : a.hash === b.hash
}
