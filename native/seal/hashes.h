// Hashes of many messages at once: the same as hash() and keyedHash() of seal.h, four messages side by side where the processor
// has AVX2, up to sixteen where it has AVX-512. One message alone is a chain of dependent steps and leaves most of a vector unit idle.
#pragma once

#include "seal.h"

#include <vector>

namespace seal {

struct Hashing {
  Bytes message;
  uint8_t *out;  // hash_bytes
};

// By what messages are hashed side by side.
enum class Side { libsodium, avx2, avx512 };

// The fastest that this processor, and its system, has.
Side bestSide();

// `key` is of key_bytes, or null.
void hashMany(const char *name_space, const uint8_t *key, const std::vector<Hashing> &messages,
              Side side = bestSide());

}  // namespace seal
