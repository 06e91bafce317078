import t from 'tap'
import { Brake, leastFiles, windowMs } from '../../lib/daemon/brake.js'

const minute = 60_000
const none = { files: 0, scrambled: 0 }
/** So many files read, so many of them scrambled. */
const read = (files: number, scrambled = 0) => ({ files, scrambled })

t.test('most of a volume, at once or over an hour', (t) => {
  const brake = new Brake<string>()
  t.same(brake.note(read(330, 300), 'monday', 3000, 0), { ...read(330, 300), keep: 'monday' })
  const slowly = new Brake<string>()
  const alarms: number[] = []
  for (let at = 0; at < 59; at++) {
    const alarm = slowly.note(read(6, 5), at < 30 ? 'one' : 'two', 2500, at * minute)
    if (!alarm) continue
    t.equal(alarm.keep, 'one', 'the snapshot from before it began')
    alarms.push(at)
    slowly.acknowledge()
  }
  t.same(alarms, [49], 'a tenth of the files')
  t.end()
})

t.test('an alarm is given until it is taken care of, and then once an attack', (t) => {
  const brake = new Brake<string>()
  t.ok(brake.note(read(100, 100), 'a', 500, 0))
  t.ok(brake.note(none, 'a', 500, minute), 'it could not be pinned')
  brake.acknowledge()
  for (let at = 2; at < 200; at++) t.notOk(brake.note(read(20, 20), 'b', 500, at * minute), 'it goes on')
  t.notOk(brake.note(none, 'c', 500, 199 * minute + windowMs))
  t.same(brake.note(read(60, 60), 'd', 500, 300 * minute), { ...read(60, 60), keep: 'd' }, 'another one')
  t.end()
})

t.test('a few encrypted long before lead to no older snapshot', (t) => {
  const brake = new Brake<string>()
  t.notOk(brake.note(read(20, 2), 'morning', 1000, 0))
  t.notOk(brake.note(read(30), 'noon', 1000, 20 * minute))
  const alarm = brake.note(read(400, 390), 'noon', 1000, 30 * minute)
  t.match(alarm, { keep: 'noon' })
  t.end()
})

t.test('an attack that is seen late leads to the snapshot from before its first files', (t) => {
  const brake = new Brake<string>()
  t.notOk(brake.note(read(100), 'one', 1000, 0))
  t.notOk(brake.note(read(32, 30), 'one', 1000, 5 * minute))
  t.notOk(brake.note(read(32, 30), 'two', 1000, 10 * minute))
  t.match(brake.note(read(50, 50), 'three', 1000, 15 * minute), { files: 114, scrambled: 110, keep: 'one' })
  t.end()
})

t.test('what lasts longer than the window counts no more', (t) => {
  const brake = new Brake<string>()
  for (let hour = 0; hour < 20; hour++) t.notOk(brake.note(read(30, 30), 'a', 300, hour * windowMs))
  t.end()
})

t.test('what people do', (t) => {
  const work: [string, number, [number, number][]][] = [
    ['unpacking an archive: all of it is new', 10_000, [[20_000, 0]]],
    ['importing videos', 500, [[400, 0]]],
    ['git gc: packs are new', 3000, [[40, 0]]],
    ['npm ci: the same content comes again, or other code', 40_000, [[38_000, 120]]],
    ['upgrading packages: what is compressed changes among what is not', 60_000, [[9000, 1500]]],
    ['encrypting one folder of many', 5000, [[180, 180]]],
    ['some letters in a small home', 60, [[leastFiles - 1, leastFiles - 1]]],
    ['a photo program writes all of its pictures anew, one after another', 20_000, Array(60).fill([25, 25])],
    ['a day of work', 2000, Array(600).fill([3, 0])],
  ]
  for (const [what, files, steps] of work) {
    const brake = new Brake<string>()
    const alarms = steps.filter(([all, scrambled], at) =>
      brake.note(read(all, scrambled), 's', files, at * minute),
    )
    t.equal(alarms.length, 0, what)
  }
  t.end()
})

t.test('an attack amid other work, and on a huge volume', (t) => {
  t.ok(new Brake<string>().note(read(1500, 800), 's', 5000, 0), 'while an archive is unpacked')
  const busy = new Brake<string>()
  t.notOk(busy.note(read(9000), 's', 9000, 0))
  t.same(
    busy.note(read(1000, 1000), 's', 9000, 3 * minute),
    { ...read(1000, 1000), keep: 's' },
    'after it was',
  )
  t.ok(new Brake<string>().note(read(2000, 2000), 's', 1_000_000, 0), 'two thousand are enough')
  t.notOk(new Brake<string>().note(read(1999, 1999), 's', 1_000_000, 0))
  t.end()
})
