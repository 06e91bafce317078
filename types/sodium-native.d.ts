// The part of sodium-native 5 that kith uses. Lengths are constants of libsodium.
declare module 'sodium-native' {
  interface Sodium {
    crypto_generichash(out: Buffer, input: Buffer, key?: Buffer): void
    crypto_generichash_batch(out: Buffer, inputs: readonly Buffer[], key?: Buffer): void
    crypto_aead_xchacha20poly1305_ietf_encrypt(
      out: Buffer,
      message: Buffer,
      ad: Buffer | null,
      nsec: null,
      nonce: Buffer,
      key: Buffer,
    ): number
    crypto_aead_xchacha20poly1305_ietf_decrypt(
      out: Buffer,
      nsec: null,
      sealed: Buffer,
      ad: Buffer | null,
      nonce: Buffer,
      key: Buffer,
    ): number
    crypto_sign_seed_keypair(publicKey: Buffer, secretKey: Buffer, seed: Buffer): void
    crypto_sign_detached(signature: Buffer, message: Buffer, secretKey: Buffer): void
    crypto_sign_verify_detached(signature: Buffer, message: Buffer, publicKey: Buffer): boolean
    randombytes_buf(out: Buffer): void
    sodium_memcmp(a: Buffer, b: Buffer): boolean
  }
  const sodium: Sodium
  export default sodium
}
