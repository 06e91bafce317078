/** Where nodes of the pool are announced and look, on a real DHT: those with blocks in common find each other as such. */
import t, { type Test } from 'tap'
import { systemClock } from '../../lib/base/clock.js'
import { randomBytes } from '../../lib/base/random.js'
import { Meeting } from '../../lib/partners/meeting.js'
import type { Address } from '../../lib/partners/addresses.js'
import type { Network } from '../../lib/partners/network.js'
import { Overlap } from '../../lib/partners/overlap.js'
import type { Topic } from '../../lib/partners/topic.js'
import { openNetwork, privateDht } from '../helpers/dht.js'

t.setTimeout(200_000)

type Listed = { sequence: number; name: Buffer; bytes: number }[]

const some = (count: number): Listed =>
  Array.from({ length: count }, (_, i) => ({ sequence: i + 1, name: randomBytes(32), bytes: 10_000 + i }))

function listed(rows: () => Listed) {
  return {
    since: (after: number, limit: number) =>
      rows()
        .filter(({ sequence }) => sequence > after)
        .slice(0, limit),
    get: () => Promise.resolve(undefined),
  }
}

async function node(t: Test, bootstrap: string, { own = [], held = [] }: { own?: Listed; held?: Listed }) {
  const network: Network = await openNetwork(t, bootstrap)
  const topics = new Map<string, Topic>()
  const pool = {
    offer(purpose: string, topic: Buffer | undefined) {
      if (topic === undefined) void topics.get(purpose)?.close()
      if (topic === undefined) topics.delete(purpose)
      else if (!topics.has(purpose))
        topics.set(purpose, network.topic(topic, { announce: true, found: () => undefined }))
    },
    async look(topic: Buffer, found: (key: Buffer, addresses: Address[]) => void) {
      const search = network.topic(topic, { announce: false, found })
      await search.settled
      await search.close()
    },
  }
  const overlap = new Overlap(
    listed(() => own),
    listed(() => held),
    systemClock,
  )
  const meeting = new Meeting(network.publicKey, pool, overlap)
  const announced = async () => {
    meeting.offer(true)
    await meeting.refresh()
    await Promise.all([...topics.values()].map(({ settled }) => settled))
    return topics.size
  }
  return { id: network.publicKey.toString('hex'), meeting, topics, announced }
}

t.test('found at places by what is held, at shards by anybody', async (t) => {
  const dht = await privateDht(t)
  const mine = some(200)
  const me = await node(t, dht.address, { own: mine })
  const like = await node(t, dht.address, { held: [...mine, ...some(20)] })
  const unlike = await node(t, dht.address, { held: some(200) })
  const empty = await node(t, dht.address, {})
  t.same(
    await Promise.all([like, unlike, empty].map((one) => one.announced())),
    [5, 5, 1],
    'a bounded number of topics',
  )

  const found = await me.meeting.look(() => true)
  t.same([...found.keys()].sort(), [like.id, unlike.id, empty.id].sort())
  t.ok((found.get(like.id)?.places ?? 0) >= 2, 'most of the places are those of the blocks in common')
  t.same(
    [unlike.id, empty.id].map((id) => found.get(id)?.places),
    [0, 0],
  )
  t.equal((await me.meeting.look((key) => key.toString('hex') === like.id)).size, 1, 'only who is wanted')

  like.meeting.offer(false)
  t.equal(like.topics.size, 0)
  await like.meeting.refresh()
  t.equal(like.topics.size, 0, 'nothing is announced of who takes in nobody')
})
