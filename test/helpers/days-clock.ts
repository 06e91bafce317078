/** The system's time and what was added to it; its timers fire only while time is added. For what takes days. */
import { systemClock, type Clock } from '../../lib/base/clock.js'

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

  async pass(ms: number): Promise<void> {
    const end = this.#ahead + ms
    for (;;) {
      const next = this.#timers.filter(({ at }) => at <= end).sort((a, b) => a.at - b.at)[0]
      if (!next) break
      this.#timers = this.#timers.filter((other) => other !== next)
      this.#ahead = next.at
      next.run()
      await new Promise((resolve) => setImmediate(resolve))
    }
    this.#ahead = end
  }
}
