import t from 'tap'
import { compare, figures, lead, median, row } from '../../bench/measure.js'

t.test('medians', (t) => {
  t.equal(median([3, 1, 2]), 2)
  t.equal(median([4, 1, 2, 3]), 2.5)
  t.equal(median([5]), 5)
  t.end()
})

t.test('a ratio is taken within each round, then the median of them', (t) => {
  const result = figures(
    new Map([
      ['base', [1, 10, 2]],
      ['half', [2, 20, 4]],
      ['gone', [1, undefined, undefined]],
      ['never', [undefined]],
    ]),
  )
  t.same(result, [
    { contender: 'base', seconds: 2, ratio: 1 },
    { contender: 'half', seconds: 4, ratio: 0.5 },
    { contender: 'gone', seconds: 1, ratio: 1 },
  ])
  t.end()
})

t.test('contenders take turns, and the order rotates', async (t) => {
  const order: string[] = []
  const turn = (name: string) => (): Promise<number> => {
    order.push(name)
    return Promise.resolve(1)
  }
  await compare(new Map(['a', 'b', 'c'].map((name) => [name, turn(name)])), 3)
  t.equal(order.join(''), 'abcbcacab')
})

t.test('a line shows the base in seconds, the others as ratios, and who is missing', (t) => {
  const line = row(
    'stat',
    ['bare', 'kith', 'peer'],
    [
      { contender: 'bare', seconds: 1.5, ratio: 1 },
      { contender: 'kith', seconds: 3, ratio: 0.5 },
    ],
  )
  t.match(line, /^stat +1\.500 s +0\.50 +-$/)
  t.end()
})

t.test('below a tenth a line shows a third digit, which tells 1.5 times from 2', (t) => {
  const figure = (contender: string, ratio: number) => ({ contender, seconds: 1, ratio })
  const line = row(
    'rename',
    ['bare', 'kith', 'peer'],
    [figure('bare', 1), figure('kith', 0.099), figure('peer', 0.0996)],
  )
  t.match(line, /^rename +1\.000 s +0\.099 +0\.10$/)
  t.end()
})

t.test('a lead is over the better rival, by medians within rounds', (t) => {
  const taken = new Map([
    ['bare', [1, 1, 1]],
    ['kith', [2, 20, 2]],
    ['near', [3, 30, 9]],
    ['far', [8, 80, 8]],
    ['gone', [undefined, undefined, undefined]],
  ])
  t.equal(lead(taken, 'kith', ['near', 'far', 'gone']), 1.5)
  t.equal(lead(taken, 'kith', ['far']), 4)
  t.equal(lead(taken, 'kith', ['gone']), undefined)
  t.equal(lead(taken, 'kith', []), undefined)
  t.end()
})
