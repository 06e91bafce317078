/** What a partner claims to hold already counts only when it has shown it; and what is shown is of no other use. */
import t, { type Test } from 'tap'
import { systemClock } from '../../lib/base/clock.js'
import { silentLog } from '../../lib/base/log.js'
import { seeded } from '../../lib/base/random.js'
import { rangeProof } from '../../lib/format/wire-pool.js'
import { Overlap } from '../../lib/partners/overlap.js'
import type { Session } from '../../lib/partners/session.js'
import type { PeersVault } from '../../lib/partners/types.js'
import { Uploader } from '../../lib/partners/upload.js'
import { answerTo, sketchOf } from '../../lib/planning/sketch.js'
import { hash } from '../../lib/format/hash.js'
import {
  block,
  connect,
  head,
  identity,
  openBook,
  openVault,
  TestPeers,
  TestStore,
  unbounded,
} from '../helpers/backup.js'
import { until } from '../helpers/dht.js'

t.setTimeout(120_000)

const [ann, bob, carl] = [identity(1), identity(2), identity(3)]

// The clock's timers do not keep a process alive that has nothing else to wait for.
const alive = setInterval(() => undefined, 1000)
t.teardown(() => clearInterval(alive))

/** Ann uploads to Bob's vault, as `change` makes it look. @returns blocks that went */
async function uploaded(t: Test, store: TestStore, vault: PeersVault, wanted = 1): Promise<number> {
  const peers = new TestPeers()
  const book = openBook(t)
  let sent = 0
  const counting = changed(vault, {
    putAll: (owner, blocks) => {
      sent += blocks.length
      return vault.putAll(owner, blocks)
    },
  })
  const { owner } = await connect(t, ann, bob, counting)
  const shared = { peers, blocks: store, book, owner: ann.keyPair, pace: unbounded() }
  const uploader = new Uploader({ ...shared, clock: systemClock, log: silentLog() })
  peers.add(owner)
  await until(() => book.head(bob.id, Buffer.alloc(16, 1)) >= wanted)
  ;(owner as Session).close('done')
  await uploader.stop()
  return sent
}

function changed(vault: PeersVault, change: Partial<PeersVault>): PeersVault {
  return new Proxy(vault, {
    get(target, property) {
      const value: unknown = Reflect.get(change, property) ?? Reflect.get(target, property, target)
      return typeof value === 'function' ? (value as () => unknown).bind(target) : value
    },
  })
}

async function shared(t: Test, count: number) {
  const random = seeded(9)
  const blocks = Array.from({ length: count }, () => block(random, 3000))
  const store = await TestStore.open(t)
  await store.add(blocks)
  store.newest.push(head(ann, 1))
  const vault = await openVault(t, bob)
  return { blocks, store, vault }
}

t.test('blocks of another owner are proven, not sent, and belong to both', async (t) => {
  const { blocks, store, vault } = await shared(t, 200)
  for (const { name, bytes } of blocks.slice(0, 100)) await vault.put(carl.id, name, bytes)
  await vault.commit(carl.id)
  t.equal(await uploaded(t, store, vault), 100, 'half of them travel')
  t.equal(vault.held(ann.id).blocks, 200)
  t.equal(vault.held(carl.id).blocks, 100)
  await vault.evict(carl.id)
  for (const { name, bytes } of blocks) t.same(await vault.get(ann.id, name), bytes)
})

t.test(
  'what is only claimed is sent: nothing to show, or what others or earlier questions brought',
  async (t) => {
    const { blocks, store, vault } = await shared(t, 100)
    const known = new Map(blocks.map(({ name, bytes }) => [name.toString('hex'), bytes]))
    let earlier: Buffer | undefined
    const lies: Record<string, PeersVault['probe']> = {
      nothing: async (_, ranges) => ranges.map(() => undefined),
      random: async (_, ranges) => ranges.map(() => Buffer.alloc(32, 7)),
      "another's answer": async (nonce, ranges) =>
        ranges.map((range) =>
          rangeProof(nonce, carl.id, range, known.get(range.name.toString('hex')) ?? Buffer.alloc(0)),
        ),
      'answers to an earlier question': async (nonce, ranges) => {
        earlier ??= nonce
        const stale = Buffer.alloc(32, 1)
        return ranges.map((range) => {
          return rangeProof(stale, bob.id, range, known.get(range.name.toString('hex')) ?? Buffer.alloc(0))
        })
      },
      'other parts': async (nonce, ranges) =>
        ranges.map((range) =>
          rangeProof(
            nonce,
            bob.id,
            { ...range, offset: range.offset + 1 },
            known.get(range.name.toString('hex')) ?? Buffer.alloc(0),
          ),
        ),
    }
    for (const [name, probe] of Object.entries(lies)) {
      const fresh = await openVault(t, bob)
      const liar = changed(fresh, { missing: (_, names) => names.map(() => false), probe })
      t.equal(await uploaded(t, store, liar), 100, name)
      t.equal(fresh.held(ann.id).blocks, 100, name)
    }
    t.ok(earlier)
    t.equal(vault.held(ann.id).blocks, 0)
  },
)

t.test('a block that rotted at the holder is found out at the offer, and sent', async (t) => {
  const { blocks, store, vault } = await shared(t, 50)
  for (const { name, bytes } of blocks) await vault.put(carl.id, name, bytes)
  await vault.commit(carl.id)
  const bad = blocks[7]?.name ?? Buffer.alloc(0)
  const rotten = changed(vault, {
    probe: async (nonce, ranges) => {
      const proofs = await vault.probe(nonce, ranges)
      return proofs.map((proof, i) => (ranges[i]?.name.equals(bad) ? undefined : proof))
    },
  })
  t.equal(await uploaded(t, store, rotten), 1)
})

t.test('a candidate that claims our blocks is believed when it shows them', async (t) => {
  const { blocks, store, vault } = await shared(t, 300)
  for (const { name, bytes } of blocks) await vault.put(carl.id, name, bytes)
  await vault.commit(carl.id)
  const stranger = () => ({ member: false, owner: false, stranger: true })
  const key = hash('kith open pool sketch')
  const sketch = sketchOf(
    blocks.map(({ name, bytes }) => ({ name, bytes: bytes.length })),
    key,
  )
  const all = answerTo(sketch, sketch)
  const overlap = new Overlap(store, { since: () => [] }, systemClock)
  t.same(await overlap.sketch(), sketch)
  const honest = await connect(t, ann, bob, vault, stranger)
  t.equal(await overlap.prove(honest.owner, sketch, all), 1)
  await t.rejects(overlap.prove(honest.owner, sketch, all), { code: 'denied' }, 'each part costs a read')
  const liar = await connect(t, ann, bob, await openVault(t, bob), stranger)
  t.equal(await overlap.prove(liar.owner, sketch, all), 0)
  t.equal(await overlap.prove(liar.owner, sketch, Buffer.alloc(3)), 0, 'no answer to this sketch')
  t.equal(await overlap.prove(liar.owner, sketch, Buffer.alloc(all.length)), 1, 'who claims nothing lies not')
})
