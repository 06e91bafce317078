// Files whose bytes the kernel reads and writes without us (FUSE_PASSTHROUGH). The rules it sets: backings.cc.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <unordered_map>

#include "fd.h"
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

  // What is best for a handle, where it is the first of its inode.
  enum class Wish {
    passed,  // passthrough
    cached,  // through the kernel's cache and us: each change comes here
    filled,  // cached, and its bytes are given to the kernel at once
  };
  struct Opened {
    int32_t id;    // the backing id that the reply must carry, or 0: the inode's bytes go through the kernel's cache and us
    bool filling;  // as wished: no other open() or resizing is let through until filled()
  };
  // A file handle on the inode is being opened in this mode (O_ACCMODE); `fd` is a descriptor of the file in the same. `both`
  // opens the file for reading and writing, if that can be done. To be followed by one release().
  Opened open(Inode* inode, int fd, int mode, Wish wish, const std::function<Fd()>& both);
  void filled(const Inode* inode);
  void release(const Inode* inode);

  // While it lives, no cache of the inode is being filled. For what changes a file that need not be open.
  class Resizing {
   public:
    Resizing(Backings& of, const Inode* inode);
    ~Resizing();
    Resizing(const Resizing&) = delete;
    Resizing& operator=(const Resizing&) = delete;

   private:
    Backings& of_;
    const Inode* const inode_;
  };

 private:
  struct Use {
    int32_t id = 0;
    uint32_t handles = 0;
    uint32_t resizing = 0;
    bool filling = false;
  };

  int32_t registered(int fd, int mode, bool mapped, const std::function<Fd()>& both);
  Use& settledLocked(std::unique_lock<std::mutex>& lock, const Inode* inode);

  int device_ = -1;
  bool privileged_ = false;
  std::mutex mutex_;  // guards what follows
  std::condition_variable wasFilled_;
  std::unordered_map<const Inode*, Use> uses_;  // whose users keep it alive
  PassthroughHelper helper_;
};
