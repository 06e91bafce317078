import { join } from 'node:path'
import t from 'tap'
import { Database, encodings } from '../../lib/blocks/database.js'
import { encodePresence } from '../../lib/partners/presence.js'
import { seen, unseen } from '../../lib/planning/hours.js'
import { privateDht, until } from '../helpers/dht.js'
import { befriend, openNode, type Node } from '../helpers/manager.js'

t.setTimeout(400_000)

const hourMs = 3_600_000

t.test('`auto` reckons with how much of the time partners were seen on line', async (t) => {
  const dht = await privateDht(t)
  const options = { name: 'owner', placement: 'auto:survive=1' }
  const owner = await openNode(t, dht.address, options)
  const others: Node[] = []
  for (let i = 0; i < 4; i++) others.push(await openNode(t, dht.address, { name: `partner ${i}` }))
  await befriend(owner, ...others)
  await until(() => owner.partners.placement().have === 4, 400)
  const parity = (node: Node) => Number(node.partners.placement().shape?.split('+')[1])
  const before = parity(owner)
  await owner.stop()
  const db = Database.open(join(owner.dir, 'partners', 'db'))
  const table = db.table('presence', encodings.bytes, encodings.bytes)
  let seldom = unseen
  for (let hour = 0; hour < 14 * 24; hour++) seldom = seen(seldom, hour * hourMs, hourMs, hour % 3 === 0)
  await db.transaction(() => {
    for (const { identity } of others) table.put(identity.id, encodePresence(seldom))
  })
  await db.close()
  const again = await openNode(t, dht.address, { ...options, identity: owner.identity, dir: owner.dir })
  await until(() => again.partners.placement().have === 4, 400)
  t.ok(parity(again) > before, `${before} of parity before, ${parity(again)} now`)
})
