// Whole small files in one call, and reads that do not wait: what costs more in calls than in work when it is done
// piece by piece from JavaScript.
#include "js.h"

#include <fcntl.h>
#include <memory>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/uio.h>

namespace posix {

// What a placed file gets beside its bytes, as lib/base/posix.ts packs it.
struct PlacedAttributes {
  uint32_t uid;
  uint32_t gid;
  uint32_t mode;
  uint32_t rename_flags;
  int64_t mtime_ns;
};
static_assert(sizeof(PlacedAttributes) == 24);

struct Placing {
  napi_async_work handle = nullptr;
  napi_deferred deferred = nullptr;
  napi_ref data_reference = nullptr;  // keeps `data` alive while a pool thread reads it
  int dir_fd = -1;
  Name temporary;
  Name name;
  const char *data = nullptr;
  size_t size = 0;
  bool finish = false;
  PlacedAttributes attributes{};
  // Of the file, when it has its bytes and the rest is left to the caller; -1 when everything is done.
  int fd = -1;
  int error = 0;
  const char *call = "";
};

static bool writeAll(Placing &work, int fd) {
  for (size_t done = 0; done < work.size;) {
    ssize_t wrote = write(fd, work.data + done, work.size - done);
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote <= 0) {
      work.error = wrote < 0 ? errno : ENOSPC;
      work.call = "write";
      return false;
    }
    done += static_cast<size_t>(wrote);
  }
  return true;
}

// Attributes in the order that keeps each, and then the name. False where anything is refused: what was set so far does
// no harm, and the caller does it again by single calls that tell which one it was.
static bool finish(const Placing &work, int fd) {
  const auto &[uid, gid, mode, rename_flags, mtime_ns] = work.attributes;
  int64_t seconds = mtime_ns / 1'000'000'000, rest = mtime_ns % 1'000'000'000;
  if (rest < 0) {
    rest += 1'000'000'000;
    seconds--;
  }
  timespec times[2] = {{0, UTIME_OMIT}, {seconds, rest}};
  return fchown(fd, uid, gid) == 0 && fchmod(fd, mode) == 0 && futimens(fd, times) == 0 &&
         renameat2(work.dir_fd, work.temporary.bytes, work.dir_fd, work.name.bytes, rename_flags) == 0;
}

static void executePlacing(napi_env, void *data) {
  auto &work = *static_cast<Placing *>(data);
  int flags = O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC | O_NOFOLLOW;
  int fd = openat(work.dir_fd, work.temporary.bytes, flags, 0600);
  if (fd < 0) {
    work.error = errno;
    work.call = "openat";
    return;
  }
  // Says to another restore that this one lives. Where there are no locks, there is no other process in our files.
  flock(fd, LOCK_EX | LOCK_NB);
  if (!writeAll(work, fd) || (work.finish && finish(work, fd)))
    close(fd);
  else
    work.fd = fd;
}

static void settlePlacing(napi_env env, napi_status status, void *data) {
  std::unique_ptr<Placing> work(static_cast<Placing *>(data));
  napi_delete_async_work(env, work->handle);
  napi_delete_reference(env, work->data_reference);
  if (status == napi_cancelled) work->error = ECANCELED;
  napi_value value;
  if (work->error)
    napi_reject_deferred(env, work->deferred, errorObject(env, work->error, work->call));
  else if (napi_create_int32(env, work->fd, &value) == napi_ok)
    napi_resolve_deferred(env, work->deferred, value);
}

// placeFile(dirFd, temporary, name, data, attributes | null): Promise of a descriptor, or -1
static napi_value placeFile(const Call &call) {
  auto work = std::make_unique<Placing>();
  work->dir_fd = call.fd(0);
  work->temporary = call.name(1);
  work->name = call.name(2);
  work->data = static_cast<const char *>(call.memory(3, 0));
  void *start;
  check(napi_get_buffer_info(call.env, call.values[3], &start, &work->size));
  if (!call.isNullish(4)) {
    memcpy(&work->attributes, call.memory(4, sizeof work->attributes), sizeof work->attributes);
    work->finish = true;
  }
  napi_value promise, label;
  check(napi_create_string_utf8(call.env, "placeFile", NAPI_AUTO_LENGTH, &label));
  check(napi_create_promise(call.env, &work->deferred, &promise));
  check(napi_create_reference(call.env, call.values[3], 1, &work->data_reference));
  check(napi_create_async_work(call.env, nullptr, label, executePlacing, settlePlacing, work.get(), &work->handle));
  check(napi_queue_async_work(call.env, work->handle));
  work.release();  // settlePlacing owns it now
  return promise;
}

// readCached(fd, into, position): bytes read of what is in memory already; -1 where the disk would have to be waited for
static napi_value readCached(const Call &call) {
  iovec part;
  part.iov_base = call.memory(1, 0);
  void *start;
  check(napi_get_buffer_info(call.env, call.values[1], &start, &part.iov_len));
  ssize_t got = preadv2(call.fd(0), &part, 1, call.integer(2), RWF_NOWAIT);
  if (got < 0 && errno != EAGAIN && errno != EOPNOTSUPP && errno != ENOSYS && errno != EINTR)
    throw SystemError{errno, "preadv2"};
  return number(call.env, got);
}

void defineFiles(napi_env env, napi_value exports) {
  define<placeFile>(env, exports, "placeFile");
  define<readCached>(env, exports, "readCached");
}

}  // namespace posix
