import t, { type Test } from 'tap'
import { seeded } from '../../lib/base/random.js'
import { encodeRelease, type Release } from '../../lib/format/wire-release.js'
import { block, folder, head, identity, openVault, TestClock } from '../helpers/backup.js'
import { mutate } from '../helpers/bytes.js'

const partner = identity(1)
const ann = identity(2)
const bob = identity(3)
const day = 86_400_000

const drop = (number: number, names: Buffer[], owner = ann, change: Partial<Release> = {}) =>
  encodeRelease(
    { kind: 'drop', partner: partner.id, volume: Buffer.alloc(16), number, names, ...change },
    owner.keyPair,
  )

/** Mutated, and surely not the same. */
function forged(random: () => number, bytes: Buffer): Buffer {
  for (;;) {
    const wrong = mutate(random, bytes)
    if (!wrong.equals(bytes)) return wrong
  }
}

async function holding(t: Test, count: number, quotaBytes = 1_000_000_000) {
  const dir = folder(t)
  const clock = new TestClock()
  const options = { dir, clock, dropDelayMs: 3 * day, quotaBytes }
  const vault = await openVault(t, partner, options)
  const random = seeded(count)
  const blocks = Array.from({ length: count }, () => block(random, 1000))
  for (const { name, bytes } of blocks) await vault.put(ann.id, name, bytes)
  await vault.commit(ann.id)
  return { vault, clock, options, blocks, names: blocks.map(({ name }) => name) }
}

t.test('a drop is held back by the holder, and then carried out', async (t) => {
  const { vault, clock, names, blocks, options } = await holding(t, 5)
  const [one, two, ...others] = names as [Buffer, Buffer, ...Buffer[]]
  t.same(await vault.release(ann.id, drop(1, [one, two, Buffer.alloc(32)])), { blocks: 2, bytes: 2000 })
  t.match(vault.held(ann.id), { blocks: 3, bytes: 3000, releaseNumber: 1 }, 'counted as gone')
  clock.pass(2 * day)
  t.same(
    await vault.release(ann.id, drop(2, [one])),
    { blocks: 0, bytes: 0 },
    'told twice, it keeps its time',
  )
  t.notOk(vault.hasDueDrops)
  t.same(await vault.carryOutDrops(), { blocks: 0, bytes: 0 })
  t.same(await vault.get(ann.id, one), blocks[0]?.bytes, 'a recovery could still read it')
  await vault.close()
  const again = await openVault(t, partner, options)
  t.match(again.held(ann.id), { blocks: 3, bytes: 3000, releaseNumber: 2 })
  clock.pass(day + 1)
  t.ok(again.hasDueDrops)
  t.same(await again.carryOutDrops(), { blocks: 2, bytes: 2000 })
  t.equal(await again.get(ann.id, one), undefined)
  t.match(again.held(ann.id), { blocks: 3, bytes: 3000 })
  t.same(again.missing(ann.id, [one, two, ...others]), [true, true, false, false, false])
  t.equal(again.bytes, 3000)
})

t.test('offered or sent again before its time, the block stays', async (t) => {
  // No room for anything more: what is there already needs none.
  const { vault, clock, names, blocks } = await holding(t, 3, 3 * 1512)
  await vault.release(ann.id, drop(1, names))
  t.match(vault.held(ann.id), { blocks: 0, bytes: 0 })
  t.same(vault.missing(ann.id, names.slice(0, 1)), [false], 'no need to send it')
  await vault.put(ann.id, names[1] ?? Buffer.alloc(0), blocks[1]?.bytes ?? Buffer.alloc(0))
  clock.pass(4 * day)
  t.same(await vault.carryOutDrops(), { blocks: 3, bytes: 3000 }, 'only a commit calls it off')
  await vault.commit(ann.id)
  t.match(
    vault.held(ann.id),
    { blocks: 2, bytes: 2000 },
    'and it is not lost when its time comes just before',
  )
  t.same(await vault.get(ann.id, names[0] ?? Buffer.alloc(0)), blocks[0]?.bytes)
  await vault.release(ann.id, drop(2, names))
  vault.missing(ann.id, names.slice(0, 2))
  await vault.commit(ann.id)
  clock.pass(4 * day)
  t.same(await vault.carryOutDrops(), { blocks: 0, bytes: 0 }, 'called off')
  t.same(await vault.get(ann.id, names[1] ?? Buffer.alloc(0)), blocks[1]?.bytes)
})

t.test("a block of two owners survives one's drop; a head and other blocks are untouched", async (t) => {
  const { vault, clock, names, blocks } = await holding(t, 2)
  await vault.putHead(ann.id, head(ann, 1))
  t.same(vault.missing(bob.id, names.slice(0, 1)), [false])
  await vault.commit(bob.id)
  await vault.release(ann.id, drop(1, names))
  clock.pass(4 * day)
  await vault.carryOutDrops()
  t.equal(await vault.get(ann.id, names[0] ?? Buffer.alloc(0)), undefined)
  t.same(await vault.get(bob.id, names[0] ?? Buffer.alloc(0)), blocks[0]?.bytes)
  t.equal(vault.bytes, 1000)
  t.equal(vault.heads(ann.id).length, 1)
})

t.test('12,000 forged, replayed, misdirected and cross-owner drops are refused', async (t) => {
  const { vault, clock, names } = await holding(t, 20)
  await vault.release(ann.id, drop(7, []))
  const random = seeded(4)
  let accepted = 0
  for (let i = 0; i < 12_000; i++) {
    const name = names[random() % names.length] ?? Buffer.alloc(0)
    const tries = [
      () => vault.release(ann.id, forged(random, drop(8 + i, [name]))),
      () => vault.release(ann.id, drop(random() % 8, [name])),
      () => vault.release(bob.id, drop(8 + i, [name])),
      () => vault.release(ann.id, drop(8 + i, [name], bob)),
      () => vault.release(ann.id, drop(8 + i, [name], ann, { partner: bob.id })),
    ]
    await tries[random() % tries.length]?.().then(
      () => accepted++,
      (error: unknown) => (error as { code: string }).code === 'denied' || t.fail(String(error)),
    )
  }
  t.equal(accepted, 0)
  t.match(vault.held(ann.id), { blocks: 20, releaseNumber: 7 })
  clock.pass(100 * day)
  t.notOk(vault.hasDueDrops)
})

t.test('a decommission is held back, too: until then all is there, and what comes again stays', async (t) => {
  for (const kind of ['everything', 'volume', 'blocks'] as const) {
    const { vault, clock, names, blocks, options } = await holding(t, 4)
    const newest = head(ann, 7)
    const volume = Buffer.alloc(16, kind === 'everything' ? 0 : 1)
    await vault.putHead(ann.id, newest)
    const request = drop(1, kind === 'blocks' ? names : [], ann, { kind, volume })
    t.same(await vault.release(ann.id, request), { blocks: 4, bytes: 4000 }, kind)
    t.match(vault.held(ann.id), { blocks: 0, bytes: 0, releaseNumber: 1 }, 'counted as gone')
    clock.pass(3 * day - 1000)
    await vault.carryOutDrops()
    t.same(vault.heads(ann.id), [newest], 'a recovery finds the head')
    for (const { name, bytes } of blocks) t.same(await vault.get(ann.id, name), bytes, 'and the blocks')
    // The owner is back, from another machine.
    const [one = Buffer.alloc(0)] = names
    t.same(vault.missing(ann.id, [one]), [false])
    await vault.commit(ann.id)
    if (kind === 'volume') await vault.putHead(ann.id, newest)
    await vault.close()
    const again = await openVault(t, partner, options)
    clock.pass(2000)
    t.ok(again.hasDueDrops)
    t.same(await again.carryOutDrops(), { blocks: 3, bytes: 3000 })
    t.notOk(again.hasDueDrops)
    t.ok(await again.get(ann.id, one), 'what was offered again stays')
    t.same(again.heads(ann.id), kind === 'everything' ? [] : [newest])
    await t.rejects(again.release(ann.id, request), { code: 'denied' }, 'a replay')
  }
})

t.test(
  'of two volumes the last one released takes all blocks, though the first is held back still',
  async (t) => {
    const { vault, clock } = await holding(t, 2)
    await vault.putHead(ann.id, head(ann, 1, 1))
    await vault.putHead(ann.id, head(ann, 1, 2))
    const of = (number: number, volume: number) =>
      vault.release(ann.id, drop(number, [], ann, { kind: 'volume', volume: Buffer.alloc(16, volume) }))
    t.match(await of(1, 1), { blocks: 0 })
    clock.pass(day)
    t.match(await of(2, 2), { blocks: 2 })
    clock.pass(2 * day)
    await vault.carryOutDrops()
    t.same(vault.heads(ann.id), [head(ann, 1, 2)])
    clock.pass(day)
    await vault.carryOutDrops()
    t.notOk(vault.knows(ann.id))
  },
)
