// All steps pass over a narrow column of the elements, copied side by side so that it stays near, and then over the next: elements
// themselves lie at round distances, where the same column of many shares few places of the cache.
#include "xors.h"

#include <algorithm>
#include <cstring>

namespace codes {

using Words = uint64_t __attribute__((vector_size(64), aligned(1), may_alias));

// Compiled for each; which one runs is decided when the addon is loaded.
#ifdef __x86_64__
#define WIDEST __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define WIDEST
#endif

// Columns of all elements together: half of the smallest second cache that a core has today.
constexpr size_t columns_bytes = 128 * 1024;
constexpr size_t vectors = 4;
constexpr size_t piece_bytes = vectors * sizeof(Words);
constexpr size_t most_column_bytes = 4 * 1024;

// `length` bytes from `from` on; beyond them `column` has none.
WIDEST static void perform(const Step &step, uint8_t *const *elements, size_t from, size_t length) {
  auto *target = elements[step.target] + from;
  size_t at = 0;
  for (; at + piece_bytes <= length; at += piece_bytes) {
    Words sum[vectors]{};
    for (auto source : step.sources) {
      const auto *words = reinterpret_cast<const Words *>(elements[source] + from + at);
#pragma GCC unroll 4
      for (size_t v = 0; v < vectors; v++) sum[v] ^= words[v];
    }
    auto *out = reinterpret_cast<Words *>(target + at);
#pragma GCC unroll 4
    for (size_t v = 0; v < vectors; v++) out[v] = sum[v];
  }
  for (; at < length; at++) {
    uint8_t sum = 0;
    for (auto source : step.sources) sum ^= elements[source][from + at];
    target[at] = sum;
  }
}

// What becomes of each element: read as it is, made, or not touched.
enum class Use : uint8_t { none, input, target };

static std::vector<Use> usesOf(const std::vector<Step> &steps, size_t count) {
  std::vector<Use> uses(count, Use::none);
  for (const auto &step : steps)
    for (auto source : step.sources) uses[source] = Use::input;
  for (const auto &step : steps) uses[step.target] = Use::target;
  return uses;
}

static void xorNear(const std::vector<Step> &steps, const std::vector<uint8_t *> &elements, size_t size, size_t spare) {
  const size_t count = elements.size() + spare;
  const auto uses = usesOf(steps, count);
  const size_t column = std::clamp(columns_bytes / count / piece_bytes * piece_bytes, piece_bytes, most_column_bytes);
  std::vector<uint8_t> near(count * column);
  std::vector<uint8_t *> packed(count);
  for (size_t i = 0; i < count; i++) packed[i] = near.data() + i * column;
  for (size_t from = 0; from < size; from += column) {
    const size_t length = std::min(column, size - from);
    for (size_t i = 0; i < count; i++) {
      if (uses[i] == Use::input) memcpy(packed[i], elements[i] + from, length);
      if (uses[i] == Use::target) memset(packed[i], 0, length);
    }
    for (const auto &step : steps) perform(step, packed.data(), 0, length);
    for (size_t i = 0; i < elements.size(); i++)
      if (uses[i] == Use::target) memcpy(elements[i] + from, packed[i], length);
  }
}

void xorSteps(const std::vector<Step> &steps, const std::vector<uint8_t *> &elements, size_t size, size_t spare) {
  // One sum reads everything once: nothing is gained by having it near.
  if (steps.size() == 1 && steps[0].target < elements.size())
    for (size_t from = 0; from < size; from += most_column_bytes)
      perform(steps[0], elements.data(), from, std::min(most_column_bytes, size - from));
  else
    xorNear(steps, elements, size, spare);
}

}  // namespace codes
