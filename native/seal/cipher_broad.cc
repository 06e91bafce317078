// Names and steps of ChaCha20 are those of RFC 8439. The authenticator takes eight blocks at once: h is spread over eight lanes,
// each of which takes every eighth block and is multiplied by r^8 for it, in the end by the power that it lacks. A lane holds h in
// three limbs of 44, 44 and 42 bits, as IFMA multiplies 52 bits by 52: what a product has above 52 bits comes by itself.
#include "cipher_broad.h"

#ifdef __x86_64__

#include <immintrin.h>

namespace seal {

#define BROAD __attribute__((target("avx512f,avx512ifma,avx2,bmi2")))
#define BROAD_INLINE __attribute__((target("avx512f,avx512ifma,avx2,bmi2"), always_inline)) static inline

constexpr size_t lanes = 8, group_bytes = lanes * mac_block_bytes;
constexpr uint64_t low44 = (uint64_t{1} << 44) - 1, low42 = (uint64_t{1} << 42) - 1;

// A number below 2^131 as limbs; the last may have a bit more than 42.
struct Limbs {
  uint64_t limb[3];
};

static Limbs limbsOf(uint64_t h0, uint64_t h1, uint64_t h2) {
  return {{h0 & low44, (h0 >> 44 | h1 << 20) & low44, h1 >> 24 | h2 << 40}};
}

// What each lane is multiplied by; a product of limbs above 2^130 comes back times 5, and of these limbs is 4 times above it.
struct alignas(64) Factors {
  uint64_t r[3][lanes], again1[lanes], again2[lanes];

  void set(size_t lane, const Limbs &power) {
    for (size_t i = 0; i < 3; i++) r[i][lane] = power.limb[i];
    again1[lane] = power.limb[1] * 20;
    again2[lane] = power.limb[2] * 20;
  }
};

// r^8 for all lanes, and for the last blocks r^8 to r: unpacking two vectors of four blocks puts block 4 behind block 0.
struct Powers {
  Factors all, last;

  MAC explicit Powers(const Mac &mac) {
    static constexpr uint8_t zeros[mac_block_bytes] = {};
    static constexpr size_t lane_of_block[lanes] = {0, 2, 4, 6, 1, 3, 5, 7};
    Mac power = mac;
    power.h0 = mac.r0, power.h1 = mac.r1, power.h2 = 0;
    for (size_t block = lanes; block-- > 0;) {
      last.set(lane_of_block[block], limbsOf(power.h0, power.h1, power.h2));
      if (block > 0) absorb(power, zeros, 0);
    }
    for (size_t lane = 0; lane < lanes; lane++) all.set(lane, limbsOf(power.h0, power.h1, power.h2));
  }
  Powers(const Powers &) = delete;
  Powers &operator=(const Powers &) = delete;
  ~Powers() { sodium_memzero(this, sizeof *this); }
};

// The vectors are the compiler's own, but for what it has no operator for.
using Numbers [[gnu::vector_size(64), gnu::may_alias]] = uint64_t;

// h of all lanes, by limbs.
struct Lanes {
  Numbers h0, h1, h2;
};

BROAD_INLINE Numbers load(const uint64_t *at) { return *reinterpret_cast<const Numbers *>(at); }

BROAD_INLINE Numbers low(const Numbers &sum, const Numbers &a, const Numbers &b) {
  return reinterpret_cast<Numbers>(_mm512_madd52lo_epu64(reinterpret_cast<__m512i>(sum), reinterpret_cast<__m512i>(a),
                                                         reinterpret_cast<__m512i>(b)));
}

BROAD_INLINE Numbers high(const Numbers &sum, const Numbers &a, const Numbers &b) {
  return reinterpret_cast<Numbers>(_mm512_madd52hi_epu64(reinterpret_cast<__m512i>(sum), reinterpret_cast<__m512i>(a),
                                                         reinterpret_cast<__m512i>(b)));
}

BROAD_INLINE void multiply(Lanes &h, const Factors &by) {
  const Numbers r0 = load(by.r[0]), r1 = load(by.r[1]), r2 = load(by.r[2]), none{};
  const Numbers again1 = load(by.again1), again2 = load(by.again2);
  Numbers low0 = low(low(low(none, h.h0, r0), h.h1, again2), h.h2, again1);
  Numbers high0 = high(high(high(none, h.h0, r0), h.h1, again2), h.h2, again1);
  Numbers low1 = low(low(low(none, h.h0, r1), h.h1, r0), h.h2, again2);
  Numbers high1 = high(high(high(none, h.h0, r1), h.h1, r0), h.h2, again2);
  Numbers low2 = low(low(low(none, h.h0, r2), h.h1, r1), h.h2, r0);
  Numbers high2 = high(high(high(none, h.h0, r2), h.h1, r1), h.h2, r0);
  // 2^52 is 2^8 of the next limb, of the last 2^10 above 2^130.
  low1 += (high0 << 8) + (low0 >> 44);
  low2 += (high1 << 8) + (low1 >> 44);
  Numbers above = (high2 << 10) + (low2 >> 42);
  low0 = (low0 & low44) + above + (above << 2);
  h.h0 = low0 & low44;
  h.h1 = (low1 & low44) + (low0 >> 44);
  h.h2 = low2 & low42;
}

// h = (h + blocks) * factors, of eight blocks.
BROAD_INLINE void absorbGroup(Lanes &h, const uint8_t *blocks, const Factors &by) {
  Numbers four, next;
  memcpy(&four, blocks, sizeof four);
  memcpy(&next, blocks + sizeof four, sizeof next);
  Numbers begin = __builtin_shufflevector(four, next, 0, 8, 2, 10, 4, 12, 6, 14);
  Numbers end = __builtin_shufflevector(four, next, 1, 9, 3, 11, 5, 13, 7, 15);
  h.h0 += begin & low44;
  h.h1 += (begin >> 44 | end << 20) & low44;
  h.h2 += end >> 24 | uint64_t{1} << 40;
  multiply(h, by);
}

// The sum of all lanes, partly reduced: below 2^131, as mac.h has it.
static void gather(const Lanes &h, Mac &mac) {
  using Wide = unsigned __int128;
  uint64_t l0 = 0, l1 = 0, l2 = 0;
  for (size_t lane = 0; lane < lanes; lane++) l0 += h.h0[lane], l1 += h.h1[lane], l2 += h.h2[lane];
  Wide low = Wide{l0} + (Wide{l1} << 44), high = (low >> 64) + (Wide{l2} << 24);
  auto above = static_cast<uint64_t>(high >> 64);
  low = Wide{static_cast<uint64_t>(low)} + (above >> 2) * 5;
  high = Wide{static_cast<uint64_t>(high)} + static_cast<uint64_t>(low >> 64);
  mac.h0 = static_cast<uint64_t>(low);
  mac.h1 = static_cast<uint64_t>(high);
  mac.h2 = (above & 3) + static_cast<uint64_t>(high >> 64);
}

// The words of a ChaCha20 block, each for sixteen blocks that follow one another.
struct alignas(64) BroadWords {
  uint32_t word[16][16];

  BroadWords(const uint8_t *key, const uint8_t *nonce, uint32_t block) {
    static const uint8_t constant[] = "expand 32-byte k";
    for (size_t lane = 0; lane < 16; lane++) {
      for (size_t i = 0; i < 4; i++) word[i][lane] = read32(constant + i * 4);
      for (size_t i = 0; i < 8; i++) word[4 + i][lane] = read32(key + i * 4);
      word[12][lane] = block + static_cast<uint32_t>(lane);
      word[13][lane] = 0;
      for (size_t i = 0; i < 2; i++) word[14 + i][lane] = read32(nonce + i * 4);
    }
  }
  BroadWords(const BroadWords &) = delete;
  BroadWords &operator=(const BroadWords &) = delete;
  ~BroadWords() { sodium_memzero(word, sizeof word); }
};

// A word of sixteen blocks.
using Word [[gnu::vector_size(64), gnu::may_alias]] = uint32_t;

template <int bits>
BROAD_INLINE void turn(Word &word, const Word &by) {
  word ^= by;
  word = word << bits | word >> (32 - bits);
}

BROAD_INLINE void quarterRound(Word &a, Word &b, Word &c, Word &d) {
  a += b;
  turn<16>(d, a);
  c += d;
  turn<12>(b, c);
  a += b;
  turn<8>(d, a);
  c += d;
  turn<7>(b, c);
}

BROAD_INLINE void doubleRound(Word *v) {
#pragma GCC unroll 4
  for (size_t i = 0; i < 4; i++) quarterRound(v[i], v[4 + i], v[8 + i], v[12 + i]);
#pragma GCC unroll 4
  for (size_t i = 0; i < 4; i++) quarterRound(v[i], v[4 + (i + 1) % 4], v[8 + (i + 2) % 4], v[12 + (i + 3) % 4]);
}

#define MIXED(a, b, ...) reinterpret_cast<Word>(__builtin_shufflevector(reinterpret_cast<Numbers>(a), reinterpret_cast<Numbers>(b), __VA_ARGS__))

// Four words of sixteen blocks: then v[j] has, in its part p of 128 bits, those four words of block 4p + j.
BROAD_INLINE void quarters(Word *v) {
  Word a = __builtin_shufflevector(v[0], v[1], 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29);
  Word b = __builtin_shufflevector(v[0], v[1], 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31);
  Word c = __builtin_shufflevector(v[2], v[3], 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29);
  Word d = __builtin_shufflevector(v[2], v[3], 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31);
  v[0] = MIXED(a, c, 0, 8, 2, 10, 4, 12, 6, 14);
  v[1] = MIXED(a, c, 1, 9, 3, 11, 5, 13, 7, 15);
  v[2] = MIXED(b, d, 0, 8, 2, 10, 4, 12, 6, 14);
  v[3] = MIXED(b, d, 1, 9, 3, 11, 5, 13, 7, 15);
}

BROAD_INLINE void put(const Word &stream, const uint8_t *in, uint8_t *out) {
  Word plain;
  memcpy(&plain, in, sizeof plain);
  plain ^= stream;
  memcpy(out, &plain, sizeof plain);
}

// From words side by side to blocks one after the other, and over `in`.
BROAD_INLINE void putBlocks(Word *v, const uint8_t *in, uint8_t *out) {
#pragma GCC unroll 4
  for (size_t i = 0; i < 16; i += 4) quarters(v + i);
#pragma GCC unroll 4
  for (size_t j = 0; j < 4; j++) {
    Word a = MIXED(v[j], v[4 + j], 0, 1, 2, 3, 8, 9, 10, 11), b = MIXED(v[j], v[4 + j], 4, 5, 6, 7, 12, 13, 14, 15);
    Word c = MIXED(v[8 + j], v[12 + j], 0, 1, 2, 3, 8, 9, 10, 11), d = MIXED(v[8 + j], v[12 + j], 4, 5, 6, 7, 12, 13, 14, 15);
    put(MIXED(a, c, 0, 1, 4, 5, 8, 9, 12, 13), in + j * 64, out + j * 64);
    put(MIXED(a, c, 2, 3, 6, 7, 10, 11, 14, 15), in + (4 + j) * 64, out + (4 + j) * 64);
    put(MIXED(b, d, 0, 1, 4, 5, 8, 9, 12, 13), in + (8 + j) * 64, out + (8 + j) * 64);
    put(MIXED(b, d, 2, 3, 6, 7, 10, 11, 14, 15), in + (12 + j) * 64, out + (12 + j) * 64);
  }
}

// Encrypts `count` strides. When `behind`, the lanes absorb as many of ciphertext, from `made` on, in between.
template <bool behind>
BROAD static void broadStrides(BroadWords &words_of, const uint8_t *in, uint8_t *out, size_t count, Lanes &lanes_of,
                               const uint8_t *made, const Factors &by) {
  constexpr size_t double_rounds = 10, groups = broad_stride / group_bytes;
  Lanes h = lanes_of;
  auto *words = reinterpret_cast<Word *>(words_of.word);
  for (; count > 0; count--, in += broad_stride, out += broad_stride) {
    Word v[16];
#pragma GCC unroll 16
    for (size_t i = 0; i < 16; i++) v[i] = words[i];
    for (size_t round = 0; round < groups; round++) {
      doubleRound(v);
      if (behind) absorbGroup(h, made, by), made += group_bytes;
    }
    for (size_t round = groups; round < double_rounds; round++) doubleRound(v);
#pragma GCC unroll 16
    for (size_t i = 0; i < 16; i++) v[i] += words[i];
    putBlocks(v, in, out);
    words[12] += 16;
  }
  lanes_of = h;
}

bool hasBroad() {
  static const bool has = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512ifma") &&
                          __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi2");
  return has;
}

BROAD size_t broadPass(const uint8_t *key, const uint8_t *nonce, uint32_t block, Mac &mac, Bytes plain, uint8_t *out) {
  size_t whole = plain.size / broad_stride;
  if (whole == 0) return 0;
  BroadWords words(key, nonce, block);
  Powers powers(mac);
  auto limbs = limbsOf(mac.h0, mac.h1, mac.h2);
  Lanes h{Numbers{limbs.limb[0]}, Numbers{limbs.limb[1]}, Numbers{limbs.limb[2]}};
  broadStrides<false>(words, plain.data, out, 1, h, nullptr, powers.all);
  broadStrides<true>(words, plain.data + broad_stride, out + broad_stride, whole - 1, h, out, powers.all);
  const auto *made = out + (whole - 1) * broad_stride, *last = out + whole * broad_stride - group_bytes;
  for (; made < last; made += group_bytes) absorbGroup(h, made, powers.all);
  absorbGroup(h, last, powers.last);
  gather(h, mac);
  return whole * broad_stride;
}

}  // namespace seal

#endif
