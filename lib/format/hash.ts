/**
 * Hashes and signatures. Every use has a namespace, so that bytes made for one purpose never pass for another:
 * the hashed message is [namespace length: u8][namespace: ASCII][parts...]. BLAKE2b-256 (RFC 7693) and Ed25519
 * (RFC 8032) by libsodium.
 */
import sodium from 'sodium-native'
import { assert } from '../base/errors.js'

export const hashBytes = 32
export const signatureBytes = 64
export const publicKeyBytes = 32

export type Namespace = `kith ${string}`

const prefixes = new Map<Namespace, Buffer>()

function prefix(namespace: Namespace): Buffer {
  let bytes = prefixes.get(namespace)
  if (!bytes) {
    const label = Buffer.from(namespace, 'ascii')
    assert(label.length < 256, 'namespaces are short')
    bytes = Buffer.concat([Buffer.from([label.length]), label])
    prefixes.set(namespace, bytes)
  }
  return bytes
}

/** BLAKE2b-256 over the namespace and the parts, in order. Parts are not delimited: give fixed lengths, or one part. */
export function hash(namespace: Namespace, ...parts: Buffer[]): Buffer {
  const out = Buffer.allocUnsafe(hashBytes)
  sodium.crypto_generichash_batch(out, [prefix(namespace), ...parts])
  return out
}

/** The same under a key of 32 bytes: a MAC, and a key derivation when the parts are labels. */
export function keyedHash(key: Buffer, namespace: Namespace, ...parts: Buffer[]): Buffer {
  assert(key.length === 32, 'keys have 32 bytes')
  const out = Buffer.allocUnsafe(hashBytes)
  sodium.crypto_generichash_batch(out, [prefix(namespace), ...parts], key)
  return out
}

export interface KeyPair {
  /** 32 bytes */
  publicKey: Buffer
  /** 64 bytes, seed and public key, as libsodium lays it out */
  secretKey: Buffer
}

/** The Ed25519 key pair of a seed of 32 bytes. */
export function keyPair(seed: Buffer): KeyPair {
  assert(seed.length === 32, 'seeds have 32 bytes')
  const publicKey = Buffer.alloc(32)
  const secretKey = Buffer.alloc(64)
  sodium.crypto_sign_seed_keypair(publicKey, secretKey, seed)
  return { publicKey, secretKey }
}

/** Ed25519 over the namespaced hash of the message. */
export function sign(secretKey: Buffer, namespace: Namespace, message: Buffer): Buffer {
  const out = Buffer.alloc(signatureBytes)
  sodium.crypto_sign_detached(out, hash(namespace, message), secretKey)
  return out
}

export function verify(publicKey: Buffer, namespace: Namespace, message: Buffer, signature: Buffer): boolean {
  if (publicKey.length !== publicKeyBytes || signature.length !== signatureBytes) return false
  return sodium.crypto_sign_verify_detached(signature, hash(namespace, message), publicKey)
}
