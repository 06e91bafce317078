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

/** Hours of a course, one after the other, in which a partner is the same. */
interface Stage {
  readonly state: PartnerState['state']
  readonly tries: number
  readonly reneged: number
  /** hours after which that state was entered: with this stage or, where it is the same state settled, before */
  readonly began: number
  readonly isSettled: boolean
  /** hours after which the next begins; Infinity: not known yet */
  until: number
}

/** Of thousands of hours, thousands of times: only what differs is kept of each. */
interface Course {
  /** by hours, with times that begin at 0 */
  readonly stages: Stage[]
  readonly missedMs: number[]
  readonly graceMs: number[]
  readonly countedMs: number[]
  last: PartnerState
}

/** Of one set of terms. */
export class Courses {
  private static readonly all = new Map<string, Courses>()
  private readonly known = new Map<string, Course>()

  constructor(readonly terms: PartnerTerms) {}

  /** One for all simulations of this thread: what terms come to does not depend on who keeps to them. */
  static of(terms: PartnerTerms): Courses {
    const key = [terms.grace, terms.notice, terms.hours.toString('hex')].join()
    const courses = this.all.get(key) ?? new Courses(terms)
    this.all.set(key, courses)
    return courses
  }

  from({ state, online, missedMs, tries, graceMs, countedMs }: PartnerState): Course {
    const key = [state, online, missedMs, tries, graceMs, countedMs].join()
    let course = this.known.get(key)
    if (!course) {
      const first = { ...newPartner(0), state, online, missedMs, tries, graceMs, countedMs }
      course = { stages: [], missedMs: [], graceMs: [], countedMs: [], last: first }
      add(course, first)
      this.known.set(key, course)
    }
    return course
  }

  after(course: Course, hours: number): Stage {
    const { stages } = course
    while (stages.length <= hours) {
      const now = stages.length * hourMs
      add(course, step(course.last, { kind: 'time', now, ms: hourMs }, this.terms))
    }
    return stages[hours] ?? stageOf(course.last, 0)
  }

  /** How many of so many hours pass in that stage, of which `hours` is in it, before one in which something happens. */
  quiet(course: Course, stage: Stage, hours: number, most: number): number {
    if (stage.isSettled) return 0
    if (stage.until === Infinity) this.after(course, hours + most)
    return Math.min(most, stage.until - hours - 1)
  }
}

function add(course: Course, next: PartnerState): void {
  const { stages, missedMs, graceMs, countedMs } = course
  const before = stages.at(-1)
  const isSame = before?.state === next.state
  if (before && isSame && before.isSettled === isSettled(next)) stages.push(before)
  else {
    if (before) before.until = stages.length
    stages.push(stageOf(next, isSame ? before.began : stages.length))
  }
  missedMs.push(next.missedMs)
  graceMs.push(next.graceMs)
  countedMs.push(next.countedMs)
  course.last = next
}

function stageOf(partner: PartnerState, began: number): Stage {
  const { state, tries, reneged } = partner
  return { state, tries, reneged, began, isSettled: isSettled(partner), until: Infinity }
}

function isSettled({ state, online, graceMs }: PartnerState): boolean {
  return state === 'good' && online && graceMs === 0
}

export class Watch {
  private base: PartnerState
  private course: Course | undefined
  /** of the course, after `hours` */
  private stage: Stage | undefined
  private hours = 0
  private now: number
  /** of the base, which lies elsewhere in memory */
  private awayUntil: number
  online: boolean

  constructor(
    private readonly courses: Courses,
    now: number,
  ) {
    this.base = step(newPartner(now), { kind: 'came', now }, courses.terms)
    this.now = now
    this.online = this.base.online
    this.awayUntil = this.base.awayUntil
  }

  get state(): PartnerState['state'] {
    return this.stage ? this.stage.state : this.base.state
  }

  get known(): number {
    return this.base.known
  }

  /** Nothing changes while it stays on line: its hours need not be counted. */
  get isSettled(): boolean {
    const { awayUntil, base, stage, now } = this
    return awayUntil <= now && (stage ? stage.isSettled : isSettled(base))
  }

  /** One hour went by in which the owner was on line. */
  hour(now: number): void {
    this.now = now
    // Who announced to be away is neither missed nor judged.
    if (this.isExcused(now)) return
    // What an announced absence does otherwise depends on when it ends: no course is the same for others.
    if (this.isAnnounced(now)) return this.tell({ kind: 'time', now, ms: hourMs })
    this.course ??= this.courses.from(this.base)
    if (++this.hours >= (this.stage?.until ?? 0) || this.stage?.until === Infinity)
      this.stage = this.courses.after(this.course, this.hours)
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
      this.stage ??= this.courses.after(this.course, this.hours)
      passed = this.courses.quiet(this.course, this.stage, this.hours, times.length - at)
      this.hours += passed
    }
    this.now = times[at + passed - 1] ?? this.now
    return passed
  }

  private isExcused(now: number): boolean {
    return this.isAnnounced(now) && !this.online && this.state === 'good'
  }

  /** Of the hour that ends now, a part was announced. */
  private isAnnounced(now: number): boolean {
    return now - hourMs < this.awayUntil
  }

  tell(event: PartnerEvent): void {
    this.base = step(this.whole(), event, this.courses.terms)
    this.now = event.now
    this.online = this.base.online
    this.awayUntil = this.base.awayUntil
    this.course = this.stage = undefined
    this.hours = 0
  }

  /** As if each hour had been stepped by itself, but for `lastSeen` and `silentMs`, which decide nothing. */
  whole(): PartnerState {
    const { base, course, stage, hours, now } = this
    if (!course || !stage) return base
    return {
      ...base,
      state: stage.state,
      tries: stage.tries,
      missedMs: course.missedMs[hours] ?? 0,
      graceMs: course.graceMs[hours] ?? 0,
      countedMs: course.countedMs[hours] ?? 0,
      since: stage.began === 0 ? base.since : now - (hours - stage.began) * hourMs,
      reneged: base.reneged + stage.reneged,
    }
  }
}
