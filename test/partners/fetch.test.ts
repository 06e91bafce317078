import t, { type Test } from 'tap'
import { systemClock } from '../../lib/base/clock.js'
import { silentLog } from '../../lib/base/log.js'
import { seeded } from '../../lib/base/random.js'
import { Fetcher } from '../../lib/partners/fetch.js'
import { Holder } from '../../lib/partners/holder.js'
import type { Answerer, Session } from '../../lib/partners/session.js'
import type { Damage } from '../../lib/partners/types.js'
import type { Vault } from '../../lib/vault/vault.js'
import {
  block,
  identity,
  member,
  open,
  openVault,
  refusing,
  streams,
  TestClock,
  TestPeers,
} from '../helpers/backup.js'

const ann = identity(1)
const holders = [identity(2), identity(3), identity(4)]

interface World {
  peers: TestPeers
  sessions: Session[]
  fetcher: Fetcher
  faults: { partner: Buffer; kind: Damage }[]
}

/** One session for each answerer, and a fetcher over them. */
async function fetching(t: Test, answerers: Answerer[], patienceMs = 200): Promise<World> {
  const peers = new TestPeers()
  const sessions: Session[] = []
  for (const [i, answerer] of answerers.entries()) {
    const [left, right] = await streams(t, ann, holders[i] ?? ann)
    const session = open(left, refusing)
    open(right, answerer)
    await session.ready
    peers.add(session)
    sessions.push(session)
  }
  const faults: World['faults'] = []
  const fetcher = new Fetcher({
    peers,
    clock: systemClock,
    log: silentLog(),
    onFault: (partner, kind) => faults.push({ partner, kind }),
    patienceMs,
  })
  t.teardown(() => fetcher.stop())
  return { peers, sessions, fetcher, faults }
}

async function filled(t: Test, blocks: { name: Buffer; bytes: Buffer }[], i = 0): Promise<Vault> {
  const vault = await openVault(t, holders[i] ?? ann)
  for (const { name, bytes } of blocks) await vault.put(ann.id, name, bytes)
  await vault.commit(ann.id)
  return vault
}

const answering = (answer: (kind: string, message: { names: Buffer[] }) => Promise<unknown>): Answerer => ({
  put: () => Promise.resolve(),
  answer: (kind, message) => answer(kind, message as { names: Buffer[] }) as never,
})

t.test('2,000 blocks at once from three partners, each of which lacks a third', async (t) => {
  const random = seeded(1)
  const blocks = Array.from({ length: 2000 }, () => block(random))
  const vaults = await Promise.all(
    holders.map((_, h) =>
      filled(
        t,
        blocks.filter((_, i) => i % 3 !== h),
        h,
      ),
    ),
  )
  const { fetcher } = await fetching(
    t,
    vaults.map((vault) => new Holder(vault, ann.id, member)),
  )
  const got = await Promise.all(blocks.map(({ name }) => fetcher.get(name)))
  t.ok(got.every((bytes, i) => bytes?.equals(blocks[i]?.bytes ?? Buffer.alloc(0))))
  t.equal(await fetcher.get(Buffer.alloc(32)), undefined, 'nobody has it')
})

t.test('wrong, absent, slow and broken partners are got round', async (t) => {
  const random = seeded(2)
  const blocks = Array.from({ length: 100 }, () => block(random))
  const good = new Holder(await filled(t, blocks, 2), ann.id, member)
  const other = block(random)
  const bad: { name: string; answerer: Answerer; fault?: Damage }[] = [
    {
      name: 'another block',
      answerer: answering((_, { names }) => Promise.resolve({ blocks: names.map(() => other.bytes) })),
      fault: 'wrong',
    },
    {
      name: 'nothing',
      answerer: answering((_, { names }) => Promise.resolve({ blocks: names.map(() => 'absent') })),
      fault: 'missing',
    },
    {
      name: 'never now',
      answerer: answering((_, { names }) => Promise.resolve({ blocks: names.map(() => 'later') })),
    },
    { name: 'no answer', answerer: answering(() => new Promise(() => undefined)) },
    { name: 'a refusal', answerer: answering(() => Promise.reject(new Error('no'))) },
  ]
  for (const { name, answerer, fault } of bad) {
    const { fetcher, faults, sessions } = await fetching(t, [answerer, answerer, good])
    const got = await Promise.all(blocks.map((one) => fetcher.get(one.name)))
    t.ok(
      got.every((bytes, i) => bytes?.equals(blocks[i]?.bytes ?? Buffer.alloc(0))),
      name,
    )
    if (fault) {
      t.ok(faults.length > 0 && faults.every(({ kind }) => kind === fault), `${name}: told`)
      t.notOk(faults.some(({ partner }) => partner.equals(holders[2]?.id ?? ann.id)))
    }
    for (const session of sessions) session.close('next')
  }
})

t.test('only bad partners: a clear failure, no wrong byte', async (t) => {
  const random = seeded(3)
  const one = block(random)
  const other = block(random)
  const wrong = answering((_, { names }) => Promise.resolve({ blocks: names.map(() => other.bytes) }))
  const absent = answering((_, { names }) => Promise.resolve({ blocks: names.map(() => 'absent') }))
  const first = await fetching(t, [wrong, wrong, absent])
  await t.rejects(first.fetcher.get(one.name), { code: 'damaged' })
  const second = await fetching(t, [absent, absent])
  t.equal(await second.fetcher.get(one.name), undefined)
  const third = await fetching(t, [])
  await t.rejects(third.fetcher.get(one.name), { code: 'noPartners' })
})

t.test('connections that break are no answer; who comes on line is asked', async (t) => {
  const one = block(seeded(4))
  const holder = new Holder(await filled(t, [one]), ann.id, member)
  const mute = answering(() => new Promise(() => undefined))
  const world = await fetching(t, [mute], 10_000)
  const got = world.fetcher.get(one.name)
  world.sessions[0]?.close('gone')
  const [left, right] = await streams(t, ann, holders[1] ?? ann)
  const session = open(left, refusing)
  open(right, holder)
  await session.ready
  world.peers.add(session)
  t.same(await got, one.bytes)
})

t.test('while it waits, partners are looked for; after it gave up, the next block waits less', async (t) => {
  const clock = new TestClock()
  const peers = new TestPeers()
  const fetcher = new Fetcher({ peers, clock, log: silentLog() })
  /** ms until a block is given up */
  const refusedAfter = async (): Promise<number> => {
    const start = clock.monotonic()
    let end: number | undefined
    const refused = t.rejects(
      fetcher.get(Buffer.alloc(32)).finally(() => (end = clock.monotonic())),
      { code: 'noPartners' },
    )
    while (end === undefined) {
      clock.pass(1000)
      await new Promise((resolve) => setImmediate(resolve))
    }
    await refused
    return end - start
  }
  const first = await refusedAfter()
  t.ok(first >= 60_000 && first < 65_000, `${first} ms`)
  t.ok(peers.sought >= 11 && peers.sought <= 13, `looked for ${peers.sought} times`)
  const second = await refusedAfter()
  t.ok(second >= 10_000 && second < 15_000, `${second} ms`)
  peers.emit('change')
  const third = await refusedAfter()
  t.ok(third >= 60_000, `${third} ms, once somebody came or went`)
})
