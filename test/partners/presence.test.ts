import t from 'tap'
import { join } from 'node:path'
import { silentLog } from '../../lib/base/log.js'
import { Database, encodings } from '../../lib/blocks/database.js'
import { decodePresence, encodePresence, Presences } from '../../lib/partners/presence.js'
import { hoursSeen, seen, unseen } from '../../lib/planning/hours.js'
import { DaysClock } from '../helpers/days-clock.js'

const hourMs = 3_600_000
const key = (byte: number) => Buffer.alloc(32, byte)

t.test('who is on line is seen, kept, and known after a restart', async (t) => {
  const dir = t.testdir()
  const clock = new DaysClock()
  let [isConnected, here] = [true, [1, 2]]
  const open = () => {
    const db = Database.open(join(dir, 'db'))
    const partners = () => here.map((byte) => ({ key: key(byte), online: byte === 1 }))
    const log = silentLog()
    return { db, presences: new Presences({ db, partners, isConnected: () => isConnected, clock, log }) }
  }
  let { db, presences } = open()
  t.equal(hoursSeen(presences.of(key(1))), null)
  await clock.pass(72 * hourMs)
  const hours = (byte: number) => hoursSeen(presences.of(key(byte))) ?? []
  t.ok(hours(1).every((surely) => surely === 1))
  t.ok(hours(2).every((surely) => surely === 0))
  const before = presences.of(key(1))
  isConnected = false
  await clock.pass(24 * hourMs)
  t.same(presences.of(key(1)), before, 'without a network nothing is seen')
  await presences.stop()
  await db.close()

  here = [1]
  ;({ db, presences } = open())
  t.same(presences.of(key(1)), before)
  await presences.stop()
  t.same(presences.of(key(2)), unseen, 'who is no partner any more is forgotten')
  await db.transaction(() =>
    db.table('presence', encodings.bytes, encodings.bytes).put(key(1), Buffer.from('not so')),
  )
  await db.close()
  ;({ db, presences } = open())
  t.same(presences.of(key(1)), unseen, 'a record that cannot be read is no reason not to start')
  await presences.stop()
  await db.close()
})

t.test('a record is what was written, or is refused', (t) => {
  const presence = seen(seen(unseen, 40 * hourMs, 3 * hourMs, true), 99.5 * hourMs, 20 * hourMs, false)
  const bytes = encodePresence(presence)
  t.equal(bytes.length, 1348)
  t.same(decodePresence(bytes), presence)
  for (const wrong of [bytes.subarray(1), Buffer.concat([bytes, bytes]), Buffer.alloc(1348), Buffer.alloc(0)])
    t.throws(() => decodePresence(wrong), { code: 'damaged' })
  const more = Buffer.from(bytes)
  more.writeUInt32LE(0xffffffff, 8)
  t.throws(() => decodePresence(more), { code: 'damaged' })
  t.end()
})
