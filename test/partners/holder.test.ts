/** The holder's answers to offers, where this node has the offered blocks of its own. */
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
