import { spawn } from 'node:child_process'
import { execFileSync } from 'node:child_process'
import {
  appendFileSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'
import { systemClock } from '../../lib/base/clock.js'
import { silentLog } from '../../lib/base/log.js'
import { seeded } from '../../lib/base/random.js'
import { BlockStore } from '../../lib/blocks/block-store.js'
import { Database } from '../../lib/blocks/database.js'
import { encodeHeader } from '../../lib/blocks/segments.js'
import { blockName } from '../../lib/format/seal.js'
import { seededBytes } from '../helpers/bytes.js'

t.setTimeout(280_000)

interface Opened {
  db: Database
  blocks: BlockStore
  close(): Promise<void>
}

async function open(dir: string): Promise<Opened> {
  const db = Database.open(join(dir, 'index'))
  const blocks = await BlockStore.open(dir, { db, clock: systemClock, log: silentLog() })
  return {
    db,
    blocks,
    async close() {
      await blocks.close()
      await db.close()
    },
  }
}

function made(seed: number, bytes: number): { name: Buffer; bytes: Buffer } {
  const data = seededBytes(seeded(seed), bytes)
  return { name: blockName(data), bytes: data }
}

const segmentFiles = (dir: string) =>
  readdirSync(join(dir, 'segments'))
    .sort()
    .map((name) => join(dir, 'segments', name))

t.test('put, commit, get, order, reopen', async (t) => {
  const dir = t.testdir()
  let store = await open(dir)
  const all = Array.from({ length: 50 }, (_, i) => made(i, 1 + ((i * 7919) % 5000)))
  for (const { name, bytes } of all) {
    t.notOk(store.blocks.has(name))
    await store.blocks.put(name, bytes)
    t.ok(store.blocks.has(name))
    t.same(await store.blocks.get(name), bytes, 'even before the commit')
    await store.blocks.put(name, bytes)
  }
  t.same(store.blocks.since(0, 100), [], 'nothing is told before it is durable')
  await store.blocks.commit()
  await store.blocks.commit()
  t.equal(store.blocks.count, 50)
  for (const pass of ['live', 'reopened']) {
    t.same(
      store.blocks.since(0, 100).map(({ sequence, name }) => [sequence, name.toString('hex')]),
      all.map(({ name }, i) => [i + 1, name.toString('hex')]),
      pass,
    )
    t.same(
      store.blocks.since(30, 5).map(({ sequence }) => sequence),
      [31, 32, 33, 34, 35],
    )
    t.equal(store.blocks.lastSequence, 50)
    t.equal(
      store.blocks.bytes,
      all.reduce((sum, { bytes }) => sum + bytes.length, 0),
    )
    for (const { name, bytes } of all) {
      t.same(await store.blocks.get(name), bytes)
      t.equal(store.blocks.size(name), bytes.length)
    }
    t.equal([...store.blocks.names()].length, 50)
    await store.close()
    store = await open(dir)
  }
  t.equal(await store.blocks.get(Buffer.alloc(32)), undefined)
  await store.close()
})

t.test('records are taken in as they lie, without those that are here', async (t) => {
  const dir = t.testdir()
  let store = await open(dir)
  const all = Array.from({ length: 30 }, (_, i) => made(100 + i, 1 + ((i * 7919) % 5000)))
  for (const i of [0, 7, 8, 29]) {
    const { name, bytes } = all[i] as (typeof all)[number]
    await store.blocks.put(name, bytes)
  }
  const records = Buffer.concat(all.flatMap(({ name, bytes }) => [encodeHeader(name, bytes.length), bytes]))
  const told: number[] = []
  const taken = await store.blocks.putRecords(records, (index, name, bytes) => {
    t.ok(name.equals(all[index]?.name ?? Buffer.alloc(0)))
    t.equal(bytes, all[index]?.bytes.length)
    told.push(index)
  })
  t.same(told, [...all.keys()])
  t.equal(taken.blocks, 26)
  for (const { name, bytes } of all) t.same(await store.blocks.get(name), bytes, 'before it is written')
  await store.blocks.commit()
  t.equal(store.blocks.count, 30)
  t.same(await store.blocks.putRecords(records, () => undefined), { blocks: 0, bytes: 0 })
  await store.close()
  store = await open(dir)
  for (const { name, bytes } of all) t.same(await store.blocks.get(name), bytes)
  await store.close()
})

t.test('records fill one segment and go on in the next', async (t) => {
  const dir = t.testdir()
  const store = await open(dir)
  const blocks = Array.from({ length: 70 }, (_, i) => made(200 + i, 1024 * 1024))
  for (let at = 0; at < blocks.length; at += 10) {
    const portion = blocks.slice(at, at + 10)
    const records = portion.flatMap(({ name, bytes }) => [encodeHeader(name, bytes.length), bytes])
    await store.blocks.putRecords(Buffer.concat(records), () => undefined)
  }
  await store.blocks.commit()
  t.equal(segmentFiles(dir).length, 2)
  for (const { name, bytes } of blocks) t.ok((await store.blocks.get(name))?.equals(bytes))
  await store.close()
})

t.test('what was put and not committed is gone, and leaves nothing', async (t) => {
  const dir = t.testdir()
  let store = await open(dir)
  const kept = made(1, 1000)
  await store.blocks.put(kept.name, kept.bytes)
  await store.blocks.commit()
  for (let i = 2; i < 12; i++) {
    const { name, bytes } = made(i, 1024 * 1024)
    await store.blocks.put(name, bytes)
  }
  await store.close()
  t.ok(statSync(segmentFiles(dir)[0] as string).size > 4_000_000, 'some was written already')
  store = await open(dir)
  t.equal(store.blocks.count, 1)
  t.equal(statSync(segmentFiles(dir)[0] as string).size, 1040, 'the torn tail is cut')
  t.same(await store.blocks.get(kept.name), kept.bytes)
  await store.close()
})

t.test('segments roll over at 64 MiB; stray files go', async (t) => {
  const dir = t.testdir()
  let store = await open(dir)
  const all = Array.from({ length: 140 }, (_, i) => made(i, 1024 * 1024))
  for (const { name, bytes } of all) await store.blocks.put(name, bytes)
  await store.blocks.commit()
  await store.close()
  t.equal(segmentFiles(dir).length, 3)
  for (const file of segmentFiles(dir)) t.ok(statSync(file).size <= 64 * 1024 * 1024)
  writeFileSync(join(dir, 'segments/00000009.seg'), 'never committed')
  writeFileSync(join(dir, 'segments/note'), 'not ours')
  store = await open(dir)
  t.notOk(existsSync(join(dir, 'segments/00000009.seg')))
  t.ok(existsSync(join(dir, 'segments/note')))
  for (const { name, bytes } of all) t.ok((await store.blocks.get(name))?.equals(bytes))

  await t.test('removal gives the space back', async (t) => {
    const before = store.blocks.bytes
    await store.blocks.remove([made(0, 1024 * 1024).name, Buffer.alloc(32, 1)])
    t.equal(store.blocks.bytes, before - 1024 * 1024)
    t.equal(segmentFiles(dir).length, 3 + 1, 'one dead block does not move 63 others')
    await store.blocks.remove(
      all
        .slice(1, 130)
        .filter((_, i) => i % 4 !== 0)
        .map(({ name }) => name),
    )
    const size = segmentFiles(dir)
      .filter((file) => file.endsWith('.seg'))
      .reduce((sum, file) => sum + statSync(file).size, 0)
    t.ok(size < 60 * 1024 * 1024, `${size} bytes are left`)
    for (const pass of [1, 2]) {
      for (const [i, { name, bytes }] of all.entries()) {
        const gone = i === 0 || (i < 130 && (i - 1) % 4 !== 0)
        const got = await store.blocks.get(name)
        if (gone ? got !== undefined : !got?.equals(bytes)) t.fail(`block ${i} in pass ${pass}`)
      }
      const order = store.blocks.since(0, 1000)
      t.equal(order.length, store.blocks.count)
      t.same(
        order.map(({ sequence }) => sequence),
        [...order.map(({ sequence }) => sequence)].sort((a, b) => a - b),
      )
      await store.close()
      store = await open(dir)
    }
    await store.blocks.remove([...store.blocks.names()])
    t.equal(store.blocks.bytes, 0)
    t.same(
      segmentFiles(dir).filter((file) => file.endsWith('.seg')),
      [],
    )
    const again = all[7] as { name: Buffer; bytes: Buffer }
    await store.blocks.put(again.name, again.bytes)
    await store.blocks.commit()
    t.same(await store.blocks.get(again.name), again.bytes)
  })
  await store.close()
})

t.test('large and small blocks in any order, before and after they are written', async (t) => {
  const dir = t.testdir()
  let store = await open(dir)
  const sizes = [65_535, 65_536, 1, 1024 * 1024 + 64, 40, 200_000, 65_537, 3000]
  // Enough to be written three times before the commit.
  const all = Array.from({ length: 64 }, (_, i) => made(700 + i, sizes[i % sizes.length] ?? 1))
  for (const { name, bytes } of all) {
    await store.blocks.put(name, bytes)
    t.same(await store.blocks.get(name), bytes, 'at once')
  }
  for (const { name, bytes } of all) t.same(await store.blocks.get(name), bytes, 'before the commit')
  await store.blocks.commit()
  await store.close()
  store = await open(dir)
  const got = await Promise.all(all.map(({ name }) => store.blocks.get(name)))
  for (const [i, { bytes }] of all.entries()) t.same(got[i], bytes, 'all together')
  t.equal((await store.blocks.examine(false)).damaged.length, 0)
  await store.close()
})

t.test('of blocks that are asked for together, a damaged one hurts no other', async (t) => {
  const dir = t.testdir()
  const store = await open(dir)
  const all = Array.from({ length: 19 }, (_, i) => made(800 + i, 1 + ((i * 77_003) % 150_000)))
  for (const { name, bytes } of all) await store.blocks.put(name, bytes)
  await store.blocks.commit()
  const [file = ''] = segmentFiles(dir)
  const bytes = readFileSync(file)
  const bad = [3, 11]
  for (const i of bad) {
    const at = bytes.indexOf(all[i]?.bytes ?? '')
    bytes[at + 17] = (bytes[at + 17] ?? 0) ^ 1
  }
  writeFileSync(file, bytes)
  const got = await Promise.allSettled(all.map(({ name }) => store.blocks.get(name)))
  for (const [i, one] of got.entries()) {
    if (bad.includes(i)) t.match(one, { status: 'rejected', reason: { code: 'damaged' } })
    else t.same(one.status === 'fulfilled' && one.value, all[i]?.bytes)
  }
  t.same(new Set(store.blocks.knownDamaged.map(String)), new Set(bad.map((i) => String(all[i]?.name))))
  await store.close()
})

t.test('every changed byte is found, and a whole block replaces a damaged one', async (t) => {
  const dir = t.testdir()
  let store = await open(dir)
  const one = made(1, 300)
  const two = made(2, 300)
  for (const { name, bytes } of [one, two]) await store.blocks.put(name, bytes)
  await store.blocks.commit()
  const file = segmentFiles(dir)[0] as string
  const whole = readFileSync(file)
  for (let at = 0; at < 340; at += 3) {
    const bad = Buffer.from(whole)
    bad[at] = (bad[at] ?? 0) ^ (1 << (at % 8))
    writeFileSync(file, bad)
    await t.rejects(store.blocks.get(one.name), { code: 'damaged' }, `byte ${at}`)
    t.same(await store.blocks.get(two.name), two.bytes)
  }
  t.notOk(store.blocks.has(one.name), 'a damaged block is not held')
  await store.blocks.put(one.name, one.bytes)
  await store.blocks.commit()
  t.same(await store.blocks.get(one.name), one.bytes)
  t.equal(store.blocks.count, 2)
  t.equal(store.blocks.bytes, 600)
  t.same(
    store.blocks.since(0, 9).map(({ sequence }) => sequence),
    [2, 3],
  )
  await store.close()

  truncateSync(file, 100)
  store = await open(dir)
  await t.rejects(store.blocks.get(two.name), { code: 'damaged' }, 'a truncated segment')
  const three = made(3, 300)
  await store.blocks.put(three.name, three.bytes)
  await store.blocks.put(two.name, two.bytes)
  await store.blocks.commit()
  t.same(await store.blocks.get(three.name), three.bytes)
  t.same(await store.blocks.get(two.name), two.bytes)
  appendFileSync(segmentFiles(dir).at(-1) as string, 'tail')
  await store.close()
  store = await open(dir)
  t.same(await store.blocks.get(two.name), two.bytes)
  await store.close()
})

/** A file system of its own, `size` large. */
function smallDisk(t: Test, kind: 'tmpfs' | 'ext4'): string {
  const base = mkdtempSync(join(tmpdir(), 'kith-disk-'))
  const at = join(base, 'at')
  execFileSync('mkdir', [at])
  t.teardown(() => {
    execFileSync('umount', ['-l', at])
    rmSync(base, { recursive: true })
  })
  if (kind === 'tmpfs') execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=24m', 'tmpfs', at])
  else {
    const image = join(base, 'image')
    writeFileSync(image, '')
    truncateSync(image, 32 * 1024 * 1024)
    execFileSync('mkfs.ext4', ['-q', image])
    execFileSync('mount', ['-o', 'loop', image, at])
  }
  return at
}

for (const kind of ['tmpfs', 'ext4'] as const) {
  const skip = process.getuid?.() !== 0 && 'only root can mount'
  t.test(`a full disk (${kind}) refuses, loses nothing, and works again`, { skip }, async (t) => {
    const dir = smallDisk(t, kind)
    const store = await open(dir)
    writeFileSync(join(dir, 'ballast'), Buffer.alloc(6 * 1024 * 1024))
    const durable: number[] = []
    let waiting: number[] = []
    let refused: unknown
    for (let i = 0; i < 1000 && !refused; i++) {
      const { name, bytes } = made(i, 100_000)
      try {
        await store.blocks.put(name, bytes)
        waiting.push(i)
        if (i % 10 !== 9) continue
        await store.blocks.commit()
        durable.push(...waiting)
        waiting = []
      } catch (error) {
        refused = error
      }
    }
    t.match(refused, { code: 'noSpace' })
    t.ok(durable.length > 50)
    const check = async (seeds: number[]) => {
      for (const seed of seeds) {
        const { name, bytes } = made(seed, 100_000)
        if (!(await store.blocks.get(name))?.equals(bytes)) t.fail(`block ${seed}`)
      }
    }
    await check(durable)
    await t.rejects(store.blocks.commit(), { code: 'noSpace' })
    rmSync(join(dir, 'ballast'))
    await store.blocks.commit()
    await check([...durable, ...waiting])
    const extra = made(5000, 100_000)
    await store.blocks.put(extra.name, extra.bytes)
    await store.blocks.commit()
    await store.close()
    const again = await open(dir)
    t.ok(again.blocks.count >= durable.length + waiting.length + 1)
    t.same(await again.blocks.get(extra.name), extra.bytes)
    await again.close()
  })
}

t.test('killed at any point: what was committed is there, and nothing else', async (t) => {
  const dir = t.testdir()
  const script = fileURLToPath(new URL('./crash-child.js', import.meta.url))
  const next = seeded(5)
  const known = new Set<number>()
  let from = 0
  for (let round = 0; round < 12; round++) {
    const child = spawn(process.execPath, [script, dir, String(from)], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    let told = ''
    const after = 2 + (next() % 40)
    child.stdout.on('data', (data) => {
      told += String(data)
      if (told.split('\n').length > after) child.kill('SIGKILL')
    })
    await new Promise((resolve) => child.on('close', resolve))
    // A line is complete before its newline: "+12" was committed, "-12" was removed.
    for (const line of told.split('\n').slice(0, -1)) {
      const seed = Number(line.slice(1))
      if (line.startsWith('+')) known.add(seed)
      else known.delete(seed)
      from = Math.max(from, seed + 1)
    }
    const store = await open(dir)
    for (const seed of known) {
      const { name, bytes } = made(seed, 50_000)
      // A removal may have become durable without having been told.
      const got = await store.blocks.get(name)
      if (got ? !got.equals(bytes) : seed % 3 !== 0) t.fail(`block ${seed} in round ${round}`)
      if (!got) known.delete(seed)
    }
    for (const name of [...store.blocks.names()]) t.ok(await store.blocks.get(name))
    t.equal(store.blocks.since(0, 100_000).length, store.blocks.count)
    await store.close()
    from += 1000
  }
})

t.test('one block put by several at once counts once, also while puts wait for room', async (t) => {
  const store = await open(t.testdir())
  const filling = Array.from({ length: 12 }, (_, i) => made(1000 + i, 1024 * 1024))
  const { name, bytes } = made(2000, 5000)
  const puts = filling.map((block) => store.blocks.put(block.name, block.bytes))
  const answers = await Promise.all([1, 2, 3].map(() => store.blocks.put(name, bytes)))
  t.same(answers.filter(Boolean).length, 1)
  t.ok((await Promise.all(puts)).every(Boolean))
  await store.blocks.commit()
  t.equal(store.blocks.count, filling.length + 1)
  await store.close()
})

t.test(
  'what is read before it is written stays what it was, and memory is used again for other blocks',
  async (t) => {
    const store = await open(t.testdir())
    const read = []
    for (let i = 0; i < 40; i++) {
      const block = made(3000 + i, 600_000 + i)
      await store.blocks.put(block.name, block.bytes)
      read.push({ block, bytes: await store.blocks.get(block.name) })
      if (i % 7 === 6) await store.blocks.commit()
    }
    await store.blocks.commit()
    for (const { block, bytes } of read) {
      t.ok(bytes?.equals(block.bytes), 'as it was read')
      t.ok((await store.blocks.get(block.name))?.equals(block.bytes), 'as it was written')
    }
    await store.close()
  },
)
