import t from 'tap'
import { Gathering } from '../../lib/base/gathering.js'

/** Pieces of work as they came, each item a number of bytes. */
function gathering(bounds: { items: number; bytes: number }) {
  const pieces: number[][] = []
  const gathered = new Gathering<number, string>(
    (items) => {
      pieces.push(items)
      return Promise.resolve(items.map((item) => (item === 13 ? new Error('thirteen') : `${item} done`)))
    },
    { ...bounds, bytesOf: (item) => item },
  )
  return { pieces, gathered }
}

t.test('what one turn asks for is one piece of work, what the next does is another', async (t) => {
  const { pieces, gathered } = gathering({ items: 100, bytes: 1000 })
  t.same(await Promise.all([1, 2, 3].map((item) => gathered.add(item))), ['1 done', '2 done', '3 done'])
  t.equal(await gathered.add(4), '4 done')
  t.same(pieces, [[1, 2, 3], [4]])
})

t.test('pieces are bounded by their items and by their bytes, and keep the order', async (t) => {
  const few = gathering({ items: 2, bytes: 1000 })
  await Promise.all([1, 2, 3, 4, 5].map((item) => few.gathered.add(item)))
  t.same(few.pieces, [[1, 2], [3, 4], [5]])
  const small = gathering({ items: 10, bytes: 10 })
  await Promise.all([5, 5, 1, 20, 3, 8].map((item) => small.gathered.add(item)))
  t.same(small.pieces, [[5, 5], [1], [20], [3], [8]])
})

t.test('each is told of its own failure, and all when none was done', async (t) => {
  const { gathered } = gathering({ items: 10, bytes: 1000 })
  const [one, bad, two] = await Promise.allSettled([1, 13, 2].map((item) => gathered.add(item)))
  t.match([one, two], [{ value: '1 done' }, { value: '2 done' }])
  t.match(bad, { reason: { message: 'thirteen' } })
  const none = new Gathering<number, string>(() => Promise.reject(new Error('no thread')), {
    items: 1,
    bytes: 1,
    bytesOf: () => 1,
  })
  for (const outcome of await Promise.allSettled([none.add(1), none.add(2)]))
    t.match(outcome, { reason: { message: 'no thread' } })
})
