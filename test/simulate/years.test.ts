import t from 'tap'
import { seeded } from '../../lib/base/random.js'
import { weekBytes } from '../../lib/format/week.js'
import { newPartner, type PartnerEvent, type PartnerState, step } from '../../lib/planning/partner-state.js'
import { repairDefaults } from '../../lib/planning/repair.js'
import { isInside, simulateInstants } from '../../simulate/instants.js'
import { dayMs, Node, yearMs } from '../../simulate/lives.js'
import { simulateStrategy, strategies } from '../../simulate/strategies.js'
import { Courses, Watch } from '../../simulate/watch.js'
import { simulateYears, type YearsOptions } from '../../simulate/years.js'

const hourMs = 3_600_000

/** What the next state follows from. */
function deciding({ lastSeen: _lastSeen, silentMs: _silentMs, ...rest }: PartnerState): object {
  return rest
}
const scaledDown: YearsOptions = {
  owners: 60,
  forMs: 2 * yearMs,
  seed: 5,
  failures: 0.3,
  availability: 0.9,
  sites: 12,
  disasters: 0.02,
  shape: { data: 3, parity: 3 },
  graceDays: 30,
  auditHours: 24,
  atOnce: repairDefaults.atOnce,
}

t.test('with repair nothing is lost in years, without it most is', (t) => {
  const found = simulateYears(scaledDown)
  t.equal(found.stripes, 240)
  t.equal(found.lost, 0)
  t.ok(found.sent > 0.3 && found.sent < 1.5, `${found.sent} of its data is sent in a year`)
  t.ok(found.outOfReach / found.looks < 0.01, `${found.outOfReach} of ${found.looks} times out of reach`)
  t.ok(found.evicted.failed > 50, 'who fails is given up')
  t.ok(found.evicted.wrongly / found.pairYears <= 0.001, `${found.evicted.wrongly} wrongly`)
  const brief = { ...scaledDown, forMs: yearMs / 4 }
  t.same(simulateYears(brief), simulateYears(brief), 'the same from the same seed')

  const idle = simulateYears({ ...scaledDown, isIdle: true })
  t.ok(idle.lost > 30, `${idle.lost} of 240 lost without repair`)
  t.equal(idle.sent, 0)
  t.ok(idle.lostBy.length === 2 && (idle.lostBy[0] ?? 1) < (idle.lostBy[1] ?? 0))
  t.end()
})

t.test('settings do what they are for', (t) => {
  const one = { ...scaledDown, shape: { data: 2, parity: 1 } }
  const patient = simulateYears({ ...one, atOnce: () => 0 })
  const hasty = simulateYears(one)
  t.ok(hasty.lost < patient.lost, `${hasty.lost} lost with repair at once, ${patient.lost} without`)
  t.ok(hasty.sent > patient.sent && hasty.inVain > patient.inVain, 'which costs traffic')
  const short = simulateYears({ ...one, graceDays: 5 })
  t.ok(
    short.evicted.overlong > 5 * patient.evicted.overlong,
    'who is on holiday is given up after a short grace',
  )
  t.ok(short.evicted.wrongly / short.pairYears <= 0.001)
  t.end()
})

t.test('of a stripe, a disaster takes few elements where placement knows of sites', (t) => {
  const shape = { data: 6, parity: 3 }
  const options = { ...scaledDown, seed: 2, forMs: yearMs, failures: 0.2, disasters: 0.2, shape }
  const knowing = simulateYears(options)
  const blind = simulateYears({ ...options, isBlind: true })
  t.ok(knowing.worstDisaster < blind.worstDisaster, `${knowing.worstDisaster}, not ${blind.worstDisaster}`)
  t.ok(knowing.worstDisaster <= 3 && knowing.worstDisaster > 0)
  t.end()
})

t.test('time out of reach is as the closed form has it', (t) => {
  const shapes = [
    { data: 2, parity: 1 },
    { data: 6, parity: 3 },
    { data: 1, parity: 2 },
  ]
  const all = [1, 2, 3, 4].flatMap((seed) =>
    [0.7, 0.9].flatMap((availability) =>
      simulateInstants({ shapes, availability, seed, nodes: 300, looks: 3000 }),
    ),
  )
  t.ok(all.filter(isInside).length >= 21, `${all.filter(isInside).length} of 24 are inside 95 %`)
  const wrong = all.map((found) => ({ ...found, expected: found.expected * 1.3 }))
  t.ok(wrong.filter(isInside).length < 18, 'which others are not')
  t.end()
})

t.test('a node is on line as much as it is to be, and away as it says', (t) => {
  let [online, looks] = [0, 0]
  for (let n = 0; n < 60; n++) {
    const forMs = 4 * yearMs
    const node = new Node(
      n,
      0,
      0,
      { forMs, seed: 1, failures: 0, availability: 0.7, sites: 1, disasters: 0 },
      Infinity,
    )
    for (let now = 0; now < forMs; now += 7 * hourMs, looks++) if (node.isOnline(now)) online++
    const absence = node.absences[0]
    if (absence && (!node.isAway(absence.from) || node.isAway(absence.until))) t.fail('away as it says')
  }
  t.ok(Math.abs(online / looks - 0.7) < 0.02, `${online / looks}`)
  t.end()
})

t.test('hours that are looked up are those that are stepped', (t) => {
  const terms = { hours: Buffer.alloc(weekBytes), grace: 10 * 86_400, notice: 5 * 86_400 }
  const courses = new Courses(terms)
  for (let seed = 1; seed <= 10; seed++) {
    const random = seeded(seed)
    const watch = new Watch(courses, 0)
    let plain = step(newPartner(0), { kind: 'came', now: 0 }, terms)
    let now = 0
    const both = (event: PartnerEvent) => {
      plain = step(plain, event, terms)
      watch.tell(event)
    }
    for (let turn = 0; turn < 30; turn++) {
      const times = Array.from({ length: random() % 400 }, () => (now += hourMs))
      for (let i = 0; i < times.length; i += watch.quietHours(times, i)) watch.hour(times[i++] ?? 0)
      for (const at of times) plain = step(plain, { kind: 'time', now: at, ms: hourMs }, terms)
      const [looked, known] = [deciding(watch.whole()), deciding(plain)]
      if (JSON.stringify(looked) !== JSON.stringify(known))
        t.same(looked, known, `seed ${seed}, turn ${turn}`)
      now += hourMs / 2
      const kinds = ['came', 'went', 'went', 'failed', 'passed', 'unanswered', 'agreed'] as const
      const kind = kinds[random() % 9] ?? 'away'
      if (kind === 'away') both({ kind, now, until: now + (random() % 20) * dayMs })
      else both({ kind, now })
    }
  }
  t.pass('10 partners, and all that may happen to them')
  t.end()
})

t.test('who cheats gets nothing for it, once commitment is longer than grace', (t) => {
  const options = { forMs: yearMs, seed: 1, graceDays: 30, commitmentDays: 45, auditHours: 24 }
  for (const [name, strategy] of Object.entries(strategies)) {
    const { got, given, names } = simulateStrategy(strategy, options)
    if (name === 'honest') {
      t.equal(names, 1, 'who is honest keeps its name')
      t.ok(got > 0.95 * given, 'and gets what it gives')
    } else t.ok(got <= given, `${name}: ${got} for ${given}`)
  }
  const { freeloader, hopper } = strategies
  if (!freeloader || !hopper) throw new Error('these are told of')
  t.equal(simulateStrategy(freeloader, options).got, 0)
  t.ok(simulateStrategy(freeloader, options).caughtHours < 35 * 24, 'within grace and three audits')
  const without = { ...options, commitmentDays: 0 }
  t.ok(simulateStrategy(hopper, without).got > 0, 'which it would without a commitment')
  t.end()
})
