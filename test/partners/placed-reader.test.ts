import t from 'tap'
import type { Test } from 'tap'
import { asKithError, type KithError } from '../../lib/base/errors.js'
import { silentLog } from '../../lib/base/log.js'
import { seeded } from '../../lib/base/random.js'
import { blockName } from '../../lib/format/seal.js'
import { placeIn } from '../../lib/format/stripe.js'
import { Fetcher } from '../../lib/partners/fetch.js'
import { PlacedReader } from '../../lib/partners/placed-reader.js'
import type { Peer, Peers } from '../../lib/partners/types.js'
import { encodeReply, encodeRequest } from '../../lib/format/wire.js'
import { head } from '../helpers/backup.js'
import { lend, openPlacing, owner, partnerKey, type PlacingTest } from '../helpers/placing.js'

t.setTimeout(120_000)

const all = [0, 1, 2, 3, 4]

interface Fault {
  partner: Buffer
  kind: string
  shard: Buffer
}

/** What a partner gives instead of its shard. */
type Gives = (partner: number, shard: Buffer) => Buffer | undefined

const flip = (bytes: Buffer) =>
  Buffer.from(bytes.map((byte, i) => (i === bytes.length >> 1 ? byte ^ 0x10 : byte)))

t.test('wrong shards', async (t) => {
  const { at, names, shards } = await placed(t)
  let gives: Gives = (_, shard) => shard
  await lend(t, at, shards, (i, shard) => gives(i, shard))

  /** Reads all, as after a start. @returns what was found at whom, and how many were refused */
  const read = async (t: Test, by: Gives): Promise<{ faults: Fault[]; refused: KithError[] }> => {
    gives = by
    const faults: Fault[] = []
    const refused: KithError[] = []
    const { peers, clock } = at
    const reader = new PlacedReader({
      ...{ identity: owner, stripes: at.placing.stripes, clock },
      fetcher: new Fetcher({ peers, clock, log: silentLog(), patienceMs: 0 }),
      onFault: (partner, kind, shard) => faults.push({ partner, kind, shard }),
    })
    for (const name of names) {
      const bytes = await reader.get(name).catch((error: unknown) => void refused.push(asKithError(error)))
      if (bytes) t.ok(blockName(bytes).equals(name), 'byte by byte')
    }
    return { faults, refused }
  }

  const liars = [1, 2]
  const kinds: Record<string, (partner: number, shard: Buffer) => Buffer | undefined> = {
    flipped: (_, shard) => flip(shard),
    cut: (_, shard) => shard.subarray(0, -1),
    'of another stripe': (i, shard) => shards.get(i)?.find((other) => !other.equals(shard)),
    'of another partner': () => shards.get(0)?.[0],
  }
  for (const [kind, lie] of Object.entries(kinds))
    await t.test(`${kind}: an erasure, and against who gave it`, async (t) => {
      const { faults, refused } = await read(t, (i, shard) => (liars.includes(i) ? lie(i, shard) : shard))
      t.same(refused, [])
      t.ok(faults.length > 0)
      for (const { partner, kind, shard } of faults) {
        const i = liars.find((one) => partnerKey(one).equals(partner)) ?? -1
        t.equal(kind, 'wrong')
        t.ok(
          shards.get(i)?.some((bytes) => blockName(bytes).equals(shard)),
          'whose, and which',
        )
      }
    })

  await t.test('too few whole ones: a clear refusal, at once, and no wrong byte', async (t) => {
    const { faults, refused } = await read(t, (i, shard) => (i < 3 ? flip(shard) : shard))
    t.ok(refused.length > 0)
    const message = /any 3 of 5 parts of this data are needed, and the partners that took 3/
    for (const error of refused) t.match(error, { code: 'damaged', message })
    t.ok(faults.length >= 3)
  })
})

t.test('a small file out of a stripe: its pieces travel, and not the element', async (t) => {
  const at = await openPlacing(t)
  await at.settle()
  const names = await at.chunks(seeded(32), ...Array.from({ length: 48 }, () => 16 * 1024), 900_000, 900_000)
  at.store.newest.push(head(owner, 1))
  await at.settle()
  const [stripe] = at.placing.stripes.since(0, 1)
  const shards = await shardsOf(at)
  await at.acknowledge(...all)
  let moved = 0
  for (const session of await lend(t, at, shards)) {
    const request = session.request.bind(session)
    session.request = async (kind, message) => {
      const reply = await request(kind, message)
      moved += encodeRequest(kind, 1, message).length + encodeReply(kind, 1, reply).length
      return reply
    }
  }
  const faults: string[] = []
  const readerOf = (online: () => Peer[]) => {
    const peers: Peers = { online, onChange: () => () => undefined, hurry: () => undefined }
    const { clock } = at
    return new PlacedReader({
      ...{ identity: owner, stripes: at.placing.stripes, clock },
      fetcher: new Fetcher({ peers, clock, log: silentLog(), patienceMs: 0 }),
      onFault: (_, kind) => faults.push(kind),
    })
  }
  const bytesFor = async (reader: PlacedReader, some: readonly Buffer[]) => {
    moved = 0
    const blocks = await Promise.all(some.map((name) => reader.get(name)))
    for (const [i, bytes] of blocks.entries())
      if (!bytes || !blockName(bytes).equals(some[i] ?? Buffer.alloc(0))) t.fail('byte by byte')
    return moved
  }
  const online = () => at.peers.online()
  const older = () =>
    online().map((peer): Peer => {
      const { key, name, lends, agrees, proves, hears, closed } = peer
      const lacks = { gives: false, keepsLists: false, tellsGeneration: false, attests: false, heeds: false }
      return {
        ...{ key, name, lends, agrees, proves, hears, closed, ...lacks },
        request: (kind, message) => peer.request(kind, message),
        put: (blocks) => peer.put(blocks),
      }
    })
  const one = [names[20] ?? Buffer.alloc(0)]
  const { elementBytes = 0 } = stripe ?? {}
  const before = await bytesFor(readerOf(older), one)
  const after = await bytesFor(readerOf(online), one)
  t.ok(before > elementBytes && after < 140 * 1024, `16 KiB: ${before} bytes before, ${after} after`)
  const whole = await bytesFor(readerOf(online), names)
  t.ok(whole < 3 * elementBytes * 1.26, `all at once: ${whole} bytes for three elements of ${elementBytes}`)
  const reader = readerOf(online)
  await bytesFor(reader, one)
  t.equal(await bytesFor(reader, one), 0, 'a piece is kept')
  t.same(faults, [])

  await t.test('a piece that is wrong: against who gave it, and the others have it', async (t) => {
    const [holder] = stripe?.shards ?? []
    for (const session of at.peers.online()) {
      if (!holder || !session.key.equals(holder.partner)) continue
      const request = session.request.bind(session)
      Object.assign(session, {
        request: async (kind: 'getParts' | 'get', message: never) => {
          const reply = await request(kind, message)
          reply.blocks = reply.blocks.map((bytes) => (Buffer.isBuffer(bytes) ? flip(bytes) : bytes))
          return reply
        },
      })
    }
    await bytesFor(readerOf(online), names.slice(0, 30))
    t.ok(faults.length > 0 && faults.every((kind) => kind === 'wrong'), `${faults.length} faults`)
  })
})

t.test('too few on line: the others are looked for, and asked when they come', async (t) => {
  const { at, names, shards } = await placed(t)
  const some = (...partners: number[]) => new Map(partners.map((i) => [i, shards.get(i) ?? []]))
  await lend(t, at, some(3, 4))
  const [name] = names
  if (!name) return t.fail('there is a block')
  let isGiven = false
  const block = at.placing.reader.get(name).finally(() => (isGiven = true))
  // What those on line give comes by real streams, in their own time; what follows is by the clock alone.
  while (at.peers.sought === 0 && !isGiven) await new Promise((resolve) => setImmediate(resolve))
  for (let passed = 0; passed < 40_000; passed += 1000) at.clock.pass(1000)
  t.ok(at.peers.sought >= 8, `looked for ${at.peers.sought} times`)
  t.notOk(isGiven)
  await lend(t, at, some(0))
  t.ok(blockName((await block) ?? Buffer.alloc(0)).equals(name))
})

t.test('who comes back while one that does not answer is waited for is asked, too', async (t) => {
  const { at, names, shards } = await placed(t, [80_000, 80_000, 300_000])
  const place = (name: Buffer) => {
    const stripe = at.placing.stripes.of(name)
    const place = stripe && placeIn(stripe, name)
    if (!stripe || !place) throw new Error('every block has its place')
    const [first, last] = [place.offset, place.offset + place.bytes - 1].map((at) =>
      Math.floor(at / stripe.elementBytes),
    )
    return { partner: stripe.shards[first ?? 0]?.partner, isWithin: first === last }
  }
  const name = names.find((name) => place(name).isWithin)
  const frozen = all.find((i) => name && place(name).partner?.equals(partnerKey(i)))
  if (!name || frozen === undefined) return t.fail('a block lies in one element')
  const [first, second, third] = all.filter((i) => i !== frozen)
  const some = (...partners: (number | undefined)[]) =>
    new Map(partners.map((i = 0) => [i, shards.get(i) ?? []]))
  await lend(t, at, some(first, second))
  let asked = 0
  for (const session of await lend(t, at, some(frozen)))
    session.request = () => {
      asked++
      return new Promise(() => undefined)
    }
  const block = at.placing.reader.get(name)
  while (asked === 0) await new Promise((resolve) => setImmediate(resolve))
  at.clock.pass(2000)
  await lend(t, at, some(third))
  at.clock.pass(2000)
  t.ok(blockName((await block) ?? Buffer.alloc(0)).equals(name))
})

/** Two stripes of 3+2, and the shards of each partner. */
async function placed(t: Test, sizes = [300_000, 200_000]) {
  const at = await openPlacing(t)
  await at.settle()
  const names: Buffer[] = []
  const random = seeded(31)
  for (const n of [1, 2]) {
    names.push(...(await at.chunks(random, ...sizes)))
    at.store.newest.splice(0, 1, head(owner, n))
    await at.settle()
  }
  const shards = await shardsOf(at)
  await at.acknowledge(...all)
  return { at, names, shards }
}

/** What each partner is to get. */
async function shardsOf(at: PlacingTest): Promise<Map<number, Buffer[]>> {
  const shards = new Map<number, Buffer[]>()
  for (const i of all) {
    const view = at.placing.placement.view(partnerKey(i))
    for (const name of at.placing.stripes.pending(partnerKey(i), 9)) {
      const bytes = await view.get(name)
      if (bytes) shards.set(i, [...(shards.get(i) ?? []), bytes])
    }
  }
  return shards
}
