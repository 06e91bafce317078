/** Records that others can check: who may say what of whom, and what it counts for. */
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { silentLog } from '../../lib/base/log.js'
import { Database } from '../../lib/blocks/database.js'
import type { Identity } from '../../lib/format/keys.js'
import { decodeAttestation, encodeAttestation } from '../../lib/format/wire-attestation.js'
import type { Replies } from '../../lib/format/wire.js'
import { Attestations, type AttestationsOptions } from '../../lib/partners/attestations.js'
import type { Peer } from '../../lib/partners/types.js'
import { folder, identity, TestClock } from '../helpers/backup.js'
import { DaysClock } from '../helpers/days-clock.js'
import { privateDht, until } from '../helpers/dht.js'
import { befriend, openNode, type Node } from '../helpers/manager.js'

t.setTimeout(400_000)

const day = 86_400_000
const [ann, bob, cat, dan] = [identity(1), identity(2), identity(3), identity(4)]
const nothing = { kept: 0, reneged: 0, days: 0 }

interface World {
  attestations: Attestations
  clock: TestClock
  /** who is a partner of ours, who is trusted, and what we saw ourselves */
  partners: Set<Identity>
  trusted: Set<Identity>
  dir: string
}

/** Ann's. */
function opened(t: Test, dir = folder(t)): World {
  const clock = new TestClock()
  const [partners, trusted] = [new Set<Identity>(), new Set<Identity>()]
  const isIn = (some: Set<Identity>, key: Buffer) => [...some].some(({ id }) => id.equals(key))
  const db = Database.open(join(dir, 'db'))
  t.teardown(() => db.close())
  const attestations = new Attestations({
    ...{ db, self: ann.keyPair, clock, log: silentLog() },
    online: () => [],
    isPartner: (key) => isIn(partners, key),
    isTrusted: (key) => isIn(trusted, key),
    record: (key) =>
      isIn(partners, key) || isIn(trusted, key) ? { kept: 1, reneged: 0, days: 40 } : nothing,
  })
  return { attestations, clock, partners, trusted, dir }
}

/** Somebody on line who answers so. */
function peerOf({ id }: Identity, reply: Replies['attest']): Peer {
  const request = () => Promise.resolve(reply)
  return { key: id, attests: true, closed: false, request } as unknown as Peer
}

const says = (by: Identity, about: Identity, made: number, kept = 1, reneged = 0) =>
  encodeAttestation({ about: about.id, made, days: 30, kept, reneged }, by.keyPair)

t.test(
  'partners are told of, others are not; what partners say of us is shown, the newest by each',
  async (t) => {
    const { attestations, clock, partners } = opened(t)
    const now = clock.now()
    t.same(attestations.answer(bob.id), { own: undefined, shown: [] })
    partners.add(bob)
    const { own } = attestations.answer(bob.id)
    t.ok(own)
    t.equal(attestations.answer(bob.id).own, own, 'signed once a day')
    clock.pass(day)
    t.not(attestations.answer(bob.id).own, own)

    const [first, second, foreign, late] = [
      says(bob, ann, now),
      says(bob, ann, now + 5),
      says(bob, cat, now + 6),
      says(bob, ann, now + 9 * day),
    ]
    for (const own of [first, second, foreign, late]) await attestations.hear(peerOf(bob, { own, shown: [] }))
    await attestations.hear(peerOf(cat, { own: says(bob, ann, now + 7), shown: [] }))
    t.same(
      attestations.answer(dan.id),
      { own: undefined, shown: [second] },
      'not of another, nor from tomorrow',
    )
    await attestations.hear(peerOf(bob, { own: says(bob, ann, now + 8, 0, 1), shown: [] }))
    t.same(attestations.answer(dan.id).shown, [says(bob, ann, now + 8, 0, 1)], 'a worse word takes its place')
    clock.pass(400 * day)
    t.same(attestations.answer(dan.id).shown, [], 'for a year')
  },
)

t.test('of what somebody shows, only the word of those counts who are trusted', async (t) => {
  const { attestations, clock, trusted } = opened(t)
  const now = clock.now()
  const forged = Buffer.from(says(cat, bob, now))
  forged.writeUInt16LE(9, 78)
  const shown = [says(cat, bob, now), says(dan, bob, now), says(cat, dan, now), forged]
  await attestations.hear(peerOf(bob, { own: undefined, shown }))
  t.same(attestations.record(bob.id), nothing, 'of names that nobody knows')
  trusted.add(cat)
  t.same(attestations.record(bob.id), { kept: 1, reneged: 0, days: 30 })
  trusted.add(dan)
  t.same(attestations.record(bob.id), { kept: 2, reneged: 0, days: 30 })
  trusted.delete(cat)
  trusted.delete(dan)
  t.same(attestations.record(bob.id), nothing, 'nor of those that lost the trust')
  trusted.add(cat)
  clock.pass(400 * day)
  t.same(attestations.record(bob.id), nothing, 'nor what is old')
})

t.test('who serves a friend well is no newcomer to us; to who has no friend there, it is', async (t) => {
  const dht = await privateDht(t)
  const stateClock = new DaysClock()
  const pool = (open: boolean, partners: number) => ({ open, partners, region: '' })
  const policy = { holds: 90_000_000 }
  const ada = await openNode(t, dht.address, {
    name: 'ada',
    pool: pool(true, 0),
    policy: { holds: 500_000_000 },
    stateClock,
  })
  await until(() => ada.partners.pool().isOffered)
  const bob = await openNode(t, dht.address, { name: 'bob', pool: pool(false, 1), policy, stateClock })
  const bound = (node: Node) =>
    node.partners.list().find(({ id }) => id === ada.id)?.agreement?.standing === 'active'
  await until(() => bound(bob), 150)
  await stateClock.pass(20 * day)
  const attestationsOf = (node: Node) =>
    (node.partners as unknown as { parts: { attestations: Attestations } }).parts.attestations
  /** Agreements that Ada kept, by what others say. */
  const heardBy = (node: Node) => {
    const attestations = attestationsOf(node)
    const { options } = attestations as unknown as { options: AttestationsOptions }
    return attestations.record(ada.identity.id).kept - options.record(ada.identity.id).kept
  }
  const shown = () => attestationsOf(ada).answer(Buffer.alloc(32)).shown.map(decodeAttestation)
  await until(() => shown().length === 1 && shown()[0]?.kept === 1)
  t.match(shown(), [{ by: bob.identity.id, about: ada.identity.id, reneged: 0 }])

  const settings = pool(false, 0)
  const carl = await openNode(t, dht.address, { name: 'carl', pool: settings, policy, stateClock })
  await befriend(bob, carl)
  const eve = await openNode(t, dht.address, { name: 'eve', pool: pool(false, 1), policy, stateClock })
  await until(() => bound(eve), 150)
  t.equal(heardBy(eve), 0)
  await until(() => carl.partners.list().some(({ agreement }) => agreement?.standing === 'active'))
  settings.partners = 2
  carl.partners.policyChanged()
  await until(() => bound(carl), 150)
  t.equal(heardBy(carl), 1)
  t.equal(carl.partners.list().length, 2)
})
