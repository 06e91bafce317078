/**
 * What each partner is to us by now: feeds planning/partner-state.ts with what happens (sessions, audits, agreements, time) and
 * keeps its states on disk.
 *
 * Crash argument: a state is on disk before anything follows from it (`changed`), and who is lost and still bound is told of each
 * minute (`lost`), so that it follows even when a crash comes between. Counts are written every ten minutes (a disk may sleep
 * meanwhile); a crash loses at most that, and in the partner's favour. The row of a partner that is forgotten stays, since its
 * record counts when it is met again; of those, the `maxRows` newest.
 *
 * Table `states`, under the partner's key, 120 bytes:
 *
 *     [0] version, 1   [1] state, by its place in stateNames   [2] audits in a row not passed u8   [3] 0
 *     [4..6) agreements kept u16   [6..8) reneged u16   [8..12) failed audits u32   [12..16) 0
 *     [16..24) number of the agreement that this is about, u64: 0, none
 *     [24..104) u64 each: since, known, bound, last seen, missed ms, grace ms, counted ms, away until, away ms, away year
 *     [104..112) silent ms u64   [112..120) when its last announced absence was made, by its clock: u64
 */
import type { Clock, Timer } from '../base/clock.js'
import { KithError } from '../base/errors.js'
import type { Log } from '../base/log.js'
import { encodings, type Database, type Table } from '../blocks/database.js'
import { Reader, Writer } from '../format/bytes.js'
import { weekBytes } from '../format/week.js'
import { decodeAbsence } from '../format/wire-away.js'
import {
  commitmentLeft,
  graceLeft,
  isAway,
  isLost,
  newPartner,
  recordOf,
  stateNames,
  step,
  type PartnerEvent,
  type PartnerState,
  type PartnerTerms,
  type StateName,
} from '../planning/partner-state.js'
import type { TrackRecord } from '../planning/types.js'

export interface StatesOptions {
  /** our public key */
  self: Buffer
  db: Database
  /** partners that are listed, on line or not */
  partners(): { key: Buffer; since: number; online: boolean }[]
  terms(partner: Buffer): PartnerTerms
  /** terms of the newest agreement, ours and the partner's; `commitment` in seconds */
  commitments(partner: Buffer): Record<'ours' | 'theirs', { commitment: number }> | undefined
  /** number of the newest agreement, and whether it is over; undefined: there was none */
  agreement(partner: Buffer): { number: number; isOver: boolean } | undefined
  /** whether nothing of ours was placed there yet */
  isEmpty(partner: Buffer): boolean
  /** whether this node has a network */
  isConnected(): boolean
  /** the state is another than before, and on disk */
  changed(partner: Buffer, after: StateName): void
  /** the partner reneged or is gone, and an agreement with it stands */
  lost(partner: Buffer): void
  /** an hour of counted time went by, or the first minute since the start */
  ticked(): void
  clock: Clock
  log: Log
}

/** For people. Times are ms since 1970. */
export interface StateInfo {
  name: StateName
  since: number
  /** ms until it has reneged, if it does not come back; null: not in grace */
  graceLeftMs: number | null
  /** it announced to be away until then; null: not */
  awayUntil: number | null
  /** by its commitment it gives nothing back until then; null: it does */
  committedUntil: number | null
  record: TrackRecord
}

interface Row {
  state: PartnerState
  agreement: number
  /** of its last announced absence */
  announced: number
}

const tickMs = 60_000
const ticksToWrite = 10
const tellMs = 3_600_000
const maxRows = 4096
const version = 1
const rowBytes = 120

export class States {
  private readonly table: Table<Buffer, Buffer>
  private readonly rows = new Map<string, Row>()
  /** To be written, and for whose partners the state is another. */
  private readonly dirty = new Map<string, boolean>()
  private writing: Promise<void> = Promise.resolve()
  private tickedAt: number
  private toldAt = -Infinity
  private ticks = 0
  private timer: Timer
  private stopped = false

  constructor(private readonly options: StatesOptions) {
    this.table = options.db.table('states', encodings.bytes, encodings.bytes)
    for (const { key, value } of this.table.range()) this.rows.set(key.toString('hex'), decodeRow(value))
    this.tickedAt = options.clock.monotonic()
    this.timer = this.nextTick()
  }

  /** Resolves when nothing is written any more. */
  async stop(): Promise<void> {
    this.stopped = true
    this.timer.cancel()
    for (const id of this.rows.keys()) this.dirty.set(id, this.dirty.get(id) ?? false)
    await this.flush()
  }

  get(partner: Buffer): PartnerState {
    return this.rows.get(partner.toString('hex'))?.state ?? newPartner(this.now)
  }

  info(partner: Buffer): StateInfo {
    const state = this.get(partner)
    const isInGrace = state.state === 'grace'
    return {
      name: state.state,
      since: state.since,
      graceLeftMs: isInGrace ? graceLeft(state, this.options.terms(partner)) : null,
      awayUntil: isAway(state, this.now) ? state.awayUntil : null,
      committedUntil: this.committedUntil(partner) || null,
      record: recordOf(state, this.now),
    }
  }

  /** Until then restores of this owner are not honoured here, as agreed upon; 0: they are. */
  refusesUntil(owner: Buffer): number {
    return this.committedUntil(owner, 'ours')
  }

  /** Until then this partner does not honour restores, and none are asked; 0: it does. */
  committedUntil(partner: Buffer, side: 'ours' | 'theirs' = 'theirs'): number {
    const seconds = this.options.commitments(partner)?.[side].commitment ?? 0
    const left = seconds === 0 ? 0 : commitmentLeft(this.get(partner).bound, seconds, this.now)
    return left === 0 ? 0 : this.now + left
  }

  record(partner: Buffer): TrackRecord {
    return recordOf(this.get(partner), this.now)
  }

  /** Sessions or agreements came, went or changed. */
  follow(): void {
    if (this.stopped) return
    for (const { key, since, online } of this.options.partners()) {
      const id = key.toString('hex')
      if (!this.rows.has(id))
        this.put(id, { state: newPartner(Math.min(since, this.now)), agreement: 0, announced: 0 })
      if (this.get(key).online !== online) this.tell(key, online ? 'came' : 'went')
      this.followAgreement(key, id)
    }
  }

  /** What an audit came to. It brings nobody back who was parted from. */
  audited(partner: Buffer, outcome: 'passed' | 'failed' | 'unanswered'): void {
    if (isLost(this.get(partner)) && this.options.agreement(partner)?.isOver) return
    this.tell(partner, outcome)
  }

  /**
   * The partner's signed word that it is out of reach.
   * @returns until when it is taken to be; 0: not
   * @throws KithError denied for what is forged, not from it to us, or older than its last
   */
  heard(partner: Buffer, notice: Buffer): number {
    const { who, partner: to, made, until } = decodeAbsence(notice)
    const id = partner.toString('hex')
    const row = this.rows.get(id)
    if (!who.equals(partner) || !to.equals(this.options.self))
      throw new KithError('denied', 'the announced absence is not from this partner to us')
    if (!row) return 0
    if (made < row.announced) throw new KithError('denied', 'a later absence was announced before')
    // Said again, as it is at each session: what was taken stays.
    if (made > row.announced) {
      this.put(id, { ...row, announced: made })
      this.apply(partner, { kind: 'away', now: this.now, until })
      void this.flush()
    }
    const { state } = this.rows.get(id) ?? row
    return isAway(state, this.now) ? state.awayUntil : 0
  }

  private followAgreement(key: Buffer, id: string): void {
    const row = this.rows.get(id)
    const agreement = this.options.agreement(key)
    if (!row) return
    // Who has nothing to show need not.
    if (row.state.online && isLost(row.state) && this.options.isEmpty(key)) this.audited(key, 'passed')
    if (!agreement) return
    const { number, isOver } = agreement
    const isSettled = isLost(row.state) || row.state.state === 'leaving'
    if (isOver && !isSettled) this.tell(key, 'ended')
    else if (!isOver && isSettled && number > row.agreement) this.tell(key, 'agreed')
    const after = this.rows.get(id)
    if (after && after.agreement !== number) this.put(id, { ...after, agreement: number })
  }

  private tell(partner: Buffer, kind: Exclude<PartnerEvent['kind'], 'time' | 'away'>): void {
    this.apply(partner, { kind, now: this.now })
  }

  private apply(partner: Buffer, event: PartnerEvent): void {
    const id = partner.toString('hex')
    const row = this.rows.get(id)
    if (!row || this.stopped) return
    const state = step(row.state, event, this.options.terms(partner))
    const isOther = state.state !== row.state.state
    const isCounted = event.kind !== 'time' || !isSame(state, row.state)
    if (isCounted) this.put(id, { ...row, state }, isOther)
    else this.rows.set(id, { ...row, state })
    if (!isOther) return
    this.options.log.info({ peer: id, before: row.state.state, after: state.state }, 'state of a partner')
    void this.flush()
  }

  private put(id: string, row: Row, isOther = false): void {
    this.rows.set(id, row)
    this.dirty.set(id, isOther || this.dirty.get(id) === true)
  }

  private nextTick(): Timer {
    return this.options.clock.after(tickMs, () => this.tick())
  }

  private tick(): void {
    const now = this.options.clock.monotonic()
    const ms = Math.max(0, Math.floor(now - this.tickedAt))
    this.tickedAt = now
    this.follow()
    for (const { key } of this.options.partners())
      if (isLost(this.get(key)) && this.options.agreement(key)?.isOver === false) this.options.lost(key)
    if (this.options.isConnected())
      for (const { key } of this.options.partners()) this.apply(key, { kind: 'time', now: this.now, ms })
    if (now - this.toldAt >= tellMs && this.options.isConnected()) {
      this.toldAt = now
      this.options.ticked()
    }
    if (++this.ticks % ticksToWrite === 0) void this.flush()
    if (!this.stopped) this.timer = this.nextTick()
  }

  private flush(): Promise<void> {
    this.writing = this.writing.then(() => this.write())
    return this.writing
  }

  private async write(): Promise<void> {
    const batch = [...this.dirty]
    this.dirty.clear()
    if (batch.length === 0) return
    try {
      await this.options.db.transaction(() => {
        for (const [id] of batch) {
          const row = this.rows.get(id)
          if (row) this.table.put(Buffer.from(id, 'hex'), encodeRow(row))
        }
        this.bound()
      })
    } catch (error) {
      // A full disk: tried again, and nothing follows before.
      for (const [id, isOther] of batch) this.dirty.set(id, isOther || this.dirty.get(id) === true)
      this.options.log.warn({ err: error }, 'the states of partners could not be stored')
      return
    }
    if (this.stopped) return
    for (const [id, isOther] of batch) {
      const row = this.rows.get(id)
      if (isOther && row) this.options.changed(Buffer.from(id, 'hex'), row.state.state)
    }
  }

  /** Forgets those that are no partners any more, the longest unseen first. */
  private bound(): void {
    if (this.rows.size <= maxRows) return
    const listed = new Set(this.options.partners().map(({ key }) => key.toString('hex')))
    const others = [...this.rows].filter(([id]) => !listed.has(id))
    others.sort(([, a], [, b]) => a.state.lastSeen - b.state.lastSeen)
    for (const [id] of others.slice(0, this.rows.size - maxRows)) {
      this.rows.delete(id)
      this.table.remove(Buffer.from(id, 'hex'))
    }
  }

  private get now(): number {
    return Math.max(0, Math.round(this.options.clock.now()))
  }
}

/** What it promised; where nothing was agreed upon: no hours, and as much grace as we ask for. */
export function termsOf(theirs: PartnerTerms | undefined, grace: number): PartnerTerms {
  return theirs ?? { hours: Buffer.alloc(weekBytes), grace, notice: 0 }
}

/** But for when it was last seen, which sessions tell anyway. */
function isSame(a: PartnerState, b: PartnerState): boolean {
  return (Object.keys(a) as (keyof PartnerState)[]).every((key) => key === 'lastSeen' || a[key] === b[key])
}

function encodeRow({ state, agreement, announced }: Row): Buffer {
  const out = new Writer(rowBytes).u8(version).u8(stateNames.indexOf(state.state)).u8(state.tries).zero(1)
  out.u16(Math.min(state.kept, 0xffff)).u16(Math.min(state.reneged, 0xffff)).u32(state.faults).zero(4)
  out.number(agreement)
  for (const value of [state.since, state.known, state.bound, state.lastSeen, state.missedMs])
    out.number(value)
  for (const value of [state.graceMs, state.countedMs, state.awayUntil, state.awayMs, state.awayYear])
    out.number(value)
  return out.number(state.silentMs).number(announced).finish()
}

/** @throws KithError damaged */
function decodeRow(bytes: Buffer): Row {
  const from = new Reader(Buffer.from(bytes), 'state of a partner')
  if (from.u8() !== version) throw from.damaged('its version is unknown; a newer kith wrote it')
  const name = stateNames[from.u8()]
  if (!name) throw from.damaged('an unknown state')
  const tries = from.u8()
  from.zero(1)
  const [kept, reneged, faults] = [from.u16(), from.u16(), from.u32()]
  from.zero(4)
  const agreement = from.number()
  const state: PartnerState = {
    state: name,
    online: false,
    tries,
    kept,
    reneged,
    faults,
    since: from.number(),
    known: from.number(),
    bound: from.number(),
    lastSeen: from.number(),
    missedMs: from.number(),
    graceMs: from.number(),
    countedMs: from.number(),
    awayUntil: from.number(),
    awayMs: from.number(),
    awayYear: from.number(),
    silentMs: from.number(),
  }
  const announced = from.number()
  from.end()
  return { state, agreement, announced }
}
