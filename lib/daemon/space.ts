/**
 * The room that blocks take here: brought down to the budget by evicting what enough partners hold (store/evict.ts), and told.
 *
 * When what is left above the budget is not yet with partners, or not with enough of them, nothing more can go. Then
 * the intake slows, which status says: files that change are not read ahead of snapshots, and snapshots by interval are
 * taken a quarter as often, so that fewer short-lived versions need room. Nobody's write waits for any of this, and a
 * snapshot that is asked for is taken.
 */
import { setImmediate } from 'node:timers/promises'
import type { Log } from '../base/log.js'
import type { Partners } from '../partners/partners.js'
import { evict } from '../store/evict.js'
import type { Store } from '../store/store.js'
import type { Params } from './api.js'
import type { SpaceStatus } from './api-space.js'
import type { Config } from './config.js'

/** It comes down to so much of the budget, so that there is room for what comes next. */
const downTo = 0.9
/** Snapshots by interval are so much rarer while the intake is slow. */
export const slowdown = 4
const rowsAtOnce = 1000
const toldExceptions = 10_000

export class Space {
  /** Above the budget, and nothing more can go. */
  #isFull = false
  /** What was so when a run could free nothing: another would not either. */
  #fruitless = ''
  #thin = { key: '', bytes: 0 }

  constructor(
    private readonly store: Store,
    private readonly partners: Partners,
    private readonly config: Config,
    private readonly log: Log,
  ) {}

  get isFull(): boolean {
    return this.#isFull
  }

  /** Whether as many partners as are asked for hold the block. */
  isSafe(sequence: number, name: Buffer): boolean {
    return this.partners.keepers.of(sequence, name) >= this.config.settings.copies
  }

  /** Whether chunks that come from partners for a moment may stay. */
  get hasRoom(): boolean {
    return this.#budget === Infinity || this.store.blocks.bytesOnDisk < this.#budget
  }

  get isWanted(): boolean {
    if (this.store.blocks.bytesOnDisk > this.#budget) return this.#state() !== this.#fruitless
    this.#isFull = false
    return false
  }

  async run(signal: AbortSignal): Promise<void> {
    const { blocks } = this.store
    const before = this.#state()
    const canAny = this.partners.keepers.floor(this.config.settings.copies) > 0
    const target = canAny ? Math.floor(this.#budget * downTo) : Infinity
    const isSafe = (sequence: number, name: Buffer) => this.isSafe(sequence, name)
    const { bytesFreed, ...evicted } = await evict(blocks, { target, isSafe, signal })
    if (evicted.blocks > 0) this.log.info({ ...evicted, bytesFreed }, 'evicted what partners hold')
    const wasFull = this.#isFull
    this.#isFull = blocks.bytesOnDisk > this.#budget
    this.#fruitless = bytesFreed === 0 && this.#isFull ? before : ''
    if (this.#isFull && !wasFull) this.log.warn({ budget: this.#budget }, fullText)
  }

  /** Tells, and sets when asked to. */
  async set({ bytes, copies }: Params<'budget'>): Promise<SpaceStatus> {
    if (bytes !== undefined) this.config.set({ storeBudgetBytes: bytes })
    if (copies !== undefined) this.config.set({ copies })
    this.#fruitless = ''
    return this.status()
  }

  async status(): Promise<SpaceStatus> {
    const { blocks } = this.store
    const { storeBudgetBytes, copies } = this.config.settings
    return {
      bytesHere: blocks.bytesOnDisk,
      bytesBudget: storeBudgetBytes,
      copies,
      bytesEvicted: blocks.evicted.bytes,
      bytesThin: await this.#thinBytes(),
      full: this.#isFull,
    }
  }

  /** What is wrong, each one line. */
  problems({ bytesThin, copies }: SpaceStatus): string[] {
    const problems = []
    if (this.#isFull) problems.push(fullText)
    if (bytesThin > 0)
      problems.push(
        `${Math.ceil(bytesThin / 2 ** 20)} MiB that are not kept here any more are with fewer than ${copies} good partners: ` +
          'bring them on line, or invite another',
      )
    return problems
  }

  get #budget(): number {
    return this.config.settings.storeBudgetBytes ?? Infinity
  }

  /** A run does the same while this is the same. */
  #state(): string {
    const { keepers } = this.partners
    const { copies } = this.config.settings
    return [
      this.store.blocks.bytesOnDisk,
      this.#budget,
      copies,
      keepers.floor(copies),
      keepers.version,
    ].join()
  }

  /** Of evicted blocks, the bytes that fewer partners hold than are asked for. */
  async #thinBytes(): Promise<number> {
    const { blocks } = this.store
    const { evicted } = blocks
    const { keepers } = this.partners
    const { copies } = this.config.settings
    if (evicted.blocks === 0) return 0
    if (keepers.count < copies) return evicted.bytes
    const floor = keepers.floor(copies)
    const key = [evicted.blocks, evicted.bytes, floor, keepers.version, keepers.count].join()
    if (this.#thin.key !== key)
      this.#thin = { key, bytes: (await this.#evictedAbove(floor)) + (await this.#thinlyStriped(floor)) }
    const lacked = new Map(
      keepers.exceptions(toldExceptions).map((name) => [name.toString('latin1'), Buffer.from(name)]),
    )
    let { bytes } = this.#thin
    for (const name of lacked.values()) {
      const sequence = blocks.sequence(name)
      if (sequence === undefined || sequence > floor || blocks.isHere(name)) continue
      if (keepers.of(sequence, name) < copies) bytes += blocks.size(name) ?? 0
    }
    return bytes
  }

  /** Of what lies in stripes, up to that number. */
  async #thinlyStriped(floor: number): Promise<number> {
    const { blocks } = this.store
    let bytes = 0
    for (const name of await this.partners.keepers.thin(this.config.settings.copies)) {
      const sequence = blocks.sequence(name)
      if (sequence !== undefined && sequence <= floor && !blocks.isHere(name)) bytes += blocks.size(name) ?? 0
    }
    return bytes
  }

  async #evictedAbove(sequence: number): Promise<number> {
    const { blocks } = this.store
    let bytes = 0
    for (let at = sequence; ;) {
      const rows = blocks.since(at, rowsAtOnce)
      const last = rows.at(-1)
      if (!last) return bytes
      for (const { sequence: at, name, bytes: size } of rows)
        if (!blocks.isHere(name) && !this.isSafe(at, name)) bytes += size
      at = last.sequence
      await setImmediate()
    }
  }
}

const fullText =
  'the budget for blocks kept here is full of what partners do not hold yet: changed files are backed up more slowly; ' +
  'bring partners on line, or raise it by kith budget'
