// The files that the kernel may write by itself: opened for writing with passthrough, or still mapped by who opened them
// for reading, too. The change log says `open` of them, and `close` once nobody can write unseen any more: unseen.cc.
#pragma once

#include <cstdint>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "changes.h"
#include "inodes.h"

class Unseen {
 public:
  Unseen(Inodes& inodes, ChangeLog& log) : inodes_(inodes), log_(log) {}

  // A handle is being opened; to be called before the kernel is told so. `mayMap`: it may also read, and so map the file.
  void opened(const InodePtr& inode, bool mayMap);
  // The handle's descriptor and backing are closed.
  void closed(const InodePtr& inode);
  // Asked before the attributes are read for a reply: whether nobody can write this mappable file unseen any more. Then it is
  // logged as closed, and mappable no more.
  bool ended(const InodePtr& inode);
  // Before a snapshot: what nobody can write any more is logged as closed, and what can be written is logged as open
  // once more. Mapped pages are written out, so that the next write to one changes the file's times.
  void settle();

 private:
  struct Use {
    InodePtr inode;
    uint32_t handles = 0;
    bool mayBeMapped = false;
    uint64_t opens = 0;  // ever, to tell a use from a later one
  };

  // Whether no descriptor and no mapping of the file can write. False when that cannot be told.
  bool atRest(const InodePtr& inode);
  void settle(const Use& seen);
  bool endLocked(const Use& seen);

  Inodes& inodes_;
  ChangeLog& log_;
  std::mutex mutex_;  // guards what follows, and the order of `open` and `close` in the log
  std::unordered_map<uint64_t, Use> uses_;  // by node
};
