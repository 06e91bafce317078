// Directories being read. The kernel is told that directories need no opening (OPENDIR fails with ENOSYS), which spares two
// requests for each that is opened, and lets it answer from its cache what it has listed before. So nothing tells who reads
// which directory: a READDIR names the directory and an offset. How it is gone on with: listings.cc.
#pragma once

#include <list>
#include <memory>
#include <mutex>

#include "fd.h"
#include "inodes.h"

class Listings {
 public:
  // A directory, read up to `position`; who has one has it alone.
  struct Stream {
    InodePtr inode;
    Fd fd;                  // none when `ended`
    uint64_t position = 0;  // the offset of the next entry
    bool ended = false;     // there is none
    bool borrowed = false;  // others move the descriptor's place, too: to be read from under `borrowing` only
  };
  std::mutex borrowing;

  // Kept at most, for those who will read on.
  static constexpr size_t maxKept = 64;

  // The stream to go on with at this offset. `path` is an O_PATH descriptor of the directory. Null with errno set.
  std::unique_ptr<Stream> take(const InodePtr& dir, int path, uint64_t offset);
  // Read up to its position, and to be gone on with.
  void keep(std::unique_ptr<Stream> stream);
  // The directory is gone: it is not held any longer.
  void gone(const InodePtr& dir);

  // A descriptor for what is done to a directory itself. None, with errno set. `borrowed`: as a stream's.
  Fd open(const InodePtr& dir, int path, bool& borrowed);

  // Before the directory's mode changes to one that keeps us from opening it: who has it open may go on.
  void keepReadable(const InodePtr& dir, int path);

 private:
  struct Readable {
    InodePtr dir;
    Fd fd;
  };

  std::mutex mutex_;                         // guards what follows
  std::list<std::unique_ptr<Stream>> kept_;  // the latest first
  std::list<Readable> readable_;             // the latest first, at most maxKept
};
