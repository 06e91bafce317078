// The addon's entry and its synchronous calls: each is one or two system calls on (directory fd, name).
//
// Nothing here follows a symlink and nothing resolves more than one component (see Name), except openRoot, which
// takes the path the user gave.
#include "js.h"
#include "stat.h"

#include <climits>
#include <cstdio>
#include <fcntl.h>
#include <fstream>
#include <malloc.h>
#include <string>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>

namespace posix {

// ---- status

static int64_t nanoseconds(const statx_timestamp &time) {
  return static_cast<int64_t>(time.tv_sec) * 1'000'000'000 + time.tv_nsec;
}

int readStat(int fd, const char *name, StatRecord &out) {
  struct statx st;
  int flags = AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | (*name ? 0 : AT_EMPTY_PATH);
  if (statx(fd, name, flags, STATX_BASIC_STATS | STATX_BTIME | STATX_MNT_ID, &st) < 0) return errno;
  out.dev = makedev(st.stx_dev_major, st.stx_dev_minor);
  out.ino = st.stx_ino;
  out.rdev = makedev(st.stx_rdev_major, st.stx_rdev_minor);
  out.atime_ns = nanoseconds(st.stx_atime);
  out.mtime_ns = nanoseconds(st.stx_mtime);
  out.ctime_ns = nanoseconds(st.stx_ctime);
  out.btime_ns = st.stx_mask & STATX_BTIME ? nanoseconds(st.stx_btime) : 0;
  out.mount_id = st.stx_mask & STATX_MNT_ID ? st.stx_mnt_id : 0;
  out.mode = st.stx_mode;
  out.nlink = st.stx_nlink;
  out.uid = st.stx_uid;
  out.gid = st.stx_gid;
  out.size = static_cast<double>(st.stx_size);
  out.blocks = static_cast<double>(st.stx_blocks);
  return 0;
}

// stat(fd, name | null, out: Buffer)
static napi_value stat(const Call &call) {
  Name name = call.nameOrSelf(1);
  StatRecord record;
  if (int error = readStat(call.fd(0), name.bytes, record)) throw SystemError{error, "statx"};
  memcpy(call.memory(2, sizeof record), &record, sizeof record);
  return undefined(call.env);
}

// statIfAny(fd, name, out: Buffer): false where there is no such name, which costs less than an exception
static napi_value statIfAny(const Call &call) {
  Name name = call.name(1);
  StatRecord record{};
  int error = readStat(call.fd(0), name.bytes, record);
  if (error && error != ENOENT) throw SystemError{error, "statx"};
  memcpy(call.memory(2, sizeof record), &record, sizeof record);
  return boolean(call.env, error == 0);
}

// ---- opening

// openRoot(path): the one call that takes a path and follows its symlinks
static napi_value openRoot(const Call &call) {
  std::string path = call.path(0);
  return number(call.env, must(open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC), "open"));
}

// open(dirFd, name, flags, mode)
static napi_value openFile(const Call &call) {
  Name name = call.name(1);
  int flags = static_cast<int>(call.integer(2)) | O_CLOEXEC | O_NOFOLLOW;
  auto mode = static_cast<mode_t>(call.integer(3));
  return number(call.env, must(openat(call.fd(0), name.bytes, flags, mode), "openat"));
}

static napi_value closeFd(const Call &call) {
  // EINTR from close(2) on Linux leaves the descriptor closed.
  if (close(call.fd(0)) < 0 && errno != EINTR) throw SystemError{errno, "close"};
  return undefined(call.env);
}

// readlink(dirFd, name)
static napi_value readLink(const Call &call) {
  Name name = call.name(1);
  char target[PATH_MAX];
  auto size = must(readlinkat(call.fd(0), name.bytes, target, sizeof target), "readlinkat");
  return buffer(call.env, target, static_cast<size_t>(size));
}

// ---- making, moving, removing names

// mkdir(dirFd, name, mode)
static napi_value makeDirectory(const Call &call) {
  Name name = call.name(1);
  must(mkdirat(call.fd(0), name.bytes, static_cast<mode_t>(call.integer(2))), "mkdirat");
  return undefined(call.env);
}

// mknod(dirFd, name, mode with type, rdev)
static napi_value makeNode(const Call &call) {
  Name name = call.name(1);
  must(mknodat(call.fd(0), name.bytes, static_cast<mode_t>(call.integer(2)), call.bigUnsigned(3)), "mknodat");
  return undefined(call.env);
}

// symlink(target, dirFd, name)
static napi_value makeSymlink(const Call &call) {
  std::string target = call.path(0);
  Name name = call.name(2);
  must(symlinkat(target.c_str(), call.fd(1), name.bytes), "symlinkat");
  return undefined(call.env);
}

// link(oldDirFd, oldName, newDirFd, newName)
static napi_value makeLink(const Call &call) {
  Name old_name = call.name(1), new_name = call.name(3);
  must(linkat(call.fd(0), old_name.bytes, call.fd(2), new_name.bytes, 0), "linkat");
  return undefined(call.env);
}

// unlink(dirFd, name, directory: 0 | 1)
static napi_value removeName(const Call &call) {
  Name name = call.name(1);
  must(unlinkat(call.fd(0), name.bytes, call.integer(2) ? AT_REMOVEDIR : 0), "unlinkat");
  return undefined(call.env);
}

// rename(oldDirFd, oldName, newDirFd, newName, flags)
static napi_value renameName(const Call &call) {
  Name old_name = call.name(1), new_name = call.name(3);
  auto flags = static_cast<unsigned>(call.integer(4));
  must(renameat2(call.fd(0), old_name.bytes, call.fd(2), new_name.bytes, flags), "renameat2");
  return undefined(call.env);
}

// ---- attributes; name null: the descriptor itself

// chown(fd, name | null, uid, gid)
static napi_value changeOwner(const Call &call) {
  Name name = call.nameOrSelf(1);
  auto uid = static_cast<uid_t>(call.integer(2));
  auto gid = static_cast<gid_t>(call.integer(3));
  int flags = AT_SYMLINK_NOFOLLOW | (name.empty() ? AT_EMPTY_PATH : 0);
  must(fchownat(call.fd(0), name.bytes, uid, gid, flags), "fchownat");
  return undefined(call.env);
}

// fchmod(2) refuses descriptors opened with O_PATH; their name in /proc does not.
static void chmodDescriptor(int fd, mode_t mode) {
  int result = fchmod(fd, mode);
  if (result < 0 && errno == EBADF) {
    char path[32];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    result = chmod(path, mode);
    if (result < 0 && errno == ENOENT) errno = EBADF;
  }
  must(result, "chmod");
}

// chmod(fd, name | null, mode). On a symlink: EOPNOTSUPP. Linux has a call that does not follow symlinks from 6.6 on;
// before, a descriptor that holds the file, whatever its mode, does the same.
static napi_value changeMode(const Call &call) {
  constexpr long sys_fchmodat2 = 452;  // the same on every architecture
  Name name = call.nameOrSelf(1);
  auto mode = static_cast<mode_t>(call.integer(2));
  if (name.empty()) {
    chmodDescriptor(call.fd(0), mode);
    return undefined(call.env);
  }
  if (syscall(sys_fchmodat2, call.fd(0), name.bytes, mode, AT_SYMLINK_NOFOLLOW) == 0) return undefined(call.env);
  // Sandboxes answer unknown calls by EPERM: only the other way tells whether it is one.
  if (errno != ENOSYS && errno != EPERM) throw SystemError{errno, "fchmodat2"};
  Fd file(must(openat(call.fd(0), name.bytes, O_PATH | O_NOFOLLOW | O_CLOEXEC), "openat"));
  StatRecord record;
  if (int error = readStat(file.get(), "", record)) throw SystemError{error, "statx"};
  if (S_ISLNK(static_cast<mode_t>(record.mode))) throw SystemError{EOPNOTSUPP, "chmod"};
  chmodDescriptor(file.get(), mode);
  return undefined(call.env);
}

static timespec timeArgument(const Call &call, size_t index) {
  if (call.isNullish(index)) return timespec{0, UTIME_OMIT};
  int64_t ns = call.bigSigned(index);
  int64_t seconds = ns / 1'000'000'000, rest = ns % 1'000'000'000;
  if (rest < 0) {
    rest += 1'000'000'000;
    seconds--;
  }
  return timespec{seconds, rest};
}

// utimes(fd, name | null, atimeNs | null, mtimeNs | null)
static napi_value changeTimes(const Call &call) {
  Name name = call.nameOrSelf(1);
  timespec times[2] = {timeArgument(call, 2), timeArgument(call, 3)};
  int flags = AT_SYMLINK_NOFOLLOW | (name.empty() ? AT_EMPTY_PATH : 0);
  // AT_EMPTY_PATH is refused before Linux 5.8; a null path does it for descriptors opened to read or write.
  int result = utimensat(call.fd(0), name.bytes, times, flags);
  if (result < 0 && errno == EINVAL && name.empty()) result = futimens(call.fd(0), times);
  must(result, "utimensat");
  return undefined(call.env);
}

// ---- descriptors

static napi_value seekTo(const Call &call, int whence) {
  off_t found = lseek(call.fd(0), call.integer(1), whence);
  if (found < 0 && errno == ENXIO) return number(call.env, -1);
  return number(call.env, must(found, "lseek"));
}
static napi_value seekData(const Call &call) { return seekTo(call, SEEK_DATA); }
static napi_value seekHole(const Call &call) { return seekTo(call, SEEK_HOLE); }

// peerCredentials(socketFd): [pid, uid, gid]
static napi_value peerCredentials(const Call &call) {
  ucred peer{};
  socklen_t size = sizeof peer;
  must(getsockopt(call.fd(0), SOL_SOCKET, SO_PEERCRED, &peer, &size), "getsockopt");
  napi_value list;
  check(napi_create_array_with_length(call.env, 3, &list));
  check(napi_set_element(call.env, list, 0, number(call.env, peer.pid)));
  check(napi_set_element(call.env, list, 1, number(call.env, peer.uid)));
  check(napi_set_element(call.env, list, 2, number(call.env, peer.gid)));
  return list;
}

// flockExclusive(fd): false when another open file holds it
static napi_value flockExclusive(const Call &call) {
  if (flock(call.fd(0), LOCK_EX | LOCK_NB) == 0) return boolean(call.env, true);
  if (errno == EWOULDBLOCK) return boolean(call.env, false);
  throw SystemError{errno, "flock"};
}

// giveBackMemory(): what malloc keeps for later goes back to the system
static napi_value giveBackMemory(const Call &call) {
  malloc_trim(0);
  return undefined(call.env);
}

// The largest that glibc takes for M_MMAP_THRESHOLD: half of a thread's heap.
constexpr int most_in_heap = 32 * 1024 * 1024;

// keepMemory(bytes): malloc keeps up to so much of what was freed at the end of a heap; and blocks of up to 32 MiB are parts
// of heaps, where each would be mapped and unmapped by itself. Without effect where malloc is not glibc's.
static napi_value keepMemory(const Call &call) {
  const auto bytes = call.integer(0);
  if (bytes < 0 || bytes > INT_MAX) throw BadArgument{"keepMemory: not so many bytes"};
#ifdef M_TRIM_THRESHOLD
  mallopt(M_MMAP_THRESHOLD, most_in_heap);
  mallopt(M_TRIM_THRESHOLD, static_cast<int>(bytes));
#endif
  return undefined(call.env);
}

// letGoOfMapped(path): pages of the file that this process has mapped, shared and for reading, leave its memory; they stay in
// the system's cache, and come back when they are read. In the thread that maps and unmaps the file, so that what is
// listed is still what lies there.
static napi_value letGoOfMapped(const Call &call) {
  const std::string path = call.path(0);
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    unsigned long start = 0, end = 0;
    int at = 0;
    if (sscanf(line.c_str(), "%lx-%lx r--s %*s %*s %*s %n", &start, &end, &at) != 2 || at == 0) continue;
    if (line.compare(static_cast<size_t>(at), std::string::npos, path) == 0)
      madvise(reinterpret_cast<void *>(start), end - start, MADV_DONTNEED);
  }
  return undefined(call.env);
}

// dropCached(fd): the kernel forgets the file's pages that are on the disk, and begins to write those that are not. Advice only.
static napi_value dropCached(const Call &call) {
  posix_fadvise(call.fd(0), 0, 0, POSIX_FADV_DONTNEED);
  return undefined(call.env);
}

static void defineConstant(napi_env env, napi_value exports, const char *name, int64_t value) {
  check(napi_set_named_property(env, exports, name, number(env, value)));
}

static napi_value start(const Call &call) {
  napi_env env = call.env;
  napi_value exports;
  check(napi_create_object(env, &exports));
  define<stat>(env, exports, "stat");
  define<statIfAny>(env, exports, "statIfAny");
  define<openRoot>(env, exports, "openRoot");
  define<openFile>(env, exports, "open");
  define<closeFd>(env, exports, "close");
  define<readLink>(env, exports, "readlink");
  define<makeDirectory>(env, exports, "mkdir");
  define<makeNode>(env, exports, "mknod");
  define<makeSymlink>(env, exports, "symlink");
  define<makeLink>(env, exports, "link");
  define<removeName>(env, exports, "unlink");
  define<renameName>(env, exports, "rename");
  define<changeOwner>(env, exports, "chown");
  define<changeMode>(env, exports, "chmod");
  define<changeTimes>(env, exports, "utimes");
  define<seekData>(env, exports, "seekData");
  define<seekHole>(env, exports, "seekHole");
  define<peerCredentials>(env, exports, "peerCredentials");
  define<flockExclusive>(env, exports, "flockExclusive");
  define<giveBackMemory>(env, exports, "giveBackMemory");
  define<keepMemory>(env, exports, "keepMemory");
  define<letGoOfMapped>(env, exports, "letGoOfMapped");
  define<dropCached>(env, exports, "dropCached");
  defineConstant(env, exports, "O_PATH", O_PATH);
  defineDirect(env, exports);
  defineDirectory(env, exports);
  defineFiles(env, exports);
  defineIntake(env, exports);
  defineXattrs(env, exports);
  return exports;
}

}  // namespace posix

extern "C" __attribute__((visibility("default"))) napi_value napi_register_module_v1(napi_env env, napi_value) {
  napi_value function, receiver, exports;
  if (napi_create_function(env, "start", NAPI_AUTO_LENGTH, posix::wrapped<posix::start>, nullptr, &function) != napi_ok ||
      napi_get_global(env, &receiver) != napi_ok ||
      napi_call_function(env, receiver, function, 0, nullptr, &exports) != napi_ok)
    return nullptr;
  return exports;
}
