// The inodes the kernel knows, by node id, and a bounded cache of O_PATH descriptors.
// The invariants, and how an inode whose descriptor was closed is opened again: inodes.cc.
#pragma once

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <atomic>
#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_set>
#include <vector>

#include "fd.h"

using FdPtr = std::shared_ptr<const Fd>;

class Inode;
using InodePtr = std::shared_ptr<Inode>;

// There may be millions: what most of them do not need is kept apart, behind a pointer.
class Inode {
 public:
  Inode(uint64_t node, uint64_t dev, const struct statx& facts, bool foreign);

  // Told to the kernel with the node id: differs for another file that gets the same inode number later.
  uint32_t generation() const;

  const uint64_t node;
  const uint64_t dev;  // differs from st_dev when foreign
  const uint64_t ino;
  const int64_t birthSeconds;
  const uint32_t birthNanoseconds;
  const uint16_t type;  // S_IFMT bits
  // The root of another mount inside the tree. It is shown as an empty directory, and nothing crosses into it (EXDEV).
  const bool foreign;
  // Was opened for reading and writing with passthrough: it may be mapped, and then change unseen, even after its close.
  std::atomic<bool> mappable = false;
  std::atomic<bool> passed = false;   // had handles with passthrough, whose mappings may live: backings.cc
  std::atomic<uint32_t> writers = 0;  // handles open for writing
  std::atomic<uint32_t> kept = 0;     // which state of it the kernel was given: small_files.cc. 0: none, or no longer

 private:
  friend class Inodes;
  struct Cached {
    FdPtr fd;
    std::list<Inode*>::iterator place;  // in Inodes::recent_, unless pinned
  };

  bool isThat(const struct statx& facts) const;

  // All guarded by Inodes::mutex_.
  bool pinned = false;              // no name leads here any more, so the descriptor must stay
  bool gone = false;                // no longer in the map; a user of it may be left
  uint32_t children = 0;            // inodes whose `parent` is this one
  uint64_t lookups = 0;             // the kernel's count
  InodePtr parent;                  // a name that leads here: (parent, name); null when none is known
  std::unique_ptr<char[]> name;     // NUL-terminated; set while `parent` is
  std::unique_ptr<Cached> cached;   // its descriptor, if it has one
  std::weak_ptr<const Fd> held;     // an open file's descriptor; or its own after it was evicted, which one may still hold
  std::unique_ptr<char[]> handle;   // a struct file_handle; null when none was asked for
};

class Inodes {
 public:
  // Descriptors kept at most beside the pinned ones.
  static constexpr size_t maxCached = 1000;

  // `root` is the directory under the mount. Null with errno set when it cannot be examined.
  static std::unique_ptr<Inodes> open(int root);

  const InodePtr& root() const { return root_; }
  // Whether inodes can be opened again whatever the permissions above them are; if not, open files hold descriptors.
  bool reopensByHandle() const { return handles_; }

  // Null when the kernel does not know this id.
  InodePtr find(uint64_t node);
  // The inode of these facts, if the kernel knows it.
  InodePtr find(const struct statx& facts);
  // A descriptor of the inode: an O_PATH one, or that of an open file. Null with errno set.
  FdPtr fd(const InodePtr& inode);
  // The facts of the inode as they are now, for which none is opened where its name is known. False with errno set.
  bool stat(const InodePtr& inode, struct statx& facts);
  // The descriptor of an open file serves for its inode, too, as long as the file is open. So what fd() returned must be let
  // go before a reply: whoever closes the file after it might else be seen to have it open.
  void lend(const InodePtr& inode, const FdPtr& fd);

  // Counts one lookup of the child found as `name` in `parent`. `fd` (may be null) is an O_PATH descriptor of it.
  // A file that was made without a name has no parent, and needs its descriptor.
  InodePtr remember(const InodePtr& parent, const char* name, const struct statx& facts, FdPtr fd = nullptr);
  // Counts one lookup of an inode that the kernel knows, or did once: someone has a file handle of it. Null with errno set.
  InodePtr again(uint64_t node);
  // Counts one lookup of the directory that the inode is in. Null with errno set when that cannot be found.
  InodePtr parent(const InodePtr& inode);
  void forget(uint64_t node, uint64_t lookups);

  // Told after the kernel's operation succeeded. `fd` was opened before it, while the name still led to the inode.
  void nameGone(const InodePtr& inode, const InodePtr& parent, const char* name, FdPtr fd, bool lastLink);
  void nameMoved(const InodePtr& inode, const InodePtr& parent, const char* name);

  // The path below the root, for messages.
  std::string path(const InodePtr& inode);

 private:
  using Key = std::pair<uint64_t, uint64_t>;  // device, inode number
  struct ByNode {
    using is_transparent = void;
    size_t operator()(uint64_t node) const { return node * 0x9e3779b97f4a7c15u >> 7; }
    size_t operator()(const InodePtr& inode) const { return (*this)(inode->node); }
    bool operator()(const InodePtr& a, const InodePtr& b) const { return a->node == b->node; }
    bool operator()(const InodePtr& a, uint64_t b) const { return a->node == b; }
    bool operator()(uint64_t a, const InodePtr& b) const { return a == b->node; }
  };
  static constexpr uint64_t firstOdd = 1ull << 62;  // bit 63 is that of `.snapshots`
  struct Former {
    uint64_t ino;
    uint32_t generation;
  };
  struct Free {
    void operator()(void* memory) const { free(memory); }
  };
  // Descriptors to close once the mutex is free: closing an unlinked file may take long.
  using Closing = std::vector<FdPtr>;

  Inodes(Fd rootDir, uint64_t dev, uint64_t ino) : rootDir_(std::move(rootDir)), dev_(dev), ino_(ino) {}
  bool isForeign(const struct statx& facts) const;
  Key key(const struct statx& facts, bool foreign) const;
  bool isNumberedByInode(const Key& key) const;
  uint64_t nodeLocked(const Key& key) const;
  FdPtr cachedLocked(Inode& inode);
  FdPtr openChain(const InodePtr& inode);
  bool isOf(const Inode& inode, const struct statx& facts) const;
  FdPtr openByHandle(const Fd& mount, const char* handle) const;
  FdPtr openByNumber(const Fd& mount, uint64_t ino) const;
  FdPtr openChild(const FdPtr& dir, const std::string& name, const Inode& inode) const;
  FdPtr above(uint64_t dir) const;
  bool isBeneath(uint64_t dir) const;
  InodePtr adopt(FdPtr fd);
  FdPtr keep(const InodePtr& inode, FdPtr fd);
  void keepLocked(Inode& inode, FdPtr fd, Closing& closing);
  void loseLocked(Inode& inode, Closing& closing);
  void evictLocked(Closing& closing);
  InodePtr countLocked(const struct statx& facts, Closing& closing);
  void takeOutLocked(const InodePtr& inode, Closing& closing);
  void setNameLocked(Inode& inode, const InodePtr& parent, const char* name);
  void clearNameLocked(Inode& inode);
  void dropLocked(InodePtr inode, Closing& closing);
  Former& formerLocked(uint64_t ino);

  const Fd rootDir_;  // O_RDONLY: open_by_handle_at wants a real descriptor of the file system
  Fd alone_;          // the same directory as a mount of its own, with nothing mounted in it or over it
  const uint64_t dev_, ino_;  // of the root
  bool handles_ = false;  // open_by_handle_at works here
  bool numbers_ = false;  // and handles can be made from inode numbers; alone_ is open
  InodePtr root_;

  std::mutex mutex_;  // guards what follows, and the private members of every Inode
  std::unordered_set<InodePtr, ByNode, ByNode> byNode_;
  std::map<Key, uint64_t> odd_;  // the node ids that are not inode numbers
  uint64_t lastOdd_ = firstOdd;
  std::list<Inode*> recent_;  // inodes with a descriptor that is not pinned, the latest used first
  std::unique_ptr<Former[], Free> former_;  // files the kernel has let go of; each may be overwritten by another
};

// statx(2) on a single name, without following it or a mount's trigger. False with errno set.
bool statChild(int dir, const char* name, struct statx& facts);
// The same on a descriptor, O_PATH included.
bool statSelf(int fd, struct statx& facts);
