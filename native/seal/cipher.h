// XChaCha20 and Poly1305: what libsodium makes, to the byte, and what it opens. Where the processor has AVX2 and BMI2, both are
// made in one pass: its vector units make key stream while the others, idle otherwise, authenticate what was encrypted just
// before. Where it has AVX-512 with IFMA, its wider units do both. Elsewhere libsodium does it. No branch and no address depends
// on a secret.
#pragma once

#include "seal.h"

namespace seal {

// Ours: by AVX2, and by AVX-512 (cipher_broad.h).
enum class Way { libsodium, one_pass, broad };

// The fastest that this processor has.
Way bestWay();

// As crypto_aead_xchacha20poly1305_ietf_encrypt with additional data of header_bytes: message.size + 16 bytes to `out`.
void encrypt(Bytes message, const uint8_t *header, const uint8_t *nonce, const uint8_t *key, uint8_t *out,
             Way way = bestWay());

// XChaCha20 under one key and nonce, of parts of a message that are authenticated each for itself.
class Stream {
 public:
  Stream(const uint8_t *nonce, const uint8_t *key, Way way = bestWay());
  Stream(const Stream &) = delete;
  Stream &operator=(const Stream &) = delete;
  ~Stream() { sodium_memzero(key_, sizeof key_); }
  // Encrypts with the key stream from its block `block` of 64 bytes on; `tag` becomes the Poly1305 of the ciphertext under
  // `tag_key`, which is for this part only.
  void part(Bytes plain, uint32_t block, const uint8_t *tag_key, uint8_t *cipher, uint8_t *tag) const;

 private:
  uint8_t key_[crypto_stream_chacha20_KEYBYTES];
  uint8_t nonce_[crypto_stream_chacha20_NONCEBYTES];
  Way way_;
};

}  // namespace seal
