import t from 'tap'
import { randomBytes } from '../../lib/base/random.js'
import { inviteLifetimeMs, inviteToken, inviteTopic, wrongProofsAllowed } from '../../lib/partners/invite.js'
import { blockName } from '../../lib/format/seal.js'
import { runDhtNode } from '../../lib/partners/dht-node.js'
import { openNetwork, privateDht, until } from '../helpers/dht.js'
import { fastClock, movableClock } from '../helpers/fast-clock.js'
import { deposit, openPartnerNode, shareCircle, type PartnerNode } from '../helpers/partner-node.js'

const names = (node: PartnerNode) => node.roster.known().map(({ name }) => name)
const sees = (a: PartnerNode, b: PartnerNode) =>
  a.roster.online().some((peer) => peer.key.equals(b.identity.id))

t.setTimeout(120_000)

t.test('a circle grows by invites, and all its members find each other', async (t) => {
  const dht = await privateDht(t)
  const ada = await openPartnerNode(t, dht.address, { name: 'ada' })
  const bob = await openPartnerNode(t, dht.address, { name: 'bob' })
  const eve = await openPartnerNode(t, dht.address, { name: 'eve' })
  const circle = await ada.circles.create('friends')
  const first = await ada.invites.create(circle)
  ada.roster.announceInvites()
  const start = performance.now()
  const joined = await bob.roster.join(first.code)
  t.ok(performance.now() - start < 3000, 'soon')
  t.equal(joined.circle.name, 'friends')
  t.same(joined.inviter, { id: ada.id, name: 'ada' })
  t.equal(bob.circles.find('friends').invitedBy, ada.id)
  t.ok(sees(bob, ada), 'on line when join is over')
  await until(() => sees(ada, bob))
  const second = await bob.invites.create(bob.circles.find())
  bob.roster.announceInvites()
  await eve.roster.join(second.code)
  await until(() => sees(eve, ada) && sees(ada, eve) && sees(eve, bob) && sees(bob, eve))
  t.same(names(ada).sort(), ['bob', 'eve'])
  t.same(ada.roster.known()[0]?.circles, [circle.id])
  t.equal(ada.roster.known()[0]?.addresses.length, 1)
})

t.test('an invite that was used, has expired or was burnt', async (t) => {
  const dht = await privateDht(t)
  const clock = movableClock()
  const ada = await openPartnerNode(t, dht.address, { name: 'ada', clock })
  const bob = await openPartnerNode(t, dht.address, { clock: fastClock(5) })
  const eve = await openPartnerNode(t, dht.address, { clock: fastClock(5) })
  const circle = await ada.circles.create('friends')
  const used = await ada.invites.create(circle)
  const burnt = await ada.invites.create(circle)
  ada.roster.announceInvites()
  await bob.roster.join(used.code)
  await t.rejects(eve.roster.join(used.code), { code: 'denied', message: /used by somebody else/ })
  await t.rejects(bob.roster.join(used.code), { code: 'denied' }, 'nor by the same twice')

  const topic = inviteTopic(inviteToken(burnt.code))
  for (let i = 0; i < wrongProofsAllowed; i++) {
    const session = { handshakeHash: randomBytes(64), joiner: randomBytes(32), inviter: ada.identity.id }
    await ada.invites.answer(topic, randomBytes(32), session, '', () => circle)
  }
  await t.rejects(eve.roster.join(burnt.code), { code: 'denied', message: /wrong attempts/ })

  const expired = await ada.invites.create(circle)
  ada.roster.announceInvites()
  clock.move(inviteLifetimeMs)
  await t.rejects(eve.roster.join(expired.code), { code: 'denied', message: /expired/ })
  t.equal(eve.circles.list().length, 0)
  t.notOk(sees(ada, eve))
})

t.test('a code of nobody, and one that somebody else answers', async (t) => {
  const dht = await privateDht(t)
  const eve = await openPartnerNode(t, dht.address, { clock: fastClock(15) })
  const unknown = 'HCFKV-8SA70-N3S4Q-QZB5T-2VSC4-3C0BR'
  await t.rejects(eve.roster.join(unknown), { code: 'usage' })
  const ada = await openPartnerNode(t, dht.address)
  const { code } = await ada.invites.create(await ada.circles.create('friends'))
  await ada.stop()
  await t.rejects(eve.roster.join(code), { code: 'noPartners', message: /nobody answers/ })
  // A stranger who saw the topic on the DHT announces it, too, and knows nothing more.
  const stranger = await openPartnerNode(t, dht.address)
  const elsewhere = await openNetwork(t, dht.address)
  await elsewhere.topic(inviteTopic(inviteToken(code)), { announce: true }).settled
  await t.rejects(eve.roster.join(code), { code: 'noPartners' })
  t.equal(eve.circles.list().length, 0)
  t.equal(stranger.roster.known().length, 0)
})

t.test('partners are kept over a restart, and met again though the DHT is dead', async (t) => {
  const dht = await runDhtNode({ host: '127.0.0.1', port: 0 })
  const ada = await openPartnerNode(t, dht.address, { name: 'ada' })
  const bob = await openPartnerNode(t, dht.address, { name: 'bob' })
  await shareCircle(ada, bob)
  await until(() => sees(ada, bob) && sees(bob, ada))
  const [before] = bob.roster.known()
  await bob.stop()
  await until(() => !sees(ada, bob))
  t.same(names(ada), ['bob'], 'known though off line')
  await dht.close()
  const again = await openPartnerNode(t, dht.address, {
    name: 'bob',
    identity: bob.identity,
    dir: bob.dir,
  })
  t.equal(again.roster.known()[0]?.since, before?.since)
  await until(() => sees(ada, again) && sees(again, ada))
})

t.test('who is forgotten is not known after a restart either', async (t) => {
  const dht = await privateDht(t)
  const ada = await openPartnerNode(t, dht.address, { name: 'ada' })
  const bob = await openPartnerNode(t, dht.address, { name: 'bob' })
  await shareCircle(ada, bob)
  await until(() => sees(ada, bob))
  await bob.stop()
  await until(() => !sees(ada, bob))
  await ada.roster.forget(bob.identity.id)
  t.same(names(ada), [])
  await ada.stop()
  const again = await openPartnerNode(t, dht.address, { name: 'ada', identity: ada.identity, dir: ada.dir })
  t.same(names(again), [])
})

t.test('who shares no circle gets no session', async (t) => {
  const dht = await privateDht(t)
  const ada = await openPartnerNode(t, dht.address, { clock: fastClock(5) })
  const circle = await ada.circles.create('friends')
  // Eve knows the topic, as any node of the DHT may, but not the secret.
  const network = await openNetwork(t, dht.address)
  await network.topic(circle.topic, { announce: true }).settled
  ada.roster.hurry()
  network.connect(ada.identity.id)
  await until(() => network.connection(ada.identity.id) !== undefined)
  await until(() => network.connection(ada.identity.id) === undefined)
  t.equal(ada.roster.holders().length, 0)
  t.equal(ada.roster.known().length, 0)
})

t.test('a node announces itself for the owners whose data it holds, as long as it does', async (t) => {
  const dht = await privateDht(t)
  const ada = await openPartnerNode(t, dht.address)
  const owner = await openNetwork(t, dht.address)
  const bob = await openPartnerNode(t, dht.address)
  await deposit(bob.vault, ada.identity)
  bob.roster.holdingsChanged()
  const { rendezvous } = ada.identity
  const found = async () => {
    const keys: string[] = []
    const topic = owner.topic(rendezvous, { announce: false, found: (key) => keys.push(key.toString('hex')) })
    await topic.settled
    await topic.close()
    return keys
  }
  let keys: string[] = []
  for (let i = 0; i < 50 && keys.length === 0; i++) keys = await found()
  t.same(keys, [bob.id])
})

t.test('what a partner asks is answered for all that it sent before', async (t) => {
  const dht = await privateDht(t)
  const ada = await openPartnerNode(t, dht.address)
  const bob = await openPartnerNode(t, dht.address)
  await shareCircle(ada, bob)
  await until(() => sees(bob, ada))
  const [peer] = bob.roster.online()
  // Large blocks are gathered to be checked side by side: this one waits for more.
  const bytes = randomBytes(300_000)
  await peer?.put([{ name: blockName(bytes), bytes }])
  t.same(await peer?.request('offer', { names: [blockName(bytes)] }), { missing: [false] })
})
