/**
 * Repair by one share: where a partner with an element of a stripe is lost, that element alone is made again and goes to another
 * partner; the others stay where they are. What, where and in what order is planned by planning/repair.ts.
 *
 *   1. when the state of a partner changed: look through the stripes that partners who are not good have a part of, a page at a
 *      time, for the most urgent ones, and for what all of it comes to
 *   2. plan some of these, with the partners as they are now
 *   3. make each element, from blocks that are here, else from what partners hold; seal it for its new partner; note the
 *      move (moves.ts). The uploader sends it; when it is acknowledged, the stripe names the new partner (stripes.ts)
 *   4. as moves arrive, the next are planned; when none of the urgent ones is left, look again
 *
 * Where no partner is left that has none of the stripe, but there are enough for what new data is laid out by (of fewer
 * partners), the stripe is dissolved: its blocks are striped anew. So is it in small portions where every partner gets everything.
 * Otherwise it waits: of a stripe that can be read nothing is lost meanwhile.
 *
 * Crash argument: a move is one transaction of stripes.ts, and a shard made again is the same block; before it nothing was
 * done, after it the shard is pending until the partner acknowledges it.
 */
import { setImmediate } from 'node:timers/promises'
import type { Clock, Timer } from '../base/clock.js'
import { asKithError } from '../base/errors.js'
import type { Log } from '../base/log.js'
import { maxElementBytes } from '../format/shard.js'
import type { NumberedStripe } from '../format/stripe.js'
import {
  byUrgency,
  planRepair,
  repairDefaults,
  repairNeed,
  type Remake,
  type RepairNeed,
  type RepairPartner,
  type RepairStripe,
} from '../planning/repair.js'
import type { PlacedReader } from './placed-reader.js'
import { Rounds } from './rounds.js'
import type { Shards } from './shards.js'
import type { RepairProgress } from './repair-progress.js'
import { neededOf, type Stripes } from './stripes.js'

export interface MenderOptions {
  stripes: Stripes
  shards: Shards
  reader: PlacedReader
  /** who there is, on line or not; undefined: it cannot be told now */
  partners(): RepairPartner[] | undefined
  /** ids of partners that new stripes could be laid out over, and how many of them that takes; 0: each gets everything */
  layout(): { candidates: string[]; needs: number }
  progress: RepairProgress
  /** whether the bytes of the block are here */
  isHere(block: Buffer): boolean
  /** whether the partner was found to lack that shard */
  isBad(partner: Buffer, shard: Buffer): boolean
  /** there is something to send */
  onMoved(): void
  /** blocks are to be striped anew */
  onDissolved(): void
  clock: Clock
  log: Log
}

export interface RepairState {
  /** since it began: stripes of which an element was to be made again, and those done with */
  stripes: number
  done: number
  /** of elements that are still to be sent */
  bytes: number
  /** of the stripes that are left: those for whose element no partner is there that has room and none of the stripe yet, and those of which too
   * few partners are on line to make it again */
  noRoom: number
  noSource: number
  /** of which fewer elements are left than it takes, and whose blocks are not here */
  gone: number
}

const stripesAtOnce = 100
const mostUrgent = 1024
/** Moves to partners on line that are not acknowledged yet. */
const movesAtOnce = 32
const madeAtOnce = 4
/** Stripes dissolved in one round, and from one look at many stripes to the next. */
const dissolvedAtOnce = 8
const lookMs = 10_000
/** Partners may have come to have room. */
const lookAgainMs = 10 * 60_000

interface Found {
  urgent: RepairNeed[]
  /** stripes with an element to be made again, by number, with these elements' bytes */
  waiting: Map<number, number>
}

export class Mender {
  private found: Found
  private seen = ''
  private lookedAt = -Infinity
  private stuck = { noRoom: 0, noSource: 0, gone: 0 }
  private timer: Timer | undefined
  private readonly rounds: Rounds

  constructor(private readonly options: MenderOptions) {
    this.rounds = new Rounds(
      () => this.round(),
      (error) => {
        options.log.error({ err: asKithError(error) }, 'repair failed')
        this.again(lookAgainMs)
      },
    )
    this.found = { urgent: [], waiting: options.progress.waiting() }
  }

  /** Partners, stripes or acknowledgements are others than before. Cheap. */
  wake(): void {
    this.rounds.wake()
  }

  async stop(): Promise<void> {
    const stopped = this.rounds.stop()
    this.timer?.cancel()
    await stopped
  }

  /** Until nothing is under way; what was asked for by then is done. */
  settled(): Promise<void> {
    return this.rounds.settled()
  }

  state(): RepairState {
    const { waiting } = this.found
    const moving = this.options.stripes.moves.list().filter(({ number }) => !waiting.has(number))
    let bytes = 0
    for (const { number } of moving) bytes += this.options.stripes.get(number)?.elementBytes ?? 0
    for (const some of waiting.values()) bytes += some
    const { progress } = this.options
    const onTheirWay = new Set(moving.map(({ number }) => number))
    const stripes = progress.stripes + [...onTheirWay].filter((number) => !progress.has(number)).length
    return { stripes, done: stripes - onTheirWay.size - waiting.size, bytes, ...this.stuck }
  }

  /** Elements are on their way: what follows from a page made anew can wait for the next. */
  get isMoving(): boolean {
    return this.movesTo(this.options.partners() ?? []) > 0
  }

  private async round(): Promise<void> {
    const partners = this.options.partners()
    if (!partners) return
    if (this.options.stripes.isEmpty) this.found = { urgent: [], waiting: new Map() }
    const known = new Map(partners.map((partner) => [partner.id, partner]))
    if (this.isToLook(partners)) await this.look(known)
    while (!this.rounds.isStopped && this.found.urgent.length > 0) {
      const free = movesAtOnce - this.movesTo(partners)
      if (free <= 0) return
      await this.mend(this.found.urgent.splice(0, free), partners)
    }
    await this.end()
  }

  /** All that was found was tried. */
  private async end(): Promise<void> {
    const { stripes, progress } = this.options
    const isMoving = stripes.moves.list().length > 0
    if (this.timer) return
    const isStuck = this.stuck.noRoom + this.stuck.noSource > 0
    if (this.found.waiting.size > 0) this.again(isStuck ? lookAgainMs : lookMs)
    else if (!isMoving) await progress.end()
  }

  private again(ms: number): void {
    this.timer?.cancel()
    this.timer = this.options.clock.after(ms, () => {
      this.timer = undefined
      this.seen = ''
      this.wake()
    })
  }

  /** Not more often than every few seconds, however often partners come and go. */
  private isToLook(partners: readonly RepairPartner[]): boolean {
    const { clock } = this.options
    const facts = partners.map(({ id, state, online, gives, space }) =>
      [id, state, online, gives, space >= maxElementBytes].join(),
    )
    const { candidates, needs } = this.options.layout()
    const seen = [...facts.sort(), candidates.length >= needs, needs].join(' ')
    if (seen === this.seen) return false
    const left = this.lookedAt + lookMs - clock.monotonic()
    if (left > 0) {
      this.again(left)
      return false
    }
    this.seen = seen
    return true
  }

  private async look(known: ReadonlyMap<string, RepairPartner>): Promise<void> {
    const { stripes } = this.options
    const numbers = new Set<number>()
    for (const partner of stripes.partners()) {
      if (known.get(partner.toString('hex'))?.state === 'good') continue
      for (const number of stripes.livingAt(partner)) numbers.add(number)
    }
    const found: Found = { urgent: [], waiting: new Map() }
    let count = 0
    for (const number of numbers) {
      if (++count % stripesAtOnce === 0) await setImmediate()
      const stripe = stripes.get(number)
      const need = stripe && repairNeed(this.describe(stripe, true), known)
      if (!need || need.wanted.every(({ why }) => why === 'lacking')) continue
      found.waiting.set(number, need.wanted.length * need.stripe.bytes)
      found.urgent.push(need)
      if (found.urgent.length >= 2 * mostUrgent) cut(found)
    }
    cut(found)
    await this.options.progress.found(found.waiting)
    this.found = found
    this.stuck = { noRoom: 0, noSource: 0, gone: 0 }
    this.lookedAt = this.options.clock.monotonic()
  }

  private describe(stripe: NumberedStripe, isHere: boolean): RepairStripe {
    const { stripes, isBad } = this.options
    const moves = new Map(stripes.moves.of(stripe.number).map(({ index, to }) => [index, to]))
    const elements = stripe.shards.map(({ partner, name }, index) => {
      const to = moves.get(index)
      if (to) return { holder: to.partner.toString('hex'), state: 'sending' as const }
      const state = !stripes.isHeld(partner, name) ? 'sending' : isBad(partner, name) ? 'lacking' : 'held'
      return { holder: partner.toString('hex'), state } as const
    })
    const id = String(stripe.number)
    return { id, data: neededOf(stripe), bytes: stripe.elementBytes, isHere, elements }
  }

  private movesTo(partners: readonly RepairPartner[]): number {
    const online = new Set(partners.filter((one) => one.online).map(({ id }) => id))
    return this.options.stripes.moves.list().filter(({ to }) => online.has(to.partner.toString('hex'))).length
  }

  private async mend(needs: readonly RepairNeed[], partners: readonly RepairPartner[]): Promise<void> {
    const { stripes, isHere } = this.options
    const known = new Map(partners.map((partner) => [partner.id, partner]))
    const window: RepairStripe[] = []
    for (const {
      stripe: { id },
    } of needs) {
      const stripe = stripes.get(Number(id))
      const isAllHere = stripe?.blocks.every(({ name }) => isHere(name)) === true
      if (stripe) window.push(this.describe(stripe, isAllHere))
    }
    const plan = planRepair(window, partners, { ...repairDefaults, bytes: Infinity })
    this.stuck.noRoom += plan.noRoom
    this.stuck.noSource += plan.noSource
    this.stuck.gone += plan.gone.length
    const remakes = plan.remakes.filter(({ why }) => why !== 'lacking')
    for (let at = 0; at < remakes.length && !this.rounds.isStopped; at += madeAtOnce)
      await Promise.all(remakes.slice(at, at + madeAtOnce).map((remake) => this.carryOut(remake)))
    if (plan.noRoom > 0) await this.dissolve(window, known)
  }

  private async carryOut({ stripe: id, element, to, source }: Remake): Promise<void> {
    const { stripes, shards, reader, progress, onMoved } = this.options
    const stripe = stripes.get(Number(id))
    if (!stripe) return
    const partner = Buffer.from(to, 'hex')
    const shard =
      (await shards.one(stripe, element, partner)) ??
      (await reader.remake(stripe, element, { partner, isLost: source !== 'holder' }))
    if (!shard) this.stuck.noSource++
    if (!shard || this.rounds.isStopped) return
    shards.keepMoving(shard)
    if (!(await stripes.move(stripe.number, element, { partner, name: shard.name }))) return
    const left = (this.found.waiting.get(stripe.number) ?? 0) - stripe.elementBytes
    if (left > 0) this.found.waiting.set(stripe.number, left)
    else this.found.waiting.delete(stripe.number)
    await progress.made(stripe.number, left)
    onMoved()
  }

  /** What no other partner can take a part of, where new data is laid out over fewer. */
  private async dissolve(
    window: readonly RepairStripe[],
    known: ReadonlyMap<string, RepairPartner>,
  ): Promise<void> {
    const { stripes, layout, onDissolved } = this.options
    const { candidates, needs } = layout()
    if (candidates.length < Math.max(1, needs)) return
    let count = 0
    for (const { id } of window) {
      const stripe = stripes.get(Number(id))
      if (!stripe || count === dissolvedAtOnce) continue
      const now = this.describe(stripe, true)
      const isLost = repairNeed(now, known).wanted.some(({ why }) => why === 'lost')
      const holders = new Set(now.elements.map(({ holder }) => holder))
      if (!isLost || candidates.some((one) => !holders.has(one))) continue
      await stripes.dissolve(stripe)
      count++
    }
    if (count === 0) return
    onDissolved()
    this.again(lookMs)
  }
}

/** The most urgent ones. */
function cut(found: Found): void {
  found.urgent = found.urgent.sort(byUrgency).slice(0, mostUrgent)
}
