/** Repair by one share between whole nodes on a private DHT; the days of a partner that stays away pass by a clock of the test's. */
import t from 'tap'
import { blockName } from '../../lib/format/seal.js'
import { DaysClock } from '../helpers/days-clock.js'
import { privateDht, until } from '../helpers/dht.js'
import { befriend, openNode, type Node } from '../helpers/manager.js'

t.setTimeout(170_000)

const hourMs = 3_600_000
const policy = { grace: 86_400, notice: 86_400 }

t.test(
  'of erasure:3+2 over six one is lost: a part of each stripe travels, and any two more may go',
  async (t) => {
    const dht = await privateDht(t)
    const stateClock = new DaysClock()
    const placement = 'erasure:3+2'
    const owner = await openNode(t, dht.address, { name: 'owner', placement, policy, stateClock })
    const others: Node[] = []
    for (let i = 0; i < 6; i++) others.push(await openNode(t, dht.address, { name: `partner ${i}`, policy }))
    await befriend(owner, ...others)
    await until(() => owner.partners.placement().have === 6, 400)
    const names: Buffer[] = []
    for (let i = 0; i < 6; i++) {
      names.push(...(await owner.writeChunks(6, 300_000)))
      await until(() => owner.synced(), 400)
    }
    const held = (node: Node) => node.vault.held(owner.identity.id).bytes
    const [lost, ...rest] = others as [Node, ...Node[]]
    const before = rest.map(held)
    const total = held(lost)
    await lost.stop()
    await until(() => owner.partners.list().find(({ id }) => id === lost.id)?.online === false)
    await stateClock.pass(30 * hourMs)
    t.equal(owner.partners.placement().repair, null, 'within its grace nothing is done')
    await stateClock.pass(30 * hourMs)
    t.equal(owner.partners.list().find(({ id }) => id === lost.id)?.state.name, 'reneged')
    const sent = () => rest.reduce((sum, node, i) => sum + held(node) - (before[i] ?? 0), 0)
    await until(() => sent() > 0.8 * total)
    await until(() => owner.partners.placement().repair === null && owner.synced())
    t.ok(sent() < 1.2 * total, `${sent()} bytes were sent anew of the ${total} that it held`)
    await owner.stop()
    await Promise.all([rest[0]?.stop(), rest[3]?.stop()])
    const fresh = await openNode(t, dht.address, { identity: owner.identity })
    t.equal((await fresh.partners.recover()).placement, placement)
    for (const name of names) {
      const bytes = await fresh.partners.reader.get(name)
      if (!bytes || !blockName(bytes).equals(name)) t.fail('byte by byte')
    }
    t.match(fresh.partners.placement(), { policy: placement, repair: null })
  },
)
