import t, { type Test } from 'tap'
import type { Book, Progress } from '../../lib/partners/book.js'
import { isKeeper, Keepers, type Standing } from '../../lib/partners/keepers.js'
import { openBook, TestClock } from '../helpers/backup.js'

const dayMs = 86_400_000
const now = 1_700_000_000_000
const good: Standing = { isPartner: true, isLeaving: false, online: true, lastSeen: now }
const proven: Progress = {
  cursor: 10,
  bytesHeld: 1,
  blocksHeld: 1,
  releaseNumber: 0,
  lastProof: now - dayMs,
  lastAudit: now - dayMs,
  verdict: { state: 'unknown', found: [], blocks: 0, repaired: 0, at: 0 },
}

t.test('who is a keeper', (t) => {
  const cases: [string, boolean, Partial<Standing>, Partial<Progress>][] = [
    ['a partner on line that passed an audit', true, {}, {}],
    ['off line since six days', true, { online: false, lastSeen: now - 6 * dayMs }, {}],
    ['off line since eight days', false, { online: false, lastSeen: now - 8 * dayMs }, {}],
    ['shares no circle', false, { isPartner: false }, {}],
    ['its agreement is over', false, { isLeaving: true }, {}],
    ['holds nothing', false, {}, { cursor: 0 }],
    ['was never audited', false, {}, { lastProof: 0 }],
    ['passed its last audit 29 days ago', true, {}, { lastProof: now - 29 * dayMs }],
    ['passed its last audit 31 days ago', false, {}, { lastProof: now - 31 * dayMs }],
    ['lost something', false, {}, { verdict: { ...proven.verdict, state: 'damaged', found: ['missing'] } }],
    ['all of it was asked', true, {}, { verdict: { ...proven.verdict, state: 'good' } }],
  ]
  for (const [what, expected, standing, progress] of cases)
    t.equal(isKeeper({ ...good, ...standing }, { ...proven, ...progress }, now), expected, what)
  t.end()
})

const key = (n: number) => Buffer.alloc(32, n)
const name = (n: number) => Buffer.alloc(32, 100 + n)

async function audited(book: Book, partner: Buffer, cursor: number, at: number): Promise<void> {
  await book.advance(partner, cursor)
  await book.audited(partner, { clean: true, whole: false }, at)
}

async function three(t: Test) {
  const book = openBook(t)
  const clock = new TestClock()
  const standings = [1, 2, 3].map((n) => ({ key: key(n), ...good, lastSeen: clock.now() }))
  const keepers = new Keepers(book, () => standings, clock)
  const at = (n: number) => standings[n - 1] as (typeof standings)[0]
  for (const [n, cursor] of [30, 20, 10].entries()) await audited(book, key(n + 1), cursor, clock.now())
  return { book, clock, keepers, at }
}

t.test('who holds a block: up to the cursor, and not known to lack it', async (t) => {
  const { book, clock, keepers, at } = await three(t)
  t.equal(keepers.count, 3)
  t.same(
    [5, 10, 11, 20, 21, 30, 31].map((sequence) => keepers.of(sequence, name(1))),
    [3, 3, 2, 2, 1, 1, 0],
  )
  t.same(
    [1, 2, 3, 4].map((copies) => keepers.floor(copies)),
    [30, 20, 10, 0],
  )
  await book.lacks(key(1), [name(1)])
  t.equal(keepers.of(5, name(1)), 2)
  t.equal(keepers.of(5, name(2)), 3)
  t.same(keepers.exceptions(10), [name(1)])
  await book.lacksNoMore(key(1), [name(1)])
  t.equal(keepers.of(5, name(1)), 3)

  // Found to lack one block, a partner counts for none until a full audit clears it.
  await book.found(key(2), 'missing', [name(2)], clock.now())
  t.equal(keepers.of(5, name(1)), 2)
  await book.resent(key(2), [name(2)])
  t.equal(keepers.of(5, name(1)), 2)
  await book.audited(key(2), { clean: true, whole: true }, clock.now())
  t.equal(keepers.of(5, name(1)), 3)

  at(3).isLeaving = true
  t.equal(keepers.of(5, name(1)), 2, 'what it has is for the notice only')
  await book.emptied(key(1))
  t.equal(keepers.of(5, name(1)), 1, 'it let go of everything')
})

t.test('while all are away for long none counts, but what they have is believed to be there', async (t) => {
  const { book, clock, keepers, at } = await three(t)
  for (const n of [1, 2, 3]) at(n).online = false
  t.equal(keepers.count, 3)
  clock.pass(8 * dayMs)
  t.equal(keepers.count, 0)
  t.equal(keepers.floor(1), 0)
  t.ok(keepers.believed(25, name(1)))
  t.notOk(keepers.believed(31, name(1)))
  await book.lacks(key(1), [name(1)])
  t.notOk(keepers.believed(25, name(1)))
  at(2).online = true
  t.notOk(keepers.believed(15, name(1)), 'who is on line is asked')
  t.ok(keepers.believed(5, name(1)))
})
