import t from 'tap'
import { seeded } from '../../lib/base/random.js'
import {
  deriveIdentity,
  identityFrom,
  newVolumeId,
  newVolumeKeys,
  sharedVolumeKeys,
  unwrapVolumeKeys,
  wrappedKeysBytes,
  wrapVolumeKeys,
} from '../../lib/format/keys.js'
import { golden, mutate } from '../helpers/bytes.js'

const identity = deriveIdentity(Buffer.alloc(32, 1))
const volumeId = Buffer.alloc(16, 2)
const keys = { convergence: Buffer.alloc(32, 3), node: Buffer.alloc(32, 4), gear: Buffer.alloc(32, 5) }

t.test('the home keeps seed and KEK, and the rest follows', (t) => {
  t.same(identityFrom(identity.seed, identity.kek), identity)
  t.end()
})

t.test('wrapped volume keys open with the right KEK, owner and volume only', (t) => {
  const wrapped = wrapVolumeKeys(identity.kek, identity.id, volumeId, keys)
  t.equal(wrapped.length, wrappedKeysBytes)
  t.same(unwrapVolumeKeys(identity.kek, identity.id, volumeId, wrapped), keys)
  const other = deriveIdentity(Buffer.alloc(32, 9))
  const damaged = { code: 'damaged' }
  t.throws(() => unwrapVolumeKeys(other.kek, identity.id, volumeId, wrapped), damaged)
  t.throws(() => unwrapVolumeKeys(identity.kek, other.id, volumeId, wrapped), damaged)
  t.throws(() => unwrapVolumeKeys(identity.kek, identity.id, newVolumeId(), wrapped), damaged)
  t.throws(() => unwrapVolumeKeys(identity.kek, identity.id, volumeId, wrapped.subarray(1)), damaged)
  t.notSame(wrapVolumeKeys(identity.kek, identity.id, volumeId, keys), wrapped, 'nonces are fresh')
  t.end()
})

t.test('new keys and ids are random', (t) => {
  t.notSame(newVolumeKeys(), newVolumeKeys())
  t.notSame(newVolumeId(), newVolumeId())
  t.end()
})

t.test('shared keys: members make the same chunks, and read nothing of each other', (t) => {
  const [secret, other] = [Buffer.alloc(32, 6), Buffer.alloc(32, 7)]
  const [one, two, apart] = [sharedVolumeKeys(secret), sharedVolumeKeys(secret), sharedVolumeKeys(other)]
  t.same([one.convergence, one.gear], [two.convergence, two.gear])
  t.notSame(one.node, two.node)
  t.notSame(one.convergence, apart.convergence)
  t.notSame(one.gear, apart.gear)
  t.notSame(one.convergence, one.gear)
  t.end()
})

t.test('what an earlier kith wrapped opens', (t) => {
  const bytes = golden('format-1/wrapped-keys', () =>
    wrapVolumeKeys(identity.kek, identity.id, volumeId, keys),
  )
  t.same(unwrapVolumeKeys(identity.kek, identity.id, volumeId, bytes), keys)
  t.end()
})

t.test('no mutation opens', (t) => {
  const random = seeded(11)
  const wrapped = wrapVolumeKeys(identity.kek, identity.id, volumeId, keys)
  let opened = 0
  for (let i = 0; i < 10_000; i++) {
    const bytes = mutate(random, wrapped)
    if (bytes.equals(wrapped)) continue
    try {
      unwrapVolumeKeys(identity.kek, identity.id, volumeId, bytes)
      opened++
    } catch (error) {
      if ((error as { code?: string }).code !== 'damaged') throw error
    }
  }
  t.equal(opened, 0)
  t.end()
})
