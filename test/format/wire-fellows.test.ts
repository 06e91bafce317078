import t from 'tap'
import { seeded } from '../../lib/base/random.js'
import {
  decodeFellowList,
  encodeFellowList,
  fellowListBytes,
  maxListed,
  openPartnerList,
  sealPartnerList,
  type ListedPartner,
} from '../../lib/format/wire-fellows.js'
import { fellowsOf } from '../../lib/partners/fellows.js'
import { identity } from '../helpers/backup.js'
import { mutate, seededBytes } from '../helpers/bytes.js'

const [ann, bob] = [identity(1), identity(2)]
const random = seeded(5)

function some(count: number): ListedPartner[] {
  const partners = Array.from({ length: count }, (_, i) => {
    const addresses = seededBytes(random, i % 26)
    return { key: seededBytes(random, 32), agreement: i, until: i * 1000, addresses }
  })
  return partners.sort((a, b) => Buffer.compare(a.key, b.key))
}

function listOf(partners: ListedPartner[], number = 9): Buffer {
  const partner = partners[0]?.key ?? bob.id
  const fellows = fellowsOf(partners, partner)
  const sealed = sealPartnerList(ann.kek, ann.id, number, partners)
  return encodeFellowList({ partner, number, made: 1_700_000_000_000, fellows, sealed }, ann.keyPair)
}

t.test('a list comes out as it went in; only the owner reads the whole', (t) => {
  for (const count of [0, 1, 2, 3, 5, 30, maxListed]) {
    const partners = some(count)
    const bytes = listOf(partners)
    t.ok(bytes.length <= fellowListBytes)
    const list = decodeFellowList(bytes)
    t.match(list, { owner: ann.id, number: 9, made: 1_700_000_000_000 })
    t.equal(list.fellows.length, Math.min(4, Math.max(0, count - 1)))
    t.same(openPartnerList(ann.kek, list), partners)
    t.throws(() => openPartnerList(bob.kek, list), { code: 'damaged' })
    t.throws(() => openPartnerList(ann.kek, { ...list, number: 10 }), { code: 'damaged' })
    t.throws(() => openPartnerList(ann.kek, { ...list, owner: bob.id }), { code: 'damaged' })
  }
  const lengths = [1, 3, 9].map((count) => sealPartnerList(ann.kek, ann.id, 9, some(count)).length)
  t.equal(new Set(lengths).size, 1, 'padded: how many there are does not show')
  t.end()
})

t.test('who is whose fellow goes both ways', (t) => {
  for (const count of [2, 3, 4, 5, 6, 9]) {
    const partners = some(count)
    for (const { key } of partners)
      for (const fellow of fellowsOf(partners, key))
        t.ok(fellowsOf(partners, fellow.key).some((other) => other.key.equals(key)))
  }
  t.same(fellowsOf(some(5), bob.id), [], 'who is not listed has none')
  t.end()
})

t.test('10,000 mutations: none is taken', (t) => {
  const bytes = listOf(some(6))
  let taken = 0
  for (let i = 0; i < 10_000; i++) {
    const changed = mutate(random, bytes)
    if (changed.equals(bytes)) continue
    try {
      decodeFellowList(changed)
      taken++
    } catch (error) {
      if ((error as { code?: string }).code !== 'denied') t.fail(String(error))
    }
  }
  t.equal(taken, 0)
  t.end()
})
