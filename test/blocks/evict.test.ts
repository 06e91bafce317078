import { spawn } from 'node:child_process'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'
import { systemClock } from '../../lib/base/clock.js'
import { silentLog } from '../../lib/base/log.js'
import { seeded } from '../../lib/base/random.js'
import { BlockStore } from '../../lib/blocks/block-store.js'
import { Database } from '../../lib/blocks/database.js'
import { evict } from '../../lib/store/evict.js'
import { evictable, isNode } from '../helpers/evictable.js'

t.setTimeout(280_000)

const options = { clock: systemClock, log: silentLog() }

async function opened(dir: string) {
  const db = Database.open(join(dir, 'index'))
  const blocks = await BlockStore.open(dir, { db, ...options })
  return {
    blocks,
    close: async () => {
      await blocks.close()
      await db.close()
    },
  }
}

async function filled(t: Test, count: number) {
  const dir = t.testdir()
  const store = await opened(dir)
  for (let n = 0; n < count; n++) await store.blocks.put(evictable(n).name, evictable(n).bytes)
  await store.blocks.commit()
  return { dir, ...store }
}

const range = (count: number) => Array.from({ length: count }, (_, n) => n)
const whole = () => true

t.test('what is safe goes, nodes and the rest stay, and the space is back', async (t) => {
  const { dir, blocks, close } = await filled(t, 40)
  const before = blocks.bytesOnDisk
  const { bytes } = blocks
  const done = await evict(blocks, { target: 0, isSafe: (sequence) => sequence <= 35 })
  const goes = range(35).filter((n) => !isNode(n))
  t.equal(done.blocks, goes.length)
  t.equal(done.bytesFreed, before - blocks.bytesOnDisk)
  t.equal(blocks.bytes + blocks.evicted.bytes, bytes)
  const see = async (store: BlockStore) => {
    for (const n of range(40)) {
      const { name, bytes } = evictable(n)
      t.ok(store.has(name))
      t.equal(store.sequence(name), n + 1)
      t.equal(store.size(name), bytes.length)
      t.equal(store.isHere(name), !goes.includes(n), `block ${n}`)
      t.same(await store.get(name), goes.includes(n) ? undefined : bytes)
    }
    t.match(await store.examine(false), { blocks: 12, evicted: 28, damaged: [], problems: [] })
  }
  await see(blocks)
  t.equal(blocks.since(0, 100).length, 40)
  await close()
  const again = await opened(dir)
  await see(again.blocks)

  // One comes back, one is removed.
  const [back, gone] = [evictable(0), evictable(1)]
  t.equal(await again.blocks.put(back.name, back.bytes), false, 'it was known')
  t.same(await again.blocks.get(back.name), back.bytes)
  await again.blocks.commit()
  t.equal(again.blocks.sequence(back.name), 1, 'partners need not be asked again')
  t.equal(again.blocks.lastSequence, 40)
  await again.blocks.remove([gone.name])
  t.notOk(again.blocks.has(gone.name))
  t.equal(again.blocks.evicted.blocks, 26)
  t.match(await again.blocks.examine(false), { blocks: 13, evicted: 26, problems: [] })
  await again.close()
})

t.test('one that nobody has any more is offered anew', async (t) => {
  const { blocks, close } = await filled(t, 10)
  await evict(blocks, { target: 0, isSafe: whole })
  const { name, bytes } = evictable(3)
  await blocks.rememberDamaged([name])
  t.notOk(blocks.has(name))
  t.ok(await blocks.put(name, bytes))
  await blocks.commit()
  t.equal(blocks.sequence(name), 11)
  t.match(await blocks.examine(false), { problems: [] })
  await close()
})

t.test('the least recently used goes first, also after a start', async (t) => {
  const dir = t.testdir()
  let store = await opened(dir)
  // Segments are as large as they are: blocks of nearly 1 MiB fill three of them.
  const large = (n: number) => {
    const { bytes } = evictable(0)
    const block = Buffer.concat([bytes.subarray(0, 2), Buffer.alloc(1_000_000, n + 1)])
    return { name: Buffer.from(`${n}`.padEnd(32, '.')), block }
  }
  const { hash } = await import('../../lib/format/hash.js')
  const all = range(190).map((n) => {
    const { block } = large(n)
    return { name: hash('kith block', block), block }
  })
  for (const { name, block } of all) await store.blocks.put(name, block)
  await store.blocks.commit()
  const segments = store.blocks.leastUsed().map(({ segment }) => segment)
  t.same(segments, [1, 2, 3])
  await store.blocks.get(all[0]?.name as Buffer)
  t.same(
    store.blocks.leastUsed().map(({ segment }) => segment),
    [2, 3, 1],
  )
  await evict(store.blocks, { target: store.blocks.bytesOnDisk - 1, isSafe: whole })
  t.same(
    store.blocks.leastUsed().map(({ segment }) => segment),
    [3, 1],
  )
  await store.close()
  store = await opened(dir)
  t.same(
    store.blocks.leastUsed().map(({ segment }) => segment),
    [3, 1],
  )
  t.ok(store.blocks.isHere(all[0]?.name as Buffer))
  await store.close()
})

t.test('what is wrong with the sums is found and put right', async (t) => {
  const dir = t.testdir()
  const store = await opened(dir)
  for (let n = 0; n < 10; n++) await store.blocks.put(evictable(n).name, evictable(n).bytes)
  await store.blocks.commit()
  await evict(store.blocks, { target: 0, isSafe: whole })
  await store.close()
  const db = Database.open(join(dir, 'index'))
  const { encodings } = await import('../../lib/blocks/database.js')
  const counters = db.table('counters', encodings.text, encodings.number)
  await db.transaction(() => counters.put('evictedBytes', 1))
  const blocks = await BlockStore.open(dir, { db, ...options })
  t.match(await blocks.examine(false), { problems: ['the sum of evicted blocks is wrong'] })
  t.equal((await blocks.examine(true)).fixed, 1)
  t.match(await blocks.examine(false), { problems: [] })
  await blocks.close()
  await db.close()
})

const script = fileURLToPath(new URL('./evict-child.js', import.meta.url))

/** Runs the child until it is killed at the Nth persistence point. */
async function run(dir: string, seed: number, at: number, from: number, sent: number) {
  const env = { ...process.env, KITH_TEST: '1', KITH_FAULT: `kill:${at}` }
  const child = spawn(process.execPath, [script, dir, String(seed), String(from), String(sent)], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env,
  })
  let text = ''
  child.stdout.on('data', (data) => (text += String(data)))
  const code = await new Promise<number | null>((resolve) => child.on('close', resolve))
  return { lines: text.split('\n').slice(0, -1).filter(Boolean), killed: code === null }
}

t.test('killed at random persistence points: what was not sent is here and whole', async (t) => {
  const dir = t.testdir()
  const random = seeded(4)
  const told = { there: new Set<number>(), gone: new Set<number>(), sent: 0, made: 0 }
  let kills = 0
  let everEvicted = 0
  for (let round = 0; round < 14; round++) {
    const { lines, killed } = await run(dir, 100 + round, 5 + (random() % 60), told.made, told.sent)
    if (killed) kills++
    for (const line of lines) {
      const n = Number(line.slice(1))
      if (line.startsWith('=')) told.sent = n
      if (line.startsWith('+')) told.there.add(n)
      if (line.startsWith('-')) told.gone.add(n)
    }
    told.made = Math.max(told.made, ...told.there) + 20
    const { blocks, close } = await opened(dir)
    t.match(await blocks.examine(false), { damaged: [], problems: [] }, `round ${round}`)
    for (const n of told.there) {
      const { name, bytes } = evictable(n)
      const sequence = blocks.sequence(name)
      if (sequence === undefined) {
        if (!told.gone.has(n)) t.fail(`round ${round}: block ${n} is gone`)
        continue
      }
      if (blocks.isHere(name)) t.ok((await blocks.get(name))?.equals(bytes), `round ${round}: block ${n}`)
      else {
        everEvicted++
        if (sequence > told.sent || isNode(n)) t.fail(`round ${round}: block ${n} must not go`)
      }
    }
    await close()
  }
  t.ok(kills >= 7, `killed ${kills} times`)
  t.ok(everEvicted > 20, `saw ${everEvicted} evicted`)
})
