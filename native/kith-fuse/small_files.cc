// A read leaves the access time of such a file alone: below, access times are not kept, or kept in the relative way (as
// mount(8) says of relatime) and this one is later than the last change and less than a day old. So nobody can tell from the
// file's times that reads no longer come by. The first read after each change goes the other way, and sets the time.
//
// The kernel has the right bytes: nobody else has the file open when it is filled, and nothing truncates it meanwhile
// (backings.cc). While it is open everyone's reads and writes go through the kernel's cache. When it is opened for writing
// with passthrough, the kernel drops what it has, and so it is filled anew, as `kept` says what state was given.
#include "small_files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

namespace {

// Two copies of the file are in memory then, the other one is the file system's below.
constexpr uint64_t maxBytes = 64 << 10;
constexpr int64_t daySeconds = 24 * 3600;
constexpr int64_t marginSeconds = 60;

bool isLater(const statx_timestamp& a, const statx_timestamp& b) {
  return a.tv_sec != b.tv_sec ? a.tv_sec > b.tv_sec : a.tv_nsec > b.tv_nsec;
}

// Of this content, as the time of change tells it; never 0.
uint32_t stateOf(const struct statx& facts) {
  uint64_t mixed = static_cast<uint64_t>(facts.stx_ctime.tv_sec) * 1'000'000'000u + facts.stx_ctime.tv_nsec;
  mixed = (mixed ^ facts.stx_size << 40) * 0x9e3779b97f4a7c15u;
  return static_cast<uint32_t>(mixed >> 32) | 1;
}

}  // namespace

void SmallFiles::enable(int root) {
  struct statvfs about;
  if (fstatvfs(root, &about) != 0) return;
  relative_ = (about.f_flag & ST_RELATIME) != 0;
  known_ = relative_ || (about.f_flag & ST_NOATIME) != 0;
}

bool SmallFiles::suits(int fd, uint32_t flags) const {
  if (!known_ || (flags & (O_ACCMODE | O_DIRECT)) != O_RDONLY) return false;
  struct statx facts;
  if (!statSelf(fd, facts) || facts.stx_size == 0 || facts.stx_size > maxBytes) return false;
  if (!relative_) return true;
  const int64_t age = time(nullptr) - facts.stx_atime.tv_sec;
  return isLater(facts.stx_atime, facts.stx_mtime) && isLater(facts.stx_atime, facts.stx_ctime) && age >= 0 &&
         age < daySeconds - marginSeconds;
}

void SmallFiles::fill(const Request& request, const InodePtr& inode, int fd) const {
  struct statx facts;
  if (!statSelf(fd, facts) || facts.stx_size > maxBytes) return;
  const uint32_t state = stateOf(facts);
  if (inode->kept == state) return;
  if (inode->kept != 0) {
    const fuse_notify_inval_inode_out all{inode->node, 0, 0};
    request.notify(FUSE_NOTIFY_INVAL_INODE, all);
  }
  inode->kept = 0;
  auto* out = reinterpret_cast<fuse_notify_store_out*>(request.scratch);
  const ssize_t got = pread(fd, out + 1, maxBytes, 0);
  if (got <= 0 || static_cast<uint64_t>(got) != facts.stx_size) return;
  *out = {inode->node, 0, static_cast<uint32_t>(got), 0};
  if (request.notify(FUSE_NOTIFY_STORE, request.scratch, sizeof(*out) + static_cast<size_t>(got)) == 0) inode->kept = state;
}
