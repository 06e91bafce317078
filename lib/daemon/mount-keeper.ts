/**
 * Brings a mount back whose kith-fuse has died. The first try comes at once; while kith-fuse goes on dying soon after, or
 * cannot be started at all, the tries come ever more rarely, so that a crash loop costs nothing. Whether and when is
 * decided here, by the clock; how is `again`, which the volume gives.
 *
 * A row of failures ends when a mount has lasted for `steadyMs`, or when a person mounts.
 */
import type { Clock, Timer } from '../base/clock.js'
import { asKithError, type KithError } from '../base/errors.js'
import type { Log } from '../base/log.js'

/** A mount that lasts so long is sound again. */
export const steadyMs = 5 * 60_000
const firstPauseMs = 250
const longestPauseMs = 15 * 60_000
/** From so many failures in a row on, a person should look at it. */
const manyFailures = 4

/** How long to wait before the next try, after so many failures in a row. Pure. */
export function pauseBefore(failures: number): number {
  if (failures <= 2) return 0
  return Math.min(firstPauseMs * 2 ** Math.min(failures - 3, 30), longestPauseMs)
}

export interface MountKeeperOptions {
  dir(): string
  clock: Clock
  log: Log
  /** mounts, or joins a kith-fuse that lives after all; then calls mounted() */
  again(): Promise<void>
  /** before a pause: takes a dead mount away, so that the plain files can be reached meanwhile */
  clear(): Promise<void>
}

export class MountKeeper {
  #options: MountKeeperOptions
  /** deaths of kith-fuse and tries that failed, in a row */
  #failures = 0
  /** monotonic: since when it is mounted, when the next try comes */
  #mountedAt: number | undefined
  #nextAt = 0
  #timer: Timer | undefined
  #running: Promise<void> | undefined
  /** why the last try failed */
  #why: KithError | undefined
  #wanted = false

  constructor(options: MountKeeperOptions) {
    this.#options = options
  }

  /** Whether it is trying. */
  get busy(): boolean {
    return this.#wanted
  }

  /** It is mounted now. */
  mounted(): void {
    this.#mountedAt = this.#options.clock.monotonic()
    this.#why = undefined
    this.#wanted = false
    this.#timer?.cancel()
  }

  /** kith-fuse has died, or what is to be mounted is not: tries until it is mounted or cancelled. */
  lost(): void {
    const { clock } = this.#options
    if (this.#mountedAt !== undefined && clock.monotonic() - this.#mountedAt >= steadyMs) this.#failures = 0
    this.#mountedAt = undefined
    this.#wanted = true
    // A try at work counts it when it ends.
    if (!this.#running) this.#failed()
  }

  /** No more tries; resolves when the one at work has ended, however it ended. */
  async cancel(): Promise<void> {
    this.#wanted = false
    this.#timer?.cancel()
    await this.#running
  }

  /** Forgets former failures: a person has taken it in hand. */
  forget(): void {
    this.#failures = 0
    this.#why = undefined
  }

  /** Resolves when the try at work, if any, has ended. */
  async settled(): Promise<void> {
    await this.#running
  }

  /** What a person should know, each one line. */
  get problems(): string[] {
    const { clock } = this.#options
    const dir = this.#options.dir()
    const often = `kith-fuse, which serves ${dir}, has died or failed ${this.#failures} times in a row (see fuse.log)`
    if (this.#wanted) {
      const seconds = Math.max(1, Math.ceil((this.#nextAt - clock.monotonic()) / 1000))
      const next = `the next try is in ${seconds} s, or now by: kith mount ${dir}`
      if (this.#why) return [`${dir} could not be mounted again: ${this.#why.message}; ${next}`]
      if (this.#failures >= manyFailures) return [`${often}; ${next}`]
      return [`kith-fuse, which serves ${dir}, has died; ${dir} is being mounted again`]
    }
    const shaky =
      this.#mountedAt !== undefined &&
      clock.monotonic() - this.#mountedAt < steadyMs &&
      this.#failures >= manyFailures
    return shaky ? [`${often}; it is mounted again`] : []
  }

  #failed(): void {
    const { clock, log } = this.#options
    this.#failures++
    const pause = pauseBefore(this.#failures)
    this.#nextAt = clock.monotonic() + pause
    if (this.#failures >= manyFailures)
      log.error({ failures: this.#failures, nextInMs: pause }, 'kith-fuse fails again and again')
    this.#timer?.cancel()
    if (pause === 0) return this.#try()
    this.#timer = clock.after(pause, () => this.#try())
    const clearing = this.#options.clear().finally(() => {
      if (this.#running === clearing) this.#running = undefined
    })
    this.#running = clearing
  }

  #try(): void {
    const { again, log } = this.#options
    const before = this.#running
    const trying = Promise.resolve(before)
      .then(again)
      .catch((error: unknown) => {
        this.#why = asKithError(error)
        log.warn({ code: this.#why.code, message: this.#why.message }, 'mounting again failed')
      })
      .finally(() => {
        this.#running = undefined
        if (this.#wanted) this.#failed()
      })
    this.#running = trying
  }
}
