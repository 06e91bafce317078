/**
 * Ten daemons in a private DHT, three circles and the open pool: everyone ends with the partners that its policy asks for, bound both
 * ways. The daemons are processes; they are spoken to over their control sockets, since a hundred commands would take longer than
 * all else (pool.soak.ts does it by commands, and sends backups).
 */
import { mkdirSync } from 'node:fs'
import t from 'tap'
import { ControlClient } from '../../lib/daemon/control-client.js'
import { KithWorld, until } from '../helpers/kith.js'

t.setTimeout(580_000)

/** Friends, and how many partners each of them wants; who is in no circle is alone. */
const circles = [['a', 'b', 'c'], ['d', 'e'], ['f', 'g'], ['h'], ['i'], ['j']]
const wants: Record<string, number> = { a: 2, b: 2, c: 3 }
const wanted = (name: string) => wants[name] ?? 2
const names = circles.flat()

t.test('ten daemons, three circles, one pool', async (t) => {
  const world = await KithWorld.start(t)
  const clients = new Map<string, ControlClient>()
  const ids = new Map<string, string>()
  t.teardown(() => clients.forEach((client) => client.close()))
  const daemon = (name: string) => clients.get(name) as ControlClient
  const start = async (name: string) => {
    const home = world.path(`home-${name}`)
    mkdirSync(home, { mode: 0o700 })
    const client = await ControlClient.connectOrStart(home, [world.bootstrap])
    clients.set(name, client)
    ids.set((await client.call('init', { name })).id, name)
  }
  // Two at a time, as many as there are processors.
  const half = Math.ceil(names.length / 2)
  await Promise.all([names.slice(0, half), names.slice(half)].map((some) => inOrder(some, start)))

  const befriend = async ([first = '', ...others]: string[]) => {
    if (others.length > 0) await daemon(first).call('circleCreate', { name: `circle of ${first}` })
    for (const other of others) {
      const { code } = await daemon(first).call('invite', {})
      await daemon(other).call('join', { code })
    }
  }
  await Promise.all(circles.map(befriend))
  for (const name of names) {
    await daemon(name).call('offer', { bytes: 50e9, open: true })
    await daemon(name).call('seek', { partners: wanted(name) })
  }

  const bound = async (name: string) => {
    const { partners } = await daemon(name).call('partners', {})
    return partners.filter(({ agreement }) => agreement?.state === 'active')
  }
  for (const name of names)
    await until(
      `${name} has ${wanted(name)} partners`,
      120,
      async () => (await bound(name)).length >= wanted(name),
    )

  for (const name of names) {
    const partners = await bound(name)
    t.ok(partners.length < names.length - 1, `${name} has ${partners.length} partners, not all there are`)
    const friends = circles.find((circle) => circle.includes(name)) ?? []
    for (const partner of partners) {
      const other = ids.get(partner.id) ?? ''
      const isBack = async () => {
        const back = (await bound(other)).find((one) => ids.get(one.id) === name)
        return back?.agreement?.number === partner.agreement?.number
      }
      await until(`${other} is bound to ${name} as ${name} to it`, 60, isBack)
      t.equal(partner.circles.length > 0, friends.includes(other), `${name} and ${other} know what they are`)
      const isCommitted = partner.state.committedUntil !== null
      t.equal(
        isCommitted,
        !friends.includes(other),
        `a friend of ${name} gives back at once, a stranger later`,
      )
    }
    for (const friend of friends)
      if (friend !== name)
        t.ok(
          partners.some(({ id }) => ids.get(id) === friend),
          `${name} has ${friend}`,
        )
    t.ok(partners.length <= friends.length - 1 + 2 * wanted(name) + 2, 'no more strangers than may come')
  }
})

async function inOrder<T>(items: readonly T[], run: (item: T) => Promise<void>): Promise<void> {
  for (const item of items) await run(item)
}
