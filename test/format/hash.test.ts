import t from 'tap'
import sodium from 'sodium-native'
import { hash, keyedHash, keyPair, sign, verify } from '../../lib/format/hash.js'
import { golden } from '../helpers/bytes.js'

const key = Buffer.alloc(32, 1)
const message = Buffer.from('a message')

t.test('a hash is BLAKE2b-256 of the namespace, with its length, and the parts', (t) => {
  const expected = Buffer.alloc(32)
  sodium.crypto_generichash(expected, Buffer.concat([Buffer.from([10]), Buffer.from('kith block'), message]))
  t.same(hash('kith block', message), expected)
  t.same(hash('kith block', message.subarray(0, 3), message.subarray(3)), expected, 'parts are not delimited')
  t.notSame(
    hash('kith bloc', Buffer.concat([Buffer.from('k'), message])),
    expected,
    'a namespace never runs into its message',
  )
  const keyed = Buffer.alloc(32)
  sodium.crypto_generichash(
    keyed,
    Buffer.concat([Buffer.from([10]), Buffer.from('kith block'), message]),
    key,
  )
  t.same(keyedHash(key, 'kith block', message), keyed)
  t.throws(() => keyedHash(key.subarray(1), 'kith block', message), /keys have 32 bytes/)
  t.end()
})

t.test('signatures hold for their key, their namespace and their message', (t) => {
  const pair = keyPair(key)
  const signature = sign(pair.secretKey, 'kith head', message)
  t.ok(verify(pair.publicKey, 'kith head', message, signature))
  t.notOk(verify(pair.publicKey, 'kith release', message, signature))
  t.notOk(verify(pair.publicKey, 'kith head', Buffer.from('b message'), signature))
  t.notOk(verify(keyPair(Buffer.alloc(32, 2)).publicKey, 'kith head', message, signature))
  t.notOk(verify(pair.publicKey, 'kith head', message, signature.subarray(1)))
  t.notOk(verify(Buffer.alloc(0), 'kith head', message, signature))
  t.end()
})

t.test('what an earlier kith hashed and signed', (t) => {
  const made = (): Buffer =>
    Buffer.concat([
      hash('kith block', message),
      keyedHash(key, 'kith chunk key', message),
      sign(keyPair(key).secretKey, 'kith head', message),
    ])
  t.same(made(), golden('format-1/hashes', made))
  t.end()
})
