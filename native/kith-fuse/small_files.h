// Small files that are read again and again: the kernel gets their bytes with the reply to OPEN, and answers every read from
// its cache, where passthrough would have it ask for the attributes after each (the access time may have changed).
// What may be treated so, and why the bytes are right: small_files.cc.
#pragma once

#include <cstdint>

#include "inodes.h"
#include "request.h"

class SmallFiles {
 public:
  // Called once. `root` is the directory under the mount.
  void enable(int root);

  // Whether the file, of which `fd` was opened with `flags`, is one.
  bool suits(int fd, uint32_t flags) const;
  // Gives the kernel the file's bytes, if it has not got them. Between Backings::open() and filled().
  void fill(const Request& request, const InodePtr& inode, int fd) const;

 private:
  bool known_ = false;    // how the file system below keeps access times: as one of
  bool relative_ = false; // relatime; otherwise noatime
};
