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

const owner = Buffer.alloc(32, 1)

/** Chance that a fair coin gives counts at least as uneven, by the normal approximation of Wilson and Hilferty (1931). */
function evenness(counts: readonly number[]): number {
  const expected = counts.reduce((sum, count) => sum + count, 0) / counts.length
  const chi = counts.reduce((sum, count) => sum + (count - expected) ** 2 / expected, 0)
  const freedom = counts.length - 1
  const z = (Math.cbrt(chi / freedom) - (1 - 2 / (9 * freedom))) / Math.sqrt(2 / (9 * freedom))
  return 0.5 * erfc(z / Math.SQRT2)
}

/** Abramowitz and Stegun 7.1.26: to 1.5e-7. */
function erfc(x: number): number {
  const u = 1 / (1 + 0.3275911 * Math.abs(x))
  const sum = ((((1.061405429 * u - 1.453152027) * u + 1.421413741) * u - 0.284496736) * u + 0.254829592) * u
  const tail = sum * Math.exp(-x * x)
  return x >= 0 ? tail : 2 - tail
}

const one = { bits: 6, draws: 1 }
const flips = 20_000

/** How often each of the 64 windows was drawn. */
function counted(flip: (i: number) => { r1: Buffer; r2: Buffer }): number[] {
  const counts = new Array<number>(64).fill(0)
  for (let i = 0; i < flips; i++) {
    const { r1, r2 } = flip(i)
    for (const window of drawnWindows(r1, r2, one)) counts[window] = (counts[window] ?? 0) + 1
  }
  return counts
}

t.test('five times 20,000 flips are even, whichever side is biased or breaks off', (t) => {
  const random = seeded(60)
  const bytes = () => seededBytes(random, 32)
  const fixed = Buffer.alloc(32, 9)
  const clock = new TestClock()
  t.ok(evenness(counted(() => ({ r1: bytes(), r2: bytes() }))) > 0.01, 'both honest')
  t.ok(evenness(counted(() => ({ r1: fixed, r2: bytes() }))) > 0.01, 'an owner with always the same r1')
  t.ok(evenness(counted(() => ({ r1: bytes(), r2: fixed }))) > 0.01, 'a holder with always the same r2')
  const low = (r1: Buffer, r2: Buffer) => (drawnWindows(r1, r2, one)[0] ?? 0) < 32

  let second = 0
  const ownerBreaksOff = counted(() => {
    const holder = new Flips(bytes(), clock)
    const r1 = bytes()
    const r2 = holder.flip(owner, commitment(r1, one))
    if (!low(r1, r2)) return { r1, r2 }
    // It does not like a low window, and tries others: none is taken before the first is revealed.
    try {
      holder.flip(owner, commitment(bytes(), one))
      second++
    } catch {
      // As it should.
    }
    return { r1, r2: holder.reveal(owner, r1, one) }
  })
  t.equal(second, 0)
  t.ok(evenness(ownerBreaksOff) > 0.01, 'an owner that breaks off what it does not like')

  const holderBreaksOff = counted(() => {
    const holder = new Flips(bytes(), clock)
    const r1 = bytes()
    const told = holder.flip(owner, commitment(r1, one))
    // It hangs up on a low window, and is asked to reveal the same again.
    return { r1, r2: low(r1, told) ? holder.reveal(owner, r1, one) : told }
  })
  t.ok(evenness(holderBreaksOff) > 0.01, 'a holder that breaks off what it does not like')

  const skewed = counted(() => {
    const [r1, r2] = [bytes(), bytes()]
    return low(r1, r2) && random() % 10 === 0 ? { r1: bytes(), r2 } : { r1, r2 }
  })
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
