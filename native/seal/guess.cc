// zstd gains by repeated sequences and by bytes that are more frequent than others. Here both are looked for, at fewer places than
// zstd would, but such that what repeats over 2 KiB is found wherever it lies. docs/benchmarks.md has what is missed: nothing,
// over some GB of real files.
#include "guess.h"

#include <algorithm>
#include <cstring>

namespace seal {

// Shorter blocks are mostly text, and cheap to try.
constexpr size_t least_bytes = 16 * 1024;
// Of each window the first places are looked up, as many as lie between two that are noted: one of them meets the noted one of
// an earlier copy of the window.
constexpr size_t window = 2048, apart = 64;
constexpr size_t table_bits = 12;
// The shortest match that zstd takes here.
constexpr uint64_t match_mask = 0xffffffffff;

static uint64_t read64(const uint8_t *at) {
  uint64_t value;
  memcpy(&value, at, sizeof value);
  return value;
}

// Whether five bytes at a place that is looked up are those at a noted one before it, or at the byte before.
static bool repeats(Bytes plain) {
  uint32_t noted[1 << table_bits] = {};  // the place, the first one if there is none, by the hash of what is there
  auto slot = [&](uint64_t bytes) -> uint32_t & { return noted[bytes * 0x9e3779b97f4a7c15 >> (64 - table_bits)]; };
  auto five = [&](size_t at) { return read64(plain.data + at) & match_mask; };
  for (size_t from = 1; from + window + 8 <= plain.size; from += window) {
    for (size_t at = from; at < from + apart; at++)
      if (uint64_t here = five(at); (five(slot(here)) == here) | (five(at - 1) == here)) return true;
    for (size_t at = from; at < from + window; at += apart) slot(five(at)) = static_cast<uint32_t>(at);
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

// Whether a short stretch somewhere is unlike noise, as text in the middle of photos: of 64 bytes the upper bit is nearly always
// set, or nearly never. By chance one of 4 million such samples is so.
static bool hasStretch(Bytes plain) {
  constexpr size_t sample = 64, step = 512;
  constexpr uint64_t ones = 0x0101010101010101;
  for (size_t at = 0; at + sample <= plain.size; at += step) {
    uint64_t upper = 0;
    for (size_t i = 0; i < sample; i += 8) upper += read64(plain.data + at + i) >> 7 & ones;
    uint64_t count = upper * ones >> 56;
    if (count < 12 || count > sample - 12) return true;
  }
  return false;
}

bool mayCompress(Bytes plain) {
  return plain.size < least_bytes || hasStretch(plain) || repeats(plain) || isUneven(plain);
}

}  // namespace seal
