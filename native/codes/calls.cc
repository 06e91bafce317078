// The addon behind lib/codes: linear combinations of elements (equally long Buffers), on Node's pool threads.
//
//   reedSolomon(m, indexes, sources, wanted, targets): makes the elements `wanted` of a systematic code over GF(2^8) from m
//       others. Row i of the code is the unit vector i for i < m, and 1 / (i xor j) in column j above: a Cauchy matrix, of
//       which every square part can be inverted, so any m elements determine all. 256 elements at most.
//   xorSteps(steps, buffers): each step makes one buffer the xor of others. `steps` holds u32 in the machine's order: target,
//       count, and `count` sources, again and again. A step may use what an earlier one made.
//
// ISA-L is loaded with its own symbols first: node exports a gf_mul of OpenSSL's, which it would call otherwise.
//
// Both go through the elements in strips that stay in the processor's cache while all rows and steps pass over them.
#include "../posix/work.h"

#include <algorithm>
#include <dlfcn.h>
#include <isa-l/erasure_code.h>

namespace codes {

using posix::BadArgument;
using posix::Call;
using posix::check;

constexpr size_t max_elements = 256;
constexpr size_t strip_bytes = 16 * 1024;
// Of all elements together: half of the smallest second cache that a core has today.
constexpr size_t strips_bytes = 128 * 1024;

// The functions of ISA-L in use. Never unloaded.
struct IsaL {
  decltype(&::gf_mul) gf_mul;
  decltype(&::gf_inv) gf_inv;
  decltype(&::gf_invert_matrix) gf_invert_matrix;
  decltype(&::ec_init_tables) ec_init_tables;
  decltype(&::ec_encode_data) ec_encode_data;
};

static IsaL load() {
  void *library = dlopen("libisal.so.2", RTLD_NOW | RTLD_LOCAL | RTLD_DEEPBIND);
  if (!library) throw BadArgument{"codes: libisal.so.2 is missing: apt-get install libisal2"};
  IsaL loaded;
  auto find = [library](auto &function, const char *name) {
    function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(dlsym(library, name));
    if (!function) throw BadArgument{"codes: libisal.so.2 lacks a function"};
  };
  find(loaded.gf_mul, "gf_mul");
  find(loaded.gf_inv, "gf_inv");
  find(loaded.gf_invert_matrix, "gf_invert_matrix");
  find(loaded.ec_init_tables, "ec_init_tables");
  find(loaded.ec_encode_data, "ec_encode_data");
  return loaded;
}

static const IsaL &isal() {
  static const IsaL loaded = load();
  return loaded;
}

struct Elements {
  std::vector<uint8_t *> at;
  size_t size = 0;  // of each
};

static std::vector<uint8_t> smallNumbers(const Call &call, size_t index) {
  auto bytes = call.bytes(index, max_elements);
  return {bytes.begin(), bytes.end()};
}

// An array of Buffers of one length; each is kept alive by `kept`.
static Elements elements(const Call &call, size_t index, std::vector<napi_value> &kept) {
  uint32_t count = 0;
  if (index >= call.count || napi_get_array_length(call.env, call.values[index], &count) != napi_ok || count == 0)
    throw BadArgument{"codes: an array of Buffers is expected"};
  Elements found;
  for (uint32_t i = 0; i < count; i++) {
    napi_value value;
    check(napi_get_element(call.env, call.values[index], i, &value));
    bool is_buffer = false;
    check(napi_is_buffer(call.env, value, &is_buffer));
    void *data = nullptr;
    size_t size = 0;
    if (is_buffer) check(napi_get_buffer_info(call.env, value, &data, &size));
    if (size == 0 || size > INT32_MAX || (i > 0 && size != found.size))
      throw BadArgument{"codes: elements are Buffers of one length"};
    found.at.push_back(static_cast<uint8_t *>(data));
    found.size = size;
    kept.push_back(value);
  }
  return found;
}

static void generator(uint8_t *row, uint8_t index, size_t m) {
  for (size_t j = 0; j < m; j++) {
    auto column = static_cast<uint8_t>(j);
    row[j] = index < m ? (index == column ? 1 : 0) : isal().gf_inv(index ^ column);
  }
}

// The coefficients that make the wanted elements of those at hand: (rows wanted) * (rows at hand)^-1.
static std::vector<uint8_t> coefficients(size_t m, const std::vector<uint8_t> &indexes, const std::vector<uint8_t> &wanted) {
  std::vector<uint8_t> have(m * m), inverse(m * m), row(m), out(wanted.size() * m);
  for (size_t i = 0; i < m; i++) generator(&have[i * m], indexes[i], m);
  if (isal().gf_invert_matrix(have.data(), inverse.data(), static_cast<int>(m)) != 0)
    throw BadArgument{"codes: an element is given twice"};
  for (size_t r = 0; r < wanted.size(); r++) {
    generator(row.data(), wanted[r], m);
    for (size_t j = 0; j < m; j++)
      for (size_t i = 0; i < m; i++) out[r * m + j] ^= isal().gf_mul(row[i], inverse[i * m + j]);
  }
  return out;
}

static void combine(size_t m, std::vector<uint8_t> &tables, Elements &sources, Elements &targets) {
  auto rows = targets.at.size();
  for (size_t from = 0; from < sources.size; from += strip_bytes) {
    auto length = static_cast<int>(std::min(strip_bytes, sources.size - from));
    isal().ec_encode_data(length, static_cast<int>(m), static_cast<int>(rows), tables.data(), sources.at.data(), targets.at.data());
    for (auto &at : sources.at) at += length;
    for (auto &at : targets.at) at += length;
  }
}

static napi_value reedSolomon(const Call &call) {
  auto m = static_cast<size_t>(call.integer(0));
  auto indexes = smallNumbers(call, 1), wanted = smallNumbers(call, 3);
  std::vector<napi_value> kept;
  auto sources = elements(call, 2, kept), targets = elements(call, 4, kept);
  if (m == 0 || m > max_elements || indexes.size() != m || sources.at.size() != m || wanted.size() != targets.at.size() ||
      sources.size != targets.size)
    throw BadArgument{"codes: m elements are needed, and a target for each that is wanted"};
  auto factors = coefficients(m, indexes, wanted);
  std::vector<uint8_t> tables(32 * factors.size());
  isal().ec_init_tables(static_cast<int>(m), static_cast<int>(wanted.size()), factors.data(), tables.data());
  return posix::Work::start(call.env, kept, [m, tables, sources, targets]() mutable { combine(m, tables, sources, targets); });
}

struct Step {
  uint32_t target;
  std::vector<uint32_t> sources;
};

static std::vector<Step> readSteps(const Call &call, size_t index, size_t buffers) {
  auto bytes = call.bytes(index, SIZE_MAX);
  std::vector<uint32_t> words(bytes.size() / 4);
  memcpy(words.data(), bytes.data(), words.size() * 4);
  std::vector<Step> steps;
  for (size_t at = 0; at < words.size();) {
    size_t left = words.size() - at;
    if (left < 3 || words[at + 1] == 0 || words[at + 1] > left - 2) throw BadArgument{"codes: a step is cut short"};
    Step step{words[at], {words.begin() + at + 2, words.begin() + at + 2 + words[at + 1]}};
    at += 2 + step.sources.size();
    if (step.target >= buffers) throw BadArgument{"codes: a step has an unknown target"};
    for (auto source : step.sources)
      if (source >= buffers || source == step.target) throw BadArgument{"codes: a step has an unknown source"};
    steps.push_back(std::move(step));
  }
  return steps;
}

using Words = uint64_t __attribute__((vector_size(32), aligned(1), may_alias));

// Compiled twice where it pays; which one runs is decided when the addon is loaded.
#ifdef __x86_64__
#define WIDEST __attribute__((target_clones("avx2", "default")))
#else
#define WIDEST
#endif

// One xor of up to four sources into the target, so that it is not written and read again for each.
template <size_t count>
__attribute__((always_inline)) inline void xorSources(uint8_t *target, const uint8_t *const (&sources)[4], size_t length) {
  size_t at = 0;
  for (; at + sizeof(Words) <= length; at += sizeof(Words)) {
    auto &words = *reinterpret_cast<Words *>(target + at);
    auto sum = words;
    for (size_t s = 0; s < count; s++) sum ^= *reinterpret_cast<const Words *>(sources[s] + at);
    words = sum;
  }
  for (; at < length; at++)
    for (size_t s = 0; s < count; s++) target[at] ^= sources[s][at];
}

WIDEST static void perform(const Step &step, const Elements &buffers, size_t from, size_t length) {
  auto source = [&](size_t i) { return i < step.sources.size() ? buffers.at[step.sources[i]] + from : nullptr; };
  auto *target = buffers.at[step.target] + from;
  memcpy(target, source(0), length);
  size_t next = 1;
  for (; next + 4 <= step.sources.size(); next += 4)
    xorSources<4>(target, {source(next), source(next + 1), source(next + 2), source(next + 3)}, length);
  const uint8_t *rest[4] = {source(next), source(next + 1), source(next + 2), nullptr};
  switch (step.sources.size() - next) {
    case 3: return xorSources<3>(target, rest, length);
    case 2: return xorSources<2>(target, rest, length);
    case 1: return xorSources<1>(target, rest, length);
  }
}

static napi_value xorSteps(const Call &call) {
  std::vector<napi_value> kept;
  auto buffers = elements(call, 1, kept);
  auto steps = readSteps(call, 0, buffers.at.size());
  return posix::Work::start(call.env, kept, [steps, buffers] {
    auto strip = std::clamp(strips_bytes / buffers.at.size() / 64 * 64, size_t{1024}, strip_bytes);
    for (size_t from = 0; from < buffers.size; from += strip) {
      auto length = std::min(strip, buffers.size - from);
      for (const auto &step : steps) perform(step, buffers, from, length);
    }
  });
}

static napi_value start(const Call &call) {
  isal();  // or the addon does not load
  napi_value exports;
  check(napi_create_object(call.env, &exports));
  posix::define<reedSolomon>(call.env, exports, "reedSolomon");
  posix::define<xorSteps>(call.env, exports, "xorSteps");
  return exports;
}

}  // namespace codes

extern "C" __attribute__((visibility("default"))) napi_value napi_register_module_v1(napi_env env, napi_value) {
  napi_value function, receiver, exports;
  if (napi_create_function(env, "start", NAPI_AUTO_LENGTH, posix::wrapped<codes::start>, nullptr, &function) != napi_ok ||
      napi_get_global(env, &receiver) != napi_ok ||
      napi_call_function(env, receiver, function, 0, nullptr, &exports) != napi_ok)
    return nullptr;
  return exports;
}
