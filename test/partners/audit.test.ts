import { readdirSync, readFileSync, statSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { silentLog } from '../../lib/base/log.js'
import { Auditor } from '../../lib/partners/audit.js'
import type { Session } from '../../lib/partners/session.js'
import type { PeersVault } from '../../lib/partners/types.js'
import type { Vault } from '../../lib/vault/vault.js'
import { ann, backedUp, holder, only, through, volume, type World } from '../helpers/audited.js'
import { until } from '../helpers/dht.js'
import { connect, head, identity, openVault } from '../helpers/backup.js'

/** Stops the holder, lets `tamper` change its files, and starts it again. */
async function tampered(t: Test, world: World, tamper: (segment: string) => void): Promise<Vault> {
  for (const peer of world.peers.online()) (peer as Session).close('the holder stops')
  await world.vault.close()
  const [segment = ''] = readdirSync(join(world.dir, 'segments'))
  tamper(join(world.dir, 'segments', segment))
  const vault = await openVault(t, holder, { dir: world.dir })
  world.peers.add((await connect(t, ann, holder, vault)).owner)
  return vault
}

t.test('an honest holder passes, sampled and in full', async (t) => {
  const world = await backedUp(t, 300)
  const sample = await world.auditor.sample(only(world))
  t.ok(sample.asked >= 30 && sample.asked <= 128, `${sample.asked} asked`)
  t.same(sample, { asked: sample.asked, proven: sample.asked, found: [] })
  t.match(world.book.progress(holder.id), { lastProof: world.clock.now(), verdict: { state: 'unknown' } })
  t.same(await world.auditor.full(only(world)), { asked: 300, proven: 300, found: [] })
  t.equal(world.book.progress(holder.id).verdict.state, 'good')
})

const damages: { name: string; tamper: (segment: string) => void; least: number; most: number }[] = [
  {
    name: 'one byte flipped on the disk',
    tamper: (segment) => {
      const bytes = readFileSync(segment)
      bytes[5000] = (bytes[5000] ?? 0) ^ 1
      writeFileSync(segment, bytes)
    },
    least: 1,
    most: 1,
  },
  {
    name: 'a truncated segment',
    tamper: (segment) => truncateSync(segment, Math.floor(statSync(segment).size / 2)),
    least: 90,
    most: 110,
  },
  {
    name: 'blocks swapped for one another',
    tamper: (segment) => {
      const bytes = readFileSync(segment)
      const first = bytes.subarray(0, 40 + bytes.readUInt32LE(36))
      const second = bytes.subarray(first.length, first.length + 40 + bytes.readUInt32LE(first.length + 36))
      Buffer.concat([second, first]).copy(Buffer.from(bytes.buffer, bytes.byteOffset))
      writeFileSync(segment, bytes)
    },
    least: 2,
    most: 2,
  },
]

for (const { name, tamper, least, most } of damages) {
  t.test(`${name}: found, named, sent again, and clean after a full audit`, async (t) => {
    const world = await backedUp(t, 200)
    const vault = await tampered(t, world, tamper)
    const audit = await world.auditor.full(only(world))
    const lost = audit.asked - audit.proven
    t.ok(lost >= least && lost <= most, `${lost} blocks`)
    t.same(audit.found, ['missing'])
    t.match(world.book.progress(holder.id).verdict, { state: 'damaged', found: ['missing'], blocks: lost })
    await until(() => world.book.progress(holder.id).verdict.repaired === lost)
    t.equal(world.book.progress(holder.id).verdict.state, 'damaged', 'named until a full audit is clean')
    for (const one of world.blocks) t.same(await vault.get(ann.id, one.name), one.bytes)
    world.clock.pass(61_000)
    await until(() => world.book.progress(holder.id).verdict.state === 'good')
    t.equal(world.book.progress(holder.id).lastProof, world.clock.now())
  })
}

t.test('cheats: acknowledged but not stored, old heads, made-up and copied proofs, silence', async (t) => {
  const world = await backedUp(t, 100)
  const other = await openVault(t, identity(3))
  for (const { name, bytes } of world.blocks) await other.put(ann.id, name, bytes)
  await other.commit(ann.id)
  const held = world.vault.held(ann.id)
  const nothing = await through(t, world, {
    held: () => held,
    reveal: () => Promise.resolve([]),
    prove: (_owner, _nonce, names) => Promise.resolve(names.map(() => undefined)),
  })
  t.match(await world.auditor.sample(nothing), { proven: 0, found: ['missing'] })

  const random = await through(t, world, {
    held: () => held,
    prove: (_owner, _nonce, names) => Promise.resolve(names.map(() => Buffer.alloc(32, 9))),
  })
  t.match(await world.auditor.full(random), { asked: 100, proven: 0, found: ['wrong'] })

  const copied = await through(t, world, {
    held: () => held,
    prove: (owner, nonce, names) => other.prove(owner, nonce, names),
  })
  t.match(await world.auditor.full(copied), { proven: 0, found: ['wrong'] }, 'another holder’s proofs')

  world.store.newest[0] = head(ann, 2)
  const old = await through(t, world, { heads: () => [head(ann, 1)] })
  await until(() => world.book.head(holder.id, volume) === 2)
  t.match(await world.auditor.sample(old), { found: ['oldHead'] })
  const none = await through(t, world, { heads: () => [] })
  await until(() => world.book.head(holder.id, volume) === 2)
  t.match(await world.auditor.sample(none), { found: ['badHead'] })
  t.same(world.book.progress(holder.id).verdict.found, ['missing', 'wrong', 'oldHead', 'badHead'])

  const no = () => Promise.reject(new Error('no'))
  const refusing = await through(t, world, { reveal: no, prove: no })
  t.match(await world.auditor.sample(refusing), { proven: 0, found: ['missing'] })

  const never = () => new Promise<never>(() => undefined)
  const mute = await through(t, world, { reveal: never, prove: never })
  const broken = world.auditor.sample(mute)
  mute.close('gone')
  t.match(await broken, { found: ['unreachable'] })
  const last = only(world)
  t.notOk(last, 'nobody is on line')
})

t.test('an audit that somebody waits for goes on over the next connection', async (t) => {
  const world = await backedUp(t, 50)
  const never = () => new Promise<never>(() => undefined)
  const mute = { reveal: never, prove: never }
  for (const isFull of [false, true]) {
    await through(t, world, mute)
    const asked = world.auditor.ask(holder.id, isFull)
    await through(t, world, mute)
    await through(t, world, {})
    t.same((await asked)?.found, [], isFull ? 'in full' : 'sampled')
  }

  const last = await through(t, world, mute)
  const { sought } = world.peers
  const asked = world.auditor.ask(holder.id, true)
  last.close('gone for good')
  await until(() => world.peers.sought > sought)
  world.clock.pass(5_000)
  t.match(await asked, { found: ['unreachable'] })
  t.equal(await world.auditor.ask(holder.id, true), undefined, 'nobody is on line')
})

t.test('a tenth lost is found by a sample in 99 of 100 cases', async (t) => {
  const world = await backedUp(t, 300)
  const lost = new Set(world.blocks.filter((_, i) => i % 10 === 0).map(({ name }) => name.toString('hex')))
  const peer = await through(t, world, {
    held: () => world.vault.held(ann.id),
    reveal: async (...draw) => {
      const drawn = await world.vault.reveal(...draw)
      return drawn.filter(({ name }) => !lost.has(name.toString('hex')))
    },
    prove: async (owner, nonce, names) => {
      const proofs = await world.vault.prove(owner, nonce, names)
      return names.map((name, i) => (lost.has(name.toString('hex')) ? undefined : proofs[i]))
    },
  })
  let caught = 0
  for (let i = 0; i < 20; i++) {
    const { found, asked } = await world.auditor.sample(peer)
    if (found.includes('missing')) caught++
    if (found.length > 0) t.equal(asked, 300, 'a full audit follows at once')
  }
  t.ok(caught >= 18, `${caught} of 20`)
})

t.test(
  'a partner that refuses to flip is asked by name; so is one that answers for other blocks',
  async (t) => {
    const world = await backedUp(t, 300)
    const refusing = await through(t, world, {
      flip: () => {
        throw new Error('no')
      },
    })
    t.same(await world.auditor.sample(refusing), { asked: 44, proven: 44, found: [] })

    const elsewhere = await through(t, world, {
      reveal: (owner, r1) => world.vault.reveal(owner, r1, { bits: 9, draws: 60 }),
    })
    t.match(await world.auditor.sample(elsewhere), { found: [] }, 'it has them, so that no harm is done')
    const wrong = await through(t, world, {
      reveal: async (...draw) => {
        const drawn = await world.vault.reveal(...draw)
        return drawn.map(({ name }) => ({ name, proof: Buffer.alloc(32, 9) }))
      },
      prove: (_owner, _nonce, names) => Promise.resolve(names.map(() => Buffer.alloc(32, 9))),
    })
    t.match(await world.auditor.sample(wrong), { proven: 0, found: ['wrong'] })
  },
)

t.test(
  'who learns the draw and hangs up gets the same draw again, and fails at the fifth time',
  async (t) => {
    const world = await backedUp(t, 300)
    const draws = new Set<string>()
    for (let i = 0; i < 5; i++) {
      const session: Session = await through(t, world, {
        reveal: (_owner, r1) => {
          draws.add(r1.toString('hex'))
          session.close('it does not like the draw')
          return new Promise(() => undefined)
        },
      })
      t.match(await world.auditor.sample(session), { found: ['unreachable'] })
      t.equal(world.book.progress(holder.id).lastAudit, 0, 'it is due as before')
    }
    t.equal(draws.size, 1)
    const late = await through(t, world, {
      prove: (_owner, _nonce, names) => Promise.resolve(names.map(() => undefined)),
    })
    t.match(await world.auditor.sample(late), { asked: 300, found: ['missing'] }, 'a full audit follows')
    t.match(world.book.progress(holder.id).verdict, { state: 'damaged', found: ['missing'] })
    t.equal(world.book.openFlip(holder.id), undefined)
  },
)

t.test('an owner that stops between two messages of a flip goes on with it', async (t) => {
  const world = await backedUp(t, 300)
  const before = await through(t, world, {
    flip: () => {
      before.close('the owner stops')
      throw new Error('nobody hears it')
    },
  })
  t.match(await world.auditor.sample(before), { found: ['unreachable'] })
  const begun = world.book.openFlip(holder.id)
  t.match(begun, { r2: undefined, brokenOff: 0 })
  const after = await through(t, world, {
    reveal: () => {
      after.close('the owner stops')
      return new Promise(() => undefined)
    },
  })
  t.match(await world.auditor.sample(after), { found: ['unreachable'] })
  t.match(world.book.openFlip(holder.id), { r1: begun?.r1, brokenOff: 1 })
  t.match(await world.auditor.sample(await through(t, world, {})), { found: [] })
  t.equal(world.book.openFlip(holder.id), undefined)
})

t.test('audits run by themselves, at their interval', async (t) => {
  const world = await backedUp(t, 50)
  world.clock.pass(20_000)
  await until(() => world.book.progress(holder.id).lastProof > 0)
  const first = world.book.progress(holder.id).lastProof
  world.clock.pass(3_000_000)
  await new Promise((resolve) => setTimeout(resolve, 50))
  t.equal(world.book.progress(holder.id).lastProof, first)
  world.clock.pass(700_000)
  await until(() => world.book.progress(holder.id).lastProof > first)
  t.pass('audited again')
})

t.test(
  'what is not kept here: some of it is read back, and a partner that only says it has it is caught',
  async (t) => {
    const world = await backedUp(t, 200)
    const names = world.blocks.map(({ name }) => name)
    await world.store.store.evict(names, () => true)
    const sample = await world.auditor.sample(only(world))
    t.same(sample, { asked: 4, proven: 4, found: [] })
    t.equal(world.book.progress(holder.id).lastProof, world.clock.now())
    t.same(await world.auditor.full(only(world)), { asked: 4, proven: 4, found: [] })

    const [honest] = world.peers.online()
    ;(honest as Session).close('somebody else answers')
    // Keyed hashes over anything cannot be told from right ones without the bytes; blocks can.
    const lying = new Proxy<PeersVault>(world.vault, {
      get(target, property) {
        if (property === 'get') return async () => Buffer.alloc(3000, 7)
        const value: unknown = Reflect.get(target, property)
        return typeof value === 'function' ? value.bind(target) : value
      },
    })
    world.peers.add((await connect(t, ann, holder, lying)).owner)
    const caught = await world.auditor.full(only(world))
    t.same(caught, { asked: 4, proven: 0, found: ['wrong'] })
    const { verdict } = world.book.progress(holder.id)
    t.match(verdict, { state: 'damaged', found: ['wrong'], blocks: 4 })
  },
)

t.test('what is here and what is not, in one audit', async (t) => {
  const world = await backedUp(t, 200)
  const names = world.blocks.map(({ name }) => name)
  await world.store.store.evict(names.slice(0, 100), () => true)
  t.same(await world.auditor.full(only(world)), { asked: 104, proven: 104, found: [] })
  // Of what could not be sent nothing is asked.
  await world.book.lacks(holder.id, names.slice(50, 150))
  t.same(await world.auditor.full(only(world)), { asked: 54, proven: 54, found: [] })
})

t.test(
  'audits take no more than they may on average: blocks are read back as far as that reaches',
  async (t) => {
    const world = await backedUp(t, 300)
    const { store, book, peers, clock } = world
    await world.auditor.stop()
    t.ok(world.auditor.traffic.lastDay(holder.id) === 0)
    await store.store.evict(
      world.blocks.map(({ name }) => name),
      () => true,
    )
    const bytesPerDay = 8000
    const dayMs = 86_400_000
    const auditor = new Auditor({
      ...{ peers, blocks: store, book, clock, bytesPerDay, log: silentLog() },
      owner: ann.id,
      intervalMs: dayMs,
      onRepair: () => undefined,
    })
    t.teardown(() => auditor.stop())
    let [proven, total] = [0, 0]
    const days = 10
    for (let day = 0; day < days; day++) {
      const before = auditor.traffic.lastDay(holder.id)
      const { found, asked } = await auditor.sample(only(world))
      t.same(found, [])
      total += auditor.traffic.lastDay(holder.id) - before
      proven += asked
      // Not in steps, so that nothing runs by itself.
      clock.jump(dayMs + 3_600_000)
    }
    t.ok(total <= (days + 1) * bytesPerDay * 1.1, `${total} bytes in ${days} days`)
    t.ok(proven >= 3 && proven < 4 * days, `${proven} read back`)

    t.comment('when it reaches for nothing, the next audit is when it is due')
    while ((await auditor.sample(only(world))).asked > 0);
    const spent = auditor.traffic.lastDay(holder.id)
    clock.pass(600_000)
    await new Promise((resolve) => setTimeout(resolve, 50))
    t.equal(auditor.traffic.lastDay(holder.id), spent)
  },
)
