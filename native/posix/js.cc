// What js.h declares: arguments in, results and errors out. native/seal uses it, too.
#include "js.h"

#include <climits>

namespace posix {

int64_t Call::integer(size_t index) const {
  int64_t value;
  double exact;
  if (index >= count || napi_get_value_double(env, values[index], &exact) != napi_ok ||
      napi_get_value_int64(env, values[index], &value) != napi_ok || static_cast<double>(value) != exact)
    throw BadArgument{"posix: an integer is expected"};
  return value;
}

int64_t Call::bigSigned(size_t index) const {
  int64_t value;
  bool lossless = false;
  if (index >= count || napi_get_value_bigint_int64(env, values[index], &value, &lossless) != napi_ok || !lossless)
    throw BadArgument{"posix: a bigint of 64 bits is expected"};
  return value;
}

uint64_t Call::bigUnsigned(size_t index) const {
  uint64_t value;
  bool lossless = false;
  if (index >= count || napi_get_value_bigint_uint64(env, values[index], &value, &lossless) != napi_ok || !lossless)
    throw BadArgument{"posix: an unsigned bigint of 64 bits is expected"};
  return value;
}

bool Call::isNullish(size_t index) const {
  if (index >= count) return true;
  napi_valuetype type;
  check(napi_typeof(env, values[index], &type));
  return type == napi_null || type == napi_undefined;
}

std::string Call::bytes(size_t index, size_t limit) const {
  void *data = nullptr;
  size_t size = 0;
  bool is_buffer = false;
  if (index >= count || napi_is_buffer(env, values[index], &is_buffer) != napi_ok || !is_buffer ||
      napi_get_buffer_info(env, values[index], &data, &size) != napi_ok)
    throw BadArgument{"posix: a Buffer is expected"};
  if (size > limit) throw SystemError{ENAMETOOLONG, "posix"};
  return std::string(static_cast<const char *>(data), size);
}

void *Call::memory(size_t index, size_t size) const {
  void *data = nullptr;
  size_t have = 0;
  bool is_buffer = false;
  if (index >= count || napi_is_buffer(env, values[index], &is_buffer) != napi_ok || !is_buffer ||
      napi_get_buffer_info(env, values[index], &data, &have) != napi_ok || have < size)
    throw BadArgument{"posix: a Buffer that is large enough is expected"};
  return data;
}

std::string Call::path(size_t index) const {
  std::string path = bytes(index, PATH_MAX - 1);
  if (path.find('\0') != std::string::npos) throw BadArgument{"posix: a path holds no NUL"};
  return path;
}

Name Call::name(size_t index) const {
  void *data = nullptr;
  size_t size = 0;
  bool is_buffer = false;
  if (index >= count || napi_is_buffer(env, values[index], &is_buffer) != napi_ok || !is_buffer ||
      napi_get_buffer_info(env, values[index], &data, &size) != napi_ok)
    throw BadArgument{"posix: a name is a Buffer"};
  if (size > NAME_MAX) throw SystemError{ENAMETOOLONG, "posix"};
  if (size == 0 || memchr(data, 0, size) || memchr(data, '/', size))
    throw BadArgument{"posix: a name is one component: not empty, no slash, no NUL"};
  Name name;
  memcpy(name.bytes, data, size);
  name.bytes[size] = 0;
  if (!strcmp(name.bytes, ".") || !strcmp(name.bytes, ".."))
    throw BadArgument{"posix: . and .. are not names"};
  return name;
}

Name Call::nameOrSelf(size_t index) const {
  if (!isNullish(index)) return name(index);
  Name self;
  self.bytes[0] = 0;
  return self;
}

napi_value undefined(napi_env env) {
  napi_value value;
  check(napi_get_undefined(env, &value));
  return value;
}

napi_value number(napi_env env, int64_t n) {
  napi_value value;
  check(napi_create_int64(env, n, &value));
  return value;
}

napi_value boolean(napi_env env, bool b) {
  napi_value value;
  check(napi_get_boolean(env, b, &value));
  return value;
}

napi_value buffer(napi_env env, const void *data, size_t size) {
  napi_value value;
  check(napi_create_buffer_copy(env, size, data, nullptr, &value));
  return value;
}

napi_value errorObject(napi_env env, int error, const char *call) {
  const char *code = strerrorname_np(error);
  if (!code) code = "EUNKNOWN";
  const char *words = strerrordesc_np(error);
  std::string message = std::string(code) + ": " + (words ? words : "unknown error") + ", " + call;
  napi_value code_value, message_value, object, call_value, number_value;
  napi_create_string_utf8(env, code, NAPI_AUTO_LENGTH, &code_value);
  napi_create_string_utf8(env, message.data(), message.size(), &message_value);
  napi_create_string_utf8(env, call, NAPI_AUTO_LENGTH, &call_value);
  napi_create_int32(env, -error, &number_value);
  napi_create_error(env, code_value, message_value, &object);
  napi_set_named_property(env, object, "errno", number_value);
  napi_set_named_property(env, object, "syscall", call_value);
  return object;
}

}  // namespace posix
