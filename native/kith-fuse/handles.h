// What the kernel holds open: files (of directories: listings.h). A handle's address is the `fh` the kernel sends back.
#pragma once

#include <mutex>
#include <string>
#include <unordered_set>
#include <vector>

#include "fd.h"
#include "inodes.h"

struct FileHandle {
  FdPtr fd;
  InodePtr inode;
  bool writes;  // opened for writing
  bool unseen;  // may write without WRITE requests
  FdPtr held;   // of the inode, where it could not always be opened again; else null
  Fd direct;    // opened with O_DIRECT, of who opened so for writing alone; else none
};

// The open files, for the answer to: what is still open? And, has anyone opened this one? Of what is open when the mount
// goes the kernel may never tell the end: it goes with these.
class OpenFiles {
 public:
  OpenFiles() = default;
  OpenFiles(const OpenFiles&) = delete;
  OpenFiles& operator=(const OpenFiles&) = delete;
  ~OpenFiles() {
    for (const FileHandle* handle : handles_) delete handle;
  }
  void add(FileHandle* handle) {
    std::lock_guard lock(mutex_);
    handles_.insert(handle);
  }
  void remove(FileHandle* handle) {
    std::lock_guard lock(mutex_);
    handles_.erase(handle);
  }
  std::vector<InodePtr> inodes(size_t limit) {
    std::lock_guard lock(mutex_);
    std::vector<InodePtr> inodes;
    for (const FileHandle* handle : handles_) {
      if (inodes.size() == limit) break;
      inodes.push_back(handle->inode);
    }
    return inodes;
  }
  // One more descriptor of a file that is open, in the mode of whoever opened it; none when nobody has.
  Fd another(const InodePtr& inode) {
    std::lock_guard lock(mutex_);
    for (const FileHandle* handle : handles_)
      if (handle->inode == inode) return Fd(fcntl(handle->fd->get(), F_DUPFD_CLOEXEC, 0));
    return {};
  }

 private:
  std::mutex mutex_;
  std::unordered_set<FileHandle*> handles_;
};
