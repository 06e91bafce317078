// BLAKE2b (RFC 7693) in four, eight or sixteen lanes of 64 bits. A lane takes a message block by block; when it is done, the next message
// takes its place, so that messages may have any lengths. Names and steps are those of the RFC.
#include "hashes.h"

#include <algorithm>
#include <cstring>
#include <span>

#ifdef __x86_64__
#include <immintrin.h>
#endif

namespace seal {

static void hashOne(const char *name_space, const uint8_t *key, const Hashing &one) {
  if (key)
    keyedHash(key, name_space, one.message, {nullptr, 0}, one.out);
  else
    hash(name_space, one.message, one.out);
}

#ifdef __x86_64__

constexpr size_t block_bytes = 128;
constexpr uint64_t iv[8] = {0x6a09e667f3bcc908, 0xbb67ae8584caa73b, 0x3c6ef372fe94f82b, 0xa54ff53a5f1d36f1,
                            0x510e527fade682d1, 0x9b05688c2b3e6c1f, 0x1f83d9abfb41bd6b, 0x5be0cd19137e2179};
constexpr uint8_t sigma[10][16] = {
    {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}, {14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3},
    {11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4}, {7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8},
    {9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13}, {2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9},
    {12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11}, {13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10},
    {6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5}, {10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0}};

#define AVX2 __attribute__((target("avx2")))
#define AVX2_INLINE __attribute__((target("avx2"), always_inline)) static inline
#define AVX512 __attribute__((target("avx512f,avx512vl")))
#define AVX512_INLINE __attribute__((target("avx512f,avx512vl"), always_inline)) static inline

// The chaining values of all lanes: word i of lane l is h[i][l].
template <size_t lanes>
struct alignas(lanes * 8) States {
  uint64_t h[8][lanes];
};

struct Lane {
  const Hashing *one = nullptr;
  const uint8_t *rest = nullptr;  // of the message, behind what the blocks below hold
  size_t left = 0;
  uint64_t counted = 0;  // bytes given to the compression, with the blocks below
  bool last = false;
  bool opened = false;             // the block with the namespace was given
  const uint8_t *block = nullptr;  // the next to be compressed
  uint8_t buffer[block_bytes];
};

// a + x + b: b comes last, as it is the one that is waited for. The compiler would have it otherwise.
AVX2_INLINE __m256i addBefore(__m256i a, __m256i x, __m256i b) {
  auto sum = _mm256_add_epi64(a, x);
  __asm__("" : "+x"(sum));
  return _mm256_add_epi64(sum, b);
}

AVX2_INLINE void mix(__m256i &a, __m256i &b, __m256i &c, __m256i &d, __m256i x, __m256i y) {
  const auto by24 = _mm256_setr_epi8(3, 4, 5, 6, 7, 0, 1, 2, 11, 12, 13, 14, 15, 8, 9, 10, 3, 4, 5, 6, 7, 0, 1, 2, 11, 12, 13,
                                     14, 15, 8, 9, 10);
  const auto by16 = _mm256_setr_epi8(2, 3, 4, 5, 6, 7, 0, 1, 10, 11, 12, 13, 14, 15, 8, 9, 2, 3, 4, 5, 6, 7, 0, 1, 10, 11, 12,
                                     13, 14, 15, 8, 9);
  a = addBefore(a, x, b);
  d = _mm256_shuffle_epi32(_mm256_xor_si256(d, a), 0xb1);
  c = _mm256_add_epi64(c, d);
  b = _mm256_shuffle_epi8(_mm256_xor_si256(b, c), by24);
  a = addBefore(a, y, b);
  d = _mm256_shuffle_epi8(_mm256_xor_si256(d, a), by16);
  c = _mm256_add_epi64(c, d);
  b = _mm256_xor_si256(b, c);
  b = _mm256_or_si256(_mm256_add_epi64(b, b), _mm256_srli_epi64(b, 63));
}

// Word i of each lane's block, side by side.
AVX2_INLINE void transpose(const uint8_t *const *block, __m256i *m) {
#pragma GCC unroll 4
  for (size_t i = 0; i < 16; i += 4) {
    __m256i row[4];
#pragma GCC unroll 4
    for (size_t l = 0; l < 4; l++) row[l] = _mm256_loadu_si256(reinterpret_cast<const __m256i *>(block[l] + i * 8));
    auto a = _mm256_unpacklo_epi64(row[0], row[1]), b = _mm256_unpackhi_epi64(row[0], row[1]);
    auto c = _mm256_unpacklo_epi64(row[2], row[3]), d = _mm256_unpackhi_epi64(row[2], row[3]);
    m[i] = _mm256_permute2x128_si256(a, c, 0x20);
    m[i + 1] = _mm256_permute2x128_si256(b, d, 0x20);
    m[i + 2] = _mm256_permute2x128_si256(a, c, 0x31);
    m[i + 3] = _mm256_permute2x128_si256(b, d, 0x31);
  }
}

AVX2_INLINE __m256i sideBySide(uint64_t a, uint64_t b, uint64_t c, uint64_t d) {
  auto word = [](uint64_t value) { return static_cast<long long>(value); };
  return _mm256_setr_epi64x(word(a), word(b), word(c), word(d));
}

// `count` blocks of each lane, one after the other; of an idle lane the same block again and again.
AVX2 static void compress(States<4> &states, const Lane *lane, size_t count) {
  constexpr size_t lanes = 4;
  const uint8_t *at[lanes];
  size_t step[lanes];
  for (size_t l = 0; l < lanes; l++) at[l] = lane[l].block, step[l] = lane[l].one ? block_bytes : 0;
  auto *h = reinterpret_cast<__m256i *>(states.h);
  auto counted = sideBySide(lane[0].counted, lane[1].counted, lane[2].counted, lane[3].counted);
  const auto last = _mm256_setr_epi64x(-lane[0].last, -lane[1].last, -lane[2].last, -lane[3].last);
  for (; count > 0; count--) {
    __m256i m[16], v[16];
    transpose(at, m);
#pragma GCC unroll 8
    for (size_t i = 0; i < 8; i++) v[i] = h[i], v[i + 8] = _mm256_set1_epi64x(static_cast<long long>(iv[i]));
    v[12] = _mm256_xor_si256(v[12], counted);
    v[14] = _mm256_xor_si256(v[14], last);
#pragma GCC unroll 12
    for (size_t round = 0; round < 12; round++) {
      const auto *s = sigma[round % 10];
      mix(v[0], v[4], v[8], v[12], m[s[0]], m[s[1]]);
      mix(v[1], v[5], v[9], v[13], m[s[2]], m[s[3]]);
      mix(v[2], v[6], v[10], v[14], m[s[4]], m[s[5]]);
      mix(v[3], v[7], v[11], v[15], m[s[6]], m[s[7]]);
      mix(v[0], v[5], v[10], v[15], m[s[8]], m[s[9]]);
      mix(v[1], v[6], v[11], v[12], m[s[10]], m[s[11]]);
      mix(v[2], v[7], v[8], v[13], m[s[12]], m[s[13]]);
      mix(v[3], v[4], v[9], v[14], m[s[14]], m[s[15]]);
    }
#pragma GCC unroll 8
    for (size_t i = 0; i < 8; i++) h[i] = _mm256_xor_si256(h[i], _mm256_xor_si256(v[i], v[i + 8]));
    for (size_t l = 0; l < lanes; l++) at[l] += step[l];
    counted = _mm256_add_epi64(counted, _mm256_set1_epi64x(block_bytes));
  }
}

// The same by AVX-512, which rotates by one instruction and has a register for each word of the state and of the block. The
// vectors are the compiler's own, as these serve both numbers of lanes.
template <size_t lanes>
struct Vector {
  using Type [[gnu::vector_size(lanes * 8)]] = uint64_t;
};
template <size_t lanes>
using Words = typename Vector<lanes>::Type;

template <int bits, size_t lanes>
AVX512_INLINE void turn(Words<lanes> &word, const Words<lanes> &by) {
  word ^= by;
  word = word >> bits | word << (64 - bits);
}

template <size_t lanes>
AVX512_INLINE void mixBroad(Words<lanes> &a, Words<lanes> &b, Words<lanes> &c, Words<lanes> &d, const Words<lanes> &x,
                            const Words<lanes> &y) {
  a += x;
  __asm__("" : "+v"(a));
  a += b;
  turn<32, lanes>(d, a);
  c += d;
  turn<24, lanes>(b, c);
  a += y;
  __asm__("" : "+v"(a));
  a += b;
  turn<16, lanes>(d, a);
  c += d;
  turn<63, lanes>(b, c);
}

AVX512_INLINE void transposeBroad(const uint8_t *const *block, Words<4> *m) {
  transpose(block, reinterpret_cast<__m256i *>(m));
}

AVX512_INLINE Words<8> halves(const uint8_t *low, const uint8_t *high) {
  Words<4> first, second;
  memcpy(&first, low, sizeof first);
  memcpy(&second, high, sizeof second);
  return __builtin_shufflevector(first, second, 0, 1, 2, 3, 4, 5, 6, 7);
}

AVX512_INLINE void transposeBroad(const uint8_t *const *block, Words<8> *m) {
#pragma GCC unroll 4
  for (size_t i = 0; i < 16; i += 4) {
    Words<8> row[4];
#pragma GCC unroll 4
    for (size_t l = 0; l < 4; l++) row[l] = halves(block[l] + i * 8, block[l + 4] + i * 8);
    auto a = __builtin_shufflevector(row[0], row[1], 0, 8, 2, 10, 4, 12, 6, 14);
    auto b = __builtin_shufflevector(row[0], row[1], 1, 9, 3, 11, 5, 13, 7, 15);
    auto c = __builtin_shufflevector(row[2], row[3], 0, 8, 2, 10, 4, 12, 6, 14);
    auto d = __builtin_shufflevector(row[2], row[3], 1, 9, 3, 11, 5, 13, 7, 15);
    m[i] = __builtin_shufflevector(a, c, 0, 1, 8, 9, 4, 5, 12, 13);
    m[i + 1] = __builtin_shufflevector(b, d, 0, 1, 8, 9, 4, 5, 12, 13);
    m[i + 2] = __builtin_shufflevector(a, c, 2, 3, 10, 11, 6, 7, 14, 15);
    m[i + 3] = __builtin_shufflevector(b, d, 2, 3, 10, 11, 6, 7, 14, 15);
  }
}

// All words of the state that a step of the RFC takes, of each group.
template <size_t lanes, size_t groups, size_t a, size_t b, size_t c, size_t d>
AVX512_INLINE void mixGroups(Words<lanes> (&v)[groups][16], const Words<lanes> (&m)[groups][16], size_t x, size_t y) {
#pragma GCC unroll 2
  for (size_t g = 0; g < groups; g++) mixBroad<lanes>(v[g][a], v[g][b], v[g][c], v[g][d], m[g][x], m[g][y]);
}

// As compress(), of lanes in groups of a vector each: in one group a step waits for the one before, and two fill the pauses of
// each other.
template <size_t lanes, size_t groups>
AVX512 static void compressBroad(States<lanes * groups> &states, const Lane *lane, size_t count) {
  using Word = Words<lanes>;
  const uint8_t *at[lanes * groups];
  size_t step[lanes * groups];
  Word counted[groups], last[groups], h[groups][8];
  for (size_t l = 0; l < lanes * groups; l++) {
    at[l] = lane[l].block, step[l] = lane[l].one ? block_bytes : 0;
    counted[l / lanes][l % lanes] = lane[l].counted, last[l / lanes][l % lanes] = lane[l].last ? ~uint64_t{0} : 0;
  }
  for (size_t g = 0; g < groups; g++)
    for (size_t i = 0; i < 8; i++) memcpy(&h[g][i], &states.h[i][g * lanes], sizeof(Word));
  for (; count > 0; count--) {
    Word m[groups][16], v[groups][16];
    for (size_t g = 0; g < groups; g++) transposeBroad(at + g * lanes, m[g]);
#pragma GCC unroll 2
    for (size_t g = 0; g < groups; g++) {
#pragma GCC unroll 8
      for (size_t i = 0; i < 8; i++) v[g][i] = h[g][i], v[g][i + 8] = Word{} + iv[i];
      v[g][12] ^= counted[g];
      v[g][14] ^= last[g];
    }
#pragma GCC unroll 12
    for (size_t round = 0; round < 12; round++) {
      const auto *s = sigma[round % 10];
      mixGroups<lanes, groups, 0, 4, 8, 12>(v, m, s[0], s[1]);
      mixGroups<lanes, groups, 1, 5, 9, 13>(v, m, s[2], s[3]);
      mixGroups<lanes, groups, 2, 6, 10, 14>(v, m, s[4], s[5]);
      mixGroups<lanes, groups, 3, 7, 11, 15>(v, m, s[6], s[7]);
      mixGroups<lanes, groups, 0, 5, 10, 15>(v, m, s[8], s[9]);
      mixGroups<lanes, groups, 1, 6, 11, 12>(v, m, s[10], s[11]);
      mixGroups<lanes, groups, 2, 7, 8, 13>(v, m, s[12], s[13]);
      mixGroups<lanes, groups, 3, 4, 9, 14>(v, m, s[14], s[15]);
    }
#pragma GCC unroll 2
    for (size_t g = 0; g < groups; g++) {
#pragma GCC unroll 8
      for (size_t i = 0; i < 8; i++) h[g][i] ^= v[g][i] ^ v[g][i + 8];
      counted[g] += block_bytes;
    }
    for (size_t l = 0; l < lanes * groups; l++) at[l] += step[l];
  }
  for (size_t g = 0; g < groups; g++)
    for (size_t i = 0; i < 8; i++) memcpy(&states.h[i][g * lanes], &h[g][i], sizeof(Word));
}

template <size_t lanes>
class AtOnce {
 public:
  using Compress = void (*)(States<lanes> &, const Lane *, size_t);

  AtOnce(Compress compress, const char *name_space, const uint8_t *key, std::span<const Hashing> messages)
      : compress_(compress),
        prefix_{static_cast<uint8_t>(strlen(name_space))},
        prefix_bytes_(1 + strlen(name_space)),
        key_(key),
        messages_(messages) {
    memcpy(prefix_ + 1, name_space, prefix_bytes_ - 1);
  }

  void run() {
    for (size_t l = 0; l < lanes; l++) begin(l);
    while (std::any_of(lane_, lane_ + lanes, [](const Lane &lane) { return lane.one != nullptr; })) {
      if (auto count = inTheMiddle()) {
        compressMiddle(count);
        continue;
      }
      for (auto &lane : lane_) advance(lane);
      compress_(states_, lane_, 1);
      for (size_t l = 0; l < lanes; l++)
        if (lane_[l].one && lane_[l].last) finish(l);
    }
  }

 private:
  void begin(size_t l) {
    auto &lane = lane_[l];
    lane = Lane{};
    lane.block = idle_;
    if (next_ == messages_.size()) return;
    lane.one = &messages_[next_++];
    lane.rest = lane.one->message.data;
    lane.left = lane.one->message.size;
    // Parameters: length of the hash, of the key, one leaf.
    for (size_t i = 0; i < 8; i++) states_.h[i][l] = iv[i];
    states_.h[0][l] ^= 0x01010000 ^ (key_ ? key_bytes << 8 : 0) ^ hash_bytes;
  }

  // How many blocks can be taken as they lie in the messages, of each lane that has one: none that is the first or the last.
  size_t inTheMiddle() const {
    size_t count = SIZE_MAX;
    for (const auto &lane : lane_)
      if (lane.one) count = std::min(count, lane.opened && lane.left > 0 ? (lane.left - 1) / block_bytes : 0);
    return count;
  }

  void compressMiddle(size_t count) {
    for (auto &lane : lane_)
      if (lane.one) lane.block = lane.rest, lane.counted += block_bytes;
    compress_(states_, lane_, count);
    for (auto &lane : lane_) {
      if (!lane.one) continue;
      lane.rest += count * block_bytes;
      lane.left -= count * block_bytes;
      lane.counted += (count - 1) * block_bytes;
    }
  }

  // Makes the next block of a lane ready.
  void advance(Lane &lane) const {
    if (!lane.one) return;
    if (key_ && lane.counted == 0) {
      memset(lane.buffer, 0, block_bytes);
      memcpy(lane.buffer, key_, key_bytes);
      lane.block = lane.buffer;
      lane.counted = block_bytes;
      return;
    }
    if (lane.opened && lane.left > block_bytes) {
      lane.block = lane.rest;
      lane.rest += block_bytes;
      lane.left -= block_bytes;
      lane.counted += block_bytes;
      return;
    }
    size_t before = lane.opened ? 0 : prefix_bytes_, taken = std::min(lane.left, block_bytes - before);
    memset(lane.buffer, 0, block_bytes);
    memcpy(lane.buffer, prefix_, before);
    if (taken) memcpy(lane.buffer + before, lane.rest, taken);
    lane.rest += taken;
    lane.left -= taken;
    lane.counted += before + taken;
    lane.opened = true;
    lane.last = lane.left == 0;
    lane.block = lane.buffer;
  }

  void finish(size_t l) {
    for (size_t i = 0; i < hash_bytes / 8; i++)
      for (size_t byte = 0; byte < 8; byte++)
        lane_[l].one->out[i * 8 + byte] = static_cast<uint8_t>(states_.h[i][l] >> (8 * byte));
    begin(l);
  }

  Compress compress_;
  uint8_t prefix_[64];
  size_t prefix_bytes_;
  const uint8_t *key_;
  std::span<const Hashing> messages_;
  size_t next_ = 0;
  Lane lane_[lanes];
  States<lanes> states_{};
  const uint8_t idle_[block_bytes]{};
};

Side bestSide() {
  static const Side best = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") ? Side::avx512
                           : __builtin_cpu_supports("avx2")                                        ? Side::avx2
                                                                                                   : Side::libsodium;
  return best;
}

// How many of the messages go by `lanes` together. When all are equally long, those over are few enough for fewer lanes, or for
// one by libsodium, which does it in less time than lanes of which most idle.
static size_t together(std::span<const Hashing> messages, size_t lanes) {
  size_t over = messages.size() % lanes;
  bool are_equal = std::all_of(messages.begin(), messages.end(),
                               [&](const Hashing &one) { return one.message.size == messages[0].message.size; });
  return are_equal && over <= (lanes > 4 ? lanes / 2 : 1) ? messages.size() - over : messages.size();
}

static void hashSome(const char *name_space, const uint8_t *key, std::span<const Hashing> messages, Side side) {
  // By AVX2, two lanes in use are no faster than one by libsodium.
  if (messages.size() < (side == Side::avx512 ? 2 : 3)) side = Side::libsodium;
  if (side == Side::libsodium) {
    for (const auto &one : messages) hashOne(name_space, key, one);
    return;
  }
  const size_t lanes = side == Side::avx2 || messages.size() <= 4 ? 4 : messages.size() <= 8 ? 8 : 16;
  const size_t first = together(messages, lanes);
  const auto some = messages.first(first);
  if (lanes == 16)
    AtOnce<16>(compressBroad<8, 2>, name_space, key, some).run();
  else if (lanes == 8)
    AtOnce<8>(compressBroad<8, 1>, name_space, key, some).run();
  else
    AtOnce<4>(side == Side::avx512 ? compressBroad<4, 1> : compress, name_space, key, some).run();
  if (first < messages.size()) hashSome(name_space, key, messages.subspan(first), side);
}

void hashMany(const char *name_space, const uint8_t *key, const std::vector<Hashing> &messages, Side side) {
  hashSome(name_space, key, messages, side);
}

#else

Side bestSide() { return Side::libsodium; }

void hashMany(const char *name_space, const uint8_t *key, const std::vector<Hashing> &messages, Side) {
  for (const auto &one : messages) hashOne(name_space, key, one);
}

#endif

}  // namespace seal
