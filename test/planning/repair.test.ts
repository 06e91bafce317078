import t from 'tap'
import { seeded } from '../../lib/base/random.js'
import {
  planRepair,
  repairDefaults,
  type RepairElement,
  type RepairPartner,
  type RepairStripe,
} from '../../lib/planning/repair.js'

function partner(id: string, more: Partial<RepairPartner> = {}): RepairPartner {
  const place = { site: null, prefix: null, region: null, space: 1e9, availability: 0.9 }
  return { id, ...place, state: 'good', online: true, ...more }
}

/** m+k at `a`, `b`, `c`, .. */
function stripe(shape: string, more: Partial<RepairStripe> = {}): RepairStripe {
  const [data = 0, parity = 0] = shape.split('+').map(Number)
  const elements = Array.from({ length: data + parity }, (_, i) => held(letter(i)))
  return { id: 's', data, bytes: 100, isHere: false, elements, ...more }
}

const letter = (i: number) => String.fromCharCode(97 + i)
const held = (holder: string | null): RepairElement => ({ holder, state: 'held' })

/** Partners `a`, `b`, .. good, but for those that are told of; and so many more, `x0`, `x1`, .. */
function partners(
  count: number,
  others: Record<string, Partial<RepairPartner>> = {},
  spare = 2,
): RepairPartner[] {
  return [
    ...Array.from({ length: count }, (_, i) => partner(letter(i), others[letter(i)])),
    ...Array.from({ length: spare }, (_, i) => partner(`x${i}`, others[`x${i}`])),
  ]
}

t.test('nothing is done for who is off line, late or in grace, while enough are sure', (t) => {
  const off = { online: false }
  const away = partners(9, {
    a: { ...off, state: 'late' },
    b: { ...off, state: 'grace' },
    c: off,
    d: off,
    e: off,
  })
  t.match(planRepair([stripe('6+3')], away), { remakes: [], bytes: 0, gone: [] })
  t.end()
})

t.test('what a partner held is made again when it reneges, at one that has none of it', (t) => {
  for (const state of ['reneged', 'gone'] as const) {
    const plan = planRepair([stripe('6+3')], partners(9, { b: { state } }))
    t.match(plan.remakes, [{ stripe: 's', element: 1, instead: 'b', source: 'others', why: 'lost' }])
    t.match(plan.remakes[0]?.to, /^x/)
    t.equal(plan.bytes, 700, 'six fetched, one sent')
  }
  const unknown = partners(9).filter(({ id }) => id !== 'b')
  t.match(
    planRepair([stripe('6+3')], unknown).remakes,
    [{ element: 1, why: 'lost' }],
    'nobody knows it any more',
  )
  const here = planRepair([stripe('6+3', { isHere: true })], partners(9, { b: { state: 'gone' } }))
  t.match(here, { bytes: 100, remakes: [{ source: 'here' }] })
  const two = planRepair([stripe('6+3')], partners(9, { b: { state: 'gone' }, c: { state: 'gone' } }))
  t.equal(two.bytes, 800, 'six are fetched once')
  t.equal(new Set(two.remakes.map(({ to }) => to)).size, 2)
  t.end()
})

t.test('late holders are not waited for when too few are sure, those in grace least of all', (t) => {
  // 6+3 with one over six that must be sure
  const more = partners(9, { a: { state: 'late' }, b: { state: 'grace' }, c: { state: 'late' } })
  const plan = planRepair([stripe('6+3')], more, { atOnce: () => 1, bytes: 1e9 })
  t.match(plan.remakes, [{ element: 1, why: 'too few' }])
  t.equal(plan.remakes.length, 1)
  t.equal(planRepair([stripe('6+3')], more, { atOnce: () => 0, bytes: 1e9 }).remakes.length, 0)
  const sending = stripe('6+3').elements.map((element, i) =>
    i === 1 ? { holder: 'x0', state: 'sending' as const } : element,
  )
  const after = planRepair([stripe('6+3', { elements: sending })], more, { atOnce: () => 1, bytes: 1e9 })
  t.same(after.remakes, [], 'what is on its way is enough')
  const few = planRepair([stripe('2+1')], partners(3, { c: { state: 'late', online: false } }))
  t.match(few.remakes, [{ element: 2, why: 'too few' }], 'usually one must be to spare')
  t.end()
})

t.test('who leaves hands over, and who was found to lack something gets it again', (t) => {
  const leaving = planRepair([stripe('6+3')], partners(9, { d: { state: 'leaving' } }))
  t.match(leaving, { bytes: 200, remakes: [{ element: 3, why: 'leaving', source: 'holder', instead: 'd' }] })
  const elements = stripe('3+3').elements.map((element, i) =>
    i === 2 ? { ...element, state: 'lacking' as const } : element,
  )
  const lacking = stripe('3+3', { elements })
  const again = planRepair([lacking], partners(6))
  t.match(again, { bytes: 400, remakes: [{ element: 2, to: 'c', instead: null, why: 'lacking' }] })
  const off = planRepair([lacking], partners(6, { c: { online: false } }))
  t.match(off, { remakes: [], noRoom: 1 }, 'once it is on line')
  const late = planRepair([lacking], partners(6, { c: { state: 'late', online: false } }))
  t.match(late.remakes, [{ element: 2, why: 'lost', instead: 'c' }])
  t.end()
})

t.test('nothing is sent twice, and each plan follows from the one before', (t) => {
  let now = stripe('4+4')
  const all = partners(8, { a: { state: 'reneged' }, b: { state: 'gone' } }, 3)
  const first = planRepair([now], all)
  t.equal(first.remakes.length, 2)
  const elements = [...now.elements]
  for (const { element, to } of first.remakes) elements[element] = { holder: to, state: 'sending' }
  now = { ...now, elements }
  t.same(planRepair([now], all).remakes, [], 'under way')
  const target = first.remakes[0]?.to ?? ''
  const became = (state: RepairPartner['state']) =>
    all.map((one) => (one.id === target ? { ...one, state } : one))
  t.same(planRepair([now], became('late')).remakes, [], 'late only')
  t.match(planRepair([now], became('grace')).remakes, [{ why: 'lost', instead: target }])
  elements.forEach(({ holder }, i) => (elements[i] = held(holder)))
  t.same(planRepair([{ ...now, elements }], all).remakes, [], 'in place')
  const back = all.map((one) => ({ ...one, state: 'good' as const }))
  t.same(planRepair([{ ...now, elements }], back).remakes, [], 'who comes back changes nothing')
  t.end()
})

t.test('what cannot be done is said', (t) => {
  const lost = { a: { state: 'gone' as const } }
  t.match(planRepair([stripe('2+1')], partners(3, lost, 0)), { remakes: [], noRoom: 1 })
  const full = partners(3, { ...lost, x0: { space: 99 }, x1: { online: false } })
  t.match(planRepair([stripe('2+1')], full), { remakes: [], noRoom: 1 })
  const off = partners(3, { ...lost, b: { online: false } })
  t.match(planRepair([stripe('2+1')], off), { remakes: [], noSource: 1 })
  t.match(planRepair([stripe('2+1', { isHere: true })], off), { remakes: [{}], noSource: 0 })
  const over = partners(3, { ...lost, b: { state: 'reneged' } })
  t.match(planRepair([stripe('2+1')], over), { remakes: [], gone: ['s'] })
  t.match(planRepair([stripe('2+1', { isHere: true })], over), { remakes: [{}, {}], gone: [] })
  t.end()
})

t.test('the stripe with the least left comes first, and a run is bounded', (t) => {
  const states = {
    a: { state: 'gone' as const },
    b: { state: 'gone' as const },
    i: { state: 'late' as const },
  }
  const all = partners(10, states, 4)
  const at = (ids: string) => [...ids].map((id) => held(id))
  const stripes = [
    stripe('2+2', { id: 'one of four', elements: at('acde') }),
    stripe('2+2', { id: 'two of four', elements: at('abcd') }),
    stripe('2+2', { id: 'one, and one is late', elements: at('acdi') }),
    stripe('2+2', { id: 'none', elements: at('cdef') }),
  ]
  const order = ['two of four', 'two of four', 'one, and one is late', 'one of four']
  const plan = planRepair(stripes, all)
  t.same(
    plan.remakes.map(({ stripe }) => stripe),
    order,
  )
  t.equal(plan.bytes, 400 + 300 + 300)
  const bounded = planRepair(stripes, all, { ...repairDefaults, bytes: 401 })
  t.same(
    bounded.remakes.map(({ stripe }) => stripe),
    order.slice(0, 3),
  )
  t.equal(bounded.later, 1)
  t.equal(planRepair(stripes, all, { ...repairDefaults, bytes: 0 }).remakes.length, 2, 'never nothing at all')
  t.same(planRepair([...stripes].reverse(), [...all].reverse()), plan, 'in whatever order it is given')
  t.end()
})

t.test('room is taken once', (t) => {
  const stripes = Array.from({ length: 20 }, (_, i) => stripe('2+1', { id: `s${i}` }))
  const all = partners(3, { a: { state: 'gone' }, x0: { space: 700 }, x1: { space: 500 } })
  const plan = planRepair(stripes, all)
  const to = (id: string) => plan.remakes.filter((remake) => remake.to === id).length
  t.same([to('x0'), to('x1'), plan.noRoom], [7, 5, 8])
  t.end()
})

t.test('any stripes and partners: a plan keeps the rules', (t) => {
  const random = seeded(11)
  const states = ['good', 'good', 'good', 'late', 'grace', 'reneged', 'leaving', 'gone'] as const
  for (let trial = 0; trial < 1000; trial++) {
    const all = Array.from({ length: 4 + (random() % 12) }, (_, i) =>
      partner(letter(i), {
        state: states[random() % 8] ?? 'good',
        online: random() % 4 > 0,
        site: `${random() % 4}`,
      }),
    )
    const stripes = Array.from({ length: 1 + (random() % 4) }, (_, s) => {
      const free = all.map(({ id }) => id).sort(() => (random() % 2) - 0.5)
      const elements = Array.from({ length: 3 + (random() % 5) }, () => ({
        holder: free.pop() ?? null,
        state: (['held', 'held', 'held', 'sending', 'lacking'] as const)[random() % 5] ?? ('held' as const),
      }))
      return { id: `s${s}`, data: 2, bytes: 10, isHere: random() % 2 === 0, elements }
    })
    const plan = planRepair(stripes, all)
    for (const { stripe, element, to, why } of plan.remakes) {
      const { elements = [] } = stripes.find(({ id }) => id === stripe) ?? {}
      const taker = all.find(({ id }) => id === to)
      const isSound = taker?.state === 'good' && taker.online
      const at = elements.findIndex(({ holder }) => holder === to)
      if (!isSound || (at !== -1 && !(at === element && why === 'lacking'))) t.fail(JSON.stringify(plan))
    }
    const targets = plan.remakes.map(({ stripe, to }) => `${stripe} ${to}`)
    if (new Set(targets).size !== targets.length) t.fail(`two elements of a stripe at one: ${targets.join()}`)
  }
  t.pass('1,000 of them')
  t.end()
})
