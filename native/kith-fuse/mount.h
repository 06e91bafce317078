// Mounting and unmounting the file system.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>

#include "fd.h"

class Mount {
 public:
  // Mounts over the directory. `dir` is a descriptor of it, `path` its absolute path. False with `error` set to one line
  // that says what is wrong.
  bool start(int dir, const std::string& path, std::string& error);

  int device() const { return device_.get(); }

  // Takes note of the mount once it answers, so that nothing else is ever unmounted in its place.
  void remember();

  // Detaches the mount from the tree; files that are open stay usable. 0 or an errno.
  int stop();

  // Has the kernel send us every page that was changed through a shared mapping. Blocks until they were written;
  // the workers must be serving. 0 or an errno.
  int syncPages();

 private:
  bool startAsRoot(int dir, std::string& error);
  bool startByHelper(std::string& error);
  // An O_PATH descriptor of what lies at the path, and of that only when it is this mount.
  Fd top() const;
  Fd own() const;

  std::string path_;
  bool byHelper_ = false;
  Fd device_;
  std::atomic<uint64_t> mountId_ = 0;  // the bridge asks for it early
};
