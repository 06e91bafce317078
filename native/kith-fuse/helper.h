// The other end of kith-passthrough, which registers backing files for those who may not. What it does: its main.cc.
#pragma once

#include <chrono>
#include <cstdint>
#include <vector>

#include "fd.h"

class PassthroughHelper {
 public:
  // The id of the backing file, or 0: there is no helper, or it refuses this file. `fd` must be open for reading and
  // writing. Bounded in time.
  int32_t open(int device, int fd);
  // Needs no helper to be there: the id is given back when there is one again.
  void close(int device, int32_t id);

 private:
  bool connected();
  void giveBack(int device);
  bool send(uint32_t operation, int32_t id, const int* fds, int count, int flags);

  Fd socket_;
  std::chrono::steady_clock::time_point nextTry_{};
  std::vector<int32_t> owed_;  // ids to be given back
};
