// The operations of the live tree, by request. A worker thread parses a request, performs it on the directory under the
// mount, logs what changed, and replies: in this order, so that a write that returned is in the log.
// Requests under `.snapshots` are handed on, and answered later.
#pragma once

#include <memory>

#include "backings.h"
#include "changes.h"
#include "handles.h"
#include "inodes.h"
#include "listings.h"
#include "request.h"
#include "small_files.h"
#include "snapshots.h"
#include "unseen.h"

// The way of each request that was handed on.
class Awaited {
 public:
  void add(uint64_t unique, Way& way) {
    std::lock_guard lock(mutex_);
    ways_[unique] = &way;
  }
  // Null when the request is not known.
  Way* take(uint64_t unique) {
    std::lock_guard lock(mutex_);
    auto node = ways_.extract(unique);
    return node.empty() ? nullptr : node.mapped();
  }
  // The ways are no more.
  void clear() {
    std::lock_guard lock(mutex_);
    ways_.clear();
  }

 private:
  std::mutex mutex_;
  std::unordered_map<uint64_t, Way*> ways_;
};

class Server {
 public:
  // `snapshots` must be set by serveSnapshots() before the first request.
  Server(std::unique_ptr<Inodes> inodes, ChangeLog& log);
  void serveSnapshots(Snapshots& snapshots) { snapshots_ = &snapshots; }

  // The first request, read from `device`: agrees on the protocol. `privileged`: we may ask the kernel to read and write
  // files without us. `rings`: requests may come over io_uring; then, whether they will. 0, or an errno.
  int init(Request& request, int device, bool privileged, bool& rings);
  // Every other request. Returns false when the kernel ends the mount.
  bool dispatch(Request& request);

  // A reply to a request that was handed on.
  void replyLater(uint64_t unique, int error, const void* data, size_t length);
  // From now on such replies go nowhere: the ways of their requests are about to end.
  void dropLateReplies() { awaited_.clear(); }
  std::vector<std::string> openFiles();
  // Before a snapshot: tells the log which files may change unseen.
  void settleUnseen() { unseen_.settle(); }

 private:
  using Operation = int (Server::*)(Request&);  // 0 when it replied, else the errno to reply with
  static Operation operation(uint32_t opcode);

  // server_names.cc
  int lookup(Request&);
  int forget(Request&);
  int batchForget(Request&);
  int mknod(Request&);
  int mkdir(Request&);
  int symlink(Request&);
  int link(Request&);
  int unlink(Request&);
  int rmdir(Request&);
  int rename(Request&);
  int rename2(Request&);
  int readlink(Request&);
  int replyHandle(Request&, const InodePtr& inode);
  struct Doomed;
  bool examine(int dirFd, const char* name, bool goesAway, Doomed& doomed);
  int remove(Request&, int flag);
  int move(Request&, uint64_t newDir, unsigned flags);
  int replyNew(Request&, const InodePtr& parent, int parentFd, const char* name);

  // server_attributes.cc
  int getattr(Request&);
  int setattr(Request&);
  int statx(Request&);
  int statfs(Request&);
  int clearOrChownToNobody(const Request&, const InodePtr& inode, int fd);
  int change(const Request&, const fuse_setattr_in& in, const InodePtr& inode, int fd);

  // server_open.cc
  int open(Request&);
  int create(Request&);
  int tmpfile(Request&);
  int release(Request&);
  wire::OpenOut opened(const Request&, const InodePtr& inode, FdPtr fd, uint32_t flags);
  void forgetAttributes(const Request&, const InodePtr& inode);
  int replyCreated(Request&, const InodePtr& inode, const struct statx& facts, Fd fd, uint32_t flags);
  void close(uint64_t fh);

  // server_data.cc
  int read(Request&);
  int write(Request&);
  ssize_t writeMapped(int fd, const char* bytes, size_t size, off_t offset);
  int fsync(Request&);
  int fallocate(Request&);
  int lseek(Request&);
  int copyFileRange(Request&);
  int copyFileRange64(Request&);
  int copy(Request&, uint64_t& copied);
  int ioctl(Request&);

  // server_directories.cc
  int readdir(Request&);
  int readdirplus(Request&);
  int fsyncdir(Request&);
  int list(Request&, bool plus);
  int fill(Listings::Stream& dir, char* reply, size_t room, size_t& used, bool plus);
  bool putEntry(const Listings::Stream& dir, const struct DirEntry& entry, char* reply, size_t room, size_t& used, bool plus);

  // server_xattrs.cc
  int setxattr(Request&);
  int getxattr(Request&);
  int listxattr(Request&);
  int removexattr(Request&);

  int unsupported(Request&);
  int ignored(Request&);

  // The inode a request is about, and a descriptor of it. 0 or an errno.
  int node(uint64_t id, InodePtr& inode, FdPtr& fd);
  // The same for a directory whose entries are meant.
  int directory(uint64_t id, InodePtr& inode, FdPtr& fd);
  bool isSnapshotsName(const InodePtr& dir, const char* name) const;
  uint64_t attrSeconds(const InodePtr& inode) const;
  void fillEntry(fuse_entry_out& out, const InodePtr& inode, const struct statx& facts) const;

  const std::unique_ptr<Inodes> inodes_;
  ChangeLog& log_;
  Snapshots* snapshots_ = nullptr;
  Awaited awaited_;
  OpenFiles open_;
  Listings listings_;
  Backings backings_;
  SmallFiles small_;
  Unseen unseen_;
  bool extendedSetxattr_ = false;  // agreed at INIT
  std::mutex modes_;               // held while a mode changes; see writeMapped()
};

// How long the kernel may keep names and attributes: the mount is the only writer of the tree.
constexpr uint64_t cacheSeconds = 24 * 3600;

void fillAttr(fuse_attr& out, const struct statx& facts);
