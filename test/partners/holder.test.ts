/** The holder: offers of what this node has of its own, and blocks whose names are checked several at a time. */
import t from 'tap'
import { KithError } from '../../lib/base/errors.js'
import { seeded } from '../../lib/base/random.js'
import { Holder } from '../../lib/partners/holder.js'
import { block, identity, member, openVault } from '../helpers/backup.js'

const [ann, bob] = [identity(1), identity(2)]
const random = seeded(5)
const [ours, damaged, other] = [block(random), block(random), block(random)]

function ownBlock(name: Buffer): Promise<Buffer | undefined> {
  if (name.equals(damaged.name)) return Promise.reject(new KithError('damaged', 'a block is damaged'))
  return Promise.resolve(name.equals(ours.name) ? ours.bytes : undefined)
}

t.test('a block that is here of our own is not sent, and stays for its owner when ours goes', async (t) => {
  const vault = await openVault(t, bob)
  const holder = new Holder(vault, ann.id, member, undefined, { own: ownBlock })
  const names = [ours.name, damaged.name, other.name]
  t.same(await holder.answer('offer', { names }), { missing: [false, true, true] })
  t.equal(vault.held(ann.id).blocks, 0, 'not before the commit')
  await holder.answer('commit', {})
  t.match(vault.held(ann.id), { blocks: 1, bytes: ours.bytes.length })
  t.same(await vault.get(ann.id, ours.name), ours.bytes)
  t.same(await holder.answer('offer', { names }), { missing: [false, true, true] })
})

t.test('without room for it, it is asked for, and refused as any other', async (t) => {
  const vault = await openVault(t, bob, { ownerQuotaBytes: () => 10 })
  const holder = new Holder(vault, ann.id, member, undefined, { own: ownBlock })
  t.same(await holder.answer('offer', { names: [ours.name] }), { missing: [true] })
  await holder.put([ours])
  await t.rejects(holder.answer('commit', {}), { code: 'noSpace' })
})

const large = Array.from({ length: 5 }, () => block(random, 300_000))

t.test('large blocks are checked several at a time, and all are in the next commit', async (t) => {
  const vault = await openVault(t, bob)
  const holder = new Holder(vault, ann.id, member)
  for (const one of large) await holder.put([one])
  t.match(await holder.answer('commit', {}), { blocks: 5 })
  for (const { name, bytes } of large) t.same(await vault.get(ann.id, name), bytes)
})

t.test('one that differs from its name ends the session, wherever it comes', async (t) => {
  for (let at = 0; at < large.length; at++) {
    const vault = await openVault(t, bob)
    const holder = new Holder(vault, ann.id, member)
    const sent = large.map((one, i) => (i === at ? { ...one, bytes: other.bytes } : one))
    const all = async () => {
      for (const one of sent) await holder.put([one])
      await holder.settle()
    }
    await t.rejects(all(), { code: 'protocol' })
    t.equal(await vault.get(ann.id, sent[at]?.name ?? ours.name), undefined)
  }
})
