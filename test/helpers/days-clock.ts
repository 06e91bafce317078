/**
 * The system's time and what was added to it; its timers fire only while time is added. For what takes days: time is added in steps
 * of ten minutes, and a timer of a minute fires once in each.
 */
import { systemClock, type Clock } from '../../lib/base/clock.js'

const stepMs = 600_000

export class DaysClock implements Clock {
  #ahead = 0
  #timers: { at: number; run: () => void }[] = []
  now = () => systemClock.now() + this.#ahead
  monotonic = () => systemClock.monotonic() + this.#ahead

  after(ms: number, run: () => void) {
    const timer = { at: this.#ahead + ms, run }
    this.#timers.push(timer)
    return { cancel: () => (this.#timers = this.#timers.filter((other) => other !== timer)) }
  }

  /** At once, as when a machine slept: each timer that is due fires once. */
  leap(ms: number): Promise<void> {
    return this.pass(ms, ms)
  }

  async pass(ms: number, step = stepMs): Promise<void> {
    const end = this.#ahead + ms
    while (this.#ahead < end) {
      this.#ahead = Math.min(end, this.#ahead + step)
      const due = this.#timers.filter(({ at }) => at <= this.#ahead).sort((a, b) => a.at - b.at)
      for (const timer of due) {
        if (!this.#timers.includes(timer)) continue
        this.#timers = this.#timers.filter((other) => other !== timer)
        timer.run()
        await new Promise((resolve) => setImmediate(resolve))
      }
    }
  }
}
