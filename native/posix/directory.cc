// Reading a directory with the status of each entry, and syncing a file system: the calls that may take long, run in
// Node's thread pool. Each returns a promise. Several directories go as one piece of work, since waking a thread costs more than
// listing a small one.
//
// A batch is bounded (about 4,096 entries), so a directory of a million entries needs no more memory than one of a few
// thousand. The position is that of the descriptor: one reader per descriptor (reopenDirectory gives a private one).
#include "js.h"
#include "stat.h"

#include <dirent.h>
#include <fcntl.h>
#include <memory>
#include <sys/syscall.h>
#include <vector>

namespace posix {

constexpr size_t names_per_read = 64 * 1024;   // bytes asked of one getdents64
constexpr size_t batch_bytes = 512 * 1024;     // a batch ends when it has grown to this

struct linux_dirent64 {
  uint64_t d_ino;
  int64_t d_off;
  uint16_t d_reclen;
  uint8_t d_type;
  char d_name[];
};

// What was found in one directory.
struct Batch {
  int fd = -1;
  int error = 0;
  const char *call = "";
  std::vector<uint64_t> packed;
};

// One piece of work in the pool: the promise to settle, and what it found.
struct Work {
  napi_async_work handle = nullptr;
  napi_deferred deferred = nullptr;
  std::vector<Batch> batches;
};

static bool isDots(const char *name) {
  return name[0] == '.' && (name[1] == 0 || (name[1] == '.' && name[2] == 0));
}

// Appends [StatRecord][name length as double][name, padded to 8 bytes].
static void append(std::vector<uint64_t> &packed, const StatRecord &record, const char *name) {
  constexpr size_t stat_words = sizeof record / 8;
  size_t length = strlen(name);
  auto length_field = static_cast<double>(length);
  size_t at = packed.size();
  packed.resize(at + stat_words + 1 + (length + 7) / 8);
  memcpy(&packed[at], &record, sizeof record);
  memcpy(&packed[at + stat_words], &length_field, 8);
  memcpy(&packed[at + stat_words + 1], name, length);
}

// A batch is [1 when the directory ended, else 0: u64][entries as `append` has them].
static void readBatch(Batch &work) {
  work.packed.push_back(0);
  std::unique_ptr<char[]> names(new char[names_per_read]);
  while (work.packed.size() * 8 < batch_bytes) {
    long got = syscall(SYS_getdents64, work.fd, names.get(), names_per_read);
    if (got < 0) {
      work.error = errno;
      work.call = "getdents64";
      return;
    }
    if (got == 0) {
      work.packed[0] = 1;
      return;
    }
    for (long at = 0; at < got;) {
      auto *entry = reinterpret_cast<linux_dirent64 *>(names.get() + at);
      at += entry->d_reclen;
      if (isDots(entry->d_name)) continue;
      StatRecord record;
      int error = readStat(work.fd, entry->d_name, record);
      if (error == ENOENT) continue;  // gone since it was listed
      if (error) {
        work.error = error;
        work.call = "statx";
        return;
      }
      append(work.packed, record, entry->d_name);
    }
  }
}

static void executeBatch(napi_env, void *data) {
  for (auto &batch : static_cast<Work *>(data)->batches) {
    try {
      readBatch(batch);
    } catch (const std::bad_alloc &) {
      batch.error = ENOMEM;
      batch.call = "malloc";
    }
  }
}

static void executeSync(napi_env, void *data) {
  auto &work = static_cast<Work *>(data)->batches[0];
  if (syncfs(work.fd) < 0) {
    work.error = errno;
    work.call = "syncfs";
  }
}

// The batch as a Buffer, or its error.
static napi_value valueOf(napi_env env, const Batch &batch) {
  napi_value value;
  if (batch.error) return errorObject(env, batch.error, batch.call);
  if (napi_create_buffer_copy(env, batch.packed.size() * 8, batch.packed.data(), nullptr, &value) == napi_ok) return value;
  return errorObject(env, ENOMEM, batch.call);
}

static void settle(napi_env env, napi_status status, void *data) {
  std::unique_ptr<Work> work(static_cast<Work *>(data));
  napi_delete_async_work(env, work->handle);
  napi_value list;
  napi_create_array_with_length(env, work->batches.size(), &list);
  for (size_t i = 0; i < work->batches.size(); i++) {
    if (status == napi_cancelled) work->batches[i].error = ECANCELED;
    napi_set_element(env, list, static_cast<uint32_t>(i), valueOf(env, work->batches[i]));
  }
  napi_resolve_deferred(env, work->deferred, list);
}

// A promise of an array: for each descriptor, which lie one after the other as i32, what was found, or the error.
static napi_value queue(const Call &call, const char *name, napi_async_execute_callback execute) {
  auto work = std::make_unique<Work>();
  void *fds = call.memory(0, sizeof(int32_t)), *start = nullptr;
  size_t bytes = 0;
  check(napi_get_buffer_info(call.env, call.values[0], &start, &bytes));
  work->batches.resize(bytes / sizeof(int32_t));
  for (size_t i = 0; i < work->batches.size(); i++) {
    int32_t fd;
    memcpy(&fd, static_cast<char *>(fds) + i * sizeof fd, sizeof fd);
    work->batches[i].fd = fd;
  }
  napi_value promise, label;
  check(napi_create_string_utf8(call.env, name, NAPI_AUTO_LENGTH, &label));
  check(napi_create_promise(call.env, &work->deferred, &promise));
  check(napi_create_async_work(call.env, nullptr, label, execute, settle, work.get(), &work->handle));
  check(napi_queue_async_work(call.env, work->handle));
  work.release();  // settle owns it now
  return promise;
}

// readBatches(fds): Promise<(Buffer | Error)[]>
static napi_value queueBatches(const Call &call) { return queue(call, "readBatches", executeBatch); }

// syncFileSystem(fd in a buffer): Promise of an array, with the error or a Buffer
static napi_value queueSync(const Call &call) { return queue(call, "syncFileSystem", executeSync); }

// reopenDirectory(fd): a descriptor of the same directory with a position of its own
static napi_value reopen(const Call &call) {
  return number(call.env, must(openat(call.fd(0), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), "openat"));
}

void defineDirectory(napi_env env, napi_value exports) {
  define<queueBatches>(env, exports, "readBatches");
  define<queueSync>(env, exports, "syncFileSystem");
  define<reopen>(env, exports, "reopenDirectory");
}

}  // namespace posix
