import t from 'tap'
import { seeded } from '../../lib/base/random.js'
import { defaultPolicy, select } from '../../lib/planning/selection.js'
import { sketchOf } from '../../lib/planning/sketch.js'
import { entrusted } from '../../lib/planning/trust.js'
import type { Candidate, Selection, SelectionPolicy } from '../../lib/planning/types.js'
import { blockNameOf, fraction } from '../../simulate/blocks.js'
import { candidate, hoursFrom, world, type World } from '../helpers/candidates.js'

const ids = ({ chosen }: Selection) => chosen.map(({ id }) => id).sort()
const five: SelectionPolicy = defaultPolicy
/** 64 blocks of the same size, so that bit i of an answer is a 64th of the bytes. */
const sketch = sketchOf(
  Array.from({ length: 64 }, (_, i) => ({ name: blockNameOf(1, i), bytes: 65_536 })),
  Buffer.alloc(32, 1),
)

/** An answer that has the entries from .. to. */
function answer(from: number, to: number): Buffer {
  const bits = Buffer.alloc(8)
  for (let i = from; i < to; i++) bits[i >> 3] = (bits[i >> 3] ?? 0) | (1 << (i & 7))
  return bits
}

function chosen(candidates: Candidate[], policy: Partial<SelectionPolicy> = {}, current: string[] = []) {
  return select({ sketch, candidates, current, policy: { ...five, ...policy } })
}

function whyOf({ chosen }: Selection, id: string): string {
  return chosen.find((choice) => choice.id === id)?.why.join('; ') ?? ''
}

t.test('the five chosen recover at least 95 % of what the best five would', (t) => {
  let least = 1
  let sum = 0
  const worlds = 40
  for (let seed = 1; seed <= worlds; seed++) {
    const made = world(seed, 20)
    const { sketch, candidates } = made
    const found = select({ sketch, candidates, current: [], policy: five })
    const ratio = covered(made, ids(found).map(Number)) / oracle(made)
    least = Math.min(least, ratio)
    sum += ratio
    if (found.chosen.length !== 5) t.fail(`world ${seed}: ${found.chosen.length} chosen`)
  }
  t.comment(`least ${least.toFixed(4)}, mean ${(sum / worlds).toFixed(4)} of the oracle's`)
  t.ok(least >= 0.95, `at least ${least.toFixed(4)} in every one of ${worlds} worlds`)
  t.ok(sum / worlds >= 0.98, `${(sum / worlds).toFixed(4)} on average`)
  t.end()
})

function covered({ bytes, has }: World, set: number[]): number {
  return bytes.reduce((sum, size, i) => sum + (set.some((n) => has[n]?.[i]) ? size : 0), 0)
}

/** The bytes that the best allowed five have together: it knows the true blocks, and leaves out only what cannot be better. */
function oracle({ bytes, has, candidates }: World): number {
  let best = 0
  const distances = new Set(candidates.map(({ distance }) => distance)).size
  const tryFrom = (next: number, set: number[], missing: Float64Array, sum: number) => {
    if (set.length === 5) {
      if (new Set(set.map((n) => candidates[n]?.distance)).size === distances) best = Math.max(best, sum)
      return
    }
    const gains: number[] = []
    for (let n = next; n < candidates.length; n++) {
      let gained = 0
      for (let i = 0; i < missing.length; i++) if (has[n]?.[i]) gained += missing[i] ?? 0
      gains.push(gained)
    }
    for (let n = next; n < candidates.length; n++) {
      // All that four more could add, if nothing of it were the same.
      const rest = gains.slice(n - next).sort((a, b) => b - a)
      if (sum + rest.slice(0, 5 - set.length).reduce((all, gain) => all + gain, 0) <= best) return
      if (set.some((other) => candidates[other]?.prefix === candidates[n]?.prefix)) continue
      const left = missing.map((size, i) => (has[n]?.[i] ? 0 : size))
      tryFrom(n + 1, [...set, n], left, sum + (gains[n - next] ?? 0))
    }
  }
  tryFrom(0, [], bytes, 0)
  return best
}

t.test('the same from the same, whatever the order of candidates', (t) => {
  const { sketch, candidates } = world(7, 30)
  const once = select({ sketch, candidates, current: [], policy: five })
  t.same(select({ sketch, candidates: candidates.slice().reverse(), current: [], policy: five }), once)
  t.end()
})

t.test('a set stays where little changes, and changes where much does', (t) => {
  let exchanged = 0
  for (let seed = 1; seed <= 20; seed++) {
    const { sketch, candidates } = world(seed, 30)
    const before = ids(select({ sketch, candidates, current: [], policy: five }))
    const random = seeded(seed)
    let current = before
    for (let day = 0; day < 10; day++) {
      const later = candidates.map((one) => perturbed(random, one))
      current = ids(select({ sketch, candidates: later, current, policy: five }))
    }
    exchanged += current.filter((id) => !before.includes(id)).length
  }
  t.ok(exchanged <= 2, `${exchanged} of 100 partners exchanged in 10 days of noise`)

  const whole = [0, 1, 2, 3, 4].map((n) => candidate(`old ${n}`, { holds: answer(0, 10) }))
  const better = candidate('better', { holds: answer(0, 64) })
  const current = whole.map(({ id }) => id)
  t.ok(ids(chosen([...whole, better], {}, current)).includes('better'))
  const slightly = candidate('better', { holds: answer(0, 10), roundTrip: 70 })
  t.same(ids(chosen([...whole, slightly], {}, current)), current, 'a little nearer is no reason')
  const found = chosen(whole, {}, current)
  t.match(whyOf(found, 'old 1'), /stays: an exchange would have to gain more than 3 %/)
  t.end()
})

/** What measuring again gives: round trips, bandwidth and hours a little different, two bits of the answer. */
function perturbed(random: () => number, one: Candidate): Candidate {
  const near = (value: number | null) => value && value * (0.9 + 0.2 * fraction(random))
  const holds = Buffer.from(one.holds ?? [])
  for (let i = 0; i < 2; i++) {
    const at = random() % (holds.length - 1)
    holds[at] = (holds[at] ?? 0) ^ (1 << (random() & 7))
  }
  const hours = one.hours?.map((surely) => Math.abs(surely - 0.1 * fraction(random))) ?? null
  return { ...one, holds, hours, roundTrip: near(one.roundTrip), bandwidth: near(one.bandwidth) }
}

t.test('bytes that nobody chosen has count, not those that all have', (t) => {
  const same = Array.from({ length: 6 }, (_, n) => candidate(`same ${n}`, { holds: answer(0, 40) }))
  const other = candidate('other', {
    holds: answer(44, 64),
    roundTrip: 300,
    record: { kept: 1, reneged: 0, days: 0 },
  })
  const found = chosen([...same, other])
  t.ok(ids(found).includes('other'))
  t.match(whyOf(found, 'other'), /has 31 % .* as the only one/)
  t.match(found.coverage, 60 / 64)
  t.end()
})

t.test('one near and one far, where there are such', (t) => {
  const far = Array.from({ length: 6 }, (_, n) => candidate(`far ${n}`, { holds: answer(0, 60) }))
  const near = candidate('near', { distance: 'near', roundTrip: 0.4, holds: answer(0, 1) })
  t.match(whyOf(chosen([...far, near]), 'near'), /near, 0.4 ms: fast to restore from/)
  const close = far.map((one) => ({ ...one, distance: 'near' as const, id: `close ${one.id}` }))
  const away = candidate('away', { holds: null })
  t.match(whyOf(chosen([...close, away]), 'away'), /far, 80 ms: safe from what happens here/)
  t.equal(chosen(far).chosen.length, 5, 'without a near one, too')
  const five = far.slice(0, 5).map(({ id }) => id)
  t.ok(ids(chosen([...far, near], {}, five)).includes('near'), 'and a set that lacks one is changed')
  t.end()
})

t.test('places and systems that differ, and hours that together cover the day, decide among equals', (t) => {
  const alike = Array.from({ length: 5 }, (_, n) =>
    candidate(`a ${n}`, { region: 'eu', system: 'linux', architecture: 'x64', hours: hoursFrom(8, 10) }),
  )
  const differs = { region: 'eu', system: 'linux', architecture: 'x64', hours: hoursFrom(8, 10) }
  const [region, system] = [
    candidate('z region', { ...differs, region: 'us' }),
    candidate('z system', { ...differs, architecture: 'arm64' }),
  ]
  const night = candidate('z night', { ...differs, hours: hoursFrom(20, 10) })
  const found = chosen([...alike, region, system, night])
  t.match(whyOf(found, 'z region'), /the only one in us/)
  t.match(whyOf(found, 'z system'), /the only one with linux arm64/)
  t.match(whyOf(found, 'z night'), /on line about 10 h a day, 10 h of them when no other is/)
  t.end()
})

t.test('a good record, a fast line and a short way decide among equals; broken agreements exclude', (t) => {
  const plain = Array.from({ length: 6 }, (_, n) =>
    candidate(`a ${n}`, { record: { kept: 1, reneged: 0, days: 10 } }),
  )
  const proven = candidate('z proven', { record: { kept: 20, reneged: 0, days: 700 } })
  const fast = candidate('z fast', { bandwidth: 50_000_000, record: { kept: 1, reneged: 0, days: 10 } })
  const broke = candidate('z broke', { holds: answer(0, 64), record: { kept: 3, reneged: 1, days: 700 } })
  const quick = candidate('z quick', { roundTrip: 10, record: { kept: 1, reneged: 0, days: 10 } })
  const found = chosen([...plain, proven, fast, quick, broke])
  t.ok(ids(found).includes('z quick'))
  t.match(whyOf(found, 'z proven'), /kept 20 agreements, known for 700 days/)
  t.ok(ids(found).includes('z fast'))
  t.same(found.passedOver.find(({ id }) => id === 'z broke')?.why, 'broke 1 agreement and kept 3')
  t.end()
})

t.test('who cannot serve is left out, and told why', (t) => {
  const gib = 2 ** 30
  const found = chosen(
    [
      candidate('small', { space: gib }),
      candidate('slow', { bandwidth: 1000 }),
      candidate('liar', { holds: answer(0, 64), belief: 0 }),
      candidate('good'),
    ],
    { needs: 2 * gib, leastBandwidth: 10_000 },
  )
  t.same(ids(found), ['good'])
  t.same(found.passedOver, [
    { id: 'liar', why: 'did not have what it claimed to have' },
    { id: 'slow', why: 'takes in less a second than is asked for' },
    { id: 'small', why: 'offers less space than is needed' },
  ])
  const unproven = chosen(
    [candidate('a', { holds: answer(0, 64), belief: 0.5 }), candidate('b', { holds: answer(0, 40) })],
    { count: 1 },
  )
  t.same(ids(unproven), ['b'], 'what was not proven counts for less')
  t.end()
})

t.test('many names of one person do not become many partners', (t) => {
  const crowd = Array.from({ length: 30 }, (_, n) =>
    candidate(`sybil ${n}`, {
      prefix: '203.0.113.0/24',
      holds: answer(0, 64),
      distance: n % 2 ? 'near' : 'far',
    }),
  )
  const others = Array.from({ length: 6 }, (_, n) =>
    candidate(`other ${n}`, { holds: answer(0, 4), prefix: `10.0.${n}.0/24` }),
  )
  const found = chosen([...crowd, ...others])
  t.equal(ids(found).filter((id) => id.startsWith('sybil')).length, 1, 'one address prefix gets one place')
  t.match(found.passedOver.find(({ id }) => id.startsWith('sybil'))?.why, /203.0.113.0\/24 has its share/)
  t.equal(chosen(crowd).chosen.length, 1, 'also where there is nobody else')

  const circle = crowd.map((one, n) => ({ ...one, prefix: `10.1.${n}.0/24`, circles: ['c'] }))
  t.equal(
    ids(chosen([...circle, ...others])).filter((id) => id.startsWith('sybil')).length,
    3,
    'one circle: three',
  )
  const alone = chosen(circle)
  t.equal(alone.chosen.length, 5, 'more only where there are too few others')
  t.match(whyOf(alone, ids(alone)[0] ?? ''), /there are too few others/)
  t.end()
})

t.test('a new identity starts with little', (t) => {
  const record = { kept: 0, reneged: 0, days: 0 }
  const fresh = Array.from({ length: 10 }, (_, n) =>
    candidate(`fresh ${n}`, { record, holds: answer(6 * n, 6 * n + 6) }),
  )
  const known = Array.from({ length: 5 }, (_, n) => candidate(`known ${n}`))
  const found = chosen([...fresh, ...known])
  t.equal(ids(found).filter((id) => id.startsWith('fresh')).length, 1, 'newcomers get one place')
  t.match(whyOf(found, 'fresh 0'), /new: entrusted with little at first/)
  const gib = 2 ** 30
  const trust = (kept: number, days: number) =>
    entrusted(candidate('a', { record: { kept, reneged: 0, days } }), five)
  t.same(
    [trust(0, 1000), trust(1, 13), trust(1, 14), trust(1, 1000), trust(9, 1000)],
    [gib, gib, 2 * gib, 16 * gib, 100 * gib],
  )
  t.equal(
    entrusted(candidate('a', { record, circles: ['c'] }), five),
    100 * gib,
    'friends of a circle are trusted',
  )
  t.end()
})

t.test('who was invited stays, and counts for the bounds of others', (t) => {
  const friend = candidate('friend', {
    invited: true,
    prefix: '10.0.0.0/24',
    space: 0,
    record: { kept: 0, reneged: 2, days: 1 },
  })
  const neighbour = candidate('neighbour', { prefix: '10.0.0.0/24', holds: answer(0, 64) })
  const others = Array.from({ length: 6 }, (_, n) => candidate(`other ${n}`, { holds: answer(0, 30) }))
  const found = chosen([friend, neighbour, ...others])
  t.match(whyOf(found, 'friend'), /^invited by you/)
  t.notOk(ids(found).includes('neighbour'))
  t.equal(found.chosen.length, 5)
  const many = Array.from({ length: 7 }, (_, n) => candidate(`f ${n}`, { invited: true }))
  t.equal(chosen([...many, ...others]).chosen.length, 7, 'more than are wanted, when they were invited')
  t.end()
})

t.test('nobody, or fewer than wanted', (t) => {
  t.same(chosen([]), { chosen: [], passedOver: [], coverage: 0 })
  t.same(ids(chosen([candidate('a'), candidate('b')])), ['a', 'b'])
  const empty = select({
    sketch: sketchOf([], Buffer.alloc(32)),
    candidates: [candidate('a')],
    current: ['gone'],
    policy: five,
  })
  t.same(ids(empty), ['a'], 'and with nothing to store yet')
  t.equal(empty.coverage, 0)
  t.end()
})
