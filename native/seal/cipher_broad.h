// ChaCha20 and Poly1305 in one pass by AVX-512: sixteen blocks of key stream at once, and between their rounds eight blocks of
// the ciphertext made before are authenticated at once. For cipher.cc.
#pragma once

#ifdef __x86_64__

#include "mac.h"

namespace seal {

constexpr size_t broad_stride = 16 * 64;

// Whether this processor, and its system, has AVX-512 with the multiplication of 52 bits (IFMA), and what mac.h needs.
bool hasBroad();

// Encrypts as many whole strides as `plain` has, with the key stream from `block` on, and authenticates what comes of them. Key
// of 32 bytes, nonce of 8. Returns how many bytes that was.
size_t broadPass(const uint8_t *key, const uint8_t *nonce, uint32_t block, Mac &mac, Bytes plain, uint8_t *out);

}  // namespace seal

#endif
