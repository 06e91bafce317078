/** Floods of strangers are bounded: at the door by identity, network and number, inside by messages, bytes and time. */
import t from 'tap'
import { seeded } from '../../lib/base/random.js'
import { asKithError } from '../../lib/base/errors.js'
import { decodeFrame, encodeReply, encodeRequest } from '../../lib/format/wire.js'
import { Holder } from '../../lib/partners/holder.js'
import { mostStrangers, PoolDoor } from '../../lib/partners/pool-door.js'
import { Session, strangerBytes, strangerFrames } from '../../lib/partners/session.js'
import { silentLog } from '../../lib/base/log.js'
import { block, identity, open, openVault, refusing, streams, TestClock } from '../helpers/backup.js'
import { mutate } from '../helpers/bytes.js'
import { until } from '../helpers/dht.js'
import { everyMessage, someFacts } from '../helpers/messages.js'

t.setTimeout(400_000)

const [ann, bob] = [identity(1), identity(2)]
const stranger = () => ({ member: false, owner: false, stranger: true })
const answer = { facts: someFacts, holds: Buffer.alloc(0) }

t.test('the door: by identity, by network, by all, by how many are inside', (t) => {
  const clock = new TestClock()
  const door = new PoolDoor(clock)
  const entered = (tries: number, key: (i: number) => Buffer, host: (i: number) => string) =>
    Array.from({ length: tries }).filter((_, i) => door.opens(key(i), host(i), 0)).length
  const random = seeded(5)
  const anybody = () => block(random).name
  t.equal(
    entered(
      100,
      () => ann.id,
      (i) => `198.51.${i}.7`,
    ),
    6,
    'one identity from everywhere',
  )
  clock.pass(60 * 60_000)
  t.equal(
    entered(1000, anybody, (i) => `203.0.113.${i % 250}`),
    40,
    'one network with a thousand names',
  )
  clock.pass(60 * 60_000)
  t.equal(
    entered(1000, anybody, (i) => `198.${i % 250}.${i >> 8}.7`),
    120,
    'a thousand networks',
  )
  clock.pass(60 * 60_000)
  t.notOk(door.opens(bob.id, '192.0.2.1', mostStrangers), 'a full room')
  t.ok(door.opens(bob.id, '192.0.2.1', mostStrangers - 1))
  t.end()
})

t.test(
  'inside: so many messages and bytes, then the session ends; a partner is not bounded so',
  async (t) => {
    const vault = await openVault(t, bob)
    const meet = async (isStranger: () => boolean) => {
      const [left, right] = await streams(t, ann, bob)
      const owner = open(left, refusing)
      const answerer = new Holder(vault, ann.id, stranger, undefined, {
        pool: () => Promise.resolve(answer),
      })
      const clock = new TestClock()
      const holder = new Session(right, {
        answerer,
        name: 'bob',
        lends: true,
        isStranger,
        clock,
        log: silentLog(),
      })
      await Promise.all([owner.ready, holder.ready])
      return { owner, holder }
    }
    const query = { facts: someFacts, sketch: Buffer.alloc(0) }
    const asked = async (owner: Session, sketch: Buffer) => {
      let answered = 0
      while (answered < 200) {
        const isGood = await owner.request('poolQuery', { ...query, sketch }).then(
          () => true,
          () => false,
        )
        if (!isGood) break
        answered++
      }
      return answered
    }
    const few = await meet(() => true)
    t.ok((await asked(few.owner, Buffer.alloc(0))) < strangerFrames)
    await until(() => few.holder.closed)
    const much = await meet(() => true)
    t.ok((await asked(much.owner, Buffer.alloc(2046))) <= strangerBytes / 2046)
    await until(() => much.holder.closed)
    const partner = await meet(() => false)
    t.equal(await asked(partner.owner, Buffer.alloc(2046)), 200)
  },
)

t.test('what a stranger may ask, and what not; nothing of the vault goes to it', async (t) => {
  const vault = await openVault(t, bob)
  const holder = new Holder(vault, ann.id, stranger, undefined, {
    pool: () => Promise.resolve(answer),
  })
  t.same(await holder.answer('poolQuery', { facts: someFacts, sketch: Buffer.alloc(0) }), answer)
  const { name } = block(seeded(1))
  for (const [kind, message] of [
    ['offer', { names: [name] }],
    ['commit', {}],
    ['get', { names: [name] }],
    ['getParts', { parts: [{ name, offset: 0, length: 1 }] }],
    ['prove', { nonce: Buffer.alloc(32), names: [name] }],
    ['held', {}],
    ['headGet', {}],
    ['flip', { committed: Buffer.alloc(32) }],
  ] as const)
    await t.rejects(holder.answer(kind, message as never), { code: 'denied' }, kind)
  await t.rejects(holder.put([block(seeded(2))]), { code: 'protocol' })
  const outsider = new Holder(vault, ann.id, () => ({ member: false, owner: false }), undefined)
  await t.rejects(outsider.answer('poolQuery', { facts: someFacts, sketch: Buffer.alloc(0) }), {
    code: 'denied',
  })
})

t.test(
  '10,000 mutations of each message of strangers: decoded to what fits the bounds, or refused',
  async (t) => {
    const vault = await openVault(t, bob)
    const holder = new Holder(vault, ann.id, () => ({ member: true, owner: true }), undefined, {
      pool: () => Promise.resolve(answer),
    })
    const messages = everyMessage(4)
    const random = seeded(31)
    for (const name of ['poolQuery', 'poolFacts', 'probe', 'shown']) {
      const frame = messages[name] ?? Buffer.alloc(0)
      const unexpected: string[] = []
      for (let i = 0; i < 10_000; i++) {
        try {
          const decoded = decodeFrame(mutate(random, frame))
          if (decoded.type === 'request' && (decoded.kind === 'poolQuery' || decoded.kind === 'probe')) {
            const again = encodeRequest(decoded.kind, decoded.id, decoded.message as never)
            if (decodeFrame(again).type !== 'request') unexpected.push('not the same')
            await holder.answer(decoded.kind, decoded.message as never)
          } else if (decoded.type === 'reply' && (decoded.kind === 'poolQuery' || decoded.kind === 'probe'))
            decodeFrame(encodeReply(decoded.kind, decoded.id, decoded.message as never))
        } catch (error) {
          const { code, message } = asKithError(error)
          if (!['protocol', 'denied'].includes(code)) unexpected.push(`${code}: ${message}`)
        }
      }
      t.same(unexpected.slice(0, 5), [], name)
    }
  },
)
