// The addon behind lib/codes: linear combinations of elements (equally long Buffers), on Node's pool threads.
//
//   reedSolomon(m, indexes, sources, wanted, targets): makes the elements `wanted` of a systematic code over GF(2^8) from m
//       others. Row i of the code is the unit vector i for i < m, and 1 / (i xor j) in column j above: a Cauchy matrix, of
//       which every square part can be inverted, so any m elements determine all. 256 elements at most.
//   xorSteps(steps, buffers, spare): each step makes one buffer the xor of others. `steps` holds u32 in the machine's order:
//       target, count, and `count` sources, again and again. A step may use what an earlier one made; a buffer that is a target
//       counts as zero before. Numbers beyond the buffers are spare memory, `spare` of them, forgotten at the end.
#include "../posix/work.h"

#include "combine.h"
#include "library.h"
#include "xors.h"

namespace codes {

using posix::BadArgument;
using posix::Call;
using posix::check;

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

static napi_value reedSolomon(const Call &call) {
  auto m = static_cast<size_t>(call.integer(0));
  auto indexes = smallNumbers(call, 1), wanted = smallNumbers(call, 3);
  std::vector<napi_value> kept;
  auto sources = elements(call, 2, kept), targets = elements(call, 4, kept);
  if (m == 0 || m > max_elements || indexes.size() != m || sources.at.size() != m || wanted.size() != targets.at.size() ||
      sources.size != targets.size)
    throw BadArgument{"codes: m elements are needed, and a target for each that is wanted"};
  auto factors = coefficients(m, indexes, wanted);
  if (factors.empty()) throw BadArgument{"codes: an element is given twice"};
  return posix::Work::start(call.env, kept, [factors, sources, targets] { combine(factors, sources, targets); });
}

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

static napi_value xorStepsOf(const Call &call) {
  std::vector<napi_value> kept;
  auto buffers = elements(call, 1, kept);
  auto spare = call.integer(2);
  if (spare < 0 || spare > 2 * static_cast<int64_t>(max_elements)) throw BadArgument{"codes: too much spare memory"};
  auto steps = readSteps(call, 0, buffers.at.size() + static_cast<size_t>(spare));
  return posix::Work::start(call.env, kept, [steps, buffers, spare] {
    xorSteps(steps, buffers.at, buffers.size, static_cast<size_t>(spare));
  });
}

static napi_value start(const Call &call) {
  if (!isal()) throw BadArgument{"codes: libisal.so.2 is missing, or older than it should be: apt-get install libisal2"};
  napi_value exports;
  check(napi_create_object(call.env, &exports));
  posix::define<reedSolomon>(call.env, exports, "reedSolomon");
  posix::define<xorStepsOf>(call.env, exports, "xorSteps");
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
