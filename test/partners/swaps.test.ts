/** Partners that are exchanged for better ones: a crash at each step, and whole nodes. */
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { silentLog } from '../../lib/base/log.js'
import { Database } from '../../lib/blocks/database.js'
import { Swaps, type SwapsOptions } from '../../lib/partners/swaps.js'
import { parseWeek } from '../../lib/format/week.js'
import { folder, identity } from '../helpers/backup.js'
import { DaysClock } from '../helpers/days-clock.js'
import { privateDht, until } from '../helpers/dht.js'
import { Hand } from '../helpers/hand-clock.js'
import { openNode, type Node } from '../helpers/manager.js'

t.setTimeout(300_000)

const hourMs = 3_600_000
const dayMs = 24 * hourMs
const [from, to] = [identity(1).id, identity(2).id]
const swapOf = { from: from.toString('hex'), to: to.toString('hex'), gain: 1, why: ['much better', 'ä'] }

class Killed extends Error {}

/** What is on disk about two partners, beside the row of the exchange: nothing of it is lost by a crash. */
interface Disk {
  agreements: Set<Buffer>
  /** what is read lies, acknowledged, with: */
  elements: Set<Buffer>
  full: Set<Buffer>
}

/** A life of the process: dies at its `dies`th write to the disk, before or after it. */
function live(db: Database, clock: Hand, disk: Disk, life: { dies: number; isAfter: boolean }) {
  let writes = 0
  const written = async <T>(write: () => T | Promise<T>): Promise<T> => {
    const isLast = ++writes === life.dies
    if (isLast && !life.isAfter) throw new Killed()
    const done = await write()
    if (isLast) throw new Killed()
    return done
  }
  const options: SwapsOptions = {
    db: new Proxy(db, {
      get: (target, name) =>
        name === 'transaction'
          ? (run: () => void) => written(() => target.transaction(run))
          : typeof target[name as keyof Database] === 'function'
            ? (target[name as 'table'] as (...args: unknown[]) => unknown).bind(target)
            : target[name as keyof Database],
    }),
    isPartner: (key) => disk.agreements.has(key.equals(from) ? from : to),
    ageOf: () => clock.now(),
    committedMs: () => Math.max(0, 45 * dayMs - clock.now()),
    roomAt: () => ({ holds: 100, used: 50 }),
    counts: () => ({ have: disk.agreements.size, wanted: 1 }),
    isBetter: () => true,
    isFilled: () => disk.full.has(to),
    isEmptied: () => !disk.elements.has(from),
    part: (key) => written(() => disk.agreements.delete(key.equals(from) ? from : to)),
    changed: () => undefined,
    clock,
    log: silentLog(),
  }
  return { swaps: new Swaps(options), written, count: () => writes }
}

/** Partners from whom everything can be had: full, bound, and not within the commitment. */
function copies({ agreements, full }: Disk, clock: Hand): number {
  return [...agreements].filter((key) => full.has(key) && (key === from || clock.now() >= 45 * dayMs)).length
}

/** Runs an exchange to its end, with one crash in the middle. @returns writes to the disk */
async function exchange(t: Test, life: { dies: number; isAfter: boolean }): Promise<number> {
  const db = Database.open(join(folder(t), 'db'))
  const clock = new Hand()
  const disk: Disk = { agreements: new Set([from]), elements: new Set([from]), full: new Set([from]) }
  let now = live(db, clock, disk, life)
  let least = Infinity
  const look = () => (least = Math.min(least, copies(disk, clock)))
  const act = async (what: () => Promise<unknown>) => {
    try {
      await what()
    } catch (error) {
      if (!(error instanceof Killed)) throw error
      now = live(db, clock, disk, { dies: Infinity, isAfter: false })
    }
    look()
  }
  await act(() => now.swaps.begin(swapOf))
  // Nothing was offered where the row was not written.
  if (!now.swaps.current) await act(() => now.swaps.begin(swapOf))
  await act(() => now.written(() => disk.agreements.add(to)))
  disk.agreements.add(to)
  await act(() => now.swaps.follow())
  disk.full.add(to)
  for (let day = 0; day < 60; day++) {
    await clock.pass(dayMs)
    await act(() => now.swaps.follow())
    if (now.swaps.isLeft(from)) disk.elements.delete(from)
    // Killed in the middle of a step: what threw was logged, and the process is another.
    if (now.count() >= life.dies) now = live(db, clock, disk, { dies: Infinity, isAfter: false })
    look()
  }
  t.equal(now.swaps.current, undefined, 'it came to its end')
  t.same([...disk.agreements], [to])
  t.equal(least, 1, 'at each step there was a whole copy to be had')
  t.equal(live(db, clock, disk, life).swaps.isDue(), false, 'and an hour goes by before somebody looks again')
  await db.close()
  return now.count()
}

t.test(
  'killed before and after each thing that becomes durable, it goes on, and a copy is there',
  async (t) => {
    const whole = await exchange(t, { dies: Infinity, isAfter: false })
    t.equal(whole, 5, 'the row, the agreement, moving, the end of the old one, the row away')
    for (let dies = 1; dies <= whole; dies++)
      for (const isAfter of [false, true]) await exchange(t, { dies, isAfter })
  },
)

t.test('what is on disk comes back as it was', async (t) => {
  const db = Database.open(join(folder(t), 'db'))
  const clock = new Hand()
  const disk: Disk = { agreements: new Set([from, to]), elements: new Set(), full: new Set() }
  const never = { dies: Infinity, isAfter: false }
  await clock.pass(30 * dayMs)
  const first = live(db, clock, disk, never).swaps
  t.notOk(first.isDue())
  await clock.pass(hourMs)
  t.ok(first.isDue())
  first.looked()
  t.notOk(first.isDue(), 'once a day')
  await clock.pass(dayMs)
  t.ok(first.isDue())
  await first.begin(swapOf)
  t.notOk(first.isDue(), 'one at a time')
  const again = live(db, clock, disk, never).swaps
  t.same(again.current, { stage: 'filling', begun: 31 * dayMs + hourMs, from, to, why: swapOf.why })
  disk.agreements.delete(to)
  await clock.pass(dayMs)
  await again.follow()
  t.equal(again.current, undefined, 'nobody signed')
  await clock.pass(5 * dayMs)
  t.notOk(again.isDue(), 'a week lies between two')
  await clock.pass(dayMs)
  t.ok(again.isDue())
  await db.close()
})

t.test(
  'who is rarely there gives way to who always is, but only when that one is full and was tried',
  async (t) => {
    const dht = await privateDht(t)
    const stateClock = new DaysClock()
    const terms = { commitment: 0, notice: 86_400, holds: 300_000_000 }
    const lender = (name: string, hours: string, more: Partial<Node> = {}) =>
      openNode(t, dht.address, {
        ...more,
        name,
        pool: { open: true, partners: 0, region: '' },
        policy: { ...terms, hours: parseWeek(hours) },
      })
    const bob = await lender('bob', 'mon-sun 3-7')
    const own = {
      name: 'ada',
      pool: { open: false, partners: 1, region: '' },
      policy: { ...terms, holds: 900_000_000 },
      stateClock,
    }
    let ada = await openNode(t, dht.address, own)
    const infoOf = (id: string) => ada.partners.list().find((one) => one.id === id)
    const held = (node: Node) => node.vault.held(ada.identity.id).blocks
    /** Two hours of each day, from 10 h on: Bob is never expected. */
    const days = async (count: number) => {
      for (let day = 0; day < count; day++) {
        await stateClock.leap((dayMs + 10 * hourMs - (stateClock.now() % dayMs)) % dayMs)
        await stateClock.pass(2 * hourMs)
      }
    }
    await ada.write(20)
    await until(() => held(bob) === 20 && ada.synced(), 150)
    await bob.stop()
    await until(() => infoOf(bob.id)?.online === false)
    await days(31)
    t.match(infoOf(bob.id)?.state, { name: 'good' })

    const eve = await lender('eve', 'mon-sun 0-24')
    await until(() => eve.partners.pool().isOffered)
    // It looks once a day, and finds who was announced by then.
    for (let tries = 0; tries < 10 && !ada.partners.swap(); tries++) {
      await days(1)
      ada.partners.policyChanged()
      await until(() => ada.partners.swap() !== null, 10).catch(() => undefined)
    }
    await until(() => held(eve) === 20)
    t.match(ada.partners.swap(), { stage: 'filling', from: bob.id, to: eve.id, why: [/24 h a day/] })
    t.match(infoOf(bob.id)?.agreement, { standing: 'active' }, 'nothing is taken from the old one yet')
    await days(3)
    t.match(ada.partners.swap(), { stage: 'filling' }, 'it is tried for two weeks')

    t.comment('the exchange goes on after a restart; nothing more without a proof')
    await ada.stop()
    ada = await openNode(t, dht.address, { ...ada, ...own })
    await until(() => infoOf(eve.id)?.online === true)
    await days(14)
    t.match(ada.partners.swap(), { from: bob.id, to: eve.id })
    t.match(infoOf(bob.id)?.agreement, { standing: 'active' })
    for (let i = 0; i < 20 && !infoOf(eve.id)?.lastProof; i++) await ada.partners.audit({ full: true })
    await days(1)
    await until(() => ada.partners.swap() === null)
    t.match(infoOf(bob.id)?.agreement, { standing: 'ended', ended: { byUs: true } })
    t.match(infoOf(eve.id)?.agreement, { standing: 'active' })
    t.equal(ada.partners.pool().have, 1)
    t.equal(held(eve), 20)

    t.comment('the old one hears of it, and keeps what it has for its notice')
    const back = await lender('bob', 'mon-sun 3-7', bob)
    await until(() => back.partners.list().some(({ agreement }) => agreement?.standing === 'ended'))
    t.equal(held(back), 20)
  },
)
