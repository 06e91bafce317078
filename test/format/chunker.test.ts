import t from 'tap'
import { seeded } from '../../lib/base/random.js'
import { Chunker, defaultSizes, type ChunkSizes } from '../../lib/format/chunker.js'
import { hash } from '../../lib/format/hash.js'
import { seededBytes } from '../helpers/bytes.js'

// Seconds of cutting; a busy machine takes its time.
t.setTimeout(120_000)

const secret = Buffer.alloc(32, 1)
const small: ChunkSizes = { min: 1024, average: 4096, max: 16_384 }

/** Ends of all chunks of `data`, read in pieces of the lengths that `piece` gives. */
function stream(chunker: Chunker, data: Buffer, piece: () => number): number[] {
  const ends: number[] = []
  let base = 0
  let held = 0
  let read = 0
  for (;;) {
    const take = Math.min(piece(), data.length - read, chunker.memory.length - held)
    data.copy(chunker.memory, held, read, read + take)
    held += take
    read += take
    const end = read === data.length
    const found = chunker.cut(held, end)
    for (const at of found) ends.push(base + at)
    if (end) return ends
    const last = found.at(-1) ?? 0
    chunker.memory.copyWithin(0, last, held)
    base += last
    held -= last
  }
}

function whole(chunker: Chunker, data: Buffer): number[] {
  return stream(chunker, data, () => chunker.memory.length)
}

/** Bytes with long repetitions and runs, as real files have them. */
function structured(random: () => number, length: number): Buffer {
  const parts: Buffer[] = []
  for (let left = length; left > 0;) {
    const size = Math.min(left, 1 + (random() % 60_000))
    const kind = random() % 4
    if (kind === 0) parts.push(Buffer.alloc(size))
    else if (kind === 1) parts.push(Buffer.alloc(size, seededBytes(random, 1 + (random() % 300))))
    else parts.push(seededBytes(random, size))
    left -= size
  }
  return Buffer.concat(parts)
}

t.test('every byte lies in exactly one chunk, within the bounds', (t) => {
  const random = seeded(1)
  for (const sizes of [defaultSizes, small]) {
    const chunker = new Chunker(secret, sizes)
    for (const length of [
      0,
      1,
      63,
      sizes.min - 1,
      sizes.min,
      sizes.min + 1,
      sizes.average,
      sizes.max - 1,
      sizes.max,
      sizes.max + 1,
      3_000_001,
    ]) {
      for (const data of [seededBytes(random, length), structured(random, length), Buffer.alloc(length)]) {
        const ends = whole(chunker, data)
        t.equal(ends.at(-1) ?? 0, length, `${length} bytes end where they end`)
        const lengths = ends.map((end, i) => end - (ends[i - 1] ?? 0))
        const last = lengths.pop() ?? 1
        t.ok(last > 0 && last <= sizes.max)
        t.ok(lengths.every((n) => n > sizes.min && n <= sizes.max))
      }
    }
  }
  t.end()
})

t.test('zeros are cut at the maximum', (t) => {
  t.same(whole(new Chunker(secret), Buffer.alloc(600_000)), [262_144, 524_288, 600_000])
  t.end()
})

t.test('same input, same cuts; another secret, other cuts', (t) => {
  const data = seededBytes(seeded(2), 3_000_000)
  const ends = whole(new Chunker(secret), data)
  t.same(whole(new Chunker(Buffer.from(secret)), data), ends)
  const other = new Set(whole(new Chunker(Buffer.alloc(32, 2)), data))
  t.ok(ends.filter((end) => other.has(end)).length <= 1, 'only the end of the data is common')
  t.end()
})

t.test('the same cuts however the bytes arrive', (t) => {
  const random = seeded(3)
  for (const sizes of [defaultSizes, small]) {
    const chunker = new Chunker(secret, sizes)
    for (let round = 0; round < 6; round++) {
      const data = structured(random, 3_000_000 + (random() % 1000))
      const ends = whole(chunker, data)
      for (const most of [100_000, 4097, 1_000_003])
        t.same(
          stream(chunker, data, () => 1 + (random() % most)),
          ends,
        )
    }
  }
  t.end()
})

t.test('more than the memory holds', (t) => {
  const random = seeded(4)
  const chunker = new Chunker(secret)
  const data = seededBytes(random, 10_000_000)
  const ends = whole(chunker, data)
  t.equal(ends.at(-1), data.length)
  t.same(
    stream(chunker, data, () => 300_001),
    ends,
  )
  const mean = data.length / ends.length
  t.ok(mean > 60_000 && mean < 95_000, `chunks have ${Math.round(mean)} bytes on average`)
  t.end()
})

/** How many ends of `after` are not ends of `before`, moved by what was inserted at `at`. */
function movedCuts(before: number[], after: number[], at: number, inserted: number): number {
  const expected = new Set(before.map((end) => (end <= at ? end : end + inserted)))
  return after.filter((end) => !expected.has(end)).length
}

t.test('an insertion moves at most three cuts', (t) => {
  const random = seeded(5)
  for (const [sizes, length, rounds] of [
    [small, 300_000, 400],
    [defaultSizes, 3_000_000, 40],
  ] as const) {
    const chunker = new Chunker(secret, sizes)
    let worst = 0
    for (let i = 0; i < rounds; i++) {
      const data = seededBytes(random, length)
      const at = random() % length
      const inserted = seededBytes(random, 1 + (random() % 200))
      const changed = Buffer.concat([data.subarray(0, at), inserted, data.subarray(at)])
      worst = Math.max(worst, movedCuts(whole(chunker, data), whole(chunker, changed), at, inserted.length))
    }
    t.ok(worst <= 3, `at most ${worst} cuts moved`)
  }
  t.end()
})

t.test('within runs, where no content ends a chunk, an insertion still makes few new chunks', (t) => {
  const random = seeded(15)
  const chunker = new Chunker(secret, small)
  const chunks = (data: Buffer): Set<string> => {
    let start = 0
    return new Set(
      whole(chunker, data).map((end) =>
        hash('kith test chunk', data.subarray(start, (start = end))).toString('latin1'),
      ),
    )
  }
  let worst = 0
  for (let i = 0; i < 200; i++) {
    const data = structured(random, 300_000)
    const at = random() % data.length
    const before = chunks(data)
    const after = chunks(Buffer.concat([data.subarray(0, at), seededBytes(random, 20), data.subarray(at)]))
    worst = Math.max(worst, [...after].filter((chunk) => !before.has(chunk)).length)
  }
  t.ok(worst <= 12, `at most ${worst} new chunks`)
  t.end()
})

t.test('cuts are part of the format', (t) => {
  const data = structured(seeded(6), 4_000_000)
  const digest = hash('kith test cuts', Buffer.from(whole(new Chunker(secret), data).join())).toString(
    'hex',
    0,
    8,
  )
  t.equal(digest, 'ee463157bc1b488c')
  t.end()
})
