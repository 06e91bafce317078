import t from 'tap'
import { seeded } from '../../lib/base/random.js'
import {
  chooseShape,
  parsePlacement,
  placeElements,
  placementText,
  type PlacePartner,
  unreachable,
} from '../../lib/planning/placement.js'

function partner(id: string, more: Partial<PlacePartner> = {}): PlacePartner {
  return { id, site: null, prefix: null, region: null, space: 1e9, availability: 0.9, ...more }
}

function partners(count: number, more: (i: number) => Partial<PlacePartner> = () => ({})): PlacePartner[] {
  return Array.from({ length: count }, (_, i) => partner(`p${String(i).padStart(3, '0')}`, more(i)))
}

t.test('a placement is read as it is written', (t) => {
  const texts = ['replica', 'replica:3', 'erasure:6+3', 'erasure:1+1', 'auto:survive=3', 'auto:nines=6.5']
  for (const text of [...texts, 'auto:survive=1,nines=4']) t.equal(placementText(parsePlacement(text)), text)
  t.same(parsePlacement(' Erasure:12+8 '), { kind: 'erasure', shape: { data: 12, parity: 8 } })
  t.same(parsePlacement('auto'), { kind: 'auto', target: { survive: 2 } })
  const wrong = [
    '',
    'replica:',
    'replica:0',
    'replica:256',
    'erasure',
    'erasure:3',
    'erasure:0+3',
    'erasure:3+0',
  ]
  wrong.push('erasure:200+56', 'erasure:2+1+1', 'erasure:2+-1', 'auto:', 'auto:survive', 'auto:survive=0')
  wrong.push('auto:survive=1.5', 'auto:nines=13', 'auto:nines=6,', 'raid:5', 'erasure:2+1:x', 'replica:3x')
  for (const text of wrong) t.throws(() => parsePlacement(text), { code: 'usage' }, text)
  t.end()
})

t.test('the chance that too few are within reach', (t) => {
  t.equal(unreachable([], 1), 1)
  t.equal(unreachable([0.7, 0.7], 0), 0)
  t.ok(Math.abs(unreachable([0.9, 0.9, 0.9], 2) - 0.028) < 1e-12)
  // As written in the literature, for equal ones: sum over i > k of C(n,i) p^i (1-p)^(n-i).
  const choose = (n: number, i: number): number => (i === 0 ? 1 : (choose(n, i - 1) * (n - i + 1)) / i)
  for (const [m, k, availability] of [
    [6, 3, 0.9],
    [12, 8, 0.7],
    [1, 2, 0.7],
  ] as const) {
    const n = m + k
    let sum = 0
    for (let i = k + 1; i <= n; i++) sum += choose(n, i) * (1 - availability) ** i * availability ** (n - i)
    t.ok(Math.abs(unreachable(Array<number>(n).fill(availability), m) / sum - 1) < 1e-9, `${m}+${k}`)
  }
  // Unequal ones, against every outcome.
  const all = [0.5, 0.95, 0.2, 0.7, 0.99]
  for (let needed = 0; needed <= 5; needed++) {
    let sum = 0
    for (let outcome = 0; outcome < 32; outcome++) {
      const isUp = (i: number) => ((outcome >> i) & 1) === 1
      if (all.filter((_, i) => isUp(i)).length >= needed) continue
      sum += all.reduce((chance, up, i) => chance * (isUp(i) ? up : 1 - up), 1)
    }
    t.ok(Math.abs(unreachable(all, needed) - sum) < 1e-12, `${needed} of 5`)
  }
  t.end()
})

t.test('a code is chosen by partners and target', (t) => {
  const shapes = [0, 1, 2, 3, 4, 5, 6, 10, 100].map((count) => {
    const { shape, meets, why } = chooseShape(partners(count))
    return `${count}: ${shape.data}+${shape.parity} ${meets ? 'meets' : 'fails'}: ${why}`
  })
  t.same(shapes, [
    '0: 1+0 fails: there is no partner yet',
    '1: 1+0 fails: one copy: there is only one partner',
    '2: 1+1 fails: 2 copies over 2 partners: any 1 may be lost, out of reach 1 % of the time, takes 2 times its size; more partners are needed to withstand the loss of 2 partners',
    '3: 1+2 meets: 3 copies over 3 partners: any 2 may be lost, out of reach 1 / 1000 of the time, takes 3 times its size',
    '4: 2+2 meets: 2+2 over 4 partners: any 2 may be lost, out of reach 0.37 % of the time, takes 2 times its size',
    '5: 2+2 meets: 2+2 over 5 partners: any 2 may be lost, out of reach 0.37 % of the time, takes 2 times its size',
    '6: 3+2 meets: 3+2 over 6 partners: any 2 may be lost, out of reach 0.86 % of the time, takes 1.67 times its size',
    '10: 6+3 meets: 6+3 over 10 partners: any 3 may be lost, out of reach 0.83 % of the time, takes 1.5 times its size',
    '100: 18+6 meets: 18+6 over 100 partners: any 6 may be lost, out of reach 0.75 % of the time, takes 1.33 times its size',
  ])
  const rare = chooseShape(partners(10, () => ({ availability: 0.5 })))
  t.match(rare, { meets: false, shape: { data: 3, parity: 6 }, why: /needed to withstand so much absence/ })
  // More nines, or worse partners, take more parity.
  const parityFor = (nines: number, availability: number) => {
    const { shape, meets } = chooseShape(
      partners(20, () => ({ availability })),
      { nines },
    )
    t.equal(
      meets,
      unreachable(Array<number>(shape.data + shape.parity).fill(availability), shape.data) <= 10 ** -nines,
    )
    return shape.parity / shape.data
  }
  t.ok(parityFor(3, 0.9) < parityFor(6, 0.9))
  t.ok(parityFor(3, 0.9) < parityFor(3, 0.7))
  const poor = chooseShape(
    partners(4, () => ({ availability: 0.5 })),
    { nines: 6 },
  )
  t.match(poor, { meets: false, shape: { data: 1, parity: 3 }, why: /needed to withstand so much absence/ })
  // Of unequal ones, those least within reach are reckoned with.
  const mixed = partners(12, (i) => ({ availability: i < 9 ? 0.6 : 0.99 }))
  const { shape } = chooseShape(mixed, { nines: 2 })
  const worst = mixed.slice(0, shape.data + shape.parity).map(({ availability }) => availability)
  t.ok(unreachable(worst, shape.data) <= 0.01)
  t.end()
})

t.test('a whole site may be lost, where there is more than one', (t) => {
  const chosen = (site: (i: number) => string | null) =>
    chooseShape(partners(13, (i) => ({ site: site(i), availability: 0.99 })))
  t.match(
    chosen(() => null),
    { meets: true, shape: { data: 10, parity: 2 } },
  )
  t.match(
    chosen((i) => `s${i % 3}`),
    { meets: true, shape: { data: 8, parity: 4 } },
  )
  t.match(
    chosen(() => 'here'),
    { meets: true, shape: { data: 10, parity: 2 } },
    'no code helps at one site',
  )
  t.end()
})

t.test('a choice stays until it fails the target or another saves much', (t) => {
  const now = chooseShape(partners(12)).shape
  t.same(chooseShape(partners(13), undefined, now).shape, now, 'one partner more')
  t.same(chooseShape(partners(11), undefined, now).shape, now, 'one less: every one has an element')
  t.notSame(chooseShape(partners(now.data + now.parity - 1), undefined, now).shape, now, 'too few')
  t.notSame(chooseShape(partners(5), { survive: 2 }, { data: 1, parity: 2 }).shape, { data: 1, parity: 2 })
  t.end()
})

t.test('each element is at another partner, and few at one site', (t) => {
  const random = seeded(7)
  for (let trial = 0; trial < 500; trial++) {
    const sites = 1 + (random() % 6)
    const all = partners(2 + (random() % 20), () => ({
      site: `site ${random() % sites}`,
      prefix: `prefix ${random() % 9}`,
      space: random() % 5 === 0 ? 10 : 1000 + (random() % 1000),
    }))
    const fit = all.filter(({ space }) => space >= 100)
    const count = 1 + (random() % 12)
    const ids = placeElements(count, all, { stripe: `stripe ${trial}`, bytes: 100 })
    const placed = ids.flatMap((id) => all.filter((one) => one.id === id))
    t.equal(ids.length, count)
    t.equal(placed.length, Math.min(count, fit.length), 'as many as there are with room')
    t.equal(new Set(placed).size, placed.length, 'distinct')
    t.ok(placed.every(({ space }) => space >= 100))
    const sizes = (of: PlacePartner[]) =>
      Array.from({ length: sites }, (_, s) => of.filter(({ site }) => site === `site ${s}`).length)
    const most = Math.max(...sizes(placed))
    const possible = sizes(fit).reduce((sum, size) => sum + Math.min(size, most - 1), 0)
    t.ok(possible < placed.length, `no more than ${most} at one site, and not one less is possible`)
    const shuffled = [...all].sort(() => (random() % 2) - 0.5)
    t.same(placeElements(count, shuffled, { stripe: `stripe ${trial}`, bytes: 100 }), ids)
  }
  t.end()
})

t.test('what is in place counts for the spread, and partners fill up by their room', (t) => {
  const all = partners(6, (i) => ({ site: `s${i >> 1}`, region: i < 4 ? 'eu' : 'us' }))
  const [zero, , two] = all
  const next = placeElements(2, all, {
    stripe: 'x',
    bytes: 1,
    holders: [zero, two].flatMap((one) => one ?? []),
  })
  t.match(next[0], /p00[45]/, 'where nothing of it is')
  t.match(next[1], /p00[13]|p00[45]/)
  t.equal(placeElements(1, [], { stripe: 'x', bytes: 1 })[0], null)

  const unequal = partners(8, (i) => ({ space: i === 0 ? 4e9 : 1e9 }))
  const taken = new Map<string, number>()
  for (let stripe = 0; stripe < 4000; stripe++)
    for (const id of placeElements(2, unequal, { stripe: String(stripe), bytes: 1 }))
      if (id !== null) taken.set(id, (taken.get(id) ?? 0) + 1)
  const [large = 0, ...small] = unequal.map(({ id }) => taken.get(id) ?? 0)
  t.ok(large > 2.2 * Math.max(...small), `${large} at the large one`)
  t.ok(Math.max(...small) < 1.25 * Math.min(...small), `${small.join(' ')} at the others`)
  t.end()
})
