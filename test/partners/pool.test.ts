/** The open pool on a private DHT: strangers become partners, by what both want; and what strangers cannot do. */
import t from 'tap'
import { privateDht, until } from '../helpers/dht.js'
import { befriend, openNode, type Node } from '../helpers/manager.js'

t.setTimeout(400_000)

const agreementWith = (node: Node, other: Node) =>
  node.partners.list().find(({ id }) => id === other.id)?.agreement ?? undefined
const pool = (open: boolean, partners: number) => ({ open, partners, region: 'here' })

t.test('who seeks finds who lends: as much each way, blocks go both ways, and it lasts', async (t) => {
  const dht = await privateDht(t)
  const settings = pool(true, 0)
  const ada = await openNode(t, dht.address, { name: 'ada', pool: settings, policy: { holds: 500_000_000 } })
  await until(() => ada.partners.pool().isOffered)
  const bob = await openNode(t, dht.address, {
    name: 'bob',
    pool: pool(false, 1),
    policy: { holds: 90_000_000 },
  })
  await until(() => agreementWith(bob, ada) !== undefined && agreementWith(ada, bob) !== undefined, 150)
  t.match(agreementWith(bob, ada), {
    standing: 'active',
    ours: { holds: 90_000_000 },
    theirs: { holds: 90_000_000 },
  })
  await ada.write(20)
  await bob.write(20)
  await until(() => ada.synced() && bob.synced())
  t.equal(ada.vault.held(bob.identity.id).blocks, 20)
  t.equal(bob.vault.held(ada.identity.id).blocks, 20)
  const [info] = bob.partners.list()
  t.match(info, { name: 'ada', circles: [], online: true, trouble: [], distance: 'near' })

  t.comment('it goes on after a restart, and when the pool is closed to others')
  settings.open = false
  ada.partners.policyChanged()
  t.notOk(ada.partners.pool().isOffered)
  await bob.stop()
  const again = await openNode(t, dht.address, {
    name: 'bob',
    identity: bob.identity,
    dir: bob.dir,
    pool: pool(false, 1),
    policy: { holds: 90_000_000 },
  })
  await until(() => again.partners.list()[0]?.online === true && ada.partners.list()[0]?.online === true)
  t.match(agreementWith(again, ada), { number: 1, standing: 'active' })

  t.comment('when it ends, it takes nothing more, and neither is a friend')
  await again.partners.endAgreement('ada')
  await until(() => agreementWith(ada, again)?.standing === 'ended')
  t.equal(ada.partners.room(again.identity.id), 0)
})

t.test('nobody gets in who is not wanted: closed pools, friends are no strangers', async (t) => {
  const dht = await privateDht(t)
  const ada = await openNode(t, dht.address, { name: 'ada', pool: pool(false, 0) })
  const bob = await openNode(t, dht.address, { name: 'bob', pool: pool(true, 0) })
  const eve = await openNode(t, dht.address, { name: 'eve', pool: pool(false, 2) })
  await befriend(ada, bob)
  await until(() => agreementWith(eve, bob) !== undefined, 150)
  t.equal(ada.partners.room(eve.identity.id), 0, 'without an agreement a stranger has no room')
  t.same(
    eve.partners.list().map(({ name }) => name),
    ['bob'],
  )
  t.equal(agreementWith(ada, eve), undefined)
  t.ok((agreementWith(ada, bob)?.theirs.holds ?? 0) > (agreementWith(eve, bob)?.theirs.holds ?? 0) - 1)
})

t.test('of several who lend, the one is chosen that holds what we have', async (t) => {
  const dht = await privateDht(t)
  const lends = { pool: pool(true, 0), policy: { holds: 90_000_000 } }
  const bob = await openNode(t, dht.address, { name: 'bob', ...lends })
  const fay = await openNode(t, dht.address, { name: 'fay' })
  const settings = pool(false, 0)
  const ada = await openNode(t, dht.address, { name: 'ada', pool: settings, policy: lends.policy })
  // Fay, a friend of Bob's, has the same blocks as Ada.
  await befriend(bob, fay)
  const names = await fay.write(40)
  for (const name of names) await ada.blocks.put(name, (await fay.blocks.get(name)) ?? Buffer.alloc(0))
  await ada.blocks.commit()
  await until(() => fay.synced())
  for (const name of ['carl', 'dora', 'emil']) await openNode(t, dht.address, { name, ...lends })
  settings.partners = 1
  ada.partners.policyChanged()
  await until(() => ada.partners.list().length > 0, 150)
  t.same(
    ada.partners.list().map(({ name }) => name),
    ['bob'],
  )
})
