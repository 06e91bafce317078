/**
 * The keys of an owner and of a volume, and what each opens.
 *
 *     phrase (32 bytes of entropy)
 *       |- identity seed   Ed25519; signs heads and drops, is the Noise and DHT key pair
 *       |- KEK             wraps the volume keys inside every head
 *       |    '- partnership keys   one for each partner: the outer seal of its shards (shard.ts)
 *       '- (from the public key) rendezvous topic, where a new machine finds the partners
 *     volume keys (random, made once per volume; lie wrapped in its heads; of a volume that is shared with a circle, two follow
 *                  from the circle's secret)
 *       |- convergence     keyed hash of a chunk's plaintext -> that chunk's key
 *       |- node            seals directory nodes, file lists and snapshot lists
 *       '- gear            the chunker's table
 *
 * Wrapped volume keys, 136 bytes:
 *
 *     [0..24)     nonce, random
 *     [24..120)   XChaCha20-Poly1305 of convergence 32, node 32, gear 32
 *     [120..136)  tag; the associated data is `kith volume keys`, owner 32, volume id 16
 */
import sodium from 'sodium-native'
import { assert } from '../base/errors.js'
import { randomBytes } from '../base/random.js'
import { damaged } from './bytes.js'
import { hash, keyedHash, keyPair, type KeyPair } from './hash.js'

export const keyBytes = 32
export const nonceBytes = 24
export const tagBytes = 16
export const volumeIdBytes = 16
export const wrappedKeysBytes = nonceBytes + 3 * keyBytes + tagBytes

/** Who an owner is. `seed` and `kek` are secret and lie in KITH_HOME/keys; the rest follows from them. */
export interface Identity {
  readonly seed: Buffer
  readonly kek: Buffer
  readonly keyPair: KeyPair
  /** the public key: the name by which partners know this node */
  readonly id: Buffer
  /** the DHT topic where partners wait for an owner who has nothing but the phrase */
  readonly rendezvous: Buffer
}

export interface VolumeKeys {
  readonly convergence: Buffer
  readonly node: Buffer
  readonly gear: Buffer
}

/** The identity of 32 bytes of phrase entropy. */
export function deriveIdentity(entropy: Buffer): Identity {
  return identityFrom(keyedHash(entropy, 'kith identity seed'), keyedHash(entropy, 'kith key-encrypting key'))
}

/** The identity from what KITH_HOME/keys holds. */
export function identityFrom(seed: Buffer, kek: Buffer): Identity {
  assert(seed.length === keyBytes && kek.length === keyBytes, 'seed and KEK have 32 bytes')
  const pair = keyPair(seed)
  return { seed, kek, keyPair: pair, id: pair.publicKey, rendezvous: rendezvousTopic(pair.publicKey) }
}

/** The key of the shards that this partner holds. The owner has it from the phrase and the partner's name alone. */
export function partnershipKey(kek: Buffer, partner: Buffer): Buffer {
  assert(partner.length === keyBytes, 'a partner is named by 32 bytes')
  return keyedHash(keyedHash(kek, 'kith placement secret'), 'kith partnership key', partner)
}

/** Where the partners of the owner with this public key announce themselves. */
export function rendezvousTopic(owner: Buffer): Buffer {
  return hash('kith rendezvous', owner)
}

export function newVolumeId(): Buffer {
  return randomBytes(volumeIdBytes)
}

export function newVolumeKeys(): VolumeKeys {
  return { convergence: randomBytes(keyBytes), node: randomBytes(keyBytes), gear: randomBytes(keyBytes) }
}

/**
 * Of a volume whose owner lets it share blocks with other members' volumes: where both have the same content, chunks, their keys
 * and so their blocks are the same. Names, and who has what, stay sealed under a key of the owner's own.
 */
export function sharedVolumeKeys(circleSecret: Buffer): VolumeKeys {
  return {
    convergence: keyedHash(circleSecret, 'kith circle convergence'),
    node: randomBytes(keyBytes),
    gear: keyedHash(circleSecret, 'kith circle gear'),
  }
}

export function wrapVolumeKeys(kek: Buffer, owner: Buffer, volumeId: Buffer, keys: VolumeKeys): Buffer {
  const plain = Buffer.concat([keys.convergence, keys.node, keys.gear])
  assert(plain.length === 3 * keyBytes, 'volume keys have 32 bytes each')
  return encryptUnder(kek, volumeContext('kith volume keys', owner, volumeId), plain)
}

/** Throws KithError `damaged` when the KEK, the owner or the volume is not the one they were wrapped for. */
export function unwrapVolumeKeys(kek: Buffer, owner: Buffer, volumeId: Buffer, wrapped: Buffer): VolumeKeys {
  if (wrapped.length !== wrappedKeysBytes) throw damaged('set of volume keys', 'its length is wrong')
  const plain = decryptUnder(
    kek,
    volumeContext('kith volume keys', owner, volumeId),
    wrapped,
    'set of volume keys',
  )
  return { convergence: plain.subarray(0, 32), node: plain.subarray(32, 64), gear: plain.subarray(64, 96) }
}

/** Associated data that ties a ciphertext to its purpose, its owner and its volume. */
export function volumeContext(purpose: `kith ${string}`, owner: Buffer, volumeId: Buffer): Buffer {
  return Buffer.concat([Buffer.from(purpose, 'ascii'), owner, volumeId])
}

/** XChaCha20-Poly1305 with a random nonce: [nonce 24][ciphertext][tag 16]. */
export function encryptUnder(key: Buffer, context: Buffer, plain: Buffer): Buffer {
  const out = Buffer.allocUnsafe(nonceBytes + plain.length + tagBytes)
  const nonce = randomBytes(nonceBytes)
  nonce.copy(out)
  sodium.crypto_aead_xchacha20poly1305_ietf_encrypt(
    out.subarray(nonceBytes),
    plain,
    context,
    null,
    nonce,
    key,
  )
  return out
}

/** Opens encryptUnder. Throws KithError `damaged`, naming `what`, when anything differs. */
export function decryptUnder(key: Buffer, context: Buffer, sealed: Buffer, what: string): Buffer {
  if (sealed.length < nonceBytes + tagBytes) throw damaged(what, 'it is cut short')
  const plain = Buffer.allocUnsafe(sealed.length - nonceBytes - tagBytes)
  const nonce = sealed.subarray(0, nonceBytes)
  try {
    sodium.crypto_aead_xchacha20poly1305_ietf_decrypt(
      plain,
      null,
      sealed.subarray(nonceBytes),
      context,
      nonce,
      key,
    )
  } catch {
    throw damaged(what, 'it does not open with this key')
  }
  return plain
}
