/** What follows from the states of partners, between whole nodes on a private DHT; days pass by a clock of the test's. */
import t from 'tap'
import type { KithError } from '../../lib/base/errors.js'
import type { Fellows } from '../../lib/partners/fellows.js'
import type { Roster } from '../../lib/partners/roster.js'
import { encodeAbsence } from '../../lib/format/wire-away.js'
import type { Peer } from '../../lib/partners/types.js'
import { DaysClock } from '../helpers/days-clock.js'
import { privateDht, until } from '../helpers/dht.js'
import { befriend, openNode, type Node } from '../helpers/manager.js'

t.setTimeout(300_000)

const hourMs = 3_600_000
const day = 86_400
/** Who promised no hours is late after a day, in grace an hour later. */
const policy = { grace: day, notice: day, commitment: 2 * day }
const lender = { open: true, partners: 0, region: '' }

const infoOf = (node: Node, id: string) => node.partners.list().find((partner) => partner.id === id)
const stateOf = (node: Node, id: string) => infoOf(node, id)?.state.name

/** Where both dialled, one of two connections gives way, and what was asked over it is asked again. */
async function askOf<T>(node: Node, of: Buffer, ask: (peer: Peer) => Promise<T>): Promise<T> {
  const { roster } = (node.partners as unknown as { parts: { roster: Roster } }).parts
  await until(() => roster.peer(of) !== undefined)
  try {
    return await ask(roster.peer(of) as Peer)
  } catch (error) {
    if ((error as KithError).code !== 'noPartners') throw error
    return askOf(node, of, ask)
  }
}

t.test(
  'of the pool: back within its grace it is kept; when that ran out another is found and filled',
  async (t) => {
    const dht = await privateDht(t)
    const stateClock = new DaysClock()
    const lenders = []
    for (const name of ['bob', 'eve'])
      lenders.push(await openNode(t, dht.address, { name, pool: lender, policy, stateClock }))
    const ada = await openNode(t, dht.address, {
      name: 'ada',
      pool: { open: false, partners: 1, region: '' },
      policy,
      stateClock,
    })
    await until(() => ada.partners.pool().have === 1, 120)
    const [name = Buffer.alloc(0)] = await ada.write(20)
    await until(() => ada.synced())
    const first = lenders.find(({ id }) => infoOf(ada, id)) as Node
    const second = lenders.find((node) => node !== first) as Node
    const held = () => second.vault.held(ada.identity.id).blocks

    await first.stop()
    await until(() => infoOf(ada, first.id)?.online === false)
    await stateClock.pass(30 * hourMs)
    t.match(infoOf(ada, first.id)?.state, { name: 'grace', graceLeftMs: Number })
    t.equal(ada.partners.pool().have, 1, 'it counts as long as its grace runs')
    const again = await openNode(t, dht.address, { ...first, name: 'back', pool: lender, policy, stateClock })
    await until(() => stateOf(ada, first.id) === 'good')
    t.equal(again.vault.held(ada.identity.id).blocks, 20)
    t.match(infoOf(ada, first.id)?.agreement, { number: 1, standing: 'active' })
    t.equal(held(), 0, 'nothing was sent to another')
    t.equal(infoOf(ada, first.id)?.agreement?.theirs.commitment, 2 * day)
    t.match(infoOf(ada, first.id)?.state, { committedUntil: Number }, 'no restores yet')
    await until(() => infoOf(again, ada.id)?.online === true)
    const asked = askOf(ada, first.identity.id, (peer) => peer.request('get', { names: [name] }))
    await t.rejects(asked, { code: 'denied', message: /commitment/ }, 'and none are honoured')
    await stateClock.pass(20 * hourMs)
    t.equal(infoOf(ada, first.id)?.state.committedUntil, null)
    t.equal((await ada.partners.reader.get(name))?.length, 1000)

    await again.stop()
    await until(() => infoOf(ada, first.id)?.online === false)
    await stateClock.pass(55 * hourMs)
    t.equal(stateOf(ada, first.id), 'reneged')
    t.match(infoOf(ada, first.id)?.state.record, { kept: 0, reneged: 1 })
    await until(() => held() === 20, 120)
    await until(() => ada.synced())
    t.match(infoOf(ada, first.id)?.agreement, { standing: 'ended', ended: { byUs: true } })
    t.equal(ada.partners.pool().have, 1)

    t.comment('it is on record after a restart')
    await ada.stop()
    const later = await openNode(t, dht.address, { ...ada, name: 'ada', policy, stateClock })
    t.equal(stateOf(later, first.id), 'reneged')
    t.match(infoOf(later, first.id)?.state.record, { reneged: 1 })
  },
)

t.test(
  'a friend is never dropped: it counts as not holding, and is good again when it proves what it has',
  async (t) => {
    const dht = await privateDht(t)
    const stateClock = new DaysClock()
    const ada = await openNode(t, dht.address, { name: 'ada', policy, stateClock })
    const bob = await openNode(t, dht.address, { name: 'bob', policy })
    await befriend(ada, bob)
    await ada.write(10)
    await until(() => ada.synced())
    await ada.partners.audit({ full: true })
    t.equal(ada.partners.keepers.count, 1)
    await bob.stop()
    await until(() => infoOf(ada, bob.id)?.online === false)
    await stateClock.pass(55 * hourMs)
    t.match(infoOf(ada, bob.id), {
      name: 'bob',
      circles: ['friends'],
      state: { name: 'reneged' },
      bytesPending: 0,
    })
    t.match(infoOf(ada, bob.id)?.agreement, { standing: 'active' }, 'we stay bound')
    t.equal(ada.partners.keepers.count, 0)
    t.notOk(ada.synced())
    await openNode(t, dht.address, { ...bob, name: 'bob', policy })
    for (let i = 0; i < 20 && stateOf(ada, bob.id) !== 'good'; i++) {
      await until(() => infoOf(ada, bob.id)?.online === true)
      await ada.partners.audit({ full: false })
    }
    t.equal(stateOf(ada, bob.id), 'good')
    await until(() => ada.partners.keepers.count === 1 && ada.synced())
    t.match(infoOf(ada, bob.id)?.state.record, { reneged: 1 })
  },
)

t.test(
  'an owner that is never heard of again is warned of, and its bytes come back when its term is over',
  async (t) => {
    const dht = await privateDht(t)
    const stateClock = new DaysClock()
    const vaultOf = (owner: Node) => bob.vault.held(owner.identity.id)
    const leastSilenceMs = 3 * day * 1000
    const bob = await openNode(t, dht.address, { name: 'bob', policy, stateClock, leastSilenceMs })
    const ada = await openNode(t, dht.address, { name: 'ada', policy })
    const eve = await openNode(t, dht.address, { name: 'eve', policy, stateClock })
    await befriend(bob, ada, eve)
    const names = await ada.write(10)
    // One block of both.
    const [shared = Buffer.alloc(0)] = names
    await eve.blocks.put(shared, (await ada.blocks.get(shared)) as Buffer)
    await eve.write(2)
    await until(() => ada.synced() && eve.synced())
    // By the lists that ada gave them, the two know of each other.
    const fellows = (node: Node) =>
      (node.partners as unknown as { parts: { fellows: Fellows } }).parts.fellows
    await until(() => fellows(bob).isFellow(eve.identity.id) && fellows(eve).isFellow(bob.identity.id))
    t.equal(bob.vault.owners().length, 2)
    const before = bob.vault.bytes
    await ada.stop()
    await until(() => infoOf(bob, ada.id)?.online === false)

    await stateClock.pass(20 * hourMs)
    t.same(infoOf(bob, ada.id)?.trouble, [], 'within its grace')
    await stateClock.pass(2 * day * 1000 + 3 * hourMs)
    t.equal(vaultOf(ada).blocks, 10)
    await until(() => infoOf(bob, ada.id)?.trouble.length === 2)
    t.match(infoOf(bob, ada.id)?.trouble, [
      /^not heard of for 3 days: what you hold for it goes after 1 more/,
      /^another of its partners saw it within the last 3 days$/,
    ])
    await stateClock.pass(22 * hourMs)
    await until(() => vaultOf(ada).blocks === 0)
    t.notOk(bob.vault.knows(ada.identity.id))
    t.equal(vaultOf(eve).blocks, 3, 'what another owner wants stays')
    t.equal((await bob.vault.get(eve.identity.id, shared))?.length, 1000)
    t.ok(bob.vault.bytes < before / 2, 'the room is there again')

    t.comment('when it is back after all, it finds what is missing, and sends it again')
    const again = await openNode(t, dht.address, { ...ada, name: 'ada', policy })
    await until(() => infoOf(again, bob.id)?.online === true)
    await again.partners.audit({ full: true })
    await until(() => vaultOf(ada).blocks === 10)
  },
)

t.test(
  'an announced absence is heard by all, later and after a restart, too, and costs no grace',
  async (t) => {
    const dht = await privateDht(t)
    const stateClock = new DaysClock()
    const open = { policy, stateClock }
    const ada = await openNode(t, dht.address, { name: 'ada', ...open })
    const bob = await openNode(t, dht.address, { name: 'bob', ...open })
    const eve = await openNode(t, dht.address, { name: 'eve', ...open })
    await befriend(ada, bob, eve)
    await until(() =>
      [ada, bob, eve].every((node) => node.partners.list().filter((p) => p.online).length === 2),
    )
    await eve.stop()
    await until(() => infoOf(bob, eve.id)?.online === false && infoOf(ada, eve.id)?.online === false)
    const awayUntil = Math.round(stateClock.now()) + 10 * day * 1000
    const told = await bob.partners.away(awayUntil)
    t.equal(told.find(({ name }) => name === 'ada')?.until, awayUntil)
    t.equal(told.find(({ name }) => name === 'eve')?.until, undefined)
    t.equal(infoOf(ada, bob.id)?.state.awayUntil, awayUntil)

    await bob.stop()
    const again = await openNode(t, dht.address, { ...bob, name: 'bob', ...open })
    t.equal(again.partners.awayUntil, awayUntil)
    const later = await openNode(t, dht.address, { ...eve, name: 'eve', ...open })
    await until(() => infoOf(later, bob.id)?.state.awayUntil === awayUntil)
    await again.stop()
    await until(() => infoOf(ada, bob.id)?.online === false)
    await stateClock.pass(9 * day * 1000)
    t.match(infoOf(ada, bob.id)?.state, { name: 'good', awayUntil })
    await stateClock.pass(day * 1000 + 26 * hourMs)
    t.match(infoOf(ada, bob.id)?.state, { name: 'grace', awayUntil: null }, 'then it counts')

    const back = await openNode(t, dht.address, { ...bob, name: 'bob', ...open })
    await until(() => infoOf(ada, bob.id)?.state.name === 'good')
    await until(() => infoOf(back, ada.id)?.online === true)
    await back.partners.away(Math.round(stateClock.now()) + 5 * day * 1000)
    t.match(infoOf(ada, bob.id)?.state, { awayUntil: Number })
    const tell = (notice: Buffer) => askOf(back, ada.identity.id, (peer) => peer.request('away', { notice }))
    const word = { partner: ada.identity.id, made: 1, until: awayUntil }
    const [own, other] = [back.identity.keyPair, later.identity.keyPair]
    const late = { ...word, made: Math.round(stateClock.now()) + day * 1000 }
    await t.rejects(tell(encodeAbsence(word, own)), { code: 'denied' }, 'older than the last')
    await t.rejects(tell(encodeAbsence(late, other)), { code: 'denied' }, "another's word")
    await t.rejects(
      tell(encodeAbsence({ ...late, partner: later.identity.id }, own)),
      { code: 'denied' },
      'to another',
    )
    await back.partners.away(0)
    // Whose connection was replaced meanwhile, as when both sides dialled, hears of it by the next one.
    await until(() => infoOf(ada, bob.id)?.state.awayUntil === null)
  },
)
