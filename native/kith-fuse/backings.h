// Files whose bytes the kernel reads and writes without us (FUSE_PASSTHROUGH). The rules it sets: backings.cc.
#pragma once

#include <cstdint>
#include <mutex>
#include <unordered_map>

class Backings {
 public:
  // Called once, when the kernel has agreed, with the descriptor the mount was made with.
  void enable(int device) { device_ = device; }

  // A file handle on the inode is being opened; `fd` is a descriptor of the file. The backing id that its reply must
  // carry, or 0: this inode's bytes go through the kernel's cache and us. To be followed by one release().
  int32_t open(uint64_t node, int fd);
  void release(uint64_t node);

 private:
  struct Use {
    int32_t id = 0;
    uint32_t handles = 0;
  };

  int device_ = -1;
  std::mutex mutex_;  // guards what follows
  std::unordered_map<uint64_t, Use> uses_;
};
