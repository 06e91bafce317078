// Whole small files in one call, and reads that do not wait: what costs more in calls than in work when it is done
// piece by piece from JavaScript.
#include "js.h"

#include <fcntl.h>
#include <memory>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <vector>

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
constexpr size_t placed_head_bytes = 8 + sizeof(PlacedAttributes);

struct Placing {
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

// Of one call: placed one after the other by one thread.
struct Placings {
  napi_async_work handle = nullptr;
  napi_deferred deferred = nullptr;
  napi_ref kept = nullptr;  // keeps the data alive while a pool thread reads them
  std::vector<Placing> files;
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

// Attributes in the order that keeps each. False where anything is refused: what was set so far does no harm, and the
// caller does it again by single calls that tell which one it was.
static bool setAttributes(const Placing &work, int fd) {
  const auto &[uid, gid, mode, rename_flags, mtime_ns] = work.attributes;
  int64_t seconds = mtime_ns / 1'000'000'000, rest = mtime_ns % 1'000'000'000;
  if (rest < 0) {
    rest += 1'000'000'000;
    seconds--;
  }
  timespec times[2] = {{0, UTIME_OMIT}, {seconds, rest}};
  return fchown(fd, uid, gid) == 0 && fchmod(fd, mode) == 0 && futimens(fd, times) == 0;
}

// Says to another restore that this one lives. Where there are no locks, there is no other process in our files.
static void lock(int fd) { flock(fd, LOCK_EX | LOCK_NB); }

static bool nameUnnamed(const Placing &work, int fd, const Name &name) {
  char path[32];
  snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
  return linkat(AT_FDCWD, path, work.dir_fd, name.bytes, AT_SYMLINK_FOLLOW) == 0;
}

static bool rename(const Placing &work) {
  return renameat2(work.dir_fd, work.temporary.bytes, work.dir_fd, work.name.bytes, work.attributes.rename_flags) == 0;
}

// A file without a name until all is done: nothing of it stays when this process ends, the directory is written to once
// instead of three times, and is not locked while the file is made. False where the file system has none, or the file
// cannot be named: then it is made by its temporary name.
static bool placeUnnamed(Placing &work) {
  int fd = openat(work.dir_fd, ".", O_TMPFILE | O_WRONLY | O_CLOEXEC, 0600);
  if (fd < 0) return false;
  bool whole = writeAll(work, fd), finished = whole && work.finish && setAttributes(work, fd);
  if (finished && nameUnnamed(work, fd, work.name)) {
    close(fd);
    return true;
  }
  if (whole) {
    lock(fd);
    if (!nameUnnamed(work, fd, work.temporary)) {
      close(fd);
      return false;
    }
    if (!finished || !rename(work)) {
      work.fd = fd;
      return true;
    }
  }
  close(fd);
  return true;
}

static void place(Placing &work) {
  if (work.error || placeUnnamed(work)) return;
  int flags = O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC | O_NOFOLLOW;
  int fd = openat(work.dir_fd, work.temporary.bytes, flags, 0600);
  if (fd < 0) {
    work.error = errno;
    work.call = "openat";
    return;
  }
  lock(fd);
  if (!writeAll(work, fd) || (work.finish && setAttributes(work, fd) && rename(work)))
    close(fd);
  else
    work.fd = fd;
}

static void executePlacings(napi_env, void *data) {
  for (auto &work : static_cast<Placings *>(data)->files) place(work);
}

static napi_value outcomes(napi_env env, napi_status status, const std::vector<Placing> &files) {
  napi_value list, value;
  check(napi_create_array_with_length(env, files.size(), &list));
  for (uint32_t i = 0; i < files.size(); i++) {
    if (status == napi_cancelled)
      value = errorObject(env, ECANCELED, "");
    else if (files[i].error)
      value = errorObject(env, files[i].error, files[i].call);
    else
      check(napi_create_int32(env, files[i].fd, &value));
    check(napi_set_element(env, list, i, value));
  }
  return list;
}

static void settlePlacings(napi_env env, napi_status status, void *data) {
  std::unique_ptr<Placings> work(static_cast<Placings *>(data));
  napi_delete_async_work(env, work->handle);
  napi_delete_reference(env, work->kept);
  try {
    napi_resolve_deferred(env, work->deferred, outcomes(env, status, work->files));
  } catch (const JsPending &) {
    // No memory for the answer: the exception that is set ends the process, as an uncaught one.
  }
}

// Element `index` of the list that is argument `argument`, as the only argument of a call.
static Call elementOf(const Call &call, size_t argument, uint32_t index) {
  Call element{};
  element.env = call.env;
  check(napi_get_element(call.env, call.values[argument], index, &element.values[0]));
  element.count = 1;
  return element;
}

// placeFiles(heads, temporaries, names, data): Promise of a descriptor, -1, or an Error for each; the list of data must not
// change meanwhile. A head has 32 bytes: its directory's descriptor i32, whether attributes follow u32, attributes
static napi_value placeFiles(const Call &call) {
  auto work = std::make_unique<Placings>();
  uint32_t count;
  if (napi_get_array_length(call.env, call.values[1], &count) != napi_ok) throw BadArgument{"placeFiles: lists are expected"};
  const auto *heads = static_cast<const char *>(call.memory(0, size_t{count} * placed_head_bytes));
  for (uint32_t i = 0; i < count; i++) {
    const auto *head = heads + i * placed_head_bytes;
    auto &file = work->files.emplace_back();
    uint32_t has_attributes;
    memcpy(&file.dir_fd, head, sizeof file.dir_fd);
    memcpy(&has_attributes, head + 4, sizeof has_attributes);
    memcpy(&file.attributes, head + 8, sizeof file.attributes);
    file.finish = has_attributes != 0;
    try {
      file.temporary = elementOf(call, 1, i).name(0);
      file.name = elementOf(call, 2, i).name(0);
    } catch (const BadArgument &) {
      // Others of the call may be placed all the same.
      file.error = EINVAL;
      file.call = "openat";
    }
    auto data = elementOf(call, 3, i);
    file.data = static_cast<const char *>(data.memory(0, 0));
    void *start;
    check(napi_get_buffer_info(call.env, data.values[0], &start, &file.size));
  }
  // The list keeps what is in it.
  check(napi_create_reference(call.env, call.values[3], 1, &work->kept));
  napi_value promise, label;
  check(napi_create_string_utf8(call.env, "placeFiles", NAPI_AUTO_LENGTH, &label));
  check(napi_create_async_work(call.env, nullptr, label, executePlacings, settlePlacings, work.get(), &work->handle));
  check(napi_create_promise(call.env, &work->deferred, &promise));
  check(napi_queue_async_work(call.env, work->handle));
  work.release();  // settlePlacings owns it now
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
  define<placeFiles>(env, exports, "placeFiles");
  define<readCached>(env, exports, "readCached");
}

}  // namespace posix
