// Writing past the kernel's cache (O_DIRECT): for bytes that nobody reads soon the cache is a copy into cold memory, work for
// whoever writes it out later, and memory taken from others.
//
// The kernel takes such bytes from aligned memory only. They are gathered there by the thread that writes, a portion at a
// time, so that a portion is still in the processor's caches when the kernel takes it.
#include "work.h"

#include <algorithm>
#include <cstdlib>
#include <mutex>

namespace posix {

// No file system that is known to us asks for more, but some for as much.
constexpr size_t unit_bytes = 4096;
constexpr size_t slab_bytes = 1024 * 1024;

struct Free {
  void operator()(uint8_t *memory) const { free(memory); }
};
using Memory = std::unique_ptr<uint8_t, Free>;

// Aligned memory for one write. One of the process is kept for the next: its pages were touched before.
class Slab {
 public:
  Slab() {
    {
      std::lock_guard lock(mutex());
      memory_ = std::move(spare());
    }
    if (!memory_) memory_.reset(static_cast<uint8_t *>(aligned_alloc(unit_bytes, slab_bytes)));
  }
  ~Slab() {
    std::lock_guard lock(mutex());
    if (!spare()) spare() = std::move(memory_);
  }
  Slab(const Slab &) = delete;
  Slab &operator=(const Slab &) = delete;
  // Null when there is no memory.
  uint8_t *memory() const { return memory_.get(); }

 private:
  // Never destroyed: threads of the pool may outlive what is.
  static std::mutex &mutex() {
    static auto &one = *new std::mutex;
    return one;
  }
  // Guarded by mutex().
  static Memory &spare() {
    static auto &one = *new Memory;
    return one;
  }

  Memory memory_;
};

struct Part {
  const uint8_t *data;
  size_t size;
};

// 0, or errno.
static int writeFully(int fd, const uint8_t *data, size_t size, off_t position) {
  while (size > 0) {
    ssize_t written = pwrite(fd, data, size, position);
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return written < 0 ? errno : EIO;
    data += written;
    size -= static_cast<size_t>(written);
    position += written;
  }
  return 0;
}

// 0, or errno.
static int writeParts(int fd, const std::vector<Part> &parts, off_t position) {
  Slab slab;
  if (!slab.memory()) return ENOMEM;
  size_t used = 0;
  const auto flush = [&] {
    int error = writeFully(fd, slab.memory(), used, position);
    position += static_cast<off_t>(used);
    used = 0;
    return error;
  };
  for (auto [data, size] : parts) {
    while (size > 0) {
      size_t some = std::min(size, slab_bytes - used);
      memcpy(slab.memory() + used, data, some);
      data += some;
      size -= some;
      used += some;
      if (used < slab_bytes) continue;
      if (int error = flush()) return error;
    }
  }
  return flush();
}

// writeDirect(fd, parts, position, error): a promise; off the event loop. Writes the Buffers of the array one after the other; `error`, a
// byte, becomes 0 or errno. What was written of them by then is not told.
static napi_value writeDirect(const Call &call) {
  uint32_t count = 0;
  if (napi_get_array_length(call.env, call.values[1], &count) != napi_ok) throw BadArgument{"posix: an array is expected"};
  std::vector<napi_value> kept{call.values[3]};
  std::vector<Part> parts;
  for (uint32_t i = 0; i < count; i++) {
    napi_value value;
    check(napi_get_element(call.env, call.values[1], i, &value));
    void *data;
    size_t size;
    if (napi_get_buffer_info(call.env, value, &data, &size) != napi_ok) throw BadArgument{"posix: Buffers are expected"};
    parts.push_back({static_cast<const uint8_t *>(data), size});
    kept.push_back(value);
  }
  int fd = call.fd(0);
  auto position = call.integer(2);
  auto *error = static_cast<uint8_t *>(call.memory(3, 1));
  return Work::start(call.env, kept, [=] { *error = static_cast<uint8_t>(writeParts(fd, parts, position)); });
}

void defineDirect(napi_env env, napi_value exports) { define<writeDirect>(env, exports, "writeDirect"); }

}  // namespace posix
