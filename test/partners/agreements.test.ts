import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import type { Clock } from '../../lib/base/clock.js'
import { silentLog } from '../../lib/base/log.js'
import { randomBytes, seeded } from '../../lib/base/random.js'
import { Database } from '../../lib/blocks/database.js'
import { encodeEnding, encodeOffer, type Agreement } from '../../lib/format/agreement.js'
import { Agreements } from '../../lib/partners/agreements.js'
import { Holder } from '../../lib/partners/holder.js'
import type { Permissions } from '../../lib/partners/types.js'
import type { Vault } from '../../lib/vault/vault.js'
import { somePact } from '../helpers/agreements.js'
import { block, head, identity, openVault } from '../helpers/backup.js'
import { mutate } from '../helpers/bytes.js'
import { privateDht, until } from '../helpers/dht.js'
import { run } from '../helpers/pact-process.js'
import { befriend, openNode, usualPolicy, type Node } from '../helpers/manager.js'

t.setTimeout(240_000)

const [ann, bob, eve] = [identity(1), identity(2), identity(3)]
const hour = 3_600_000

const agreementWith = (node: Node, other: Node) =>
  node.partners.list().find(({ id }) => id === other.id)?.agreement ?? undefined

t.test('members that meet agree; space follows what was agreed upon, also when it is resized', async (t) => {
  const dht = await privateDht(t)
  const a = await openNode(t, dht.address, { name: 'ada', policy: { holds: 300_000, wants: 200_000 } })
  const b = await openNode(t, dht.address, { name: 'bob', policy: { holds: 900_000 } })
  await befriend(a, b)
  await until(() => agreementWith(a, b) !== undefined && agreementWith(b, a) !== undefined)
  t.match(agreementWith(a, b), {
    standing: 'active',
    number: 1,
    until: null,
    ours: { holds: 300_000 },
    theirs: { holds: 200_000 },
  })
  t.match(agreementWith(b, a), { ours: { holds: 200_000 }, theirs: { holds: 300_000 } })
  await a.write(100)
  await until(() => a.synced())
  await a.write(100)
  await until(() => (a.partners.list()[0]?.trouble ?? []).some((line) => /agreed upon is used up/.test(line)))
  t.ok(b.vault.held(a.identity.id).bytes < 200_000, 'no more than that is taken')
  t.notOk(a.synced())
  const { told, partner } = await a.partners.renegotiate('bob', { wants: 800_000 })
  t.ok(told)
  t.match(partner.agreement, { number: 2, theirs: { holds: 800_000 } })
  await until(() => a.synced())
  await t.rejects(a.partners.renegotiate('carl', {}), { code: 'notFound' })

  t.comment('less than what is in use is not agreed to')
  const less = await b.partners.renegotiate('ada', { holds: 100_000 })
  t.match(less.partner.agreement, { number: 2, ours: { holds: 800_000 } })
  t.match(less.partner.trouble, [/declined the last proposal: .*less space than is in use; .* holds/])
})

t.test('an agreement that was ended takes nothing new; a new one goes on where it stopped', async (t) => {
  const dht = await privateDht(t)
  const a = await openNode(t, dht.address, { name: 'ada' })
  const b = await openNode(t, dht.address, { name: 'bob' })
  await befriend(a, b)
  const names = await a.write(50)
  await until(() => a.synced())
  t.ok((await b.partners.endAgreement(a.id.slice(0, 8))).told)
  await until(() => agreementWith(a, b)?.standing === 'ended')
  t.match(agreementWith(a, b), { ended: { byUs: false } })
  t.match(a.partners.list()[0]?.trouble, [/it ended the agreement: .* keeps what it holds for 30 days/])
  t.notOk(a.synced(), 'it does not count as a backup any more')
  await a.write(50)
  const read = await a.partners.reader.get(names[0] ?? Buffer.alloc(32))
  t.ok(read, 'what is there can be read through the notice')
  await b.stop()
  await until(() => a.partners.list()[0]?.online === false)
  const again = await openNode(t, dht.address, { name: 'bob', identity: b.identity, dir: b.dir })
  await until(() => a.partners.list()[0]?.online === true)
  t.equal(again.vault.held(a.identity.id).blocks, 50, 'also after a restart')
  t.match((await a.partners.renegotiate('bob', {})).partner, {
    agreement: { standing: 'ended' },
    trouble: [/ended/, /declined the last proposal: the last agreement was ended there/],
  })
  await again.partners.renegotiate('ada', {})
  await until(() => agreementWith(a, again)?.standing === 'active')
  await until(() => a.synced())
  t.equal(again.vault.held(a.identity.id).blocks, 100)
  t.same(a.partners.list()[0]?.trouble, [])
})

/** A clock whose timers fire when told. */
class StepClock implements Clock {
  private time = 0
  private due: (() => void)[] = []
  now = () => 1_700_000_000_000
  monotonic = () => this.time

  after(_ms: number, run: () => void) {
    this.due.push(run)
    return { cancel: () => (this.due = this.due.filter((other) => other !== run)) }
  }

  /** `ms` go by, then every timer fires; `done` tells when what it began has come so far. */
  async step(ms: number, done: () => boolean): Promise<void> {
    this.time += ms
    for (const run of this.due.splice(0)) run()
    await until(done)
  }

  get waiting(): boolean {
    return this.due.length > 0
  }
}

/** Bob's side of agreements, with a vault, and nobody on line. */
async function bobs(t: Test) {
  const dir = mkdtempSync(join(tmpdir(), 'kith-pact-'))
  const db = Database.open(join(dir, 'db'))
  const vault = await openVault(t, bob)
  const clock = new StepClock()
  const open = () =>
    new Agreements({
      db,
      self: bob.keyPair,
      policy: () => ({ ...usualPolicy(), needs: 0 }),
      members: () => [],
      renewed: () => Promise.resolve(),
      free: async (owner) => void (await vault.evict(owner)),
      changed: () => undefined,
      clock,
      tickClock: clock,
      log: silentLog(),
    })
  const agreements = open()
  t.teardown(async () => {
    await agreements.stop()
    await db.close()
    rmSync(dir, { recursive: true, force: true })
  })
  return { agreements, vault, clock, open }
}

const offerOf = (change: Partial<Agreement> = {}) =>
  somePact(1, ann, bob, { signBy: 1_700_000_100_000, ...change }).offer

async function fill(vault: Vault): Promise<void> {
  const random = seeded(4)
  for (let i = 0; i < 20; i++) {
    const { name, bytes } = block(random)
    await vault.put(ann.id, name, bytes)
  }
  await vault.commit(ann.id)
  await vault.putHead(ann.id, head(ann, 1))
}

t.test('after an end: kept through the notice, gone after it, also across restarts', async (t) => {
  const { agreements, vault, clock, open } = await bobs(t)
  const [day, offer] = [24 * hour, offerOf({ terms: usualTerms() })]
  t.match(await agreements.answersFor(ann.id).offer({ offer }), { kind: 'accepted' })
  await fill(vault)
  t.equal(agreements.room(ann.id), usualPolicy().terms.holds)
  await agreements
    .answersFor(ann.id)
    .end({ ending: encodeEnding({ other: bob.id, number: 1, time: 5 }, ann.keyPair) })
  t.equal(agreements.room(ann.id), 0)
  await clock.step(29 * day, () => clock.waiting)
  t.equal(vault.held(ann.id).blocks, 20)
  t.equal(agreements.info(ann.id)?.noticeLeftMs, day)
  await agreements.stop()
  const later = open()
  t.teardown(() => later.stop())
  t.match(later.info(ann.id), { standing: 'ended', noticeLeftMs: day, ended: { byUs: false, time: 5 } })
  await clock.step(day - 1, () => clock.waiting)
  t.equal(vault.held(ann.id).blocks, 20, 'not a moment before')
  t.equal(vault.heads(ann.id).length, 1)
  await clock.step(1, () => clock.waiting)
  t.equal(vault.held(ann.id).blocks, 0)
  t.equal(vault.heads(ann.id).length, 0)
  t.equal(vault.bytes, 0)
  t.equal(later.info(ann.id)?.noticeLeftMs, 0)
})

function usualTerms(): Agreement['terms'] {
  const { terms } = usualPolicy()
  return [terms, terms]
}

t.test('who may speak of agreements, and what is refused', async (t) => {
  const { agreements, vault } = await bobs(t)
  const as = (permissions: Permissions, key = ann.id) =>
    new Holder(vault, key, () => permissions, agreements.answersFor(key))
  const [member, owner, stranger] = [
    as({ member: true, owner: false }),
    as({ member: false, owner: true }),
    as({ member: false, owner: false }),
  ]
  const [offer, denied] = [offerOf({ terms: usualTerms() }), { code: 'denied' }]
  await t.rejects(stranger.answer('pactNewest', { number: 0 }), denied)
  for (const peer of [stranger, owner]) {
    await t.rejects(peer.answer('pactOffer', { offer }), denied, 'members of a circle only')
    await t.rejects(peer.answer('pactTerms', {}), denied)
  }
  t.same(await owner.answer('pactNewest', { number: 0 }), {})
  await t.rejects(
    as({ member: true, owner: true }, eve.id).answer('pactOffer', { offer }),
    denied,
    'said by another',
  )
  await t.rejects(member.answer('pactEnd', { ending: somePact(1).ending }), denied, 'an end of nothing')
  const old = new Holder(vault, ann.id, () => ({ member: true, owner: true }))
  await t.rejects(old.answer('pactTerms', {}), { code: 'unsupported' })

  const random = seeded(9)
  for (let i = 0; i < 500; i++) {
    const mutated = mutate(random, offer)
    if (!mutated.equals(offer))
      await t.rejects(agreements.answersFor(ann.id).offer({ offer: mutated }), denied)
  }
  t.equal(agreements.info(ann.id), undefined, 'nothing of it left a trace')
  const fresh = await bobs(t)
  t.match(await fresh.agreements.answersFor(ann.id).offer({ offer }), { kind: 'accepted' })
  for (let number = 2; number < 60; number++) {
    const next = encodeOffer(
      { ...somePact(number).agreement, terms: usualTerms(), signBy: 1_700_000_100_000 },
      ann.keyPair,
    )
    await fresh.agreements.answersFor(ann.id).offer({ offer: next })
  }
  t.equal(fresh.agreements.info(ann.id)?.number, 30, 'offers in a flood are told to wait')
})

// kill -9 at each step

t.test('kill -9 at each step of a negotiation: both are bound by the same after it', async (t) => {
  const dht = await privateDht(t)
  const base = mkdtempSync(join(tmpdir(), 'kith-pact-'))
  t.teardown(() => rmSync(base, { recursive: true, force: true }))
  const steps = [
    ['proposes', 'agreement offered', 'the offer is stored, not sent'],
    ['proposes', 'agreement answered by the partner', 'the answer is there, not stored'],
    ['proposes', 'agreement made', 'it is stored'],
    ['answers', 'agreement asked for', 'the offer is there, nothing stored'],
    ['answers', 'agreement made', 'it is stored, not answered'],
    ['answers', 'agreement answered', 'it is about to be answered'],
  ] as const
  await Promise.all(
    steps.map(async ([role, fatal, what], i) => {
      const secret = randomBytes(32).toString('hex')
      // Who proposes first is the one with the smaller key.
      const seeds = [20 + 2 * i, 21 + 2 * i].sort((x, y) => Buffer.compare(identity(x).id, identity(y).id))
      const args = seeds.map((seed) => [join(base, `node-${seed}`), String(seed), dht.address, secret])
      const [proposer = [], answerer = []] = args
      const [victim, other] = role === 'proposes' ? [proposer, answerer] : [answerer, proposer]
      const standing = run(t, [...other, '-'])
      t.equal(await run(t, [...victim, fatal]).exit, 'SIGKILL', what)
      const again = run(t, [...victim, '-'])
      await until(() => standing.last.standing === 'active' && again.last.standing === 'active')
      t.same([standing.last.number, again.last.number], [1, 1], `${what}: the same agreement, not another`)
    }),
  )
})
