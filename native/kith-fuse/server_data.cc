// Bytes of open files.
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "caller.h"
#include "server.h"

namespace {

// A request may do less than it was asked for. The bound keeps one copy from holding a worker for long.
constexpr uint64_t maxCopy = 64u << 20;

FileHandle& file(uint64_t fh) { return *reinterpret_cast<FileHandle*>(fh); }

// FALLOCATE and COPY_FILE_RANGE by others than root clear set-id bits, which the kernel's cached attributes would keep.
class SetIdClearing {
 public:
  SetIdClearing(const Request& request, int fd) : request_(request) {
    if (request.header().uid == 0) {
      caller::keepSetId();
      return;
    }
    struct statx facts;
    had_ = !statSelf(fd, facts) || (facts.stx_mode & (S_ISUID | S_ISGID)) != 0;
    caller::clearSetId(request);
  }
  void done(uint64_t node) const {
    const fuse_notify_inval_inode_out out{node, -1, 0};
    if (had_) request_.notify(FUSE_NOTIFY_INVAL_INODE, out);
  }

 private:
  const Request& request_;
  bool had_ = false;
};

}  // namespace

int Server::read(Request& request) {
  const auto* in = request.take<fuse_read_in>();
  if (!in) return EINVAL;
  const size_t size = std::min<size_t>(in->size, wire::maxTransfer);
  const ssize_t got = pread(file(in->fh).fd->get(), request.scratch, size, static_cast<off_t>(in->offset));
  if (got < 0) return errno;
  request.reply(request.scratch, static_cast<size_t>(got));
  return 0;
}

// Pages of a mapping, written back. That leaves set-id bits alone, which a write of a plain user's server does not.
ssize_t Server::writeMapped(int fd, const char* bytes, size_t size, off_t offset) {
  if (caller::switches()) return pwrite(fd, bytes, size, offset);
  std::lock_guard lock(modes_);
  struct statx before, after;
  const bool known = statSelf(fd, before) && (before.stx_mode & (S_ISUID | S_ISGID)) != 0;
  const ssize_t put = pwrite(fd, bytes, size, offset);
  const int error = errno;
  if (known && statSelf(fd, after) && after.stx_mode != before.stx_mode) fchmod(fd, before.stx_mode & 07777);
  errno = error;
  return put;
}

int Server::write(Request& request) {
  const auto* in = request.take<fuse_write_in>();
  const char* bytes = in ? request.bytes(in->size) : nullptr;
  if (!bytes) return EINVAL;
  const FileHandle& handle = file(in->fh);
  // `flags` are the caller's of this moment. Where the caller's own buffer lay does not matter; offset and length do.
  const int fd = handle.direct && in->flags & O_DIRECT ? handle.direct.get() : handle.fd->get();
  const bool mapped = (in->write_flags & FUSE_WRITE_CACHE) != 0;
  in->write_flags & FUSE_WRITE_KILL_SUIDGID ? caller::clearSetId(request) : caller::keepSetId();
  size_t done = 0;
  while (done < in->size) {
    const auto offset = static_cast<off_t>(in->offset + done);
    const ssize_t put = mapped ? writeMapped(fd, bytes + done, in->size - done, offset)
                               : pwrite(fd, bytes + done, in->size - done, offset);
    if (put < 0 && errno == EINTR) continue;
    if (put < 0 && done == 0) {
      const int error = errno;
      log_.attributes(handle.inode->ino);  // it may have cleared set-id bits all the same
      return error;
    }
    if (put <= 0) break;
    done += static_cast<size_t>(put);
  }
  log_.data(handle.inode->ino, in->offset, done);
  fuse_write_out out{};
  out.size = static_cast<uint32_t>(done);
  request.reply(out);
  return 0;
}

int Server::fsync(Request& request) {
  const auto* in = request.take<fuse_fsync_in>();
  if (!in) return EINVAL;
  const int fd = file(in->fh).fd->get();
  if ((in->fsync_flags & FUSE_FSYNC_FDATASYNC ? ::fdatasync(fd) : ::fsync(fd)) != 0) return errno;
  request.ok();
  return 0;
}

int Server::fallocate(Request& request) {
  const auto* in = request.take<fuse_fallocate_in>();
  if (!in) return EINVAL;
  const FileHandle& handle = file(in->fh);
  const auto mode = static_cast<int>(in->mode);
  const SetIdClearing setId(request, handle.fd->get());
  const int failed =
      ::fallocate(handle.fd->get(), mode, static_cast<off_t>(in->offset), static_cast<off_t>(in->length)) == 0 ? 0 : errno;
  if (failed == EOPNOTSUPP) return failed;
  setId.done(request.header().nodeid);
  // One that failed may have done a part.
  if (mode & (FALLOC_FL_COLLAPSE_RANGE | FALLOC_FL_INSERT_RANGE))
    log_.truncate(handle.inode->ino, in->offset);
  else
    log_.data(handle.inode->ino, in->offset, in->length);
  if (failed) return failed;
  request.ok();
  return 0;
}

int Server::lseek(Request& request) {
  const auto* in = request.take<fuse_lseek_in>();
  if (!in) return EINVAL;
  const off_t at = ::lseek(file(in->fh).fd->get(), static_cast<off_t>(in->offset), static_cast<int>(in->whence));
  if (at < 0) return errno;
  fuse_lseek_out out{static_cast<uint64_t>(at)};
  request.reply(out);
  return 0;
}

int Server::copyFileRange(Request& request) {
  uint64_t copied;
  if (const int error = copy(request, copied)) return error;
  fuse_write_out out{static_cast<uint32_t>(copied), 0};
  request.reply(out);
  return 0;
}

int Server::copyFileRange64(Request& request) {
  wire::CopyFileRangeOut out;
  if (const int error = copy(request, out.bytes)) return error;
  request.reply(out);
  return 0;
}

int Server::copy(Request& request, uint64_t& copied) {
  const auto* in = request.take<fuse_copy_file_range_in>();
  if (!in) return EINVAL;
  if (Snapshots::owns(in->nodeid_out)) return EXDEV;
  const FileHandle& target = file(in->fh_out);
  auto from = static_cast<off64_t>(in->off_in), to = static_cast<off64_t>(in->off_out);
  const SetIdClearing setId(request, target.fd->get());
  const ssize_t done = copy_file_range(file(in->fh_in).fd->get(), &from, target.fd->get(), &to,
                                       std::min(in->len, maxCopy), static_cast<unsigned>(in->flags));
  if (done < 0) return errno;
  setId.done(in->nodeid_out);
  log_.data(target.inode->ino, in->off_out, static_cast<uint64_t>(done));
  copied = static_cast<uint64_t>(done);
  return 0;
}

// Only those that are known to be safe to pass on: the kernel has checked the caller's right to set attributes.
int Server::ioctl(Request& request) {
  const auto* in = request.take<fuse_ioctl_in>();
  const char* given = in ? request.bytes(in->in_size) : nullptr;
  if (!given) return EINVAL;
  const bool sets = in->cmd == FS_IOC_SETFLAGS || in->cmd == FS_IOC_FSSETXATTR;
  if (!sets && in->cmd != FS_IOC_GETFLAGS && in->cmd != FS_IOC_FSGETXATTR && in->cmd != FS_IOC_GETVERSION) return ENOTTY;
  InodePtr inode;
  FdPtr path;
  Fd dir;
  if (in->flags & FUSE_IOCTL_DIR) {
    if (const int error = node(request.header().nodeid, inode, path)) return error;
    if (inode->foreign) return EXDEV;
    bool borrowed;
    dir = listings_.open(inode, path->get(), borrowed);
    if (!dir) return errno;
  } else {
    inode = file(in->fh).inode;
  }
  const int fd = dir ? dir.get() : file(in->fh).fd->get();
  struct {
    fuse_ioctl_out head;
    alignas(8) char argument[sizeof(struct fsxattr) + 4];
  } out{};
  if (in->in_size > sizeof(out.argument) || in->out_size > sizeof(out.argument)) return EINVAL;
  memcpy(out.argument, given, in->in_size);
  if (::ioctl(fd, in->cmd, out.argument) != 0) return errno;
  if (sets) {
    log_.attributes(inode->ino);
    // The kernel does not know that it changes the status time.
    const fuse_notify_inval_inode_out stale{request.header().nodeid, -1, 0};
    request.notify(FUSE_NOTIFY_INVAL_INODE, stale);
  }
  request.reply(&out, sizeof(out.head) + in->out_size);
  return 0;
}
