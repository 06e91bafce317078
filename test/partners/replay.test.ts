/**
 * What a partner signed and said once, said again: by another, and by itself when it is old. Over real sessions; each is refused, or
 * changes nothing.
 */
import t from 'tap'
import { encodeAbsence } from '../../lib/format/wire-away.js'
import { decodeFellowList } from '../../lib/format/wire-fellows.js'
import type { Replies, RequestKind, Requests } from '../../lib/format/wire.js'
import { encodeRelease } from '../../lib/format/wire-release.js'
import type { Fellows } from '../../lib/partners/fellows.js'
import type { Roster } from '../../lib/partners/roster.js'
import { privateDht, until } from '../helpers/dht.js'
import { befriend, openNode, type Node } from '../helpers/manager.js'

t.setTimeout(120_000)

const inside = (node: Node) =>
  (node.partners as unknown as { parts: { roster: Roster; fellows: Fellows } }).parts
const infoOf = (node: Node, other: Node) => node.partners.list().find(({ id }) => id === other.id)

/** Asks over whichever connection there is: of two that crossed one gives way. */
async function ask<K extends RequestKind>(
  from: Node,
  to: Node,
  kind: K,
  message: Requests[K],
): Promise<Replies[K]> {
  for (;;) {
    await until(() => inside(from).roster.peer(to.identity.id) !== undefined)
    try {
      const peer = inside(from).roster.peer(to.identity.id)
      if (peer) return await peer.request(kind, message)
    } catch (error) {
      if ((error as { code?: string }).code !== 'noPartners') throw error
    }
  }
}

t.test('what bob said to ada once is worth nothing from eve, and old words of bob are old', async (t) => {
  const dht = await privateDht(t)
  const ada = await openNode(t, dht.address, { name: 'ada' })
  const bob = await openNode(t, dht.address, { name: 'bob' })
  const eve = await openNode(t, dht.address, { name: 'eve' })
  await befriend(ada, bob, eve)
  await bob.write(5)
  const listOf = (owner: Node) => inside(ada).fellows.answersFor(owner.identity.id).get().list
  await until(() => bob.synced() && infoOf(eve, ada)?.agreement?.standing === 'active')
  await until(() => listOf(bob).length > 0 && listOf(eve).length > 0)
  const key = bob.identity.keyPair
  const now = Date.now()
  const [partner, volume] = [ada.identity.id, Buffer.alloc(16)]
  const said = {
    list: listOf(bob),
    older: encodeAbsence({ partner, made: now, until: now + 86_400_000 }, key),
    newer: encodeAbsence({ partner, made: now + 1000, until: 0 }, key),
    dropped: encodeRelease({ kind: 'drop', partner, volume, number: 5, names: [] }, key),
    everything: encodeRelease({ kind: 'everything', partner, volume, number: 4, names: [] }, key),
  }
  const held = () => ada.vault.held(bob.identity.id)
  const before = held().blocks

  t.comment('as bob says it')
  t.ok((await ask(bob, ada, 'away', { notice: said.older })).until > 0)
  t.equal((await ask(bob, ada, 'away', { notice: said.newer })).until, 0, 'back')
  await ask(bob, ada, 'release', { request: said.dropped })

  t.comment('as eve says it again')
  const denied = { code: 'denied' }
  for (const notice of [said.older, said.newer])
    await t.rejects(ask(eve, ada, 'away', { notice }), denied, 'an absence')
  for (const request of [said.dropped, said.everything])
    await t.rejects(ask(eve, ada, 'release', { request }), denied, 'a drop, a release')
  await t.rejects(ask(eve, ada, 'fellowsPut', { list: said.list }), denied, 'a list of partners')
  const { document } = await ask(bob, ada, 'pactNewest', { number: 0 })
  await t.rejects(
    ask(eve, ada, 'pactOffer', { offer: document ?? Buffer.alloc(340) }),
    denied,
    'an agreement',
  )

  t.comment('as bob, or who got hold of its words, says it later')
  await t.rejects(ask(bob, ada, 'away', { notice: said.older }), denied, 'older than its last word')
  await t.rejects(ask(bob, ada, 'release', { request: said.everything }), denied, 'its number was passed')
  await t.rejects(ask(bob, ada, 'release', { request: said.dropped }), denied, 'its number was used')
  t.equal(infoOf(ada, bob)?.state.awayUntil, null)
  t.equal(held().blocks, before)
  // Eve may have given a newer one of its own meanwhile.
  t.same(decodeFellowList(listOf(eve)).owner, eve.identity.id, "eve's list is eve's")
})
