/** The system's clock, some times faster: for waits that are long and happen by the clock alone. */
import { systemClock, type Clock } from '../../lib/base/clock.js'

export function fastClock(times: number): Clock {
  return {
    now: () => systemClock.now(),
    monotonic: () => systemClock.monotonic() * times,
    after: (ms, run) => systemClock.after(ms / times, run),
  }
}

/** A clock whose wall time can be moved; its timers are real. */
export function movableClock(): Clock & { move(ms: number): void } {
  let ahead = 0
  return {
    now: () => systemClock.now() + ahead,
    monotonic: () => systemClock.monotonic(),
    after: (ms, run) => systemClock.after(ms, run),
    move(ms) {
      ahead += ms
    },
  }
}
