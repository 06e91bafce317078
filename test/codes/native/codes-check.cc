// Compares each way of native/codes/combine.h that this processor has with ISA-L's plain loop, one byte after the other, and
// native/codes/xors.h with sums made byte by byte. Prints what differs, what was skipped, and how much was compared.
#include "combine.h"
#include "library.h"
#include "xors.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <memory>

using namespace codes;

static size_t compared = 0, wrong = 0;

// splitmix64
static uint64_t random_state = 1;
static uint64_t random64() {
  uint64_t z = random_state += 0x9e3779b97f4a7c15;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

// Elements that end with their memory, each at its own alignment: one byte read or written beyond is an error.
struct Made {
  std::vector<std::unique_ptr<uint8_t[]>> memory;
  Elements all;

  Made(size_t count, size_t size) {
    all.size = size;
    for (size_t i = 0; i < count; i++) {
      size_t before = random64() % 65;
      memory.emplace_back(new uint8_t[before + size]);
      for (size_t at = 0; at < before + size; at++) memory.back()[at] = static_cast<uint8_t>(random64());
      all.at.push_back(memory.back().get() + before);
    }
  }
  Elements some(const std::vector<uint8_t> &numbers) const {
    Elements picked{{}, all.size};
    for (auto number : numbers) picked.at.push_back(all.at[number]);
    return picked;
  }
};

static std::vector<uint8_t> numbers(size_t from, size_t count) {
  std::vector<uint8_t> made(count);
  for (size_t i = 0; i < count; i++) made[i] = static_cast<uint8_t>(from + i);
  return made;
}

static void compareElements(const char *what, size_t m, size_t k, const Elements &want, const Elements &got) {
  for (size_t i = 0; i < want.at.size(); i++) {
    compared++;
    if (memcmp(want.at[i], got.at[i], want.size) == 0) continue;
    wrong++;
    printf("%s: %zu+%zu, %zu bytes: target %zu differs\n", what, m, k, want.size, i);
  }
}

// A whole stripe by the plain loop.
static Made stripe(size_t m, size_t k, size_t size) {
  Made made(m + k, size);
  auto factors = coefficients(m, numbers(0, m), numbers(m, k));
  std::vector<uint8_t> tables(32 * factors.size());
  isal()->ec_init_tables(static_cast<int>(m), static_cast<int>(k), factors.data(), tables.data());
  isal()->ec_encode_data_base(static_cast<int>(size), static_cast<int>(m), static_cast<int>(k), tables.data(), made.all.at.data(),
                              made.all.at.data() + m);
  return made;
}

// Makes the elements `lost` of those that are not, and compares.
static void restore(Way way, const char *what, const Made &whole, size_t m, size_t k, const std::vector<uint8_t> &lost) {
  auto have = numbers(0, m + k);
  std::erase_if(have, [&](uint8_t i) { return std::count(lost.begin(), lost.end(), i) > 0; });
  for (size_t i = have.size(); i > 1; i--) std::swap(have[i - 1], have[random64() % i]);
  have.resize(m);
  Made made(lost.size(), whole.all.size);
  combine(coefficients(m, have, lost), whole.some(have), made.all, way);
  compareElements(what, m, k, whole.some(lost), made.all);
}

static std::vector<uint8_t> randomLost(size_t m, size_t k) {
  auto all = numbers(0, m + k);
  for (size_t i = all.size(); i > 1; i--) std::swap(all[i - 1], all[random64() % i]);
  all.resize(1 + random64() % k);
  return all;
}

static void compareWay(Way way, const char *what) {
  // The layouts that are offered, at each pattern of losses; parity elements are made by one of them.
  static constexpr size_t layouts[][2] = {{1, 1}, {2, 1}, {3, 3}, {4, 4}, {6, 3}, {10, 1}};
  for (auto [m, k] : layouts) {
    auto whole = stripe(m, k, 193 + random64() % 200);
    for (uint32_t pattern = 1; pattern < uint32_t{1} << (m + k); pattern++) {
      std::vector<uint8_t> lost;
      for (size_t i = 0; i < m + k; i++)
        if (pattern >> i & 1) lost.push_back(static_cast<uint8_t>(i));
      if (lost.size() <= k) restore(way, what, whole, m, k, lost);
    }
  }
  // Any counts, and lengths around vectors, columns, and what is copied at once.
  for (size_t trial = 0; trial < 150; trial++) {
    size_t m = 1 + random64() % 40, k = 1 + random64() % 24;
    restore(way, what, stripe(m, k, 1 + random64() % 600), m, k, randomLost(m, k));
  }
  for (size_t size : {1, 63, 64, 65, 191, 192, 193, 4031, 4032, 4033, 16384, 16385, 20000}) {
    static constexpr size_t wide[][2] = {{3, 9}, {8, 17}, {9, 8}, {12, 8}, {64, 32}};
    for (auto [m, k] : wide) {
      auto whole = stripe(m, k, size);
      restore(way, what, whole, m, k, numbers(m, k));
      restore(way, what, whole, m, k, numbers(0, std::min(m, k)));
      restore(way, what, whole, m, k, randomLost(m, k));
    }
  }
  auto widest = stripe(200, 56, 777), half = stripe(128, 128, 300);
  restore(way, what, widest, 200, 56, numbers(0, 56));
  restore(way, what, half, 128, 128, numbers(0, 128));
}

static void compareSums() {
  for (size_t trial = 0; trial < 400; trial++) {
    size_t count = 2 + random64() % (trial % 8 == 0 ? 120 : 20), spare = random64() % 6, all = count + spare;
    size_t size = 1 + random64() % (trial % 10 == 0 ? 9000 : 700);
    std::vector<Step> steps(1 + random64() % (trial % 3 == 0 ? 1 : 12));
    for (auto &step : steps) {
      step.target = static_cast<uint32_t>(random64() % all);
      for (size_t i = 0, sources = 1 + random64() % 9; i < sources; i++) {
        auto source = static_cast<uint32_t>(random64() % all);
        if (source != step.target) step.sources.push_back(source);
      }
      if (step.sources.empty()) step.sources.push_back(step.target == 0 ? 1 : 0);
    }
    // Spare memory that nothing makes has no contents: as a target it counts as zero.
    for (auto i = static_cast<uint32_t>(count); i < all; i++) steps.push_back({i, {0}});
    Made made(count, size);
    std::vector<std::vector<uint8_t>> plain;
    for (size_t i = 0; i < all; i++) {
      bool zero = std::any_of(steps.begin(), steps.end(), [&](const Step &step) { return step.target == i; });
      plain.push_back(zero ? std::vector<uint8_t>(size) : std::vector<uint8_t>(made.all.at[i], made.all.at[i] + size));
    }
    for (const auto &step : steps)
      for (size_t at = 0; at < size; at++) {
        uint8_t sum = 0;
        for (auto source : step.sources) sum ^= plain[source][at];
        plain[step.target][at] = sum;
      }
    xorSteps(steps, made.all.at, size, spare);
    Elements want{{}, size};
    for (size_t i = 0; i < count; i++) want.at.push_back(plain[i].data());
    compareElements("sums", count, spare, want, made.all);
  }
}

int main() {
  if (!isal()) return printf("ISA-L is missing\n"), 1;
  compareWay(Way::library, "ISA-L");
  if (bestWay() == Way::broad)
    compareWay(Way::broad, "AVX-512");
  else
    printf("skipped: AVX-512 with GFNI, which this processor lacks\n");
  compareSums();
  if (!coefficients(3, {0, 1, 1}, {2}).empty()) wrong++, printf("an element that is given twice is taken\n");
  printf("%zu wrong of %zu\n", wrong, compared);
}
