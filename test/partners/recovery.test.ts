import t, { type Test } from 'tap'
import { systemClock, type Clock } from '../../lib/base/clock.js'
import { silentLog } from '../../lib/base/log.js'
import { randomBytes } from '../../lib/base/random.js'
import { deriveIdentity } from '../../lib/format/keys.js'
import { runDhtNode } from '../../lib/partners/dht-node.js'
import { findBackups, type Recovered } from '../../lib/partners/recovery.js'
import { privateDht, until } from '../helpers/dht.js'
import { fastClock } from '../helpers/fast-clock.js'
import { deposit, openPartnerNode, someHead, type PartnerNode } from '../helpers/partner-node.js'

function recover(node: PartnerNode, clock: Clock = systemClock): Promise<Recovered> {
  return findBackups({ roster: node.roster, identity: node.identity, clock, log: silentLog() })
}

async function holder(
  t: Test,
  bootstrap: string,
  name: string,
  owner: PartnerNode['identity'],
  head?: Buffer,
) {
  const node = await openPartnerNode(t, bootstrap, { name })
  await node.circles.create('one that the owner lost')
  const block = await deposit(node.vault, owner, head)
  node.roster.holdingsChanged()
  return { node, block }
}

t.setTimeout(120_000)

t.test('the newest head of each volume is found with the identity alone', async (t) => {
  const dht = await privateDht(t)
  const owner = deriveIdentity(randomBytes(32))
  const [home, work] = [Buffer.alloc(16, 1), Buffer.alloc(16, 2)]
  const a = await holder(t, dht.address, 'ada', owner, someHead(owner, 7, home))
  const newest = someHead(owner, 9, home)
  const b = await holder(t, dht.address, 'bob', owner, newest)
  const other = someHead(owner, 1, work)
  await b.node.vault.putHead(owner.id, other)
  const me = await openPartnerNode(t, dht.address, { identity: owner })
  const start = performance.now()
  // Announcements are on their way while we look; a user would try again, too.
  let found = await recover(me)
  for (let i = 0; i < 5 && found.sources.length < 1; i++) found = await recover(me)
  t.ok(performance.now() - start < 10_000)
  t.same(
    new Set(found.heads.map(({ bytes }) => bytes.toString('hex'))),
    new Set([newest, other].map((h) => h.toString('hex'))),
  )
  t.same(found.sources, [{ id: b.node.id, name: 'bob' }])
  t.match(found.faults.join('\n'), /^ada \(.*older head: number 7 of 9$/)
  t.ok(a.node.id)
})

t.test('whoever proves the key gets what is its own, and nothing else', async (t) => {
  const dht = await privateDht(t)
  const [owner, other] = [deriveIdentity(randomBytes(32)), deriveIdentity(randomBytes(32))]
  const { node, block } = await holder(t, dht.address, 'ada', owner, someHead(owner, 1))
  const foreign = await deposit(node.vault, other, someHead(other, 1))
  const me = await openPartnerNode(t, dht.address, { identity: owner })
  await recover(me)
  const [peer] = me.roster.holders()
  if (!peer) return t.fail('connected')
  const { blocks } = await peer.request('get', { names: [block, foreign] })
  t.ok(Buffer.isBuffer(blocks[0]))
  t.equal(blocks[1], 'absent')
  const { heads } = await peer.request('headGet', {})
  t.equal(heads.length, 1)
  await t.rejects(peer.request('offer', { names: [randomBytes(32)] }), { code: 'denied' })
  await t.rejects(peer.request('headPut', { head: someHead(owner, 5) }), { code: 'denied' })
  t.same(me.roster.online(), [], 'nothing is uploaded to a holder without a circle')
  // With its circle back, the owner is a member on the same connection.
  const [circle] = node.circles.list()
  if (circle) await me.circles.add(circle)
  await until(() => me.roster.online().length === 1)
  await peer.request('headPut', { head: someHead(owner, 5) })
})

t.test('a phrase of nobody', async (t) => {
  const dht = await privateDht(t)
  await openPartnerNode(t, dht.address)
  const clock = fastClock(10)
  const me = await openPartnerNode(t, dht.address, { clock })
  await t.rejects(recover(me, clock), { code: 'notFound', message: /nobody holds a backup/ })
})

t.test('a dead network', async (t) => {
  const dht = await runDhtNode({ host: '127.0.0.1', port: 0 })
  await dht.close()
  const clock = fastClock(10)
  const me = await openPartnerNode(t, dht.address, { clock })
  await t.rejects(recover(me, clock), { code: 'noPartners', message: /does not answer/ })
})

t.test('only bad heads', async (t) => {
  const dht = await privateDht(t)
  const owner = deriveIdentity(randomBytes(32))
  const { node } = await holder(t, dht.address, 'ada', owner, someHead(owner, 1))
  const bad = someHead(owner, 2)
  bad[60] = (bad[60] ?? 0) ^ 1
  node.vault.heads = () => [bad]
  const me = await openPartnerNode(t, dht.address, { identity: owner })
  await t.rejects(recover(me), { code: 'damaged', message: /ada .* bad head/ })
})
