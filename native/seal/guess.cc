// zstd gains by repeated sequences and by bytes that are more frequent than others. Here both are looked for, as far as zstd
// does: it looks for sequences at fewer and fewer places, the longer it found none, and takes the frequencies of what is left.
// So what is missed here it would have missed, too, but for single matches in a block (docs/benchmarks.md has what that costs:
// nothing that can be measured).
#include "guess.h"

#include <algorithm>
#include <cstring>

namespace seal {

// Shorter blocks are mostly text, and cheap to try.
constexpr size_t least_bytes = 16 * 1024;
// After so many bytes without a match every second byte is looked at, after twice as many every third, as zstd does.
constexpr size_t patience = 256;
constexpr size_t table_bits = 12;
// The shortest match that zstd takes here.
constexpr uint64_t match_mask = 0xffffffffff;

static uint64_t read64(const uint8_t *at) {
  uint64_t value;
  memcpy(&value, at, sizeof value);
  return value;
}

// Whether five bytes at a place that is looked at are those at an earlier such place, or at the byte before.
static bool repeats(Bytes plain) {
  uint32_t seen[1 << table_bits] = {};  // an earlier place, the first one if nothing else, by the hash of what is there
  for (size_t at = 1; at + 8 <= plain.size; at += at / patience + 1) {
    uint64_t here = read64(plain.data + at) & match_mask;
    auto &place = seen[here * 0x9e3779b97f4a7c15 >> (64 - table_bits)];
    uint64_t there = read64(plain.data + place) & match_mask, before = read64(plain.data + at - 1) & match_mask;
    if ((there == here) | (before == here)) return true;
    place = static_cast<uint32_t>(at);
  }
  return false;
}

// Whether bytes at begin, middle and end are not as even as by chance: then shorter codes for the frequent ones may gain
// something. zstd takes them for a gain of 1/64 or more, which shows here as 1,300 or so.
static bool isUneven(Bytes plain) {
  constexpr size_t part = 2048, parts = 3, total = part * parts;
  uint32_t count[2][256] = {};
  for (size_t i = 0; i < parts; i++) {
    const auto *from = plain.data + (plain.size - part) / (parts - 1) * i;
    for (size_t j = 0; j < part; j += 2) count[0][from[j]]++, count[1][from[j + 1]]++;
  }
  uint64_t squares = 0;
  for (size_t i = 0; i < 256; i++) {
    uint64_t n = count[0][i] + count[1][i];
    squares += n * n;
  }
  // Pearson's chi square: 255 on average of even bytes, with a deviation of 23.
  double chi_square = static_cast<double>(squares) * 256 / total - total;
  return chi_square > 255 + 5 * 23;
}

bool mayCompress(Bytes plain) { return plain.size < least_bytes || repeats(plain) || isUneven(plain); }

}  // namespace seal
