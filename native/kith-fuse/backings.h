// Files whose bytes the kernel reads and writes without us (FUSE_PASSTHROUGH). The rules it sets: backings.cc.
#pragma once

#include <cstdint>
#include <mutex>
#include <unordered_map>

#include "helper.h"

class Inode;

class Backings {
 public:
  // Called once, when the kernel has agreed, with the descriptor the mount was made with. `privileged`: we may register
  // files ourselves.
  void enable(int device, bool privileged) {
    device_ = device;
    privileged_ = privileged;
  }

  // A file handle on the inode is being opened in this mode (O_ACCMODE); `fd` is a descriptor of the file in the same. The
  // backing id that its reply must carry, or 0: this inode's bytes go through the kernel's cache and us. To be followed
  // by one release().
  int32_t open(const Inode* inode, int fd, int mode);
  void release(const Inode* inode);

 private:
  struct Use {
    int32_t id = 0;
    uint32_t handles = 0;
  };

  int32_t registered(int fd, int mode);

  int device_ = -1;
  bool privileged_ = false;
  std::mutex mutex_;  // guards what follows
  std::unordered_map<const Inode*, Use> uses_;  // whose handles keep it alive
  PassthroughHelper helper_;
};
