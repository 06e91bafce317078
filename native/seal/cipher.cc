// ChaCha20 and Poly1305 (RFC 8439) in one pass, with the 24 bytes of nonce of XChaCha20. Names and steps are those of the RFC.
#include "cipher.h"

#include "cipher_broad.h"

#include <cstring>

#ifdef __x86_64__
#include "mac.h"

#include <immintrin.h>
#endif

namespace seal {

#ifdef __x86_64__

#define WIDE __attribute__((target("avx2,bmi2")))
#define WIDE_INLINE __attribute__((target("avx2,bmi2"), always_inline)) static inline

// Eight blocks of key stream are made at once, side by side.
constexpr size_t stride = 8 * 64;

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
  return hasBroad() ? Way::broad : wide ? Way::one_pass : Way::libsodium;
}

// Encrypts from block `block` on, and authenticates the ciphertext and what pads it: after `mark`, if it has one.
WIDE static void pass(Way way, const uint8_t *key, const uint8_t *nonce, uint32_t block, Mac &mac, Bytes plain, uint8_t *out,
                      uint8_t mark) {
  size_t done = way == Way::broad ? broadPass(key, nonce, block, mac, plain, out) : 0;
  if (done == plain.size) return;
  Words words(key, nonce, block + static_cast<uint32_t>(done / 64));
  absorbPadded(mac, onePass(words, mac, {plain.data + done, plain.size - done}, out + done), mark);
}

WIDE static void encryptOnePass(Way way, Bytes message, const uint8_t *header, const uint8_t *nonce, const uint8_t *key,
                                uint8_t *out) {
  uint8_t subkey[crypto_core_hchacha20_OUTPUTBYTES], first[crypto_onetimeauth_KEYBYTES];
  crypto_core_hchacha20(subkey, nonce, key, nullptr);
  // Block 0 is for the authenticator.
  crypto_stream_chacha20(first, sizeof first, nonce + crypto_core_hchacha20_INPUTBYTES, subkey);
  Mac mac(first);
  absorbPadded(mac, {header, header_bytes}, 0);
  pass(way, subkey, nonce + crypto_core_hchacha20_INPUTBYTES, 1, mac, message, out, 0);
  uint8_t lengths[mac_block_bytes] = {header_bytes};
  write32(lengths + 8, static_cast<uint32_t>(message.size));
  absorb(mac, lengths, 1);
  finish(mac, out + message.size);
  sodium_memzero(subkey, sizeof subkey);
  sodium_memzero(first, sizeof first);
}

static void partOnePass(Way way, const uint8_t *key, const uint8_t *nonce, Bytes plain, uint32_t block, const uint8_t *tag_key,
                        uint8_t *cipher, uint8_t *tag) {
  Mac mac(tag_key);
  pass(way, key, nonce, block, mac, plain, cipher, 1);
  finish(mac, tag);
}

#else

Way bestWay() { return Way::libsodium; }

#endif

void encrypt(Bytes message, const uint8_t *header, const uint8_t *nonce, const uint8_t *key, uint8_t *out,
             [[maybe_unused]] Way way) {
#ifdef __x86_64__
  if (way != Way::libsodium) return encryptOnePass(way, message, header, nonce, key, out);
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
  if (way_ != Way::libsodium) return partOnePass(way_, key_, nonce_, plain, block, tag_key, cipher, tag);
#endif
  crypto_stream_chacha20_xor_ic(cipher, plain.data, plain.size, nonce_, block, key_);
  crypto_onetimeauth(tag, cipher, plain.size, tag_key);
}

}  // namespace seal
