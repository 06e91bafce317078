/** The only place where time is read. Everything else is given a Clock, so that tests and simulations own the time. */

export interface Timer {
  cancel(): void
}

export interface Clock {
  /** Wall clock, milliseconds since 1970-01-01 UTC. May jump in either direction. */
  now(): number
  /** Milliseconds since some fixed instant; never goes back. For durations and deadlines. */
  monotonic(): number
  /** Calls `run` once after `ms`. The timer does not keep the process alive. */
  after(ms: number, run: () => void): Timer
}

export const systemClock: Clock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  after(ms, run) {
    const timer = setTimeout(run, ms)
    timer.unref()
    return { cancel: () => clearTimeout(timer) }
  },
}

/** Resolves after `ms` by the clock. */
export function sleep(clock: Clock, ms: number): Promise<void> {
  return new Promise((resolve) => {
    clock.after(ms, resolve)
  })
}
