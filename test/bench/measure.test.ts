import t from 'tap'
import { compare, figures, median, row } from '../../bench/measure.js'

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
