// Extended attributes of (directory fd, name), symlinks themselves included.
//
// Linux 6.13 has calls for this. Before it, the path /proc/self/fd/<directory>/<name> gives the same, five times slower:
// its first part jumps to the open directory whatever it is called by now, and the l* calls do not follow the last one.
#include "js.h"

#include <fcntl.h>
#include <memory>
#include <sys/syscall.h>
#include <sys/xattr.h>

namespace posix {

// XATTR_SIZE_MAX and XATTR_LIST_MAX of the kernel.
constexpr size_t max_bytes = 65536;
constexpr size_t max_name = 255;

// System call numbers, the same on every architecture, and the argument of two of them (include/uapi/linux/xattr.h).
constexpr long sys_setxattrat = 463, sys_getxattrat = 464, sys_listxattrat = 465, sys_removexattrat = 466;
struct XattrArguments {
  alignas(8) uint64_t value;
  uint32_t size;
  uint32_t flags;
};

// Sandboxes answer unknown calls by ENOSYS or EPERM; a kernel that has them looks at the descriptor first.
static bool haveAtCalls() {
  static const bool have = syscall(sys_listxattrat, -1, "x", 0, nullptr, 0) < 0 && errno == EBADF;
  return have;
}

class Xattrs {
 public:
  Xattrs(int fd, const Name &name) : fd_(fd), name_(name) {}

  ssize_t list(char *out, size_t size) const {
    if (name_.empty()) {
      ssize_t result = flistxattr(fd_, out, size);
      return isPathOnly(result) ? listxattr(path(), out, size) : result;
    }
    if (haveAtCalls()) return syscall(sys_listxattrat, fd_, name_.bytes, AT_SYMLINK_NOFOLLOW, out, size);
    return llistxattr(path(), out, size);
  }

  ssize_t get(const char *key, void *out, size_t size) const {
    if (name_.empty()) {
      ssize_t result = fgetxattr(fd_, key, out, size);
      return isPathOnly(result) ? getxattr(path(), key, out, size) : result;
    }
    if (haveAtCalls()) {
      XattrArguments arguments{reinterpret_cast<uintptr_t>(out), static_cast<uint32_t>(size), 0};
      return syscall(sys_getxattrat, fd_, name_.bytes, AT_SYMLINK_NOFOLLOW, key, &arguments, sizeof arguments);
    }
    return lgetxattr(path(), key, out, size);
  }

  long set(const char *key, const void *value, size_t size) const {
    if (name_.empty()) {
      int result = fsetxattr(fd_, key, value, size, 0);
      return isPathOnly(result) ? setxattr(path(), key, value, size, 0) : result;
    }
    if (haveAtCalls()) {
      XattrArguments arguments{reinterpret_cast<uintptr_t>(value), static_cast<uint32_t>(size), 0};
      return syscall(sys_setxattrat, fd_, name_.bytes, AT_SYMLINK_NOFOLLOW, key, &arguments, sizeof arguments);
    }
    return lsetxattr(path(), key, value, size, 0);
  }

  long remove(const char *key) const {
    if (name_.empty()) {
      int result = fremovexattr(fd_, key);
      return isPathOnly(result) ? removexattr(path(), key) : result;
    }
    if (haveAtCalls()) return syscall(sys_removexattrat, fd_, name_.bytes, AT_SYMLINK_NOFOLLOW, key);
    return lremovexattr(path(), key);
  }

 private:
  // The f* calls refuse descriptors that were opened with O_PATH.
  static bool isPathOnly(ssize_t result) { return result < 0 && errno == EBADF; }

  const char *path() const {
    if (name_.empty())
      snprintf(path_, sizeof path_, "/proc/self/fd/%d", fd_);
    else
      snprintf(path_, sizeof path_, "/proc/self/fd/%d/%s", fd_, name_.bytes);
    return path_;
  }

  int fd_;
  const Name &name_;
  mutable char path_[300];
};

static std::string keyArgument(const Call &call, size_t index) {
  std::string key = call.bytes(index, max_name);
  if (key.empty() || key.find('\0') != std::string::npos)
    throw BadArgument{"posix: an attribute name is not empty and holds no NUL"};
  return key;
}

// xattrs(fd, name | null): [key, value, key, value, ...]; none where the file system has no attributes
static napi_value listAll(const Call &call) {
  Name name = call.nameOrSelf(1);
  Xattrs xattrs(call.fd(0), name);
  napi_value list;
  check(napi_create_array(call.env, &list));
  ssize_t size = xattrs.list(nullptr, 0);
  if (size == 0 || (size < 0 && errno == EOPNOTSUPP)) return list;
  must(size, "listxattr");
  auto keys = std::make_unique<char[]>(max_bytes);
  auto value = std::make_unique<char[]>(max_bytes);
  size = must(xattrs.list(keys.get(), max_bytes), "listxattr");
  uint32_t count = 0;
  for (const char *key = keys.get(); key < keys.get() + size; key += strlen(key) + 1) {
    ssize_t length = xattrs.get(key, value.get(), max_bytes);
    // Removed since it was listed, or listed by a name that the file system will not read back.
    if (length < 0 && (errno == ENODATA || errno == EOPNOTSUPP)) continue;
    must(length, "getxattr");
    check(napi_set_element(call.env, list, count++, buffer(call.env, key, strlen(key))));
    check(napi_set_element(call.env, list, count++, buffer(call.env, value.get(), static_cast<size_t>(length))));
  }
  return list;
}

// setXattr(fd, name | null, key, value)
static napi_value setOne(const Call &call) {
  Name name = call.nameOrSelf(1);
  Xattrs xattrs(call.fd(0), name);
  std::string key = keyArgument(call, 2);
  std::string value = call.bytes(3, max_bytes);
  must(xattrs.set(key.c_str(), value.data(), value.size()), "setxattr");
  return undefined(call.env);
}

// removeXattr(fd, name | null, key)
static napi_value removeOne(const Call &call) {
  Name name = call.nameOrSelf(1);
  Xattrs xattrs(call.fd(0), name);
  must(xattrs.remove(keyArgument(call, 2).c_str()), "removexattr");
  return undefined(call.env);
}

void defineXattrs(napi_env env, napi_value exports) {
  define<listAll>(env, exports, "xattrs");
  define<setOne>(env, exports, "setXattr");
  define<removeOne>(env, exports, "removeXattr");
}

}  // namespace posix
