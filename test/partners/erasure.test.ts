import t from 'tap'
import { blockName } from '../../lib/format/seal.js'
import { openNode, befriend, type Node } from '../helpers/manager.js'
import { privateDht, until } from '../helpers/dht.js'

t.setTimeout(1_500_000)

const online = (node: Node, count: number) =>
  node.partners.list().filter((partner) => partner.online).length === count

t.test('erasure:3+2 over five partners: any two may go, and the phrase alone brings all back', async (t) => {
  const dht = await privateDht(t)
  const owner = await openNode(t, dht.address, { name: 'owner', placement: 'erasure:3+2' })
  const others: Node[] = []
  for (let i = 0; i < 5; i++) others.push(await openNode(t, dht.address, { name: `partner ${i}` }))
  await befriend(owner, ...others)
  await until(() => online(owner, 5) && owner.partners.placement().have === 5, 400)
  const names = await owner.writeChunks(24, 400_000)
  const nodes = await owner.write(20)
  await until(() => owner.synced(), 400)
  const { stripes, unreadable } = owner.partners.placement()
  t.ok(stripes >= 2, 'several stripes')
  t.equal(unreadable, 0)
  const held = others.map(({ vault }) => vault.held(owner.identity.id).bytes)
  const size = owner.blocks.bytes
  for (const bytes of held) t.ok(bytes < size * 0.45, 'each has a third, and not everything')
  for (const { vault } of others) {
    t.notOk(vault.missing(owner.identity.id, nodes).includes(true), 'what is no chunk is at each')
    t.ok(vault.missing(owner.identity.id, names).every(Boolean), 'no chunk itself is at any')
  }
  for (const audit of await owner.partners.audit({ full: true }))
    t.match(audit, { failed: false, trouble: [] }, 'each proves what it has')
  await t.test('a partner that gives wrong shards: what is read is right, and it is told of', async (t) => {
    // The first that is asked: another might have parity alone, which nobody asks for while all are there.
    let liar: Node | undefined
    const honest = others.map((node) => {
      const { get } = node.vault
      node.vault.get = async (of, name) => {
        const bytes = await get.call(node.vault, of, name)
        if ((liar ??= node) !== node || !bytes) return bytes
        const wrong = Buffer.from(bytes)
        wrong.writeUInt8(wrong.readUInt8(40) ^ 1, 40)
        return wrong
      }
      return () => (node.vault.get = get)
    })
    for (const name of names) {
      const bytes = await owner.partners.reader.get(name)
      if (!bytes || !blockName(bytes).equals(name)) t.fail('byte by byte')
    }
    const { trouble = [] } = owner.partners.list().find(({ id }) => id === liar?.id) ?? {}
    t.match(trouble, [/it holds damaged blocks/])
    for (const again of honest) again()
  })
  const all = [...names, ...nodes]
  await owner.stop()
  await others[0]?.stop()
  await others[3]?.stop()
  const fresh = await openNode(t, dht.address, { identity: owner.identity })
  const found = await fresh.partners.recover()
  t.equal(found.placement, 'erasure:3+2')
  t.same(
    found.heads.map(({ bytes }) => bytes),
    owner.heads,
  )
  for (const name of all) {
    const bytes = await fresh.partners.reader.get(name)
    t.ok(bytes && blockName(bytes).equals(name), 'byte by byte')
  }
  await others[1]?.stop()
  await until(() => online(fresh, 2), 400)
  const last = await openNode(t, dht.address, { identity: owner.identity, patienceMs: 1000 })
  await fresh.stop()
  await last.partners.recover()
  // A stripe of three has more parts than two partners have. What lies in a part of theirs is read as it is.
  const answers = await Promise.allSettled(names.map((name) => last.partners.reader.get(name)))
  const refused = answers.flatMap((answer) =>
    answer.status === 'rejected' ? [answer.reason as unknown] : [],
  )
  t.ok(refused.length > 0, 'two parts are too few')
  for (const reason of refused)
    t.match(reason, {
      code: 'noPartners',
      message: /any 3 of the 5 partners that hold this data are needed, and 2 of them gave their part/,
    })
  for (const [i, answer] of answers.entries())
    if (answer.status === 'fulfilled')
      t.ok(answer.value && blockName(answer.value).equals(names[i] ?? Buffer.alloc(0)), 'byte by byte')
  const node = await last.partners.reader.get(nodes[0] ?? Buffer.alloc(32))
  t.ok(node, 'what is no chunk is at each')
})
