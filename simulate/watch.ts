/**
 * What a partner is to an owner, hour by hour, as planning/partner-state.ts has it, fast: thousands of partners go through the same
 * hours, so that each course of hours is stepped once and looked up from then on. A course begins at what decides it, which
 * leaves out when that was; times are put in when something else than an hour happens.
 */
import {
  newPartner,
  type PartnerEvent,
  type PartnerState,
  type PartnerTerms,
  step,
} from '../lib/planning/partner-state.js'

const hourMs = 3_600_000

interface Course {
  /** after 0, 1, 2, .. hours, with times that begin at 0 */
  readonly states: PartnerState[]
  /** hours after which the state is another, or settled */
  readonly turns: number[]
}

/** Of one set of terms. */
export class Courses {
  private readonly known = new Map<string, Course>()

  constructor(readonly terms: PartnerTerms) {}

  from({ state, online, missedMs, tries, graceMs, countedMs }: PartnerState): Course {
    const key = [state, online, missedMs, tries, graceMs, countedMs].join()
    let course = this.known.get(key)
    if (!course) {
      const first = { ...newPartner(0), state, online, missedMs, tries, graceMs, countedMs }
      this.known.set(key, (course = { states: [first], turns: [] }))
    }
    return course
  }

  after({ states, turns }: Course, hours: number): PartnerState {
    for (let last = states.at(-1); last && states.length <= hours; last = states.at(-1)) {
      const next = step(last, { kind: 'time', now: states.length * hourMs, ms: hourMs }, this.terms)
      if (next.state !== last.state || isSettled(next)) turns.push(states.length)
      states.push(next)
    }
    return states[hours] ?? newPartner(0)
  }

  /** How many of so many hours pass before one in which something happens. */
  quiet(course: Course, hours: number, most: number): number {
    this.after(course, hours + most)
    const turn = course.turns.find((at) => at > hours) ?? Infinity
    return Math.min(most, turn - hours - 1)
  }
}

function isSettled({ state, online, graceMs }: PartnerState): boolean {
  return state === 'good' && online && graceMs === 0
}

export class Watch {
  private base: PartnerState
  private course: Course | undefined
  private hours = 0
  private now: number

  constructor(
    private readonly courses: Courses,
    now: number,
  ) {
    this.base = step(newPartner(now), { kind: 'came', now }, courses.terms)
    this.now = now
  }

  get state(): PartnerState['state'] {
    return this.course ? this.courses.after(this.course, this.hours).state : this.base.state
  }

  get online(): boolean {
    return this.base.online
  }

  get known(): number {
    return this.base.known
  }

  /** Nothing changes while it stays on line: its hours need not be counted. */
  get isSettled(): boolean {
    const { base, course, now } = this
    return base.awayUntil <= now && isSettled(course ? this.courses.after(course, this.hours) : base)
  }

  /** One hour went by in which the owner was on line. */
  hour(now: number): void {
    this.now = now
    // Who announced to be away is neither missed nor judged.
    if (this.isExcused(now)) return
    // What an announced absence does otherwise depends on when it ends: no course is the same for others.
    if (this.isAnnounced(now)) return this.tell({ kind: 'time', now, ms: hourMs })
    this.course ??= this.courses.from(this.base)
    this.hours++
  }

  /**
   * Of these hours, from `at` on, as many as pass without anything that matters to others.
   * @returns how many
   */
  quietHours(times: readonly number[], at: number): number {
    let passed = 0
    const first = times[at]
    if (first !== undefined && this.isExcused(first))
      while (this.isAnnounced(times[at + passed] ?? Infinity)) passed++
    else if (first !== undefined && !this.isAnnounced(first)) {
      this.course ??= this.courses.from(this.base)
      passed = this.courses.quiet(this.course, this.hours, times.length - at)
      this.hours += passed
    }
    this.now = times[at + passed - 1] ?? this.now
    return passed
  }

  private isExcused(now: number): boolean {
    return this.isAnnounced(now) && !this.base.online && this.state === 'good'
  }

  /** Of the hour that ends now, a part was announced. */
  private isAnnounced(now: number): boolean {
    return now - hourMs < this.base.awayUntil
  }

  tell(event: PartnerEvent): void {
    this.base = step(this.whole(), event, this.courses.terms)
    this.now = event.now
    this.course = undefined
    this.hours = 0
  }

  /** As if each hour had been stepped by itself, but for `lastSeen` and `silentMs`, which decide nothing. */
  whole(): PartnerState {
    const { base, course, hours, now } = this
    if (!course) return base
    const then = this.courses.after(course, hours)
    const { state, missedMs, tries, graceMs, countedMs } = then
    const began = course.states.findIndex((other) => other.state === state)
    return {
      ...base,
      ...{ state, missedMs, tries, graceMs, countedMs },
      since: began === 0 ? base.since : now - (hours - began) * hourMs,
      reneged: base.reneged + then.reneged,
    }
  }
}
