// The addon behind lib/base/memory.ts: large Buffers whose memory is used again.
//
//   slabs(count, bytes): an array of Buffers of `bytes` each, with any contents
//   rest(): gives back to the system what no Buffer has, and what Buffers had from now on, until slabs() is called again
//
// A page that is touched for the first time costs the kernel (and more so a virtual machine) as much as sealing what goes into
// it. So memory comes from the system in slabs, and returns to a pool when the collector finds that nobody has the Buffer any more:
// who may still have it need not be known.
#include "../posix/js.h"

#include <atomic>
#include <memory>
#include <mutex>
#include <new>
#include <sys/mman.h>
#include <unordered_map>
#include <vector>

namespace memory {

using posix::BadArgument;
using posix::Call;
using posix::check;

constexpr size_t page_bytes = 4096, line_bytes = 64;
// In the pool at most: three wide stripes of 64+32 with their elements, as the collector comes by once for several. With 128 MiB
// half of what it found went back to the system just to be asked for again.
constexpr size_t most_pooled = 288 * 1024 * 1024;
constexpr int64_t most_bytes = 64 * 1024 * 1024, most_count = 4096;

// Of the process: several threads of JavaScript may have the addon, and a Buffer may die in any of them.
class Pool {
 public:
  struct Slab {
    uint8_t *memory;
    size_t size;
  };

  // Throws bad_alloc when the system has none.
  Slab take(size_t size) {
    {
      std::lock_guard lock(mutex_);
      resting_ = false;
      auto &free = free_[size];
      if (!free.empty()) {
        auto *memory = free.back();
        free.pop_back();
        pooled_ -= size;
        return {memory, size};
      }
    }
    void *memory = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc();
    return {static_cast<uint8_t *>(memory), size};
  }

  void give(Slab slab) {
    {
      std::lock_guard lock(mutex_);
      // What was wanted before this gives way to it: else a pool full of another size would be of use to nobody.
      for (auto &[size, others] : free_)
        while (!resting_ && size != slab.size && pooled_ + slab.size > most_pooled && !others.empty()) {
          munmap(others.back(), size);
          others.pop_back();
          pooled_ -= size;
        }
      if (!resting_ && pooled_ + slab.size <= most_pooled) {
        free_[slab.size].push_back(slab.memory);
        pooled_ += slab.size;
        return;
      }
    }
    munmap(slab.memory, slab.size);
  }

  void rest() {
    std::unordered_map<size_t, std::vector<uint8_t *>> free;
    {
      std::lock_guard lock(mutex_);
      resting_ = true;
      free.swap(free_);
      pooled_ = 0;
    }
    for (const auto &[size, slabs] : free)
      for (auto *memory : slabs) munmap(memory, size);
  }

 private:
  std::mutex mutex_;
  // Guarded by mutex_: what nobody has, by size.
  std::unordered_map<size_t, std::vector<uint8_t *>> free_;
  size_t pooled_ = 0;
  bool resting_ = true;
};

// Never destroyed: Buffers may outlive everything else.
static Pool &pool() {
  static Pool &one = *new Pool;
  return one;
}

static void forget(napi_env, void *, void *hint) {
  std::unique_ptr<Pool::Slab> slab(static_cast<Pool::Slab *>(hint));
  pool().give(*slab);
}

// Elements that are worked on together would share few places of the cache, were they all to begin at the same place of a page;
// so each begins a line further, and an odd number of pages after the one before.
static napi_value slabs(const Call &call) {
  static std::atomic<size_t> next{0};
  auto count = call.integer(0), bytes = call.integer(1);
  if (count < 0 || count > most_count || bytes < 1 || bytes > most_bytes) throw BadArgument{"memory: no such slabs"};
  size_t pages = (static_cast<size_t>(bytes) + 2 * page_bytes - 1) / page_bytes | 1;
  napi_value list;
  check(napi_create_array_with_length(call.env, static_cast<size_t>(count), &list));
  for (uint32_t i = 0; i < count; i++) {
    auto slab = std::make_unique<Pool::Slab>(pool().take(pages * page_bytes));
    auto *begin = slab->memory + next++ % (page_bytes / line_bytes) * line_bytes;
    napi_value value;
    if (napi_create_external_buffer(call.env, static_cast<size_t>(bytes), begin, forget, slab.get(), &value) != napi_ok) {
      pool().give(*slab);
      throw posix::JsPending{};
    }
    slab.release();
    check(napi_set_element(call.env, list, i, value));
  }
  return list;
}

static napi_value rest(const Call &call) {
  pool().rest();
  return posix::undefined(call.env);
}

static napi_value start(const Call &call) {
  napi_value exports;
  check(napi_create_object(call.env, &exports));
  posix::define<slabs>(call.env, exports, "slabs");
  posix::define<rest>(call.env, exports, "rest");
  return exports;
}

}  // namespace memory

extern "C" __attribute__((visibility("default"))) napi_value napi_register_module_v1(napi_env env, napi_value) {
  napi_value function, receiver, exports;
  if (napi_create_function(env, "start", NAPI_AUTO_LENGTH, posix::wrapped<memory::start>, nullptr, &function) != napi_ok ||
      napi_get_global(env, &receiver) != napi_ok ||
      napi_call_function(env, receiver, function, 0, nullptr, &exports) != napi_ok)
    return nullptr;
  return exports;
}
