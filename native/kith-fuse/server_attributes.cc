// Attributes: of inodes and of the file system.
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include "caller.h"
#include "server.h"

namespace {

timespec timeOf(uint32_t valid, uint32_t given, uint32_t now, uint64_t seconds, uint32_t nanoseconds) {
  if (valid & now) return {0, UTIME_NOW};
  if (!(valid & given)) return {0, UTIME_OMIT};
  return {static_cast<time_t>(seconds), static_cast<long>(nanoseconds)};
}

wire::StatxTime wireTime(const statx_timestamp& time) { return {time.tv_sec, time.tv_nsec, 0}; }

}  // namespace

int Server::getattr(Request& request) {
  struct statx facts;
  const InodePtr inode = inodes_->find(request.header().nodeid);
  if (!inode) return ESTALE;
  // First: the times are the last ones only once nobody writes.
  if (inode->mappable) unseen_.ended(inode);
  const uint64_t valid = attrSeconds(inode);
  if (!inodes_->stat(inode, facts)) return errno;
  fuse_attr_out out{};
  out.attr_valid = valid;
  fillAttr(out.attr, facts);
  request.reply(out);
  return 0;
}

int Server::setattr(Request& request) {
  const auto* in = request.take<fuse_setattr_in>();
  if (!in) return EINVAL;
  InodePtr inode;
  FdPtr fd;
  if (const int error = node(request.header().nodeid, inode, fd)) return error;
  if (inode->foreign) return EXDEV;
  if (const int error = change(request, *in, inode, fd->get())) return error;
  struct statx facts;
  if (!statSelf(fd->get(), facts)) return errno;
  fd = nullptr;
  fuse_attr_out out{};
  out.attr_valid = attrSeconds(inode);
  fillAttr(out.attr, facts);
  request.reply(out);
  return 0;
}

// A request to set nothing comes from a writer, for whom set-id bits and capabilities are to go; his right to write was
// checked at open. Or it is chown(2) to nobody, whose right to do the same nobody has checked yet. Which of the two it is
// matters only where the bits are there and the caller is not their owner.
int Server::clearOrChownToNobody(const Request& request, const InodePtr& inode, int fd) {
  const uint32_t uid = request.header().uid;
  struct statx facts;
  if (!statSelf(fd, facts)) return errno;
  const bool bits = (facts.stx_mode & (S_ISUID | S_ISGID)) != 0;
  if (uid != 0 && (uid == facts.stx_uid || inode->writers == 0 || (bits && caller::isChanging(request)))) {
    const caller::Being as(request);
    return fchownat(fd, "", -1, -1, AT_EMPTY_PATH) == 0 ? 0 : errno;
  }
  uid == 0 ? caller::keepSetId() : caller::clearSetId(request);
  if (fchownat(fd, "", -1, -1, AT_EMPTY_PATH) == 0) return 0;
  // A plain user's server cannot clear them on another's file here; the write that follows will.
  return errno == EPERM && inode->writers > 0 && !caller::switches() ? 0 : errno;
}

// The owner first, as a change of it clears set-id bits that the new mode may have; the times last.
int Server::change(const Request& request, const fuse_setattr_in& in, const InodePtr& inode, int fd) {
  constexpr uint32_t something = FATTR_UID | FATTR_GID | FATTR_MODE | FATTR_SIZE | FATTR_ATIME | FATTR_MTIME |
                                 FATTR_ATIME_NOW | FATTR_MTIME_NOW;
  const caller::ProcName path(fd);
  if (!(in.valid & something)) {
    if (const int error = clearOrChownToNobody(request, inode, fd)) return error;
    log_.attributes(inode->ino);
  }
  if (in.valid & (FATTR_UID | FATTR_GID)) {
    const uid_t uid = in.valid & FATTR_UID ? in.uid : static_cast<uid_t>(-1);
    const gid_t gid = in.valid & FATTR_GID ? in.gid : static_cast<gid_t>(-1);
    request.header().uid == 0 ? caller::keepSetId() : caller::clearSetId(request);
    if (fchownat(fd, "", uid, gid, AT_EMPTY_PATH) != 0) return errno;
    log_.attributes(inode->ino);
  }
  if (in.valid & FATTR_MODE) {
    caller::keepSetId();
    if (inode->type == S_IFDIR && !(in.mode & S_IRUSR) && !caller::switches()) listings_.keepReadable(inode, fd);
    std::lock_guard lock(modes_);
    if (fchmodat(AT_FDCWD, path.get(), in.mode & 07777, 0) != 0) return errno;
    log_.attributes(inode->ino);
  }
  if (in.valid & FATTR_SIZE) {
    in.valid & FATTR_KILL_SUIDGID ? caller::clearSetId(request) : caller::keepSetId();
    const auto size = static_cast<off_t>(in.size);
    const bool handle = (in.valid & FATTR_FH) != 0;
    const Backings::Resizing resizing(backings_, inode.get());
    if ((handle ? ftruncate(reinterpret_cast<FileHandle*>(in.fh)->fd->get(), size) : truncate(path.get(), size)) != 0)
      return errno;
    log_.truncate(inode->ino, in.size);
  }
  if (in.valid & (FATTR_ATIME | FATTR_MTIME | FATTR_ATIME_NOW | FATTR_MTIME_NOW)) {
    const timespec times[2] = {timeOf(in.valid, FATTR_ATIME, FATTR_ATIME_NOW, in.atime, in.atimensec),
                               timeOf(in.valid, FATTR_MTIME, FATTR_MTIME_NOW, in.mtime, in.mtimensec)};
    if (utimensat(fd, "", times, AT_EMPTY_PATH) != 0) return errno;
    log_.attributes(inode->ino);
  }
  return 0;
}

int Server::statx(Request& request) {
  if (!request.take<wire::StatxIn>()) return EINVAL;
  struct statx facts;
  const InodePtr inode = inodes_->find(request.header().nodeid);
  if (!inode) return ESTALE;
  if (inode->mappable) unseen_.ended(inode);
  const uint64_t valid = attrSeconds(inode);
  if (!inodes_->stat(inode, facts)) return errno;
  wire::StatxOut out{};
  out.attrValid = valid;
  out.mask = facts.stx_mask & (STATX_BASIC_STATS | STATX_BTIME);
  out.blksize = facts.stx_blksize;
  out.attributes = facts.stx_attributes;
  out.attributesMask = facts.stx_attributes_mask;
  out.nlink = facts.stx_nlink;
  out.uid = facts.stx_uid;
  out.gid = facts.stx_gid;
  out.mode = facts.stx_mode;
  out.ino = facts.stx_ino;
  out.size = facts.stx_size;
  out.blocks = facts.stx_blocks;
  out.atime = wireTime(facts.stx_atime);
  out.btime = wireTime(facts.stx_btime);
  out.ctime = wireTime(facts.stx_ctime);
  out.mtime = wireTime(facts.stx_mtime);
  out.rdevMajor = facts.stx_rdev_major;
  out.rdevMinor = facts.stx_rdev_minor;
  out.devMajor = facts.stx_dev_major;
  out.devMinor = facts.stx_dev_minor;
  request.reply(out);
  return 0;
}

int Server::statfs(Request& request) {
  FdPtr fd = inodes_->fd(inodes_->root());
  struct statfs of;
  if (!fd || fstatfs(fd->get(), &of) != 0) return errno;
  fuse_statfs_out out{};
  out.st.blocks = of.f_blocks;
  out.st.bfree = of.f_bfree;
  out.st.bavail = of.f_bavail;
  out.st.files = of.f_files;
  out.st.ffree = of.f_ffree;
  out.st.bsize = static_cast<uint32_t>(of.f_bsize);
  out.st.frsize = static_cast<uint32_t>(of.f_frsize);
  out.st.namelen = static_cast<uint32_t>(of.f_namelen);
  request.reply(out);
  return 0;
}
