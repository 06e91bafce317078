// How elements are combined by AVX-512 (ISA-L does it in its own way, in strips that stay in the processor's cache).
//
// A product by a constant in GF(2^8) is a matrix of 8 by 8 bits, and vgf2p8affineqb multiplies 64 bytes by one at once: one
// instruction instead of the two look-ups in tables, the two masks and the shift of ISA-L 2.30. Up to eight targets are made of a
// column of all sources before it is left, in registers, so that a target is written once and never read.
//
// Wide stripes have another limit. Elements lie at distances of a round number of pages, so the same column of all of them shares
// one place in the near cache, which has room for 12. So columns of them are copied side by side first, as much as stays near
// while all groups of targets pass over it.
#include "combine.h"

#include "library.h"

#include <algorithm>
#include <array>
#include <utility>

#ifdef __x86_64__
#include <immintrin.h>
#endif

namespace codes {

static void generator(uint8_t *row, uint8_t index, size_t m) {
  for (size_t j = 0; j < m; j++) {
    auto column = static_cast<uint8_t>(j);
    row[j] = index < m ? (index == column ? 1 : 0) : isal()->gf_inv(index ^ column);
  }
}

std::vector<uint8_t> coefficients(size_t m, const std::vector<uint8_t> &indexes, const std::vector<uint8_t> &wanted) {
  std::vector<uint8_t> have(m * m), inverse(m * m), row(m), out(wanted.size() * m);
  for (size_t i = 0; i < m; i++) generator(&have[i * m], indexes[i], m);
  if (isal()->gf_invert_matrix(have.data(), inverse.data(), static_cast<int>(m)) != 0) return {};
  for (size_t r = 0; r < wanted.size(); r++) {
    generator(row.data(), wanted[r], m);
    // (rows wanted) * (rows at hand)^-1, of which most have few factors: of data, or by data that is there.
    for (size_t i = 0; i < m; i++)
      for (size_t j = 0; row[i] != 0 && j < m; j++)
        if (inverse[i * m + j] != 0) out[r * m + j] ^= isal()->gf_mul(row[i], inverse[i * m + j]);
  }
  return out;
}

static void combineByLibrary(const std::vector<uint8_t> &factors, Elements sources, Elements targets) {
  constexpr size_t strip_bytes = 16 * 1024;
  auto m = static_cast<int>(sources.at.size()), rows = static_cast<int>(targets.at.size());
  std::vector<uint8_t> tables(32 * factors.size());
  isal()->ec_init_tables(m, rows, const_cast<uint8_t *>(factors.data()), tables.data());
  for (size_t from = 0; from < sources.size; from += strip_bytes) {
    auto length = static_cast<int>(std::min(strip_bytes, sources.size - from));
    isal()->ec_encode_data(length, m, rows, tables.data(), sources.at.data(), targets.at.data());
    for (auto &at : sources.at) at += length;
    for (auto &at : targets.at) at += length;
  }
}

#ifdef __x86_64__

#define BROAD __attribute__((target("avx512f,avx512bw,gfni")))
#define BROAD_INLINE __attribute__((target("avx512f,avx512bw,gfni"), always_inline)) static inline

constexpr size_t vector_bytes = 64;
// Targets at once, and vectors of each: with as many of a source, and a matrix, they fill the 32 registers.
constexpr size_t most_rows = 8, most_vectors = 3;
constexpr size_t column_bytes = most_vectors * vector_bytes;
// Of the sources together: a quarter of a second cache, so that each is read in stretches as the processor fetches them ahead.
constexpr size_t packed_bytes = 256 * 1024;
constexpr size_t most_columns = 21;  // an odd number of cache lines: columns of two sources lie in different places
// So many sources have their places in the near cache, however they lie.
constexpr size_t few_sources = 8;

// For each factor the matrix that multiplies by it: bit j of its byte 7 - i is bit i of the factor times 2^j.
static std::array<uint64_t, 256> makeMatrices() {
  std::array<uint64_t, 256> matrices{};
  for (size_t factor = 0; factor < 256; factor++)
    for (size_t j = 0; j < 8; j++) {
      auto product = isal()->gf_mul(static_cast<uint8_t>(factor), static_cast<uint8_t>(1 << j));
      for (size_t i = 0; i < 8; i++) matrices[factor] |= uint64_t{product} >> i & 1 ? uint64_t{1} << ((7 - i) * 8 + j) : 0;
    }
  return matrices;
}

// A column of `vectors` vectors, the last of which `mask` cuts; `matrices` has `rows` of them for each source.
template <size_t rows, size_t vectors>
BROAD_INLINE void column(const uint64_t *matrices, uint8_t *const *sources, size_t m, uint8_t *const *targets, size_t from,
                         size_t to, __mmask64 mask) {
  __m512i sum[rows][vectors];
#pragma GCC unroll 8
  for (size_t r = 0; r < rows; r++)
#pragma GCC unroll 3
    for (size_t v = 0; v < vectors; v++) sum[r][v] = _mm512_setzero_si512();
  for (size_t j = 0; j < m; j++, matrices += rows) {
    __m512i bytes[vectors];
#pragma GCC unroll 3
    for (size_t v = 0; v < vectors; v++) bytes[v] = _mm512_maskz_loadu_epi8(v + 1 < vectors ? ~__mmask64{0} : mask, sources[j] + from + v * vector_bytes);
#pragma GCC unroll 8
    for (size_t r = 0; r < rows; r++) {
      const auto matrix = _mm512_set1_epi64(static_cast<long long>(matrices[r]));
#pragma GCC unroll 3
      for (size_t v = 0; v < vectors; v++) {
        auto product = _mm512_gf2p8affine_epi64_epi8(bytes[v], matrix, 0);
        // sum ^= product, in place: the compiler keeps old sums beside new ones, and has not the registers for both.
        __asm__("vpxorq %1, %0, %0" : "+v"(sum[r][v]) : "v"(product));
      }
    }
  }
#pragma GCC unroll 8
  for (size_t r = 0; r < rows; r++)
#pragma GCC unroll 3
    for (size_t v = 0; v < vectors; v++)
      _mm512_mask_storeu_epi8(targets[r] + to + v * vector_bytes, v + 1 < vectors ? ~__mmask64{0} : mask, sum[r][v]);
}

// `length` bytes of `rows` targets, from `to` on, of the sources from `from` on.
template <size_t rows>
BROAD static void strip(const uint64_t *matrices, uint8_t *const *sources, size_t m, uint8_t *const *targets, size_t from,
                        size_t to, size_t length) {
  size_t at = 0;
  for (; at + column_bytes <= length; at += column_bytes)
    column<rows, most_vectors>(matrices, sources, m, targets, from + at, to + at, ~__mmask64{0});
  for (; at < length; at += vector_bytes) {
    size_t left = std::min(vector_bytes, length - at);
    column<rows, 1>(matrices, sources, m, targets, from + at, to + at, ~__mmask64{0} >> (vector_bytes - left));
  }
}

using Strip = decltype(&strip<1>);

template <size_t... less>
constexpr std::array<Strip, sizeof...(less)> stripsOf(std::index_sequence<less...>) {
  return {strip<less + 1>...};
}
// By the number of rows less one.
constexpr auto strips = stripsOf(std::make_index_sequence<most_rows>());

// Targets that are made together.
struct Group {
  size_t first, rows;
  std::vector<uint64_t> matrices;
};

static std::vector<Group> groupsOf(const std::vector<uint8_t> &factors, size_t m, size_t rows) {
  static const auto matrices = makeMatrices();
  std::vector<Group> groups;
  // As even as can be: 9 rows as 5 and 4.
  size_t count = (rows + most_rows - 1) / most_rows;
  for (size_t g = 0, first = 0; g < count; g++) {
    Group group{first, (rows - first) / (count - g), {}};
    for (size_t j = 0; j < m; j++)
      for (size_t r = 0; r < group.rows; r++) group.matrices.push_back(matrices[factors[(first + r) * m + j]]);
    first += group.rows;
    groups.push_back(std::move(group));
  }
  return groups;
}

static void combineBroad(const std::vector<uint8_t> &factors, const Elements &sources, const Elements &targets) {
  const size_t m = sources.at.size();
  const auto groups = groupsOf(factors, m, targets.at.size());
  auto pass = [&](uint8_t *const *from_at, size_t from, size_t to, size_t length) {
    for (const auto &group : groups)
      strips[group.rows - 1](group.matrices.data(), from_at, m, targets.at.data() + group.first, from, to, length);
  };
  if (m <= few_sources || groups.size() == 1) {
    for (size_t at = 0; at < sources.size; at += column_bytes)
      pass(sources.at.data(), at, at, std::min(column_bytes, sources.size - at));
    return;
  }
  const size_t step = std::clamp(packed_bytes / m / column_bytes, size_t{1}, most_columns) * column_bytes;
  std::vector<uint8_t> near(m * step);
  std::vector<uint8_t *> packed(m);
  for (size_t j = 0; j < m; j++) packed[j] = near.data() + j * step;
  for (size_t from = 0; from < sources.size; from += step) {
    const size_t length = std::min(step, sources.size - from);
    for (size_t j = 0; j < m; j++) std::copy_n(sources.at[j] + from, length, packed[j]);
    for (size_t at = 0; at < length; at += column_bytes)
      pass(packed.data(), at, from + at, std::min(column_bytes, length - at));
  }
}

Way bestWay() {
  static const bool has = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("gfni");
  return has ? Way::broad : Way::library;
}

#else

Way bestWay() { return Way::library; }

#endif

void combine(const std::vector<uint8_t> &factors, const Elements &sources, const Elements &targets, [[maybe_unused]] Way way) {
#ifdef __x86_64__
  if (way == Way::broad) return combineBroad(factors, sources, targets);
#endif
  combineByLibrary(factors, sources, targets);
}

}  // namespace codes
