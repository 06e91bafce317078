// Between JavaScript and the system calls: arguments in, results and errors out. Used by the addons of native/.
//
// A call's function throws SystemError or BadArgument; `wrapped` turns both into JavaScript exceptions before it
// returns to Node, so no C++ exception leaves the addon and none is thrown on a pool thread.
#pragma once

#define NAPI_VERSION 8
#include <node_api.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <unistd.h>

namespace posix {

struct SystemError {
  int number;
  const char *call;
};

struct BadArgument {
  const char *message;
};

struct JsPending {};  // a JavaScript exception is set already

inline void check(napi_status status) {
  if (status != napi_ok) throw JsPending{};
}

// The value of a system call, or its error thrown.
template <typename T>
T must(T result, const char *call) {
  if (result < 0) throw SystemError{errno, call};
  return result;
}

// Owns a descriptor until released.
class Fd {
 public:
  explicit Fd(int fd) : fd_(fd) {}
  ~Fd() {
    if (fd_ >= 0) ::close(fd_);
  }
  Fd(const Fd &) = delete;
  Fd &operator=(const Fd &) = delete;
  int get() const { return fd_; }

 private:
  int fd_;
};

// One component of a path: 1 to 255 bytes, no slash, no NUL, neither . nor .. — so that no call of this addon can be
// made to leave the directory it was given. Empty (from null) stands for the descriptor itself.
struct Name {
  char bytes[256];
  bool empty() const { return bytes[0] == 0; }
};

constexpr size_t max_arguments = 11;

struct Call {
  napi_env env;
  size_t count = max_arguments;
  napi_value values[max_arguments];

  int64_t integer(size_t index) const;
  int fd(size_t index) const { return static_cast<int>(integer(index)); }
  int64_t bigSigned(size_t index) const;
  uint64_t bigUnsigned(size_t index) const;
  bool isNullish(size_t index) const;
  Name name(size_t index) const;          // a Buffer
  Name nameOrSelf(size_t index) const;    // a Buffer or null
  std::string bytes(size_t index, size_t limit) const;  // a Buffer
  std::string path(size_t index) const;   // a Buffer without NUL, up to PATH_MAX
  void *memory(size_t index, size_t size) const;  // a Buffer of at least `size` bytes, written to in place
};

napi_value undefined(napi_env env);
napi_value number(napi_env env, int64_t value);
napi_value boolean(napi_env env, bool value);
napi_value buffer(napi_env env, const void *data, size_t size);
// An Error with code ('ENOENT'), errno (negative, as Node has it) and syscall.
napi_value errorObject(napi_env env, int number, const char *call);

using Function = napi_value (*)(const Call &);

template <Function function>
napi_value wrapped(napi_env env, napi_callback_info info) {
  Call call{};
  call.env = env;
  try {
    check(napi_get_cb_info(env, info, &call.count, call.values, nullptr, nullptr));
    return function(call);
  } catch (const SystemError &error) {
    napi_throw(env, errorObject(env, error.number, error.call));
  } catch (const BadArgument &error) {
    napi_throw_type_error(env, nullptr, error.message);
  } catch (const JsPending &) {
    bool pending = false;
    napi_is_exception_pending(env, &pending);
    if (!pending) napi_throw_error(env, nullptr, "posix: Node refused a call");
  } catch (const std::bad_alloc &) {
    napi_throw(env, errorObject(env, ENOMEM, "malloc"));
  }
  return nullptr;
}

template <Function function>
void define(napi_env env, napi_value exports, const char *name) {
  napi_value value;
  check(napi_create_function(env, name, NAPI_AUTO_LENGTH, wrapped<function>, nullptr, &value));
  check(napi_set_named_property(env, exports, name, value));
}

void defineDirect(napi_env env, napi_value exports);
void defineFiles(napi_env env, napi_value exports);
void defineIntake(napi_env env, napi_value exports);
void defineDirectory(napi_env env, napi_value exports);
void defineXattrs(napi_env env, napi_value exports);

}  // namespace posix
