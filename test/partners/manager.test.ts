import t from 'tap'
import { openNode, befriend, type Node } from '../helpers/manager.js'
import { privateDht, until } from '../helpers/dht.js'
import { someHead } from '../helpers/partner-node.js'

t.setTimeout(120_000)

const online = (node: Node, count: number) =>
  node.partners.list().filter((partner) => partner.online).length === count

t.test('every partner that joins gets the whole backup, also what comes later', async (t) => {
  const dht = await privateDht(t)
  const owner = await openNode(t, dht.address, { name: 'owner' })
  const names = await owner.write(300)
  t.notOk(owner.synced(), 'not without partners')
  const [a, b] = [
    await openNode(t, dht.address, { name: 'ada' }),
    await openNode(t, dht.address, { name: 'bob' }),
  ]
  await befriend(owner, a, b)
  await until(() => owner.synced())
  await until(() => owner.partners.list().length === 2 && owner.synced())
  for (const { vault } of [a, b]) {
    t.notOk(vault.missing(owner.identity.id, names).includes(true))
    t.same(vault.heads(owner.identity.id), owner.heads)
  }
  await owner.write(50)
  t.notOk(owner.synced())
  await until(() => owner.synced())
  const [ada] = owner.partners.list().filter(({ name }) => name === 'ada')
  t.match(ada, {
    id: a.id,
    online: true,
    circles: ['friends'],
    bytesPending: 0,
    bytesHeld: owner.blocks.bytes,
    lastProof: null,
    trouble: [],
  })
  const [audit] = await owner.partners.audit({ full: true })
  t.match(audit, { online: true, asked: 350, proven: 350, failed: false, trouble: [] })
  t.type(owner.partners.list()[0]?.lastProof, 'number')
  t.equal(a.partners.list().find(({ id }) => id === owner.id)?.bytesHeldForIt, owner.blocks.bytes)
})

t.test('sync waits for a partner that is off line, and catches up with it', async (t) => {
  const dht = await privateDht(t)
  const owner = await openNode(t, dht.address)
  const a = await openNode(t, dht.address)
  await befriend(owner, a)
  await owner.write(20)
  await until(() => owner.synced())
  await a.stop()
  await until(() => online(owner, 0))
  await owner.write(20)
  t.notOk(owner.synced())
  const again = await openNode(t, dht.address, { identity: a.identity, dir: a.dir })
  await until(() => owner.synced(), 60)
  t.equal(again.vault.held(owner.identity.id).blocks, 40)
})

t.test('a lost owner gets heads, blocks and circles back with nothing but its identity', async (t) => {
  const dht = await privateDht(t)
  const owner = await openNode(t, dht.address)
  const a = await openNode(t, dht.address, { name: 'ada' })
  await befriend(owner, a)
  const names = await owner.write(100)
  await until(() => owner.synced())
  const circles = owner.partners.circleSecrets()
  await owner.stop()
  const fresh = await openNode(t, dht.address, { identity: owner.identity })
  const found = await fresh.partners.recover()
  t.same(
    found.heads.map(({ bytes }) => bytes),
    owner.heads,
  )
  t.match(found.sources, [{ id: a.id, name: 'ada' }])
  const blocks = await Promise.all(names.map((name) => fresh.partners.reader.get(name)))
  t.notOk(blocks.includes(undefined))
  t.ok(online(fresh, 1))
  await fresh.partners.restoreCircles(circles)
  await until(() => fresh.partners.list()[0]?.circles[0] === 'friends')
  fresh.heads.push(...owner.heads)
  await fresh.write(3)
  await until(() => fresh.synced())
  t.equal(a.vault.held(owner.identity.id).blocks, 103)
})

t.test('a release reaches partners on line now, and the others when they are back', async (t) => {
  const dht = await privateDht(t)
  const owner = await openNode(t, dht.address)
  const [a, b] = [await openNode(t, dht.address, { dropDelayMs: 0 }), await openNode(t, dht.address)]
  await befriend(owner, a, b)
  const names = await owner.write(30)
  await until(() => owner.partners.list().length === 2 && owner.synced())
  await b.stop()
  await until(() => online(owner, 1))
  await owner.blocks.remove(names)
  owner.heads.length = 0
  const results = await owner.partners.release('all')
  t.match(
    results.find(({ id }) => id === a.id),
    { released: true },
  )
  t.match(
    results.find(({ id }) => id === b.id),
    { released: false, reason: /off line/ },
  )
  t.same(a.vault.held(owner.identity.id).bytes, 0)
  t.equal(a.vault.heads(owner.identity.id).length, 1, 'until the drops are carried out')
  await a.vault.carryOutDrops()
  t.same(a.vault.heads(owner.identity.id), [])
  t.match(owner.partners.list().find(({ id }) => id === b.id)?.trouble, [/must still be told/])
  const again = await openNode(t, dht.address, { identity: b.identity, dir: b.dir })
  t.ok(again.vault.held(owner.identity.id).bytes > 0)
  await until(() => again.vault.held(owner.identity.id).bytes === 0, 60)
  await until(() => owner.partners.list().find(({ id }) => id === b.id)?.trouble.length === 0)
  // What is written afterwards is held again.
  await owner.write(5)
  await until(() => owner.synced())
  t.equal(again.vault.held(owner.identity.id).blocks, 5)
  t.equal(a.vault.held(owner.identity.id).blocks, 5)
})

t.test('one volume of several is released with the blocks that only it used', async (t) => {
  const dht = await privateDht(t)
  const owner = await openNode(t, dht.address)
  const a = await openNode(t, dht.address, { dropDelayMs: 0 })
  await befriend(owner, a)
  const names = await owner.write(10)
  const other = Buffer.alloc(16, 2)
  owner.heads.push(someHead(owner.identity, 1, other))
  owner.partners.wake()
  await until(() => a.vault.heads(owner.identity.id).length === 2)
  await until(() => owner.synced())
  await owner.blocks.remove(names.slice(0, 4))
  owner.heads.pop()
  // One of the named blocks is in use again: it stays.
  const [result] = await owner.partners.release({ volume: other, blocks: names.slice(0, 5) })
  t.equal(result?.released, true)
  t.equal(a.vault.held(owner.identity.id).blocks, 6)
  await a.vault.carryOutDrops()
  t.equal(a.vault.held(owner.identity.id).blocks, 6)
  t.equal(a.vault.heads(owner.identity.id).length, 1)
})

t.test('a partner without room says so, and the others have everything', async (t) => {
  const dht = await privateDht(t)
  const owner = await openNode(t, dht.address)
  const [full, roomy] = [
    await openNode(t, dht.address, { name: 'full', quotaBytes: 10_000 }),
    await openNode(t, dht.address, { name: 'roomy' }),
  ]
  await befriend(owner, full, roomy)
  await owner.write(100)
  const info = (name: string) => owner.partners.list().find((partner) => partner.name === name)
  await until(() => info('roomy')?.bytesPending === 0 && info('full')?.trouble.length === 1)
  t.match(info('full')?.trouble, [/refused/])
  t.notOk(owner.synced())
})
