// ChaCha20 and Poly1305 (RFC 8439) in one pass, with the 24 bytes of nonce of XChaCha20. Names and steps are those of the RFC.
#include "cipher.h"

#include <algorithm>
#include <cstring>

#ifdef __x86_64__
#include <immintrin.h>
#endif

namespace seal {

#ifdef __x86_64__

constexpr size_t mac_block_bytes = 16;

#define WIDE __attribute__((target("avx2,bmi2")))
#define WIDE_INLINE __attribute__((target("avx2,bmi2"), always_inline)) static inline

// Eight blocks of key stream are made at once, side by side.
constexpr size_t stride = 8 * 64;

static uint64_t read64(const uint8_t *at) {
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
WIDE_INLINE void absorb(Mac &mac, const uint8_t *block, uint64_t top) {
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
WIDE static Bytes absorbWhole(Mac &mac, Bytes bytes) {
  Mac at = mac;
  for (; bytes.size >= mac_block_bytes; bytes.data += mac_block_bytes, bytes.size -= mac_block_bytes) absorb(at, bytes.data, 1);
  mac = at;
  return bytes;
}

WIDE static void absorbPadded(Mac &mac, Bytes bytes, uint8_t mark) {
  bytes = absorbWhole(mac, bytes);
  if (bytes.size == 0) return;
  uint8_t block[mac_block_bytes] = {};
  memcpy(block, bytes.data, bytes.size);
  block[bytes.size] = mark;
  absorb(mac, block, mark ? 0 : 1);
}

static void finish(const Mac &mac, uint8_t *tag) {
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

// The words of a ChaCha20 block, each for eight blocks that follow one another.
struct alignas(32) Words {
  uint32_t word[16][8];

  Words(const uint8_t *key, const uint8_t *nonce, uint32_t block) {
    static const uint8_t constant[] = "expand 32-byte k";
    for (size_t lane = 0; lane < 8; lane++) {
      for (size_t i = 0; i < 4; i++) word[i][lane] = read32(constant + i * 4);
      for (size_t i = 0; i < 8; i++) word[4 + i][lane] = read32(key + i * 4);
      word[12][lane] = block + static_cast<uint32_t>(lane);
      word[13][lane] = 0;
      for (size_t i = 0; i < 2; i++) word[14 + i][lane] = read32(nonce + i * 4);
    }
  }
  Words(const Words &) = delete;
  Words &operator=(const Words &) = delete;
  ~Words() { sodium_memzero(word, sizeof word); }
};

WIDE_INLINE __m256i left16(__m256i x) {
  return _mm256_shuffle_epi8(x, _mm256_setr_epi8(2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13, 2, 3, 0, 1, 6, 7, 4, 5, 10,
                                                 11, 8, 9, 14, 15, 12, 13));
}

WIDE_INLINE __m256i left8(__m256i x) {
  return _mm256_shuffle_epi8(x, _mm256_setr_epi8(3, 0, 1, 2, 7, 4, 5, 6, 11, 8, 9, 10, 15, 12, 13, 14, 3, 0, 1, 2, 7, 4, 5, 6, 11,
                                                 8, 9, 10, 15, 12, 13, 14));
}

template <int bits>
WIDE_INLINE __m256i left(__m256i x) {
  return _mm256_or_si256(_mm256_slli_epi32(x, bits), _mm256_srli_epi32(x, 32 - bits));
}

WIDE_INLINE void quarterRound(__m256i &a, __m256i &b, __m256i &c, __m256i &d) {
  a = _mm256_add_epi32(a, b);
  d = left16(_mm256_xor_si256(d, a));
  c = _mm256_add_epi32(c, d);
  b = left<12>(_mm256_xor_si256(b, c));
  a = _mm256_add_epi32(a, b);
  d = left8(_mm256_xor_si256(d, a));
  c = _mm256_add_epi32(c, d);
  b = left<7>(_mm256_xor_si256(b, c));
}

WIDE_INLINE void put(__m256i stream, const uint8_t *in, uint8_t *out) {
  auto plain = _mm256_loadu_si256(reinterpret_cast<const __m256i *>(in));
  _mm256_storeu_si256(reinterpret_cast<__m256i *>(out), _mm256_xor_si256(plain, stream));
}

// Half of each of the eight blocks, eight words: from words side by side to bytes one after the other, and over `in`.
WIDE_INLINE void putHalves(const __m256i *word, const uint8_t *in, uint8_t *out) {
  __m256i pair[8], four[8];
#pragma GCC unroll 16
  for (size_t i = 0; i < 8; i += 2) {
    pair[i] = _mm256_unpacklo_epi32(word[i], word[i + 1]);
    pair[i + 1] = _mm256_unpackhi_epi32(word[i], word[i + 1]);
  }
#pragma GCC unroll 16
  for (size_t i = 0; i < 8; i += 4) {
    four[i] = _mm256_unpacklo_epi64(pair[i], pair[i + 2]);
    four[i + 1] = _mm256_unpackhi_epi64(pair[i], pair[i + 2]);
    four[i + 2] = _mm256_unpacklo_epi64(pair[i + 1], pair[i + 3]);
    four[i + 3] = _mm256_unpackhi_epi64(pair[i + 1], pair[i + 3]);
  }
#pragma GCC unroll 16
  for (size_t i = 0; i < 4; i++) {
    put(_mm256_permute2x128_si256(four[i], four[i + 4], 0x20), in + i * 64, out + i * 64);
    put(_mm256_permute2x128_si256(four[i], four[i + 4], 0x31), in + (i + 4) * 64, out + (i + 4) * 64);
  }
}

WIDE_INLINE void columns(__m256i *v) {
#pragma GCC unroll 16
  for (size_t i = 0; i < 4; i++) quarterRound(v[i], v[4 + i], v[8 + i], v[12 + i]);
}

WIDE_INLINE void diagonals(__m256i *v) {
#pragma GCC unroll 16
  for (size_t i = 0; i < 4; i++) quarterRound(v[i], v[4 + (i + 1) % 4], v[8 + (i + 2) % 4], v[12 + (i + 3) % 4]);
}

// Encrypts `strides` of them. When `behind`, `mac` absorbs as many of ciphertext, from `made` on, in between.
template <bool behind>
WIDE static void strides(Words &words, const uint8_t *in, uint8_t *out, size_t count, Mac &mac, const uint8_t *made) {
  Mac at = mac;
  auto *s = reinterpret_cast<__m256i *>(words.word);
  for (; count > 0; count--, in += stride, out += stride) {
    __m256i v[16];
#pragma GCC unroll 16
    for (size_t i = 0; i < 16; i++) v[i] = s[i];
    // 32 blocks of the authenticator beside 8 of the 10 double rounds.
    for (size_t round = 0; round < 10; round++) {
      const bool absorbs = behind && round < 8;
      columns(v);
      if (absorbs) absorb(at, made, 1), absorb(at, made + 16, 1);
      diagonals(v);
      if (absorbs) absorb(at, made + 32, 1), absorb(at, made + 48, 1), made += 64;
    }
#pragma GCC unroll 16
    for (size_t i = 0; i < 16; i++) v[i] = _mm256_add_epi32(v[i], s[i]);
    putHalves(v, in, out);
    putHalves(v + 8, in + 32, out + 32);
    s[12] = _mm256_add_epi32(s[12], _mm256_set1_epi32(8));
  }
  if (behind) mac = at;
}

// Encrypts, and authenticates the ciphertext but for an end shorter than a block, which is returned.
WIDE static Bytes onePass(Words &words, Mac &mac, Bytes plain, uint8_t *out) {
  size_t whole = plain.size / stride, rest = plain.size % stride;
  const auto *made = out;  // what is not authenticated begins here
  if (whole > 0) {
    strides<false>(words, plain.data, out, 1, mac, nullptr);
    strides<true>(words, plain.data + stride, out + stride, whole - 1, mac, made);
    made += (whole - 1) * stride;
  }
  if (rest > 0) {
    uint8_t last[stride] = {};
    memcpy(last, plain.data + whole * stride, rest);
    if (whole > 0)
      strides<true>(words, last, last, 1, mac, made), made += stride;
    else
      strides<false>(words, last, last, 1, mac, nullptr);
    memcpy(out + whole * stride, last, rest);
    sodium_memzero(last, sizeof last);
  }
  return absorbWhole(mac, {made, static_cast<size_t>(out + plain.size - made)});
}

Way bestWay() {
  static const bool wide = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi2");
  return wide ? Way::one_pass : Way::libsodium;
}

WIDE static void encryptOnePass(Bytes message, const uint8_t *header, const uint8_t *nonce, const uint8_t *key, uint8_t *out) {
  uint8_t subkey[crypto_core_hchacha20_OUTPUTBYTES], first[crypto_onetimeauth_KEYBYTES];
  crypto_core_hchacha20(subkey, nonce, key, nullptr);
  // Block 0 is for the authenticator.
  crypto_stream_chacha20(first, sizeof first, nonce + crypto_core_hchacha20_INPUTBYTES, subkey);
  Words words(subkey, nonce + crypto_core_hchacha20_INPUTBYTES, 1);
  Mac mac(first);
  absorbPadded(mac, {header, header_bytes}, 0);
  absorbPadded(mac, onePass(words, mac, message, out), 0);
  uint8_t lengths[mac_block_bytes] = {header_bytes};
  write32(lengths + 8, static_cast<uint32_t>(message.size));
  absorb(mac, lengths, 1);
  finish(mac, out + message.size);
  sodium_memzero(subkey, sizeof subkey);
  sodium_memzero(first, sizeof first);
}

static void partOnePass(const uint8_t *key, const uint8_t *nonce, Bytes plain, uint32_t block, const uint8_t *tag_key,
                        uint8_t *cipher, uint8_t *tag) {
  Words words(key, nonce, block);
  Mac mac(tag_key);
  absorbPadded(mac, onePass(words, mac, plain, cipher), 1);
  finish(mac, tag);
}

#else

Way bestWay() { return Way::libsodium; }

#endif

void encrypt(Bytes message, const uint8_t *header, const uint8_t *nonce, const uint8_t *key, uint8_t *out,
             [[maybe_unused]] Way way) {
#ifdef __x86_64__
  if (way == Way::one_pass) return encryptOnePass(message, header, nonce, key, out);
#endif
  crypto_aead_xchacha20poly1305_ietf_encrypt(out, nullptr, message.data, message.size, header, header_bytes, nullptr, nonce,
                                             key);
}

Stream::Stream(const uint8_t *nonce, const uint8_t *key, Way way) : way_(way) {
  crypto_core_hchacha20(key_, nonce, key, nullptr);
  memcpy(nonce_, nonce + crypto_core_hchacha20_INPUTBYTES, sizeof nonce_);
}

void Stream::part(Bytes plain, uint32_t block, const uint8_t *tag_key, uint8_t *cipher, uint8_t *tag) const {
#ifdef __x86_64__
  if (way_ == Way::one_pass) return partOnePass(key_, nonce_, plain, block, tag_key, cipher, tag);
#endif
  crypto_stream_chacha20_xor_ic(cipher, plain.data, plain.size, nonce_, block, key_);
  crypto_onetimeauth(tag, cipher, plain.size, tag_key);
}

}  // namespace seal
