/** Friends whose agreement is over, between whole nodes on a private DHT; days pass by a clock of the test's. */
import t, { type Test } from 'tap'
import type { Reclaim } from '../../lib/partners/reclaim.js'
import type { Roster } from '../../lib/partners/roster.js'
import { DaysClock } from '../helpers/days-clock.js'
import { privateDht, until } from '../helpers/dht.js'
import { befriend, openNode, type Node } from '../helpers/manager.js'

t.setTimeout(240_000)

const hourMs = 3_600_000
const policy = { grace: 86_400, notice: 86_400 }

const infoOf = (node: Node, other: Node) => node.partners.list().find(({ id }) => id === other.id)
const inside = (node: Node) =>
  node.partners as unknown as { parts: { roster: Roster }; reclaim: Reclaim & { running: Promise<void> } }
const restOf = (node: Node, other: Node) => inside(node).parts.roster.resting.of(other.id)

/** Whom it keeps dialling. */
function isDialled(node: Node, other: Node): boolean {
  const { network } = inside(node).parts.roster as unknown as { network: { dialled: Map<string, unknown> } }
  return network.dialled.has(other.id)
}

async function passUntil(clock: DaysClock, what: () => boolean): Promise<void> {
  for (let hours = 0; !what(); hours++) {
    if (hours > 24 * 20) throw new Error(`in vain: ${what.toString()}`)
    await clock.pass(hourMs)
    // What an hour brings is on disk before the next: vault and rows.
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
}

async function friends(t: Test) {
  const dht = await privateDht(t)
  const stateClock = new DaysClock()
  const open = { policy, stateClock }
  const ada = await openNode(t, dht.address, { name: 'ada', ...open })
  const bob = await openNode(t, dht.address, { name: 'bob', ...open })
  await befriend(ada, bob)
  await ada.write(10)
  await bob.write(5)
  await until(() => ada.synced() && bob.synced())
  return { dht, stateClock, ada, bob, open }
}

t.test(
  'when nothing is left they are not dialled any more; a new agreement is made by whoever ended it',
  async (t) => {
    const { dht, stateClock, ada, bob, open } = await friends(t)
    const rest = () => passUntil(stateClock, () => !!restOf(ada, bob) && !!restOf(bob, ada))
    await ada.partners.endAgreement('bob')
    await until(() => infoOf(bob, ada)?.agreement?.standing === 'ended')
    await stateClock.pass(20 * hourMs)
    t.notOk(restOf(ada, bob) ?? restOf(bob, ada), 'not while the notice runs')
    t.equal(bob.vault.held(ada.identity.id).blocks, 10)
    await rest()
    await until(() => infoOf(ada, bob)?.online === false && infoOf(bob, ada)?.online === false)
    t.notOk(bob.vault.knows(ada.identity.id))
    t.notOk(isDialled(ada, bob) || isDialled(bob, ada))
    t.match(infoOf(ada, bob)?.trouble, [
      /^you ended the agreement: nothing is left of it, and it is not dialled/,
    ])
    t.match(infoOf(bob, ada), { bytesHeld: 0, trouble: [/^it ended the agreement: nothing is left of it/] })

    t.comment('nor after a restart, when it looks for partners, or when the other is seen in the circle')
    await bob.stop()
    const again = await openNode(t, dht.address, { ...bob, name: 'bob', ...open })
    again.partners.hurry()
    ada.partners.hurry()
    const { network } = inside(again).parts.roster as unknown as {
      network: { topics: Set<{ finished: number }> }
    }
    await until(() => [...network.topics].every(({ finished }) => finished > 0))
    t.notOk(isDialled(ada, again) || isDialled(again, ada))

    t.comment('who ended it has it back by asking')
    const asked = await ada.partners.renegotiate('bob', {})
    t.notOk(asked.told)
    await until(() => infoOf(ada, again)?.agreement?.standing === 'active')
    await until(() => ada.synced() && !restOf(ada, again) && !restOf(again, ada))
    t.equal(again.vault.held(ada.identity.id).blocks, 10, 'all is sent again')
    t.ok(isDialled(again, ada))

    t.comment('the other way round, after the one who did not end it has asked in vain')
    await again.partners.endAgreement('ada')
    await passUntil(stateClock, () => !!restOf(ada, again) && !!restOf(again, ada))
    await until(() => infoOf(ada, again)?.online === false)
    await ada.partners.renegotiate('bob', {})
    await until(() => (infoOf(ada, again)?.trouble ?? []).some((line) => /ended there/.test(line)))
    await passUntil(stateClock, () => !!restOf(ada, again))
    await again.partners.renegotiate('ada', {})
    await until(() => infoOf(again, ada)?.agreement?.standing === 'active')
    await until(() => ada.synced() && !restOf(ada, again) && !restOf(again, ada))
  },
)
