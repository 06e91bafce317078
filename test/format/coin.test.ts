import t from 'tap'
import { blocksWithin, countTo } from '../../lib/blocks/windows.js'
import { seeded } from '../../lib/base/random.js'
import {
  answerTo,
  coinNonce,
  commitment,
  drawnBlocks,
  drawnWindows,
  maxDrawn,
  maxDraws,
  spreadOver,
  windowRange,
} from '../../lib/format/coin.js'
import { Flips } from '../../lib/vault/flips.js'
import { block, TestClock, TestStore } from '../helpers/backup.js'
import { seededBytes } from '../helpers/bytes.js'
import { cheatedFlips, evenness } from '../helpers/coin-flips.js'

const owner = Buffer.alloc(32, 1)

const one = { bits: 6, draws: 1 }

t.test('five times 20,000 flips are even, whichever side is biased or breaks off', (t) => {
  const { counts, second, skewed } = cheatedFlips(seeded(60), 20_000)
  for (const [sides, windows] of counts) t.ok(evenness(windows) > 0.01, sides)
  t.equal(counts.size, 5)
  t.equal(second, 0, 'no other commitment is taken before the first is revealed')
  t.ok(evenness(skewed) < 0.01, 'one that may try again now and then is seen by this test')
  t.end()
})

t.test('a holder has one open flip of an owner, and answers it the same each time', (t) => {
  const clock = new TestClock()
  const holder = new Flips(Buffer.alloc(32, 2), clock)
  const [r1, other] = [Buffer.alloc(32, 3), Buffer.alloc(32, 4)]
  const r2 = holder.flip(owner, commitment(r1, one))
  t.same(holder.flip(owner, commitment(r1, one)), r2)
  t.throws(() => holder.flip(owner, commitment(other, one)), { code: 'busy' })
  t.ok(holder.flip(Buffer.alloc(32, 8), commitment(other, one)), 'other owners have their own')
  t.same(holder.reveal(owner, r1, one), r2)
  t.notSame(holder.reveal(owner, r1, { bits: 6, draws: 2 }), r2, 'the spread is committed to')
  const next = holder.flip(owner, commitment(other, one))
  t.notSame(next, r2)
  clock.pass(86_400_000)
  t.ok(holder.flip(owner, commitment(r1, one)), 'an owner that forgot its flip waits for a day')
  t.same(new Flips(Buffer.alloc(32, 2), clock).reveal(owner, other, one), next, 'also after a restart')
  t.same(next, answerTo(Buffer.alloc(32, 2), owner, commitment(other, one)))
  t.notSame(coinNonce(r1, r2), coinNonce(r1, next))
  t.end()
})

t.test('spreads: all of few, some 64 of many, each with the same chance', async (t) => {
  t.same(spreadOver(0), { bits: 0, draws: 1 })
  t.same(spreadOver(maxDrawn), { bits: 0, draws: 1 })
  for (const count of [maxDrawn + 1, 1000, 10 ** 6, 2 ** 28, 2 ** 31]) {
    const { bits, draws } = spreadOver(count)
    t.ok(bits <= 32 && draws <= maxDraws)
    const expected = count * (1 - Math.exp(-draws / 2 ** bits))
    t.ok(
      Math.abs(expected - drawnBlocks) < 2 || count > 2 ** 29,
      `${count} blocks: ${expected.toFixed(1)} drawn`,
    )
  }

  const store = await TestStore.open(t)
  const random = seeded(61)
  const names = Array.from({ length: 2000 }, () => block(random, 40))
  await store.add(names)
  t.equal(countTo(store.store, 2000), 2000)
  t.equal(countTo(store.store, 1000), 1000)
  t.equal(countTo(store.store, 9999), 2000)
  const spread = spreadOver(2000)
  const counts = new Map(names.map(({ name }) => [name.toString('hex'), 0]))
  let least = Infinity
  let most = 0
  const rounds = 300
  for (let i = 0; i < rounds; i++) {
    const [r1, r2] = [seededBytes(random, 32), seededBytes(random, 32)]
    const drawn = drawnWindows(r1, r2, spread).flatMap((window) =>
      blocksWithin(store.store, windowRange(window, spread.bits), maxDrawn),
    )
    for (const { name, sequence } of drawn) {
      counts.set(name.toString('hex'), (counts.get(name.toString('hex')) ?? 0) + 1)
      if (sequence < 1 || sequence > 2000) t.fail(`sequence ${sequence}`)
    }
    least = Math.min(least, drawn.length)
    most = Math.max(most, drawn.length)
  }
  t.ok(least >= 25 && most <= maxDrawn, `${least} to ${most} drawn`)
  t.equal(counts.size, 2000, 'nothing but what is there')
  t.ok(evenness([...counts.values()]) > 0.01, 'no block is favoured, however wide the gap before its name')
})

t.test('windows meet the first and the last name', async (t) => {
  const store = await TestStore.open(t)
  const edge = [0, 0x7f, 0x80, 0xff].map((byte) => ({
    name: Buffer.alloc(32, byte),
    bytes: Buffer.alloc(50, byte),
  }))
  await store.add(edge)
  const within = (window: number, bits: number) =>
    blocksWithin(store.store, windowRange(window, bits), 10).map(({ name }) => name[0])
  t.same(within(0, 0), [0, 0x7f, 0x80, 0xff])
  t.same(within(0, 1), [0, 0x7f])
  t.same(within(1, 1), [0x80, 0xff])
  t.same(within(0, 32), [0])
  t.same(within(0xffffffff, 32), [0xff])
  t.same(within(0x80808080, 32), [0x80])
  t.same(blocksWithin(store.store, windowRange(0, 0), 0), [])
})
