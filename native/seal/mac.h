// Poly1305 (RFC 8439) by the multiplier of 64 bits: what both ways of cipher.h that are our own begin and end with. Only for
// x86-64, and only called where the processor has BMI2.
#pragma once

#include "seal.h"

#include <cstring>

namespace seal {

#define MAC __attribute__((target("avx2,bmi2")))
#define MAC_INLINE __attribute__((target("avx2,bmi2"), always_inline)) static inline

constexpr size_t mac_block_bytes = 16;

inline uint64_t read64(const uint8_t *at) {
  uint64_t value;
  memcpy(&value, at, sizeof value);
  return value;
}

// Poly1305: the accumulator h, below 2^131, and r, in words of 64 bits. As the clamped r1 is a multiple of 4, a product with
// it that is above 2^128 comes back as 5/4 of itself: r1_again.
struct Mac {
  uint64_t h0 = 0, h1 = 0, h2 = 0, r0, r1, r1_again, s0, s1;

  explicit Mac(const uint8_t *key)
      : r0(read64(key) & 0x0ffffffc0fffffff),
        r1(read64(key + 8) & 0x0ffffffc0ffffffc),
        r1_again(r1 + (r1 >> 2)),
        s0(read64(key + 16)),
        s1(read64(key + 24)) {}
  Mac(const Mac &) = default;
  Mac &operator=(const Mac &) = default;
  ~Mac() { sodium_memzero(this, sizeof *this); }
};

// h = (h + block + top * 2^128) * r, partly reduced. By hand: compilers spill what they need not, and lose half of it.
MAC_INLINE void absorb(Mac &mac, const uint8_t *block, uint64_t top) {
  uint64_t a, b, c, d, e, f;
  __asm__(
      "add %[m0], %[h0]\n adc %[m1], %[h1]\n adc %[top], %[h2]\n"
      "mov %[r0], %%rdx\n mulx %[h0], %[a], %[b]\n mulx %[h1], %[c], %[d]\n"
      "mov %[r1], %%rdx\n mulx %[h0], %[e], %[f]\n"
      "mov %[r1_again], %%rdx\n mulx %[h1], %[h0], %[h1]\n imul %[h2], %%rdx\n imul %[r0], %[h2]\n"
      "add %[e], %[c]\n adc %[f], %[d]\n"
      "add %[a], %[h0]\n adc %[b], %[h1]\n adc $0, %[d]\n"
      "add %%rdx, %[c]\n adc $0, %[d]\n"
      "add %[c], %[h1]\n adc %[d], %[h2]\n"
      // What is above 2^130, times 5.
      "mov %[h2], %[a]\n mov %[h2], %[b]\n shr $2, %[a]\n and $-4, %[b]\n and $3, %[h2]\n add %[b], %[a]\n"
      "add %[a], %[h0]\n adc $0, %[h1]\n adc $0, %[h2]\n"
      : [h0] "+&r"(mac.h0), [h1] "+&r"(mac.h1), [h2] "+&r"(mac.h2), [a] "=&r"(a), [b] "=&r"(b), [c] "=&r"(c),
        [d] "=&r"(d), [e] "=&r"(e), [f] "=&r"(f)
      : [r0] "m"(mac.r0), [r1] "m"(mac.r1), [r1_again] "m"(mac.r1_again), [m0] "m"(*reinterpret_cast<const uint64_t *>(block)),
        [m1] "m"(*reinterpret_cast<const uint64_t *>(block + 8)), [top] "er"(top)
      : "rdx", "cc");
}

// The whole blocks of `bytes`; returns what is left of them.
MAC static inline Bytes absorbWhole(Mac &mac, Bytes bytes) {
  Mac at = mac;
  for (; bytes.size >= mac_block_bytes; bytes.data += mac_block_bytes, bytes.size -= mac_block_bytes) absorb(at, bytes.data, 1);
  mac = at;
  return bytes;
}

MAC static inline void absorbPadded(Mac &mac, Bytes bytes, uint8_t mark) {
  bytes = absorbWhole(mac, bytes);
  if (bytes.size == 0) return;
  uint8_t block[mac_block_bytes] = {};
  memcpy(block, bytes.data, bytes.size);
  block[bytes.size] = mark;
  absorb(mac, block, mark ? 0 : 1);
}

inline void finish(const Mac &mac, uint8_t *tag) {
  using Wide = unsigned __int128;
  // h - (2^130 - 5), which counts when h is not below that.
  Wide sum = Wide{mac.h0} + 5;
  auto g0 = static_cast<uint64_t>(sum);
  sum = Wide{mac.h1} + static_cast<uint64_t>(sum >> 64);
  auto g1 = static_cast<uint64_t>(sum);
  uint64_t mask = 0 - ((mac.h2 + static_cast<uint64_t>(sum >> 64)) >> 2);
  sum = Wide{(mac.h0 & ~mask) | (g0 & mask)} + mac.s0;
  auto t0 = static_cast<uint64_t>(sum), t1 = ((mac.h1 & ~mask) | (g1 & mask)) + mac.s1 + static_cast<uint64_t>(sum >> 64);
  memcpy(tag, &t0, sizeof t0);
  memcpy(tag + 8, &t1, sizeof t1);
}

}  // namespace seal
