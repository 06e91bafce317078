import t from 'tap'
import { SharedReads } from '../../lib/partners/shared-reads.js'

const name = (i: number) => Buffer.alloc(32, i)

/** Blocks of so many bytes; `asked` has what was read. */
function blocks(bytes: number) {
  const asked: number[] = []
  const read = (i: number) => () => {
    asked.push(i)
    return Promise.resolve(Buffer.alloc(bytes, i))
  }
  return { asked, read }
}

function shared(most: number, senders = 2): SharedReads {
  const reads = new SharedReads(most)
  for (let i = 0; i < senders; i++) reads.join()
  return reads
}

t.test('of several who ask for a block, one reads it, at once or later', async (t) => {
  const { asked, read } = blocks(10)
  const reads = shared(100)
  const [one, two] = await Promise.all([reads.get(name(1), read(1)), reads.get(name(1), read(1))])
  const three = await reads.get(name(1), read(1))
  for (const got of [one, two, three]) t.ok(got?.equals(Buffer.alloc(10, 1)))
  t.same(asked, [1])
})

t.test('no more is kept than it may be, and the oldest goes first', async (t) => {
  const { asked, read } = blocks(40)
  const reads = shared(100)
  for (const i of [1, 2, 3, 2, 3, 1, 3]) await reads.get(name(i), read(i))
  t.same(asked, [1, 2, 3, 1], '1 gave way to 3, and 2 to 1')
})

t.test('a block that is larger than all that is kept is given, and not kept', async (t) => {
  const { asked, read } = blocks(200)
  const reads = shared(100)
  t.equal((await reads.get(name(1), read(1)))?.length, 200)
  await reads.get(name(1), read(1))
  t.same(asked, [1, 1])
})

t.test('for one alone nothing is kept, nor for those that come after all have left', async (t) => {
  const { asked, read } = blocks(10)
  const reads = shared(100, 1)
  await reads.get(name(1), read(1))
  await reads.get(name(1), read(1))
  t.same(asked, [1, 1])
  reads.join()
  await reads.get(name(1), read(1))
  await reads.get(name(1), read(1))
  t.same(asked, [1, 1, 1])
  reads.leave()
  reads.join()
  await reads.get(name(1), read(1))
  t.same(asked, [1, 1, 1, 1])
})

t.test('what was read while all left is not kept', async (t) => {
  const reads = shared(100)
  let give: (block: Buffer) => void = () => undefined
  const late = reads.get(name(1), () => new Promise((resolve) => (give = resolve)))
  reads.leave()
  reads.join()
  give(Buffer.alloc(10, 1))
  t.ok(await late)
  const { asked, read } = blocks(10)
  await reads.get(name(1), read(1))
  t.same(asked, [1])
})

t.test('what is not to be had, or fails, is asked for again', async (t) => {
  const { asked, read } = blocks(10)
  const reads = shared(100)
  t.equal(await reads.get(name(1), () => Promise.resolve(undefined)), undefined)
  await t.rejects(
    reads.get(name(1), () => Promise.reject(new Error('damaged'))),
    /damaged/,
  )
  t.ok(await reads.get(name(1), read(1)))
  t.same(asked, [1])
})
