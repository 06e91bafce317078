import { readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { seeded } from '../../lib/base/random.js'
import { blockName } from '../../lib/format/seal.js'
import { possessionProof } from '../../lib/format/wire.js'
import { encodeRelease, type Release } from '../../lib/format/wire-release.js'
import { blockOverhead } from '../../lib/format/agreement.js'
import { mutate } from '../helpers/bytes.js'
import { block, folder, head, identity, openVault } from '../helpers/backup.js'

const partner = identity(1)
const ann = identity(2)
const bob = identity(3)
const volume = Buffer.alloc(16, 1)

const release = (owner = ann, change: Partial<Release> = {}) =>
  encodeRelease(
    { kind: 'everything', partner: partner.id, volume: Buffer.alloc(16), number: 1, names: [], ...change },
    owner.keyPair,
  )

const segmentBytes = (dir: string) =>
  readdirSync(join(dir, 'segments')).reduce(
    (sum, name) => sum + statSync(join(dir, 'segments', name)).size,
    0,
  )

t.test('blocks survive a commit and a new open, and are read by their owner only', async (t) => {
  const dir = folder(t)
  const random = seeded(1)
  const blocks = Array.from({ length: 50 }, () => block(random))
  const vault = await openVault(t, partner, { dir })
  const names = blocks.map(({ name }) => name)
  const { generation } = vault.held(ann.id)
  t.same(vault.missing(ann.id, names), Array(50).fill(true))
  for (const { name, bytes } of blocks) await vault.put(ann.id, name, bytes)
  const bytes = blocks.reduce((sum, one) => sum + one.bytes.length, 0)
  t.same(await vault.commit(ann.id), { blocks: 50, bytes })
  await vault.close()
  const again = await openVault(t, partner, { dir })
  for (const one of blocks) {
    t.same(await again.get(ann.id, one.name), one.bytes)
    t.equal(await again.get(bob.id, one.name), undefined)
  }
  t.match(again.held(ann.id), { blocks: 50, bytes })
  t.same(again.held(ann.id).generation, generation)
  t.notSame(
    again.held(bob.id).generation,
    generation,
    'owners cannot tell by it that they have the same partner',
  )
  t.notSame((await openVault(t, partner)).held(ann.id).generation, generation, 'another vault')
  t.same(again.missing(ann.id, names), Array(50).fill(false))
  t.equal(again.owners().length, 1)
})

t.test('what was not committed is not held', async (t) => {
  const dir = folder(t)
  const one = block(seeded(2))
  const vault = await openVault(t, partner, { dir })
  await vault.put(ann.id, one.name, one.bytes)
  await vault.close()
  const again = await openVault(t, partner, { dir })
  t.equal(await again.get(ann.id, one.name), undefined)
  t.same(again.missing(ann.id, [one.name]), [true])
})

t.test('bytes that differ from the name are refused', async (t) => {
  const vault = await openVault(t, partner)
  const one = block(seeded(3), 500)
  const other = Buffer.from(one.bytes)
  other[99] = (other[99] ?? 0) ^ 1
  await t.rejects(vault.put(ann.id, one.name, other), { code: 'damaged' })
  await t.rejects(vault.put(ann.id, one.name, Buffer.alloc(0)), { code: 'damaged' })
  t.same(await vault.commit(ann.id), { blocks: 0, bytes: 0 })
})

t.test('a block of two owners is stored once and survives the release of one', async (t) => {
  const dir = folder(t)
  const vault = await openVault(t, partner, { dir, dropDelayMs: 0 })
  const shared = block(seeded(4), 300_000)
  const own = block(seeded(5), 200_000)
  for (const one of [shared, own]) await vault.put(ann.id, one.name, one.bytes)
  await vault.commit(ann.id)
  t.same(vault.missing(bob.id, [shared.name, own.name.fill(9, 0, 1)]), [false, true])
  t.equal(await vault.get(bob.id, shared.name), undefined, 'an offer alone gives nothing')
  await vault.commit(bob.id)
  t.same(await vault.get(bob.id, shared.name), shared.bytes)
  t.equal(vault.bytes, 500_000)
  t.same(await vault.release(ann.id, release()), { blocks: 2, bytes: 500_000 })
  t.match(vault.held(ann.id), { blocks: 0, bytes: 0 })
  await vault.carryOutDrops()
  t.equal(await vault.get(ann.id, shared.name), undefined)
  t.same(await vault.get(bob.id, shared.name), shared.bytes)
  t.equal(vault.bytes, 300_000)
  await vault.release(bob.id, release(bob))
  await vault.carryOutDrops()
  t.equal(vault.bytes, 0)
  t.equal(segmentBytes(dir), 0)
})

t.test('a block that another owner has offered outlives its last release', async (t) => {
  const vault = await openVault(t, partner, { dropDelayMs: 0 })
  const one = block(seeded(6))
  await vault.put(ann.id, one.name, one.bytes)
  await vault.commit(ann.id)
  t.same(vault.missing(bob.id, [one.name]), [false])
  await vault.release(ann.id, release())
  await vault.carryOutDrops()
  t.match(await vault.commit(bob.id), { blocks: 1 })
  t.same(await vault.get(bob.id, one.name), one.bytes)
})

t.test('quotas: of all, and of one owner', async (t) => {
  const vault = await openVault(t, partner, {
    ...{ quotaBytes: 251_500, ownerQuotaBytes: () => 201_500, dropDelayMs: 0 },
  })
  const [a, b, c, d] = [7, 8, 9, 10].map((seed) => block(seeded(seed), 100_000))
  if (!a || !b || !c || !d) throw new Error('four blocks')
  await vault.put(ann.id, a.name, a.bytes)
  await vault.put(ann.id, b.name, b.bytes)
  await t.rejects(vault.put(ann.id, c.name, c.bytes), { code: 'noSpace' }, 'before a commit')
  await vault.commit(ann.id)
  await t.rejects(vault.put(ann.id, c.name, c.bytes), { code: 'noSpace' }, 'and after it')
  await t.rejects(vault.put(bob.id, c.name, c.bytes), { code: 'noSpace' }, 'the whole is used up')
  t.same(vault.missing(bob.id, [a.name, b.name]), [false, false], 'what is here costs no space')
  t.match(await vault.commit(bob.id), { blocks: 2 })
  await vault.release(ann.id, release())
  await vault.release(bob.id, release(bob))
  await t.rejects(
    vault.put(ann.id, d.name, d.bytes),
    { code: 'noSpace' },
    'what is held back takes its space',
  )
  await vault.carryOutDrops()
  await vault.put(ann.id, d.name, d.bytes)
  t.match(await vault.commit(ann.id), { blocks: 1 })
})

t.test('what comes while a commit is under way counts on top of it, and is of the next', async (t) => {
  const vault = await openVault(t, partner, { ownerQuotaBytes: () => 201_500 })
  const [a, b, c] = [7, 8, 9].map((seed) => block(seeded(seed), 100_000))
  if (!a || !b || !c) throw new Error('three blocks')
  await vault.put(ann.id, a.name, a.bytes)
  const committing = vault.commit(ann.id)
  const checking = vault.verify(100)
  t.same(vault.missing(ann.id, [a.name, b.name]), [false, true], 'what is being committed is not asked for')
  await vault.put(ann.id, a.name, a.bytes)
  await vault.put(ann.id, b.name, b.bytes)
  await t.rejects(vault.put(ann.id, c.name, c.bytes), { code: 'noSpace' })
  t.match(await committing, { blocks: 1 })
  await checking
  t.match(await vault.commit(ann.id), { blocks: 1 })
  t.same(await vault.get(ann.id, a.name), a.bytes)
  t.same(await vault.get(ann.id, b.name), b.bytes)
})

t.test('a flood of tiny blocks meets the bounds as well', async (t) => {
  const vault = await openVault(t, partner, { quotaBytes: 100 * (blockOverhead + 2) })
  const tiny = (i: number) => {
    const bytes = Buffer.from([i, 1])
    return { name: blockName(bytes), bytes }
  }
  for (let i = 0; i < 100; i++) await vault.put(ann.id, tiny(i).name, tiny(i).bytes)
  await t.rejects(vault.put(ann.id, tiny(100).name, tiny(100).bytes), { code: 'noSpace' })
  await vault.commit(ann.id)
  await t.rejects(vault.put(ann.id, tiny(100).name, tiny(100).bytes), { code: 'noSpace' })
  const roomy = await openVault(t, partner)
  let kept = 0
  const random = seeded(20)
  const flood = async () => {
    for (let i = 0; i < 20_000; i++) {
      const one = block(random, 8)
      await roomy.put(ann.id, one.name, one.bytes)
      kept++
    }
  }
  await t.rejects(flood(), { code: 'busy' })
  t.equal(kept, 16_384)
  t.match(await roomy.commit(ann.id), { blocks: 16_384 })
})

t.test('heads: the owner’s own, newer ones only', async (t) => {
  const vault = await openVault(t, partner)
  await vault.putHead(ann.id, head(ann, 5))
  await vault.putHead(ann.id, head(ann, 5))
  await t.rejects(vault.putHead(ann.id, head(ann, 4)), { code: 'exists' })
  await t.rejects(vault.putHead(bob.id, head(ann, 6)), { code: 'denied' })
  const forged = head(ann, 6)
  forged[60] = (forged[60] ?? 0) ^ 1
  await t.rejects(vault.putHead(ann.id, forged), { code: 'damaged' })
  await vault.putHead(ann.id, head(ann, 6))
  await vault.putHead(ann.id, head(ann, 1, 2))
  t.same(vault.heads(ann.id), [head(ann, 6), head(ann, 1, 2)])
  t.same(vault.heads(ann.id, volume), [head(ann, 6)])
  t.same(vault.heads(bob.id), [])
  for (let other = 3; other <= 16; other++) await vault.putHead(ann.id, head(ann, 1, other))
  await t.rejects(vault.putHead(ann.id, head(ann, 1, 17)), { code: 'noSpace' })
})

t.test('releases: of blocks, of a volume, of the last volume', async (t) => {
  const vault = await openVault(t, partner, { dropDelayMs: 0 })
  const blocks = [11, 12, 13].map((seed) => block(seeded(seed), 1000))
  for (const { name, bytes } of blocks) await vault.put(ann.id, name, bytes)
  await vault.commit(ann.id)
  await vault.putHead(ann.id, head(ann, 1, 1))
  await vault.putHead(ann.id, head(ann, 1, 2))
  const first = blocks[0]?.name ?? Buffer.alloc(0)
  t.same(await vault.release(ann.id, release(ann, { kind: 'blocks', volume, names: [first] })), {
    blocks: 1,
    bytes: 1000,
  })
  t.same(await vault.release(ann.id, release(ann, { kind: 'volume', volume, number: 2 })), {
    blocks: 0,
    bytes: 0,
  })
  await vault.carryOutDrops()
  t.equal(vault.heads(ann.id).length, 1)
  t.equal(vault.held(ann.id).blocks, 2)
  const last = release(ann, { kind: 'volume', volume: Buffer.alloc(16, 2), number: 3 })
  t.same(await vault.release(ann.id, last), { blocks: 2, bytes: 2000 })
  await vault.carryOutDrops()
  t.notOk(vault.knows(ann.id))
  t.same(vault.owners(), [])
})

t.test('10,000 forged, replayed, misdirected and cross-owner releases are refused', async (t) => {
  const dir = folder(t)
  const vault = await openVault(t, partner, { dir })
  const random = seeded(14)
  const one = block(random, 1000)
  for (const owner of [ann, bob]) {
    await vault.put(owner.id, one.name, one.bytes)
    await vault.commit(owner.id)
    await vault.putHead(owner.id, head(owner, 1))
  }
  await vault.release(ann.id, release(ann, { kind: 'blocks', number: 7 }))
  const kinds = ['blocks', 'volume', 'everything'] as const
  let refused = 0
  for (let i = 0; i < 10_000; i++) {
    const kind = kinds[random() % 3] ?? 'blocks'
    const names = kind === 'blocks' ? [one.name] : []
    const good = { kind, names, number: 8 + (random() % 1000) }
    const attacks = [
      () => vault.release(ann.id, mutate(random, release(ann, good))),
      () => vault.release(ann.id, release(ann, { ...good, number: random() % 8 })),
      () => vault.release(bob.id, release(ann, good)),
      () => vault.release(ann.id, release(bob, good)),
      () => vault.release(ann.id, release(ann, { ...good, partner: bob.id })),
      // Ann's content under Bob's signature
      () => {
        const bytes = release(bob, good)
        ann.id.copy(bytes, 4)
        return vault.release(ann.id, bytes)
      },
    ]
    const outcome = await attacks[i % attacks.length]?.().then(
      () => 'accepted',
      (error: { code?: string }) => error.code,
    )
    if (outcome === 'denied') refused++
    else if (outcome === 'accepted') t.fail(`attack ${i} was accepted`)
  }
  // A mutation may repeat or restore bytes so that nothing changes; none of these did.
  t.equal(refused, 10_000)
  for (const owner of [ann, bob]) {
    t.same(await vault.get(owner.id, one.name), one.bytes)
    t.equal(vault.heads(owner.id).length, 1)
  }
  const used = release(ann, { number: 8 })
  await vault.release(ann.id, used)
  await vault.put(ann.id, one.name, one.bytes)
  await vault.commit(ann.id)
  await vault.close()
  const again = await openVault(t, partner, { dir })
  await t.rejects(
    again.release(ann.id, used),
    { code: 'denied' },
    'also after all was released and a new start',
  )
})

t.test('proofs: of what is held, bound to nonce and partner', async (t) => {
  const vault = await openVault(t, partner)
  const one = block(seeded(15))
  await vault.put(ann.id, one.name, one.bytes)
  await vault.commit(ann.id)
  const nonce = Buffer.alloc(32, 5)
  const proofs = await vault.prove(ann.id, nonce, [one.name, Buffer.alloc(32)])
  t.same(proofs, [possessionProof(nonce, partner.id, one.bytes), undefined])
  t.notSame(proofs[0], possessionProof(nonce, bob.id, one.bytes))
  t.same(await vault.prove(bob.id, nonce, [one.name]), [undefined])
})
