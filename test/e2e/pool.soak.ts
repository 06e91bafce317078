/**
 * Ten daemons in a private DHT, three circles and the open pool, through the command line: everyone ends with the partners that its
 * policy asks for, bound both ways, and backups go to strangers; after one daemon's death, its partners have it back.
 */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { KithWorld, until, type KithNode } from '../helpers/kith.js'

t.setTimeout(600_000)

const circles = [
  ['a', 'b', 'c'],
  ['d', 'e'],
  ['f', 'g'],
]
const wanted = 3

t.test('ten daemons, three circles, one pool', async (t) => {
  const world = await KithWorld.start(t)
  const nodes: Record<string, KithNode> = {}
  for (const name of 'abcdefghij') nodes[name] = await world.node(name)
  const node = (name: string) => nodes[name] as KithNode
  for (const [first = '', ...others] of circles) {
    await node(first).run('circle', 'create', `circle of ${first}`)
    for (const other of others) await node(other).join(node(first))
  }
  for (const one of Object.values(nodes)) {
    await one.run('offer', '50G', '--open')
    await one.run('partners', 'find', String(wanted))
  }
  const bound = async (one: KithNode) =>
    (await one.partners()).filter(({ agreement }) => agreement?.state === 'active')
  for (const [name, one] of Object.entries(nodes))
    await until(`${name} has ${wanted} partners`, 240, async () => (await bound(one)).length >= wanted)

  t.comment('each agreement is known to both sides, with the same number')
  const ids = new Map<string, KithNode>()
  for (const one of Object.values(nodes)) ids.set((await one.status()).id ?? '', one)
  for (const [name, one] of Object.entries(nodes)) {
    const { id } = await one.status()
    const partners = await bound(one)
    t.ok(
      partners.length <= 2 * wanted + 2 + 2,
      `${name} has ${partners.length} partners, and not all there are`,
    )
    for (const partner of partners) {
      const other = ids.get(partner.id)
      const back = other && (await bound(other)).find((p) => p.id === id)
      t.equal(back?.agreement?.number, partner.agreement?.number, `${name} and ${partner.name}`)
      const isFriend = circles.some((circle) => circle.includes(name) && circle.includes(partner.name))
      t.equal(partner.circles.length > 0, isFriend, `${name} and ${partner.name} know what they are`)
      if (isFriend) continue
      t.equal(partner.agreement?.ours.holds, partner.agreement?.theirs.holds, 'as much each way')
      t.equal(partner.distance, 'near')
    }
  }

  t.comment('a backup to strangers, before and after a death')
  const dir = world.directory('protected-h')
  writeFileSync(join(dir, 'photo'), Buffer.alloc(500_000, 7))
  await node('h').run('mount', dir, '--engine', 'watch')
  await node('h').snapshot(dir)
  await node('h').sync(dir)
  const [victim] = await bound(node('h'))
  const dead = ids.get(victim?.id ?? '') as KithNode
  await dead.killDaemon()
  writeFileSync(join(dir, 'another'), Buffer.alloc(300_000, 8))
  await node('h').snapshot(dir)
  await dead.status() // starts it again
  await node('h').sync(dir)
  const { partners } = await node('h').volume(dir)
  t.ok(partners.length >= wanted)
  for (const { bytesPending, recoveryPoint } of partners)
    t.match({ bytesPending, recoveryPoint: recoveryPoint !== null }, { bytesPending: 0, recoveryPoint: true })
  await node('h').run('unmount', dir)
})
