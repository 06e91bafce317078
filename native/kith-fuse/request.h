// One request from the kernel, being parsed, and the way its reply goes back.
#pragma once

#include <string.h>
#include <sys/uio.h>

#include <cstdint>

#include "wire.h"

// The way that requests come in and their replies go out: the kernel takes a reply only where the request came from.
class Way {
 public:
  // Sends the reply to the request of this number. `error` as in fuse_out_header: 0 or a negative errno. Returns the errno
  // with which the kernel refused the reply, or 0.
  virtual int reply(uint64_t unique, int error, const void* data, size_t length) = 0;

 protected:
  ~Way() = default;
};

// A descriptor of the device.
class DeviceWay final : public Way {
 public:
  explicit DeviceWay(int device) : device_(device) {}
  int reply(uint64_t unique, int error, const void* data, size_t length) override { return send(device_, unique, error, data, length); }

  // `error` as in fuse_out_header: 0, a negative errno, or (unique 0) the number of a notification.
  static int send(int device, uint64_t unique, int error, const void* data, size_t length);

 private:
  const int device_;
};

class Request {
 public:
  // `buffer` holds the request; `scratch` (wire::bufferBytes) is for its reply. Both belong to the worker. `device` is
  // for notifications.
  Request(Way& way, int device, const char* buffer, size_t length, char* scratch)
      : scratch(scratch), way_(way), device_(device), header_(*reinterpret_cast<const fuse_in_header*>(buffer)),
        at_(buffer + sizeof(fuse_in_header)), end_(buffer + length) {}

  Way& way() const { return way_; }

  const fuse_in_header& header() const { return header_; }
  const char* body() const { return at_; }
  size_t left() const { return static_cast<size_t>(end_ - at_); }

  // The next fixed part, or null when the request is too short for it.
  template <class Part>
  const Part* take() {
    return reinterpret_cast<const Part*>(bytes(sizeof(Part)));
  }
  const char* bytes(size_t length) {
    if (left() < length) return nullptr;
    const char* here = at_;
    at_ += length;
    return here;
  }
  // The next NUL-terminated string, or null when it has no end.
  const char* string() {
    const void* nul = memchr(at_, 0, left());
    return nul ? bytes(static_cast<size_t>(static_cast<const char*>(nul) - at_) + 1) : nullptr;
  }
  // The same, as one component of a path; null also for "", ".", ".." and anything with a slash.
  const char* name() {
    const char* text = string();
    if (!text || !*text || strchr(text, '/') || !strcmp(text, ".") || !strcmp(text, "..")) return nullptr;
    return text;
  }

  // Each returns the errno with which the kernel refused the reply, or 0. ENOENT: the caller was interrupted.
  int ok() const { return way_.reply(header_.unique, 0, nullptr, 0); }
  int fail(int error) const { return way_.reply(header_.unique, -error, nullptr, 0); }
  int reply(const void* data, size_t length) const { return way_.reply(header_.unique, 0, data, length); }
  template <class Part>
  int reply(const Part& part) const {
    return reply(&part, sizeof(part));
  }

  // Tells the kernel something that it did not ask for. `code`: FUSE_NOTIFY_...
  template <class Part>
  int notify(int code, const Part& part) const {
    return notify(code, &part, sizeof(part));
  }
  int notify(int code, const void* data, size_t length) const { return DeviceWay::send(device_, 0, code, data, length); }

  char* const scratch;

 private:
  Way& way_;
  const int device_;
  const fuse_in_header& header_;
  const char* at_;
  const char* const end_;
};
