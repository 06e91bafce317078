// Acting for the caller of a request: new files get the caller's uid, gid and umask, and writes by others than root
// clear set-id bits. The state is the thread's own; the rules are in caller.cc.
#pragma once

#include <sys/types.h>

#include <cstdint>

#include "request.h"

namespace caller {

// Once in each worker thread, before it serves. `procFds` is /proc/self/fd, which becomes the thread's working
// directory: an O_PATH descriptor n is then reached by the relative path "n", which follows to the very inode.
bool enterThread(int procFds);

// Whether the process may act for other users at all. Asked once, before threads start.
bool canSwitch();
// What it said.
bool switches();

// This thread's next writes and mode changes leave set-id bits alone, as root's do.
void keepSetId();
// They clear set-id bits, as those of the request's caller do.
void clearSetId(const Request& request);

// From construction to destruction the thread creates files as the caller of the request does. What the kernel checked
// already (default_permissions) is not checked again, but for set-group-id, where the caller's own rights count.
class Creating {
 public:
  // What is left of the request holds its extensions.
  Creating(Request& request, uint32_t umask);
  ~Creating();
  Creating(const Creating&) = delete;
  Creating& operator=(const Creating&) = delete;

 private:
  bool switched_ = false;
};

// From construction to destruction the thread has the rights of the request's caller and no others.
class Being {
 public:
  explicit Being(const Request& request);
  ~Being();
  Being(const Being&) = delete;
  Being& operator=(const Being&) = delete;
};

// Whether the caller, who waits for the reply, is in one of the chown(2) calls. False when that cannot be found out.
bool isChanging(const Request& request);

// The relative path of a descriptor, for calls that take no O_PATH descriptor. See enterThread().
class ProcName {
 public:
  explicit ProcName(int fd);
  const char* get() const { return text_; }

 private:
  char text_[16];
};

}  // namespace caller
