/**
 * A partner that takes what it is sent and does not keep to it: each way is caught by the mechanism that is named, within the
 * bound that is stated. Over real sessions and vaults; the partner lies in place of its vault.
 */
import t from 'tap'
import { systemClock } from '../../lib/base/clock.js'
import { silentLog } from '../../lib/base/log.js'
import { seeded } from '../../lib/base/random.js'
import { codeFor } from '../../lib/codes/codes.js'
import { partnershipKey } from '../../lib/format/keys.js'
import { openShard, sealShard, type ShardRef } from '../../lib/format/shard.js'
import { encodeHello, possessionProof } from '../../lib/format/wire.js'
import { Fetcher } from '../../lib/partners/fetch.js'
import { Holder } from '../../lib/partners/holder.js'
import { isKeeper } from '../../lib/partners/keepers.js'
import { muxOf } from '../../lib/partners/mux.js'
import type { Damage, PeersVault } from '../../lib/partners/types.js'
import type { Vault } from '../../lib/vault/vault.js'
import { ann, backedUp, cheating, holder, only, through, type World } from '../helpers/audited.js'
import {
  block,
  connect,
  head,
  identity,
  member,
  open,
  openVault,
  refusing,
  streams,
  TestClock,
  TestPeers,
} from '../helpers/backup.js'
import { until } from '../helpers/dht.js'
import { everyMessage } from '../helpers/messages.js'
import { stripe } from '../helpers/stripes.js'

t.setTimeout(240_000)

const accomplice = identity(3)
const online = { isPartner: true, isLeaving: false, online: true, lastSeen: 0 }

/** What it says to hold counts as a copy of nothing. */
function counts(world: World): boolean {
  return isKeeper(online, world.book.progress(holder.id), world.clock.now())
}

/** Says that it took and holds all, and keeps what `keeps` says. */
const pretending =
  (keeps: (name: Buffer) => boolean) =>
  (vault: Vault): Partial<PeersVault> => {
    const told = { blocks: 0, bytes: 0 }
    return {
      putAll: async (owner, blocks) => {
        told.blocks += blocks.length
        told.bytes += blocks.reduce((sum, { bytes }) => sum + bytes.length, 0)
        await vault.putAll(
          owner,
          blocks.filter(({ name }) => keeps(name)),
        )
      },
      commit: async (owner) => {
        await vault.commit(owner)
        return told
      },
      held: (owner) => ({ ...vault.held(owner), ...told }),
    }
  }

t.test('says ack and keeps nothing: the first audit, all blocks are due again, no copy counts', async (t) => {
  const world = await backedUp(
    t,
    200,
    pretending(() => false),
  )
  t.equal(world.book.progress(holder.id).blocksHeld, 200, 'it was believed')
  t.notOk(counts(world), 'though not counted: it has proven nothing yet')
  t.match(await world.auditor.sample(only(world)), { asked: 200, proven: 0, found: ['missing'] })
  const { verdict } = world.book.progress(holder.id)
  t.match(verdict, { state: 'damaged', found: ['missing'] })
  t.ok(verdict.blocks >= 200, 'each was found missing at least once')
  t.notOk(counts(world))
})

t.test('keeps 90 %: by the third audit in all but one of 10^8 cases, then all of it by name', async (t) => {
  const lost = (name: Buffer): boolean => (name[5] ?? 0) < 26
  const world = await backedUp(
    t,
    300,
    pretending((name) => !lost(name)),
  )
  const gone = world.blocks.filter(({ name }) => lost(name)).length
  t.ok(gone > 20 && gone < 45)
  for (let audit = 0; audit < 3 && world.book.progress(holder.id).verdict.state !== 'damaged'; audit++) {
    await world.auditor.sample(only(world))
  }
  const { verdict } = world.book.progress(holder.id)
  t.match(verdict, { state: 'damaged', found: ['missing'] })
  t.ok(verdict.blocks >= gone, 'each was found missing at least once')
  t.notOk(counts(world))
})

t.test('passes challenges on to another partner and answers with its proofs: the first audit', async (t) => {
  const world = await backedUp(t, 100)
  const other = await openVault(t, accomplice)
  for (const { name, bytes } of world.blocks) await other.put(ann.id, name, bytes)
  await other.commit(ann.id)
  const proxy = await through(t, world, {
    reveal: (_owner, r1, spread) => other.reveal(ann.id, r1, spread),
    prove: (owner, nonce, names) => other.prove(owner, nonce, names),
  })
  t.match(await world.auditor.sample(proxy), { proven: 0, found: ['wrong'] })
  t.notOk(counts(world))
})

t.test('with shards, the bytes of all others are of no use to a proxy', async (t) => {
  const code = codeFor('reed-solomon', 3, 2)
  const elements = await stripe(seeded(1), code, 5000)
  const partners = [holder, accomplice, identity(4), identity(5), identity(6)]
  const refs = partners.map(({ id }, index): ShardRef => {
    const key = partnershipKey(ann.kek, id)
    const stripeId = Buffer.alloc(32, 8)
    return { key, owner: ann.id, partner: id, stripe: stripeId, code: code.name, index, elementBytes: 5000 }
  })
  const shards = await Promise.all(refs.map((ref, i) => sealShard(ref, elements[i] ?? Buffer.alloc(0))))
  const [mine, ...others] = shards
  const [ref] = refs
  if (!mine || !ref) throw new Error('a stripe of five')
  const nonce = Buffer.alloc(32, 4)
  const proof = possessionProof(nonce, holder.id, mine.bytes)
  for (const { name, bytes } of others) {
    t.notOk(name.equals(mine.name))
    t.notOk(possessionProof(nonce, holder.id, bytes).equals(proof))
    t.throws(() => openShard(ref, bytes), { code: 'damaged' })
  }
  // Even the element itself, which who holds three data elements in plain would have, makes no shard without the key.
  const forged = await sealShard({ ...ref, key: Buffer.alloc(32) }, elements[0] ?? Buffer.alloc(0))
  t.notOk(possessionProof(nonce, holder.id, forged.bytes).equals(proof))

  const world = await backedUp(t, 0)
  await world.store.add([mine])
  world.store.newest[0] = head(ann, 2)
  world.uploader.wake()
  await until(() => world.book.progress(holder.id).blocksHeld === 1)
  const other = await openVault(t, accomplice)
  for (const { name, bytes } of others) await other.put(ann.id, name, bytes)
  await other.commit(ann.id)
  const [shared] = others
  const proxy = await through(t, world, {
    reveal: () => Promise.resolve([]),
    prove: async (owner, challenge) => other.prove(owner, challenge, [shared?.name ?? Buffer.alloc(32)]),
  })
  t.match(await world.auditor.sample(proxy), { asked: 1, proven: 0, found: ['wrong'] })
})

t.test('serves an old version: the first audit names it, and its head is sent again', async (t) => {
  const world = await backedUp(t, 20)
  world.store.newest[0] = head(ann, 2)
  const old = await through(t, world, { heads: () => [head(ann, 1)] })
  await until(() => world.book.head(holder.id, Buffer.alloc(16, 1)) === 2)
  t.match(await world.auditor.sample(old), { found: ['oldHead'] })
  t.notOk(counts(world))
})

t.test('gives other blocks, or parts of them, when blocks are read: none is used, it is told', async (t) => {
  const one = block(seeded(2), 3000)
  const other = block(seeded(3), 3000)
  const honest = await openVault(t, accomplice)
  await honest.put(ann.id, one.name, one.bytes)
  await honest.commit(ann.id)
  const kept = await openVault(t, holder)
  await kept.put(ann.id, one.name, one.bytes)
  await kept.commit(ann.id)
  const lies: Record<string, Buffer> = {
    'another block': other.bytes,
    'cut short': one.bytes.subarray(0, 2999),
    lengthened: Buffer.concat([one.bytes, Buffer.alloc(1)]),
    'one bit flipped': Buffer.from(one.bytes.map((byte, i) => (i === 1234 ? byte ^ 4 : byte))),
  }
  for (const [name, given] of Object.entries(lies)) {
    const liar = cheating(kept, { get: async () => given, size: () => given.length })
    const peers = new TestPeers()
    const faults: Damage[] = []
    const fetcher = new Fetcher({
      peers,
      clock: systemClock,
      log: silentLog(),
      onFault: (_partner, kind) => faults.push(kind),
      patienceMs: 200,
    })
    const session = (await connect(t, ann, holder, liar)).owner
    peers.add(session)
    await t.rejects(fetcher.get(one.name), { code: 'damaged' }, `${name}: from it alone nothing`)
    t.ok(faults.length > 0 && faults.every((kind) => kind === 'wrong'), `${name}: told`)
    peers.add((await connect(t, ann, accomplice, honest)).owner)
    t.same(await fetcher.get(one.name), one.bytes, `${name}: from the other one`)
    fetcher.stop()
    session.close('next')
  }
})

t.test('delays for ever: the session ends within six minutes, and the audit stays due', async (t) => {
  const never = (): Promise<never> => new Promise(() => undefined)
  const world = await backedUp(t, 50)
  for (const peer of world.peers.online()) (peer as { close?: (reason: string) => void }).close?.('next')
  const clock = new TestClock()
  const [left, right] = await streams(t, ann, holder)
  const session = open(left, refusing, { clock })
  const mute = cheating(world.vault, { reveal: never, prove: never, get: never, commit: never })
  open(right, new Holder(mute, ann.id, member), { clock })
  await session.ready
  world.peers.add(session)
  const audit = world.auditor.sample(session)
  await until(() => (world.book.openFlip(holder.id)?.brokenOff ?? 0) === 1)
  let seconds = 0
  while (!session.closed && seconds < 360) {
    clock.pass(5000)
    seconds += 5
    await new Promise((resolve) => setImmediate(resolve))
  }
  t.ok(session.closed, `after ${seconds} s`)
  t.match(await audit, { found: ['unreachable'] })
  t.equal(world.book.progress(holder.id).lastAudit, 0)
  t.notOk(counts(world))
})

t.test('floods its owner with answers, credit or blocks: the session ends at the first', async (t) => {
  const floods: Record<string, () => Buffer> = {
    'answers never asked for': () => everyMessage(1).holding ?? Buffer.alloc(0),
    credit: () => Buffer.from([2, 0, 0, 0, 0, 255, 255, 255, 0]),
    'frames beyond any length': () => Buffer.alloc(8 * 1024 * 1024, 18),
  }
  for (const [name, frame] of Object.entries(floods)) {
    const [left, right] = await streams(t, ann, holder)
    const session = open(left, refusing)
    const channel = muxOf(right).createChannel({
      protocol: 'kith/partner/1',
      messages: [{ onmessage: () => undefined }],
    })
    channel?.open()
    channel?.messages[0]?.send(encodeHello({ version: 1, capabilities: 1, name: 'eve' }))
    await session.ready
    for (let i = 0; i < 20; i++) channel?.messages[0]?.send(frame())
    t.match(await session.ended, /broke the protocol/, name)
  }
})

t.test(
  'refuses drops: it is named as trouble, keeps no other work waiting, and is asked again',
  async (t) => {
    let asked = 0
    const refuses: Partial<PeersVault> = {
      release: () => {
        asked++
        return Promise.reject(new Error('no'))
      },
    }
    const world = await backedUp(t, 20, () => refuses)
    const names = world.blocks.map(({ name }) => name)
    await world.store.take(names.slice(0, 5))
    const more = block(seeded(9), 500)
    await world.store.add([more])
    world.store.newest[0] = head(ann, 2)
    world.uploader.wake()
    await until(() => world.uploader.trouble(holder.id) !== undefined)
    t.same(await world.vault.get(ann.id, more.name), more.bytes, 'new blocks went before')
    t.equal(world.book.head(holder.id, Buffer.alloc(16, 1)), 2, 'and the head')
    t.ok((world.book.dropped(holder.id) ?? 0) < world.store.lastRemoved(), 'the drop is still owed')
    world.uploader.retry()
    await until(() => asked === 2)
    t.match(await world.auditor.sample(only(world)), { found: [] }, 'what it is to keep it has')
  },
)
