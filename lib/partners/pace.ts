/**
 * How fast blocks go out to all partners together, when the user set a bound: a debt in bytes, paid off by time. Who wants to
 * send waits until nothing is owed, in the order of asking, and then owes what it sends. The bound is read anew at least
 * once a second, so that a timetable and a change by the user take effect at once.
 *
 * Only what goes on top of this is paced: a partner that is slow to take what was sent holds up nobody else.
 */
import type { Clock } from '../base/clock.js'

/** Of the second: what is sent in one go at most, so that others on the line get their turns. */
const portionOfSecond = 0.25
const leastPortion = 64 * 1024
const lookAgainMs = 1000

export class Pace {
  /** bytes that were sent and are not paid off */
  private debt = 0
  private at: number
  private turn: Promise<unknown> = Promise.resolve()
  private wakeUp: (() => void) | undefined

  /** @param rate bytes a second that may go out now; undefined: as fast as it goes */
  constructor(
    private readonly clock: Clock,
    private readonly rate: () => number | undefined,
  ) {
    this.at = clock.monotonic()
  }

  /** Bytes that are to be sent in one go, at most; a larger block goes by itself. */
  get portion(): number {
    const rate = this.rate()
    return rate === undefined ? Infinity : Math.max(leastPortion, rate * portionOfSecond)
  }

  /** Resolves when these bytes may go out, or when there is nobody left who would send them. */
  take(bytes: number, isGone: () => boolean): Promise<void> {
    const done = this.turn.then(() => this.wait(bytes, isGone))
    this.turn = done
    return done
  }

  /** Who waits looks again whether it is gone. */
  wake(): void {
    this.wakeUp?.()
  }

  private async wait(bytes: number, isGone: () => boolean): Promise<void> {
    while (!isGone()) {
      const rate = this.rate()
      const now = this.clock.monotonic()
      this.debt = rate === undefined ? 0 : Math.max(0, this.debt - ((now - this.at) / 1000) * rate)
      this.at = now
      if (rate === undefined) return
      if (this.debt === 0) {
        this.debt = bytes
        return
      }
      const ms = Math.min(lookAgainMs, Math.ceil((this.debt / rate) * 1000))
      await new Promise<void>((resolve) => {
        const timer = this.clock.after(ms, resolve)
        this.wakeUp = () => {
          timer.cancel()
          resolve()
        }
      })
      this.wakeUp = undefined
    }
  }
}
