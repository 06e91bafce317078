// The inodes the kernel knows, by node id and by (device, inode number), and a bounded cache of O_PATH descriptors.
// The invariants, and how an inode whose descriptor was closed is opened again: inodes.cc.
#pragma once

#include <fcntl.h>
#include <sys/stat.h>

#include <atomic>
#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "fd.h"

using FdPtr = std::shared_ptr<const Fd>;

class Inode;
using InodePtr = std::shared_ptr<Inode>;

class Inode {
 public:
  Inode(uint64_t node, uint64_t dev, const struct statx& facts, bool foreign)
      : node(node), dev(dev), ino(facts.stx_ino), birth(facts.stx_btime), type(facts.stx_mode & S_IFMT), foreign(foreign) {}

  const uint64_t node;
  const uint64_t dev;  // part of the key: differs from st_dev when foreign
  const uint64_t ino;
  const statx_timestamp birth;
  const uint32_t type;  // S_IFMT bits
  // The root of another mount inside the tree. It is shown as an empty directory, and nothing crosses into it (EXDEV).
  const bool foreign;
  // Was opened for reading and writing with passthrough: it may be mapped, and then change unseen, even after its close.
  std::atomic<bool> mappable = false;
  std::atomic<uint32_t> writers = 0;  // handles open for writing

 private:
  friend class Inodes;
  // All guarded by Inodes::mutex_.
  uint64_t lookups = 0;   // the kernel's count
  uint64_t children = 0;  // inodes whose `parent` is this one
  InodePtr parent;        // a name that leads here: (parent, name); null when none is known
  std::string name;
  bool pinned = false;    // no name leads here any more, so `fd` must stay
  FdPtr fd;
  std::weak_ptr<const Fd> held;  // `fd` after it was evicted: an open file may still hold it
  std::vector<char> handle;  // a struct file_handle; empty when none was asked for
  std::list<Inode*>::iterator place;  // in Inodes::recent_, valid while `fd` is set
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
  uint64_t rootDev() const { return dev_; }

  // Null when the kernel was never told this id.
  InodePtr find(uint64_t node);
  // The inode of these facts, if the kernel knows it.
  InodePtr find(const struct statx& facts);
  // An O_PATH descriptor of the inode. Null with errno set.
  FdPtr fd(const InodePtr& inode);

  // Counts one lookup of the child found as `name` in `parent`. `fd` (may be null) is an O_PATH descriptor of it.
  // A file that was made without a name has no parent, and needs its descriptor.
  InodePtr remember(const InodePtr& parent, const char* name, const struct statx& facts, FdPtr fd = nullptr);
  // Counts one more lookup of an inode that is known.
  InodePtr again(const InodePtr& inode);
  // The directory its known name is in, or null.
  InodePtr parent(const InodePtr& inode);
  void forget(uint64_t node, uint64_t lookups);

  // Told after the kernel's operation succeeded. `fd` was opened before it, while the name still led to the inode.
  void nameGone(const InodePtr& inode, const InodePtr& parent, const char* name, FdPtr fd, bool lastLink);
  void nameMoved(const InodePtr& inode, const InodePtr& parent, const char* name);

  // The path below the root, for messages.
  std::string path(const InodePtr& inode);

 private:
  struct Key {
    uint64_t dev, ino;
    bool operator==(const Key&) const = default;
  };
  struct KeyHash {
    size_t operator()(const Key& key) const { return key.ino * 0x9e3779b97f4a7c15u ^ key.dev; }
  };
  // Descriptors to close once the mutex is free: closing an unlinked file may take long.
  using Closing = std::vector<FdPtr>;

  Inodes(Fd rootDir, uint64_t dev) : rootDir_(std::move(rootDir)), dev_(dev) {}
  Key key(const struct statx& facts, bool foreign) const;
  bool isForeign(const struct statx& facts) const;
  FdPtr openChain(const InodePtr& inode);
  FdPtr openByHandle(const std::vector<char>& handle) const;
  FdPtr openChild(const FdPtr& dir, const std::string& name, const Inode& inode) const;
  FdPtr keep(const InodePtr& inode, FdPtr fd);
  void keepLocked(Inode& inode, FdPtr fd, Closing& closing);
  void evictLocked(Closing& closing);
  void setNameLocked(Inode& inode, const InodePtr& parent, const char* name);
  void clearNameLocked(Inode& inode);
  void dropLocked(InodePtr inode, Closing& closing);

  const Fd rootDir_;  // O_RDONLY: open_by_handle_at wants a real descriptor of the file system
  const uint64_t dev_;
  bool handles_ = false;  // open_by_handle_at works here
  InodePtr root_;

  std::mutex mutex_;  // guards what follows, and the private members of every Inode
  uint64_t nextNode_ = 2;
  std::unordered_map<uint64_t, InodePtr> byNode_;
  std::unordered_map<Key, Inode*, KeyHash> byKey_;
  std::list<Inode*> recent_;  // inodes with a descriptor that is not pinned, the latest used first
};

// statx(2) on a single name, without following it or a mount's trigger. False with errno set.
bool statChild(int dir, const char* name, struct statx& facts);
// The same on a descriptor, O_PATH included.
bool statSelf(int fd, struct statx& facts);
