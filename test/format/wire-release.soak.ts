import t from 'tap'
import { seeded } from '../../lib/base/random.js'
import {
  acceptRelease,
  decodeRelease,
  encodeRelease,
  type ReleaseKind,
} from '../../lib/format/wire-release.js'
import { identity } from '../helpers/backup.js'
import { mutate, seededBytes } from '../helpers/bytes.js'

const [partner, other, ann, bob] = [identity(1), identity(2), identity(3), identity(4)]
const last = 500

function signed(random: () => number, kind: ReleaseKind, number: number, owner = ann, to = partner): Buffer {
  const names = Array.from({ length: kind === 'drop' || kind === 'blocks' ? 1 + (random() % 4) : 0 }, () => {
    return seededBytes(random, 32)
  })
  return encodeRelease({ kind, partner: to.id, volume: Buffer.alloc(16), number, names }, owner.keyPair)
}

t.test(
  'of 1,000,000 forged, replayed, reordered, cross-owner drops and last words, none is accepted',
  (t) => {
    const random = seeded(64)
    const kinds: ReleaseKind[] = ['drop', 'everything', 'blocks', 'volume']
    const many = (number: () => number, owner = ann, to = partner): Buffer[] =>
      Array.from({ length: 1000 }, (_, i) => signed(random, kinds[i % 4] ?? 'drop', number(), owner, to))
    const good = many(() => last + 1 + (random() % 1000))
    const pools = {
      replayed: many(() => last),
      reordered: many(() => random() % last),
      'of another owner': many(() => last + 1, bob),
      'for another partner': many(() => last + 1, ann, other),
    }
    for (const request of good) acceptRelease(request, ann.id, partner.id, last)
    const accepted = new Map<string, number>()
    let tried = 0
    const attempt = (how: string, request: Buffer): void => {
      tried++
      try {
        acceptRelease(request, ann.id, partner.id, last)
        accepted.set(how, (accepted.get(how) ?? 0) + 1)
      } catch (error) {
        if (!(error instanceof Error) || !('code' in error) || error.code !== 'denied') throw error
      }
    }
    const pick = (from: readonly Buffer[]): Buffer => from[random() % from.length] ?? Buffer.alloc(0)
    for (const [how, requests] of Object.entries(pools)) {
      for (let i = 0; i < 50_000; i++) attempt(how, pick(requests))
    }
    while (tried < 500_000) {
      const request = pick(good)
      const wrong = mutate(random, request)
      if (!wrong.equals(request)) attempt('mutated', wrong)
    }
    while (tried < 750_000) {
      const wrong = Buffer.from(pick(good))
      const bit = random() % (wrong.length * 8)
      wrong[bit >> 3] = (wrong[bit >> 3] ?? 0) ^ (1 << (bit & 7))
      attempt('one bit flipped', wrong)
    }
    while (tried < 1_000_000) {
      // The body of one under the signature of another.
      const [body, from] = [pick(good), pick(good)]
      if (body.equals(from)) continue
      attempt('signature of another', Buffer.concat([body.subarray(0, -64), from.subarray(-64)]))
    }
    t.equal(tried, 1_000_000)
    t.same([...accepted], [])
    t.ok(good.every((request) => decodeRelease(request).owner.equals(ann.id)))
    t.end()
  },
)
