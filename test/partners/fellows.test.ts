/** Partners' partners, between whole nodes on a private DHT: found at recovery, asked about a silent owner. */
import t from 'tap'
import { encodeFellowList, sealPartnerList } from '../../lib/format/wire-fellows.js'
import { readOwnList, type Fellows } from '../../lib/partners/fellows.js'
import type { Network } from '../../lib/partners/network.js'
import type { Reclaim } from '../../lib/partners/reclaim.js'
import type { Roster } from '../../lib/partners/roster.js'
import type { Peer } from '../../lib/partners/types.js'
import { DaysClock } from '../helpers/days-clock.js'
import { privateDht, until } from '../helpers/dht.js'
import { befriend, openNode, type Node } from '../helpers/manager.js'

t.setTimeout(300_000)

const hourMs = 3_600_000
const dayMs = 24 * hourMs

function inside({ partners }: Node) {
  const { parts, reclaim } = partners as unknown as {
    parts: { roster: Roster; fellows: Fellows }
    reclaim: Reclaim
  }
  return { ...parts, reclaim }
}

const keptOf = (node: Node, owner: Node) => inside(node).fellows.answersFor(owner.identity.id).get().list
const numberOf = (node: Node, owner: Node) => {
  const list = keptOf(node, owner)
  return list.length === 0 ? 0 : readOwnList(owner.identity, node.identity.id, list).number
}
const listed = (node: Node, owner: Node) => {
  const list = keptOf(node, owner)
  return list.length === 0 ? 0 : readOwnList(owner.identity, node.identity.id, list).partners.length
}
const peerOf = (node: Node, other: Node) => inside(node).roster.peer(other.identity.id) as Peer

/** Never announces that it holds data of somebody. */
function hide(node: Node): void {
  const roster = inside(node).roster as unknown as {
    announce(name: string, ...rest: unknown[]): void
  }
  const announce = roster.announce.bind(roster)
  roster.announce = (name, ...rest) => {
    if (!name.startsWith('owner ')) announce(name, ...rest)
  }
}

t.test('at recovery one partner that is found leads to the others', async (t) => {
  const dht = await privateDht(t)
  const owner = await openNode(t, dht.address, { name: 'owner', placement: 'erasure:2+1' })
  const others: Node[] = []
  for (const name of ['ada', 'bob', 'eve']) others.push(await openNode(t, dht.address, { name }))
  const [ada, bob, eve] = others as [Node, Node, Node]
  for (const node of [bob, eve]) hide(node)
  await befriend(owner, ...others)
  await until(() => owner.partners.placement().have === 3)
  const names = [...(await owner.writeChunks(12, 200_000)), ...(await owner.write(5))]
  await until(() => owner.synced() && others.every((node) => listed(node, owner) === 3))

  t.comment('what is forged, old, or not from the owner to this partner is refused')
  const peer = peerOf(owner, ada)
  const put = (list: Buffer) => peer.request('fellowsPut', { list })
  const content = { partner: ada.identity.id, made: 5, fellows: [], number: numberOf(ada, owner) + 5 }
  const sealed = sealPartnerList(owner.identity.kek, owner.identity.id, content.number, [])
  const fresh = encodeFellowList({ ...content, sealed }, owner.identity.keyPair)
  const before = keptOf(ada, owner)
  const denied = { code: 'denied' }
  await t.rejects(put(encodeFellowList({ ...content, sealed }, bob.identity.keyPair)), denied, "another's")
  await t.rejects(put(keptOf(bob, owner)), denied, 'for another')
  const forged = Buffer.from(fresh)
  forged[70] = (forged[70] ?? 0) ^ 1
  await t.rejects(put(forged), denied, 'forged')
  const old = encodeFellowList({ ...content, number: 1, sealed }, owner.identity.keyPair)
  t.equal((await put(old)).number, numberOf(ada, owner), 'an old one does not replace a newer one')
  t.same(keptOf(ada, owner), before)
  for (const [list, from] of [
    [forged, ada],
    [keptOf(bob, owner), ada],
    [encodeFellowList({ ...content, sealed }, bob.identity.keyPair), ada],
  ] as const)
    t.throws(() => readOwnList(owner.identity, from.identity.id, list), denied)

  await owner.stop()
  const machine = await openNode(t, dht.address, { identity: owner.identity })
  const found = await machine.partners.recover()
  t.equal(found.placement, 'erasure:2+1')
  t.same(
    found.heads.map(({ bytes }) => bytes),
    owner.heads,
  )
  await until(() => inside(machine).roster.holders().length === 3)
  await ada.stop()
  for (const name of names) t.ok(await machine.partners.reader.get(name), 'from those that nobody announced')
})

/** The two cannot reach each other any more, whoever dials. */
function cut(node: Node, other: Node): void {
  const { network } = inside(node).roster as unknown as { network: Network }
  const inner = network as unknown as {
    refuses(key: Buffer, address: unknown): boolean
    tryDial(peer: { key: Buffer }): Promise<void>
  }
  const [refuses, tryDial] = [inner.refuses.bind(network), inner.tryDial.bind(network)]
  inner.refuses = (key, address) => key.equals(other.identity.id) || refuses(key, address)
  inner.tryDial = (peer) => (peer.key.equals(other.identity.id) ? Promise.resolve() : tryDial(peer))
  network.connection(other.identity.id)?.stream.destroy()
}

t.test('who is silent here, but was seen by another of its partners, keeps what it has here', async (t) => {
  const dht = await privateDht(t)
  const stateClock = new DaysClock()
  const common = { policy: { grace: 86_400, notice: 86_400 }, stateClock, leastSilenceMs: 3 * dayMs }
  const ada = await openNode(t, dht.address, { name: 'ada', policy: common.policy })
  const bob = await openNode(t, dht.address, { name: 'bob', ...common })
  const eve = await openNode(t, dht.address, { name: 'eve', ...common })
  await befriend(ada, bob)
  await ada.partners.createCircle('others')
  await eve.partners.join((await ada.partners.invite('others')).code)
  await ada.write(10)
  await until(() => ada.synced() && [bob, eve].every((node) => listed(node, ada) === 2))
  t.same(
    bob.partners.list().map(({ name }) => name),
    ['ada'],
    'strangers to each other',
  )

  t.comment('what fellows may ask each other')
  inside(bob).roster.meet(eve.identity.id, [])
  await until(() => inside(bob).roster.peer(eve.identity.id) !== undefined)
  t.same(await peerOf(bob, eve).request('seen', { owner: ada.identity.id }), { ageMs: 0 })
  const denied = { code: 'denied' }
  await t.rejects(peerOf(bob, eve).request('seen', { owner: bob.identity.id }), denied)
  const ranges = [{ name: Buffer.alloc(32), offset: 0, length: 1 }]
  await t.rejects(peerOf(bob, eve).request('probe', { nonce: Buffer.alloc(32), ranges }), denied)
  await t.rejects(peerOf(bob, eve).request('offer', { names: [] }), denied)
  await t.rejects(
    peerOf(ada, eve).request('seen', { owner: ada.identity.id }),
    denied,
    'a friend is no fellow',
  )

  cut(bob, ada)
  const [silent] = bob.partners.list().filter(({ id }) => id === ada.id)
  t.ok(silent)
  const trouble = () => bob.partners.partner('ada').trouble
  await until(() => !bob.partners.partner('ada').online)
  const running = () => (inside(bob).reclaim as unknown as { running: Promise<void> }).running
  const pass = async (days: number) => {
    for (let hours = 0; hours < days * 24; hours++) {
      await stateClock.pass(hourMs)
      await running()
    }
  }
  await pass(4)
  t.match(trouble(), [
    /^not heard of for \d days: what you hold for it goes after/,
    /^another of its partners saw it within the last/,
  ])
  t.equal(bob.vault.held(ada.identity.id).blocks, 10, 'its term is over, but it lives')
  const concern = /^it runs, but has not heard of you for long, and asked eve after you/
  await until(() => ada.partners.partner('bob').trouble.some((line) => concern.test(line)))

  t.comment('when it is gone for the others, too, the room comes back')
  await ada.stop()
  await until(() => !eve.partners.partner('ada').online)
  await pass(4)
  t.equal(bob.vault.held(ada.identity.id).blocks, 0)
})
