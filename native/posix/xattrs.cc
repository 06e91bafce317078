// Extended attributes of (directory fd, name), symlinks themselves included.
//
// There are no *at calls for these before Linux 6.13. The path /proc/self/fd/<directory>/<name> gives the same: its
// first part jumps to the open directory whatever it is called by now, and the l* calls do not follow the last one.
#include "js.h"

#include <memory>
#include <sys/xattr.h>

namespace posix {

// XATTR_SIZE_MAX and XATTR_LIST_MAX of the kernel.
constexpr size_t max_bytes = 65536;
constexpr size_t max_name = 255;

class XattrPath {
 public:
  XattrPath(int fd, const Name &name) : self_(name.empty()) {
    if (self_)
      snprintf(path_, sizeof path_, "/proc/self/fd/%d", fd);
    else
      snprintf(path_, sizeof path_, "/proc/self/fd/%d/%s", fd, name.bytes);
  }
  ssize_t list(char *out, size_t size) const {
    return self_ ? listxattr(path_, out, size) : llistxattr(path_, out, size);
  }
  ssize_t get(const char *key, void *out, size_t size) const {
    return self_ ? getxattr(path_, key, out, size) : lgetxattr(path_, key, out, size);
  }
  int set(const char *key, const void *value, size_t size) const {
    return self_ ? setxattr(path_, key, value, size, 0) : lsetxattr(path_, key, value, size, 0);
  }
  int remove(const char *key) const {
    return self_ ? removexattr(path_, key) : lremovexattr(path_, key);
  }

 private:
  bool self_;
  char path_[300];
};

static std::string keyArgument(const Call &call, size_t index) {
  std::string key = call.bytes(index, max_name);
  if (key.empty() || key.find('\0') != std::string::npos)
    throw BadArgument{"posix: an attribute name is not empty and holds no NUL"};
  return key;
}

// xattrs(fd, name | null): [key, value, key, value, ...]; none where the file system has no attributes
static napi_value listAll(const Call &call) {
  XattrPath path(call.fd(0), call.nameOrSelf(1));
  napi_value list;
  check(napi_create_array(call.env, &list));
  ssize_t size = path.list(nullptr, 0);
  if (size == 0 || (size < 0 && errno == EOPNOTSUPP)) return list;
  must(size, "listxattr");
  auto keys = std::make_unique<char[]>(max_bytes);
  auto value = std::make_unique<char[]>(max_bytes);
  size = must(path.list(keys.get(), max_bytes), "listxattr");
  uint32_t count = 0;
  for (const char *key = keys.get(); key < keys.get() + size; key += strlen(key) + 1) {
    ssize_t length = path.get(key, value.get(), max_bytes);
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
  XattrPath path(call.fd(0), call.nameOrSelf(1));
  std::string key = keyArgument(call, 2);
  std::string value = call.bytes(3, max_bytes);
  must(path.set(key.c_str(), value.data(), value.size()), "setxattr");
  return undefined(call.env);
}

// removeXattr(fd, name | null, key)
static napi_value removeOne(const Call &call) {
  XattrPath path(call.fd(0), call.nameOrSelf(1));
  must(path.remove(keyArgument(call, 2).c_str()), "removexattr");
  return undefined(call.env);
}

void defineXattrs(napi_env env, napi_value exports) {
  define<listAll>(env, exports, "xattrs");
  define<setOne>(env, exports, "setXattr");
  define<removeOne>(env, exports, "removeXattr");
}

}  // namespace posix
