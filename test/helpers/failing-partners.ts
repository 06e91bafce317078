/**
 * Partners that fail while something is under way: killed, frozen, wiped and cut off, while the owner writes and places its
 * stripes, while it repairs, and while a new machine restores. Every node is a process, and so that a cable can be pulled,
 * a machine of its own (scripts/namespaces).
 */
import { existsSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { copyFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Test } from 'tap'
import { seeded } from '../../lib/base/random.js'
import { Namespaces } from '../../scripts/namespaces/sites.js'
import { seededBytes } from './bytes.js'
import { freeze } from './freeze.js'
import { KithNode, KithWorld, until } from './kith.js'
import { compareTrees, describeTree } from './tree.js'

/** Until a session over which nothing comes has ended, a dial was tried again, and what was missed was sent, s. */
const healing = 180
const mebibyte = 2 ** 20

export type Failure = 'killed' | 'frozen' | 'cut off' | 'wiped'

/** What befalls a partner in turn, at each of three times; `wiped` last, as what it had is gone for the next. */
export interface Failing {
  placing: readonly Failure[]
  repairing: readonly Failure[]
  restoring: readonly Failure[]
}

/** erasure:2+1 over five partners, of which at each time one after the other fails; all that is read back is byte-identical. */
export async function failingPartners(t: Test, failing: Failing): Promise<void> {
  const network = await Namespaces.make([{ name: 'home', net: '10.73.1', delayMs: 0 }])
  t.teardown(() => network.remove())
  const world = await KithWorld.start(t, network.add('dht', 'home'))
  const node = (name: string) => world.node(name, network.add(name, 'home').under)
  const owner = await node('owner')
  await owner.run('circle', 'create', 'friends')
  const partners: KithNode[] = []
  for (const name of ['ada', 'ben', 'cem', 'dan', 'eve']) {
    const partner = await node(name)
    await partner.join(owner)
    partners.push(partner)
  }
  const [ada, ben, cem, dan, eve] = partners as [KithNode, KithNode, KithNode, KithNode, KithNode]
  await owner.waitForPartners(partners.length)
  await owner.run('placement', 'erasure:2+1')
  await until('five partners take blocks', 60, async () => (await owner.status()).placement?.have === 5)
  const dir = world.directory('protected')
  await owner.run('mount', dir)

  /** Each gives what ends it. */
  const failures: Record<Failure, (node: KithNode) => Promise<() => Promise<unknown>>> = {
    killed: async (node) => {
      await node.killDaemon()
      return () => node.status()
    },
    frozen: async (node) => {
      const pid = node.daemonPid()
      if (pid === undefined) throw new Error(`the daemon of ${node.name} does not run`)
      await freeze(pid)
      return () => Promise.resolve(process.kill(pid, 'SIGCONT'))
    },
    'cut off': (node) => {
      network.cut(node.name)
      return Promise.resolve(() => Promise.resolve(network.mend(node.name)))
    },
    wiped: async (node) => {
      await node.killDaemon()
      rmSync(join(node.home, 'vault'), { recursive: true })
      return () => node.status()
    },
  }
  const wholeAgain = async (what: string) => {
    await until(`${what}: all is placed and whole`, healing, async () => {
      const { placement, problems } = await owner.status()
      const { partners } = await owner.volume(dir)
      const isIdle = placement?.repair === null && placement.unreadable === 0
      return isIdle && problems.length === 0 && partners.every(({ bytesPending }) => bytesPending === 0)
    })
  }
  /** An audit may be the first to find that a vault was wiped; what is missing is sent again, and the next finds all. */
  const proven = async (what: string) => {
    const isKnown = (await owner.try('audit', '--full')).code === 0
    await wholeAgain(what)
    const { code, stdout, stderr } = await owner.try('audit', '--full')
    t.equal(code, 0, `${what}: every partner proves what it holds`)
    t.comment(isKnown ? '' : 'found by an audit', code === 0 ? '' : stdout + stderr)
  }

  const pending = async () =>
    (await owner.volume(dir)).partners.reduce((sum, { bytesPending }) => sum + bytesPending, 0)
  const random = seeded(11)
  for (const [i, what] of failing.placing.entries()) {
    t.comment(`${what} while the owner writes and places`)
    await owner.run('limit', '--up', '2M')
    writeFileSync(join(dir, `large-${i}`), seededBytes(random, 6 * mebibyte))
    await owner.snapshot(dir)
    const before = await pending()
    await until('some of it is there', 60, async () => (await pending()) < before)
    const end = await failures[what](partners[i] as KithNode)
    for (let n = 0; n < 50; n++) writeFileSync(join(dir, `small-${i}-${n}`), seededBytes(random, 10_000))
    await owner.run('limit', '--up', 'none')
    await owner.snapshot(dir)
    await end()
    await wholeAgain(`${what} while placing`)
    await proven(`${what} while placing`)
  }

  t.comment('each of them while what was lost with one partner is made again')
  await owner.run('limit', '--up', '32K')
  await owner.run('agreement', 'end', eve.name, '--yes')
  const isRepairing = async () => (await owner.status()).placement?.repair !== null
  for (const [i, what] of failing.repairing.entries()) {
    if (i === 0) await until('the repair goes on', 60, isRepairing)
    else t.ok(await isRepairing(), `${what}: the repair goes on`)
    const end = await failures[what](partners[i] as KithNode)
    await owner.snapshot(dir)
    await end()
    await owner.waitForPartners(4, healing)
  }
  await owner.run('limit', '--up', 'none')
  await wholeAgain('while repairing')
  await proven('while repairing')

  const before = await describeTree(dir)
  await copyFile(owner.phraseFile, world.path('the phrase'))
  await owner.killDaemon()
  await owner.killFuse()
  world.unmountAll()
  for (const path of [owner.home, owner.phraseFile, dir]) rmSync(path, { recursive: true })
  await eve.run('stop')
  for (const [i, what] of failing.restoring.entries()) {
    t.comment(`${what} while a new machine restores`)
    const name = `machine-${i}`
    const machine = new KithNode(world, name, network.add(name, 'home').under)
    const to = world.path(`recovered-${i}`)
    for (const partner of [ada, ben, cem, dan]) network.bound(partner.name, 4)
    const recovered = machine.run('recover', '--phrase-file', world.path('the phrase'), '--to', to)
    await until('some of it is back', healing, () =>
      Promise.resolve(existsSync(to) && readdirSync(to).length > 0),
    )
    let isDone = false
    const done = recovered.finally(() => (isDone = true))
    const end = await failures[what](partners[i] as KithNode)
    t.notOk(isDone, `${what} in the middle of it`)
    await done
    t.same(
      compareTrees(before, await describeTree(to)),
      [],
      `${what}: ${before.length} names are as they were`,
    )
    // erasure:2+1 stands one failure at a time.
    await end()
    const ended = performance.now()
    await machine.waitForPartners(4, healing)
    t.comment(`${what}: all are on line again after ${Math.round(performance.now() - ended)} ms`)
    await machine.run('stop')
  }
}
