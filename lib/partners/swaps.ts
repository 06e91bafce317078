/**
 * Exchanges one partner of the pool for a better one: keeps on disk which exchange is under way and how far it is, and does what
 * planning/swap.ts says is next. pool.ts brings the candidates and agrees with the chosen one.
 *
 * Crash argument: the row is on disk before the new partner is offered anything, and goes after the last step. What comes next
 * follows from the row and from what agreements, book and stripes have on disk, so that after a crash the same step is said again,
 * and each does nothing where it was done. The old agreement is ended only while the new partner's acknowledgements of all that the
 * old one holds are on disk; a crash before loses nothing, one after finds the old agreement over, and only takes the row away.
 *
 * Table `swap`:
 *
 *     `now`   [0] version, 1   [1] 1: moving, 0: filling   [2..4) 0   [4..12) begun, ms since 1970 u64
 *             [12..44) who gives way   [44..76) who takes its place   then the reasons: count u8, of each length u16 | UTF-8
 *     `last`  when one was begun last, ms since 1970 u64
 */
import type { Clock } from '../base/clock.js'
import type { Log } from '../base/log.js'
import { encodings, type Database, type Table } from '../blocks/database.js'
import { Reader, Writer } from '../format/bytes.js'
import { publicKeyBytes } from '../format/hash.js'
import { nextSwapStep, swapRules, type SwapPlan, type SwapStage } from '../planning/swap.js'
import { Rounds } from './rounds.js'

export interface SwapsOptions {
  db: Database
  /** an agreement stands, and it did not renege */
  isPartner(key: Buffer): boolean
  /** for which it has been a partner, ms */
  ageOf(key: Buffer): number
  /** ms of its commitment that are left */
  committedMs(key: Buffer): number
  /** bytes of ours that it has room for by its agreement, and that it takes of its room now */
  roomAt(key: Buffer): { holds: number; used: number }
  /** partners that count, and those wanted */
  counts(): { have: number; wanted: number }
  /** whether `to` is better by what was seen of both */
  isBetter(to: Buffer, from: Buffer): boolean
  /** whether `to` holds all that `from` does, and has proven it */
  isFilled(to: Buffer, from: Buffer): boolean
  /** whether no element of a stripe that is read lies there */
  isEmptied(from: Buffer): boolean
  /** ends the agreement with it, durably */
  part(key: Buffer): Promise<unknown>
  /** who is to be moved from is another than before */
  changed(): void
  /** counts the time of partners' states */
  clock: Clock
  log: Log
}

export interface Swap {
  stage: SwapStage
  /** ms since 1970 */
  begun: number
  from: Buffer
  to: Buffer
  why: string[]
}

const version = 1
const stages: readonly SwapStage[] = ['filling', 'moving']
/** Between two looks for somebody better; the first, an hour after the start. */
const lookMs = 24 * 3_600_000
const firstLookMs = 3_600_000
const maxWhyBytes = 1000

export class Swaps {
  private readonly table: Table<string, Buffer>
  private swap: Swap | undefined
  private last: number
  private lookAt: number
  private readonly rounds: Rounds

  constructor(private readonly options: SwapsOptions) {
    this.table = options.db.table('swap', encodings.text, encodings.bytes)
    const row = this.table.get('now')
    this.swap = row && decodeSwap(row)
    const last = this.table.get('last')
    this.last = last ? Number(last.readBigUInt64LE(0)) : 0
    this.lookAt = options.clock.monotonic() + firstLookMs
    this.rounds = new Rounds(
      () => this.round(),
      // A full disk: the next hour tries again.
      (error) => options.log.warn({ err: error }, 'an exchange of partners could not go on'),
    )
  }

  /** The one under way. */
  get current(): Swap | undefined {
    return this.swap
  }

  /** Whether elements are moved away from this partner. */
  isLeft(partner: Buffer): boolean {
    return this.swap?.stage === 'moving' && this.swap.from.equals(partner)
  }

  /** Whether to look for somebody better now. */
  isDue(): boolean {
    const { clock, counts } = this.options
    if (this.rounds.isStopped || this.swap || clock.monotonic() < this.lookAt || counts().wanted === 0)
      return false
    // A clock set back makes nobody wait for longer.
    return Math.abs(clock.now() - this.last) >= swapRules.restMs
  }

  /** Somebody looked. */
  looked(): void {
    this.lookAt = this.options.clock.monotonic() + lookMs
  }

  /** Durable when it resolves: only then may the new partner be offered anything. */
  async begin({ from, to, why }: SwapPlan): Promise<void> {
    const begun = this.now
    const swap: Swap = {
      stage: 'filling',
      begun,
      from: Buffer.from(from, 'hex'),
      to: Buffer.from(to, 'hex'),
      why: [...why],
    }
    await this.options.db.transaction(() => {
      this.table.put('now', encodeSwap(swap))
      this.table.put('last', new Writer(8).number(begun).finish())
    })
    this.swap = swap
    this.last = begun
    this.options.log.info({ from, to, why }, 'a partner is to take the place of another')
  }

  /** Something may have changed: does what comes next. Resolves when nothing more can be done now. Never throws. */
  follow(): Promise<void> {
    this.rounds.wake()
    return this.rounds.settled()
  }

  stop(): Promise<void> {
    return this.rounds.stop()
  }

  private async round(): Promise<void> {
    while (!this.rounds.isStopped && this.swap && (await this.step(this.swap)));
  }

  /** @returns whether something was done */
  private async step(swap: Swap): Promise<boolean> {
    const { from, to } = swap
    const { log, part } = this.options
    const next = nextSwapStep(this.factsOf(swap))
    if (next === 'wait') return false
    log.info({ from: from.toString('hex'), to: to.toString('hex'), step: next }, 'exchange of partners')
    if (next === 'move') {
      await this.put({ ...swap, stage: 'moving' })
      return true
    }
    if (next === 'part') await part(from)
    if (next === 'giveUp') await part(to)
    await this.put(undefined)
    return false
  }

  private factsOf({ stage, begun, from, to }: Swap) {
    const o = this.options
    const { have, wanted } = o.counts()
    return {
      stage,
      ageMs: Math.max(0, this.now - begun),
      isFromPartner: o.isPartner(from),
      isToPartner: o.isPartner(to),
      boundMs: o.ageOf(to),
      lacksRoom: o.roomAt(to).holds < o.roomAt(from).used,
      committedMs: o.committedMs(to),
      isSpare: have > wanted,
      isFilled: () => o.isFilled(to, from),
      isEmptied: () => o.isEmptied(from),
      isBetter: () => o.isBetter(to, from),
    }
  }

  private async put(swap: Swap | undefined): Promise<void> {
    await this.options.db.transaction(() => {
      if (swap) this.table.put('now', encodeSwap(swap))
      else this.table.remove('now')
    })
    this.swap = swap
    this.options.changed()
  }

  private get now(): number {
    return Math.max(0, Math.round(this.options.clock.now()))
  }
}

function encodeSwap({ stage, begun, from, to, why }: Swap): Buffer {
  const out = new Writer().u8(version).u8(stages.indexOf(stage)).zero(2).number(begun).raw(from).raw(to)
  const lines = why.map((line) => Buffer.from(line, 'utf8').subarray(0, maxWhyBytes)).slice(0, 255)
  out.u8(lines.length)
  for (const line of lines) out.u16(line.length).raw(line)
  return out.finish()
}

/** @throws KithError damaged */
function decodeSwap(row: Buffer): Swap {
  const bytes = new Reader(Buffer.from(row), 'exchange of partners')
  if (bytes.u8() !== version) throw bytes.damaged('its version is unknown; a newer kith wrote it')
  const stage = stages[bytes.u8()]
  if (!stage) throw bytes.damaged('an unknown stage')
  bytes.zero(2)
  const begun = bytes.number()
  const [from, to] = [bytes.slice(publicKeyBytes), bytes.slice(publicKeyBytes)]
  const why = Array.from({ length: bytes.u8() }, () => bytes.slice(bytes.u16()).toString('utf8'))
  bytes.end()
  return { stage, begun, from, to, why }
}
