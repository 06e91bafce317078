/**
 * The upkeep loop: what a daemon does by itself, by the clock. `dueTasks` is pure: from what is known and the time to
 * what is due. Each task runs alone, off the loop; one that fails is logged and tried again after `retryMs`.
 *
 * Times are by the monotonic clock, so that a jump of the wall clock neither floods nor starves anything; each task is
 * due a first time `firstMs` after the daemon's start.
 */
import type { Clock, Timer } from '../base/clock.js'
import { asKithError } from '../base/errors.js'
import type { Log } from '../base/log.js'

export interface Task {
  name: string
  /** first run after the start */
  firstMs: number
  /** from one run to the next */
  everyMs: number
  /** false: nothing to do now, asked again at the next tick */
  wanted(): boolean
  run(): Promise<void>
}

/** When a task ran last, in ms of the monotonic clock. */
export interface Past {
  started: number
  lastRun?: number
  lastFailed?: number
  running: boolean
}

const tickMs = 5000
const retryMs = 60_000

/** Whether the task is due. Pure. */
export function isDue(task: Pick<Task, 'firstMs' | 'everyMs'>, past: Past, now: number): boolean {
  if (past.running) return false
  if (past.lastFailed !== undefined) return now >= past.lastFailed + retryMs
  if (past.lastRun !== undefined) return now >= past.lastRun + task.everyMs
  return now >= past.started + task.firstMs
}

export class Upkeep {
  #clock: Clock
  #log: Log
  #tasks: { task: Task; past: Past }[] = []
  #timer: Timer | undefined
  #running = new Set<Promise<void>>()
  #stopped = false

  constructor(clock: Clock, log: Log) {
    this.#clock = clock
    this.#log = log
    this.#tick()
  }

  add(task: Task): void {
    this.#tasks.push({ task, past: { started: this.#clock.monotonic(), running: false } })
  }

  remove(name: string): void {
    this.#tasks = this.#tasks.filter(({ task }) => task.name !== name)
  }

  /** Starts nothing more, and waits for what runs. */
  async stop(): Promise<void> {
    this.#stopped = true
    this.#timer?.cancel()
    await Promise.all(this.#running)
  }

  #tick(): void {
    if (this.#stopped) return
    const now = this.#clock.monotonic()
    for (const { task, past } of this.#tasks) {
      if (!isDue(task, past, now) || !task.wanted()) continue
      const run = this.#run(task, past).finally(() => this.#running.delete(run))
      this.#running.add(run)
    }
    this.#timer = this.#clock.after(tickMs, () => this.#tick())
  }

  async #run(task: Task, past: Past): Promise<void> {
    past.running = true
    try {
      await task.run()
      delete past.lastFailed
      past.lastRun = this.#clock.monotonic()
    } catch (error) {
      past.lastFailed = this.#clock.monotonic()
      const { code, message } = asKithError(error)
      this.#log.warn({ task: task.name, code, message }, 'upkeep task failed')
    } finally {
      past.running = false
    }
  }
}
