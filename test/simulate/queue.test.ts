import t from 'tap'
import { seeded } from '../../lib/base/random.js'
import { type Event, EventQueue } from '../../simulate/queue.js'

t.test('events come by time, then by node, whatever is added in between', (t) => {
  const random = seeded(3)
  const queue = new EventQueue<'a' | 'b'>()
  const waiting: Event<'a' | 'b'>[] = []
  const byTime = (one: Event<string>, other: Event<string>) => one.at - other.at || one.node - other.node
  let wrong = 0
  for (let turn = 0; turn < 5000; turn++) {
    // Many are at the same time, each of another node.
    const event = { at: queue.now + (random() % 40), node: turn, kind: random() % 2 ? 'a' : 'b' } as const
    queue.add(event)
    waiting.push(event)
    for (let taken = random() % 3; taken > 0 && waiting.length > 0; taken--) {
      waiting.sort(byTime)
      const [first, found] = [waiting.shift(), queue.next()]
      if (found?.at !== first?.at || found?.node !== first?.node || found?.kind !== first?.kind) wrong++
      if (queue.now !== first?.at) wrong++
    }
  }
  t.equal(wrong, 0)
  for (const event of waiting.sort(byTime)) t.same(queue.next(), event)
  t.equal(queue.next(), undefined)
  t.end()
})
