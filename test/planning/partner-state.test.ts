import t from 'tap'
import { seeded } from '../../lib/base/random.js'
import { parseWeek, weekBytes } from '../../lib/format/week.js'
import {
  awayLeft,
  awayMostMs,
  commitmentLeft,
  counts,
  dayMs,
  graceLeft,
  isAway,
  isExpected,
  isLost,
  newPartner,
  recordOf,
  step,
  type PartnerEvent,
  type PartnerState,
  type PartnerTerms,
} from '../../lib/planning/partner-state.js'
import { reliability } from '../../lib/planning/trust.js'

const hourMs = 3_600_000
const minuteMs = 60_000
/** Monday, 0 h UTC */
const monday = 1_699_833_600_000
const week = 7 * dayMs
const none = Buffer.alloc(weekBytes)
const terms = (change: Partial<PartnerTerms> = {}): PartnerTerms => ({
  hours: none,
  grace: 7 * 86_400,
  notice: 3 * 86_400,
  ...change,
})

/** One partner, its time, and what was seen of it. */
class Story {
  now = monday
  state: PartnerState
  /** ms in grace since the last agreement, and the states passed through */
  inGrace = 0
  way: string[] = []

  constructor(readonly terms: PartnerTerms) {
    this.state = newPartner(this.now)
  }

  tell(kind: Exclude<PartnerEvent['kind'], 'time' | 'away'>): this {
    return this.on({ kind, now: this.now })
  }

  away(ms: number): this {
    return this.on({ kind: 'away', now: this.now, until: this.now + ms })
  }

  /** Goes by in steps. */
  pass(ms: number, stepMs = 10 * minuteMs): this {
    for (let left = ms; left > 0; left -= stepMs) {
      const part = Math.min(left, stepMs)
      this.now += part
      const wasInGrace = this.state.state === 'grace'
      this.on({ kind: 'time', now: this.now, ms: part })
      if (wasInGrace) this.inGrace += part
    }
    return this
  }

  on(event: PartnerEvent): this {
    const before = this.state.state
    this.state = step(this.state, event, this.terms)
    if (this.state.state !== before) this.way.push(this.state.state)
    return this
  }
}

t.test(
  'who is out of reach is late, then in grace, and reneges at its end; coming back before it changes nothing',
  (t) => {
    const story = new Story(terms()).tell('came').pass(dayMs).tell('went')
    t.equal(story.pass(23 * hourMs).state.state, 'good')
    t.equal(story.pass(hourMs).state.state, 'late')
    t.equal(story.pass(hourMs).state.state, 'grace')
    t.ok(counts(story.state))
    t.equal(story.pass(7 * dayMs - hourMs).state.state, 'grace')
    t.equal(graceLeft(story.state, story.terms), hourMs)
    t.equal(story.tell('came').state.state, 'good', 'back within its grace')
    t.equal(recordOf(story.state, story.now).reneged, 0)

    t.equal(story.pass(2 * dayMs).state.graceMs, 0, 'what it used comes back')
    story.tell('went').pass(dayMs + hourMs + 7 * dayMs - minuteMs, minuteMs)
    t.equal(story.state.state, 'grace')
    t.equal(story.pass(minuteMs).state.state, 'reneged')
    t.notOk(counts(story.state))
    t.ok(isLost(story.state))
    t.equal(story.tell('came').state.state, 'reneged', 'to be here is not enough any more')
    t.equal(story.tell('passed').state.state, 'good', 'it has the data after all')
    t.match(recordOf(story.state, story.now), { reneged: 1, kept: 0 })
    t.equal(
      story
        .tell('went')
        .pass(40 * dayMs)
        .tell('ended').state.state,
      'gone',
    )
    t.equal(story.tell('agreed').state.state, 'good')
    t.ok(reliability(recordOf(story.state, story.now)) < reliability({ kept: 0, reneged: 0, days: 0 }))
    t.end()
  },
)

t.test('audits: three in a row begin the grace, being here does not end it, a passed one does', (t) => {
  const story = new Story(terms()).tell('came').tell('unanswered')
  t.equal(story.state.state, 'late')
  t.equal(story.tell('passed').state.state, 'good', 'a retry is enough')
  story.tell('failed').tell('unanswered')
  t.equal(story.state.state, 'late')
  t.equal(story.tell('unanswered').state.state, 'grace')
  t.equal(story.tell('went').tell('came').state.state, 'grace')
  t.equal(story.pass(6 * dayMs).tell('passed').state.state, 'good')
  for (let i = 0; i < 3; i++) story.tell('unanswered')
  t.equal(story.pass(7 * dayMs).state.state, 'reneged', 'on line the whole time')
  t.equal(story.state.faults, 1)
  t.end()
})

t.test('the end of an agreement: leaving for the notice, then gone; kept', (t) => {
  const story = new Story(terms()).tell('came').pass(20 * dayMs)
  t.equal(recordOf(story.state, story.now).kept, 1, 'one that stands long enough')
  t.equal(story.tell('ended').state.state, 'leaving')
  t.notOk(counts(story.state))
  t.notOk(isLost(story.state))
  t.equal(
    story
      .tell('passed')
      .tell('failed')
      .tell('went')
      .pass(3 * dayMs - hourMs).state.state,
    'leaving',
  )
  t.equal(story.pass(hourMs).state.state, 'gone')
  t.same({ ...recordOf(story.state, story.now) }, { kept: 1, reneged: 0, days: 23 })
  t.end()
})

t.test('a clock that jumps, and our own absence, cost a partner nothing', (t) => {
  const story = new Story(terms()).tell('came').tell('went')
  for (const jump of [500 * dayMs, -900 * dayMs, 70 * dayMs]) {
    story.now += jump
    story.on({ kind: 'time', now: story.now, ms: minuteMs })
    t.equal(story.state.state, 'good')
  }
  story.on({ kind: 'time', now: story.now, ms: 30 * dayMs })
  t.equal(story.state.missedMs, 3 * minuteMs + hourMs, 'one step counts for an hour at most')

  const morning = new Story(terms({ hours: parseWeek('mon 8-9') })).tell('came').tell('went')
  t.equal(morning.pass(8 * hourMs, hourMs).state.missedMs, 0, 'the step to 8 h is from before it')
  t.equal(morning.pass(10 * minuteMs).state.missedMs, 10 * minuteMs)
  t.end()
})

t.test('announced absences are 90 days a year at most', (t) => {
  const story = new Story(terms())
    .tell('came')
    .away(60 * dayMs)
    .tell('went')
  t.equal(story.pass(60 * dayMs).state.state, 'good')
  t.equal(awayLeft(story.state, story.now), 30 * dayMs)
  story
    .tell('came')
    .away(60 * dayMs)
    .tell('went')
  t.equal(story.state.awayUntil - story.now, 30 * dayMs)
  t.equal(story.pass(30 * dayMs).state.state, 'good')
  t.equal(story.pass(8 * dayMs + 2 * hourMs).state.state, 'reneged', 'then it counts')

  const early = new Story(terms())
    .tell('came')
    .away(50 * dayMs)
    .pass(10 * dayMs)
    .away(0)
  t.equal(early.state.awayUntil, 0)
  t.equal(awayLeft(early.state, early.now), awayMostMs - 10 * dayMs, 'what it did not need is given back')
  early
    .tell('failed')
    .tell('failed')
    .tell('failed')
    .away(5 * dayMs)
  t.notOk(isAway(early.state, early.now), 'it excuses nobody from audits that were not passed')
  t.end()
})

t.test('seeded: within its hours, and with a day here in five, nobody is ever late or lost', (t) => {
  for (let seed = 1; seed <= 40; seed++) {
    const next = seeded(seed)
    const start = next() % 20
    const hours = parseWeek(`mon-fri ${start}-${start + 2 + (next() % 3)}, sun 3-4`)
    const story = new Story(terms({ hours, grace: 86_400 + (next() % week) / 1000 }))
    let isHere = false
    for (let n = 0; n < 4 * 7 * 24 * 4; n++) {
      story.pass((5 + (next() % 10)) * minuteMs)
      // Comes a few minutes after the hour begins, at times also when it need not.
      const isDue = isExpected(story.state, hours, story.now) || next() % 50 === 0
      if (isDue !== isHere) story.tell(isDue ? 'came' : 'went')
      isHere = isDue
      if (isHere && next() % 100 === 0) story.tell('passed')
    }
    if (story.way.length > 0) t.fail(`seed ${seed}: ${story.way.join(' ')}`)
  }
  for (let seed = 1; seed <= 10; seed++) {
    const next = seeded(seed)
    const story = new Story(terms())
    for (let n = 0; n < 60; n++) {
      const away = (next() % 5) * dayMs + hourMs
      story
        .tell('went')
        .pass(away, hourMs)
        .tell('came')
        .pass(Math.ceil(away / 4 / hourMs) * hourMs, hourMs)
    }
    if (story.way.includes('reneged')) t.fail(`seed ${seed}: ${story.way.join(' ')}`)
  }
  t.end()
})

t.test('who shows up shortly before each grace ends does not get far', (t) => {
  const story = new Story(terms())
  let days = 0
  for (; days < 365 && story.state.state !== 'reneged'; days += 8)
    story
      .tell('went')
      .pass(8 * dayMs - hourMs, hourMs)
      .tell('came')
      .pass(hourMs)
  t.ok(days <= 24, `${days} days`)
  t.end()
})

t.test(
  'seeded: nobody reneges but after the whole grace, in an hour that it promised, and not while it is announced away',
  (t) => {
    const ends = new Map<string, number>()
    let away = 0
    for (let seed = 1; seed <= 300; seed++) {
      const next = seeded(seed)
      const hours = next() % 2 === 0 ? none : parseWeek('mon-sat 8-12')
      const story = new Story(terms({ hours, grace: 86_400 * (1 + (next() % 5)) }))
      const { grace } = story.terms
      for (let n = 0; n < 400; n++) {
        const before = story.state
        const kinds = ['came', 'went', 'went', 'went', 'passed', 'failed', 'unanswered'] as const
        const kind = kinds[next() % 40]
        if (kind) story.tell(kind)
        else if (next() % 60 === 0) story.away((next() % 20) * dayMs)
        else if (next() % 400 === 0) story.tell('ended')
        else if (next() % 100 === 0) story.tell('agreed')
        else story.pass(minuteMs * (1 + (next() % 400)), hourMs)
        const { state } = story
        if (before.state !== state.state) ends.set(state.state, (ends.get(state.state) ?? 0) + 1)
        if (isAway(state, story.now)) away++
        if (state.state === 'reneged' && before.state !== 'reneged') {
          if (story.inGrace < grace * 1000) t.fail(`seed ${seed}: after ${story.inGrace} of ${grace}`)
          if (!isExpected(state, hours, state.since)) t.fail(`seed ${seed}: reneged when it was not due`)
          if (!story.way.join(' ').includes('late grace reneged')) t.fail(`seed ${seed}: no warning`)
          if (state.reneged !== before.reneged + 1) t.fail(`seed ${seed}: not on the record`)
          story.inGrace = 0
        }
        if (before.state === 'gone' && state.state !== 'gone' && state.state !== 'good')
          t.fail(`seed ${seed}`)
        if (before.state === 'leaving' && !['leaving', 'gone', 'good'].includes(state.state))
          t.fail(`seed ${seed}`)
        if (awayLeft(state, story.now) < 0) t.fail(`seed ${seed}: more than 90 days`)
      }
    }
    t.ok(away > 1000)
    for (const name of ['good', 'late', 'grace', 'reneged', 'leaving', 'gone'])
      t.ok((ends.get(name) ?? 0) > 5, `${name}: ${ends.get(name) ?? 0} times`)
    t.end()
  },
)

t.test('the commitment of a fresh agreement', (t) => {
  t.equal(commitmentLeft(monday, 0, monday), 0)
  t.equal(commitmentLeft(monday, 3600, monday + minuteMs), 59 * minuteMs)
  t.equal(commitmentLeft(monday, 3600, monday + hourMs), 0)
  t.equal(commitmentLeft(monday, 3600, monday - 9 * dayMs), hourMs, 'a clock set back')
  t.end()
})
