// INIT, and the way of a request to its operation.
#include "server.h"

#include <errno.h>
#include <stdio.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <array>
#include <set>

namespace {

constexpr size_t maxOpenNames = 1000;

constexpr uint32_t wantedFlags =
    FUSE_ASYNC_READ | FUSE_ATOMIC_O_TRUNC | FUSE_EXPORT_SUPPORT | FUSE_BIG_WRITES | FUSE_DONT_MASK | FUSE_DO_READDIRPLUS |
    FUSE_READDIRPLUS_AUTO | FUSE_ASYNC_DIO | FUSE_PARALLEL_DIROPS | FUSE_POSIX_ACL | FUSE_MAX_PAGES | FUSE_CACHE_SYMLINKS |
    FUSE_EXPLICIT_INVAL_DATA | FUSE_HANDLE_KILLPRIV_V2 | FUSE_SETXATTR_EXT | FUSE_INIT_EXT | FUSE_HAS_IOCTL_DIR;

}  // namespace

Server::Server(std::unique_ptr<Inodes> inodes, ChangeLog& log) : inodes_(std::move(inodes)), log_(log), unseen_(*inodes_, log) {}

int DeviceWay::send(int device, uint64_t unique, int error, const void* data, size_t length) {
  fuse_out_header head{};
  head.len = static_cast<uint32_t>(sizeof(head) + length);
  head.error = error;
  head.unique = unique;
  const iovec parts[2] = {{&head, sizeof(head)}, {const_cast<void*>(data), length}};
  ssize_t sent;
  do sent = writev(device, parts, length ? 2 : 1);
  while (sent < 0 && errno == EINTR);
  return sent < 0 ? errno : 0;
}

int Server::init(Request& request, int device, bool privileged, bool& rings) {
  const auto* major = request.take<uint32_t>();
  const auto* minor = request.take<uint32_t>();
  if (request.header().opcode != FUSE_INIT || !major || !minor) return EPROTO;
  // 7.31 (Linux 5.4) is the first with all that is needed here; every kernel since speaks major 7.
  if (*major != FUSE_KERNEL_VERSION || *minor < 31) return EPROTONOSUPPORT;
  fuse_init_in in{};
  const size_t rest = std::min(request.left(), sizeof(in) - 8);
  memcpy(reinterpret_cast<char*>(&in) + 8, request.bytes(rest), rest);
  uint64_t offered = in.flags;
  if (offered & FUSE_INIT_EXT) offered |= uint64_t{in.flags2} << 32;
  constexpr uint64_t wanted = wantedFlags | wire::initCreateSuppGroup | wire::initPassthrough;
  const uint64_t agreed = offered & (wanted | (rings ? wire::initOverIoUring : 0));
  rings = (agreed & wire::initOverIoUring) != 0;
  extendedSetxattr_ = (agreed & FUSE_SETXATTR_EXT) != 0;
  if (agreed & wire::initPassthrough) backings_.enable(device, privileged);
  if (const FdPtr root = inodes_->fd(inodes_->root())) small_.enable(root->get());

  wire::InitOut out{};
  out.major = FUSE_KERNEL_VERSION;
  out.minor = 45;
  out.maxReadahead = std::max<uint32_t>(in.max_readahead, wire::maxTransfer);
  out.flags = static_cast<uint32_t>(agreed);
  out.flags2 = static_cast<uint32_t>(agreed >> 32);
  out.maxBackground = 64;
  out.congestionThreshold = 48;
  out.maxWrite = wire::maxTransfer;
  out.timeGran = 1;
  out.maxPages = wire::maxPages;
  out.maxStackDepth = 1;
  return request.reply(out);
}

Server::Operation Server::operation(uint32_t opcode) {
  static const auto table = [] {
    std::array<Operation, 54> of{};
    of[FUSE_LOOKUP] = &Server::lookup;
    of[FUSE_FORGET] = &Server::forget;
    of[FUSE_GETATTR] = &Server::getattr;
    of[FUSE_SETATTR] = &Server::setattr;
    of[FUSE_READLINK] = &Server::readlink;
    of[FUSE_SYMLINK] = &Server::symlink;
    of[FUSE_MKNOD] = &Server::mknod;
    of[FUSE_MKDIR] = &Server::mkdir;
    of[FUSE_UNLINK] = &Server::unlink;
    of[FUSE_RMDIR] = &Server::rmdir;
    of[FUSE_RENAME] = &Server::rename;
    of[FUSE_LINK] = &Server::link;
    of[FUSE_OPEN] = &Server::open;
    of[FUSE_READ] = &Server::read;
    of[FUSE_WRITE] = &Server::write;
    of[FUSE_STATFS] = &Server::statfs;
    of[FUSE_RELEASE] = &Server::release;
    of[FUSE_FSYNC] = &Server::fsync;
    of[FUSE_SETXATTR] = &Server::setxattr;
    of[FUSE_GETXATTR] = &Server::getxattr;
    of[FUSE_LISTXATTR] = &Server::listxattr;
    of[FUSE_REMOVEXATTR] = &Server::removexattr;
    of[FUSE_READDIR] = &Server::readdir;
    of[FUSE_FSYNCDIR] = &Server::fsyncdir;
    of[FUSE_CREATE] = &Server::create;
    of[FUSE_NOTIFY_REPLY] = &Server::ignored;
    of[FUSE_IOCTL] = &Server::ioctl;
    of[FUSE_BATCH_FORGET] = &Server::batchForget;
    of[FUSE_FALLOCATE] = &Server::fallocate;
    of[FUSE_READDIRPLUS] = &Server::readdirplus;
    of[FUSE_RENAME2] = &Server::rename2;
    of[FUSE_LSEEK] = &Server::lseek;
    of[FUSE_COPY_FILE_RANGE] = &Server::copyFileRange;
    of[FUSE_TMPFILE] = &Server::tmpfile;
    of[wire::opStatx] = &Server::statx;
    of[wire::opCopyFileRange64] = &Server::copyFileRange64;
    return of;
  }();
  // FLUSH, OPENDIR, ACCESS, INTERRUPT, POLL and BMAP among them: after one ENOSYS the kernel does without.
  return opcode < table.size() && table[opcode] ? table[opcode] : &Server::unsupported;
}

int Server::unsupported(Request&) { return ENOSYS; }

int Server::ignored(Request&) { return 0; }

bool Server::dispatch(Request& request) {
  const fuse_in_header& header = request.header();
  if (header.opcode == FUSE_DESTROY) {
    request.ok();
    return false;
  }
  if (Snapshots::owns(header.nodeid) && header.opcode != FUSE_BATCH_FORGET) {
    // FORGET has no reply; its unique may be any.
    if (header.opcode != FUSE_FORGET) awaited_.add(header.unique, request.way());
    snapshots_->handle(header, request.body(), request.left());
    return true;
  }
  const int error = (this->*operation(header.opcode))(request);
  if (error != 0) request.fail(error);
  return true;
}

void Server::replyLater(uint64_t unique, int error, const void* data, size_t length) {
  if (Way* way = awaited_.take(unique)) way->reply(unique, error, data, length);
}

int Server::node(uint64_t id, InodePtr& inode, FdPtr& fd) {
  inode = inodes_->find(id);
  if (!inode) return ESTALE;
  fd = inodes_->fd(inode);
  return fd ? 0 : errno;
}

int Server::directory(uint64_t id, InodePtr& inode, FdPtr& fd) {
  if (const int error = node(id, inode, fd)) return error;
  if (inode->foreign) return EXDEV;
  return inode->type == S_IFDIR ? 0 : ENOTDIR;
}

bool Server::isSnapshotsName(const InodePtr& dir, const char* name) const {
  return dir == inodes_->root() && strcmp(name, ".snapshots") == 0;
}

void fillAttr(fuse_attr& out, const struct statx& facts) {
  out.ino = facts.stx_ino;
  out.size = facts.stx_size;
  out.blocks = facts.stx_blocks;
  out.atime = static_cast<uint64_t>(facts.stx_atime.tv_sec);
  out.mtime = static_cast<uint64_t>(facts.stx_mtime.tv_sec);
  out.ctime = static_cast<uint64_t>(facts.stx_ctime.tv_sec);
  out.atimensec = facts.stx_atime.tv_nsec;
  out.mtimensec = facts.stx_mtime.tv_nsec;
  out.ctimensec = facts.stx_ctime.tv_nsec;
  out.mode = facts.stx_mode;
  out.nlink = facts.stx_nlink;
  out.uid = facts.stx_uid;
  out.gid = facts.stx_gid;
  // The kernel's own 32-bit form of a device number: minor bits 8.. stand above the major's 12.
  out.rdev = (facts.stx_rdev_minor & 0xff) | (facts.stx_rdev_major & 0xfff) << 8 | (facts.stx_rdev_minor & ~0xffu) << 12;
  out.blksize = facts.stx_blksize;
  out.flags = 0;
}

void Server::fillEntry(fuse_entry_out& out, const InodePtr& inode, const struct statx& facts) const {
  out = {};
  out.nodeid = inode->node;
  out.generation = inode->generation();
  out.entry_valid = cacheSeconds;
  out.attr_valid = attrSeconds(inode);
  fillAttr(out.attr, facts);
}

// Through a mapping the kernel changes a file without telling us, or itself: its times must not be kept.
uint64_t Server::attrSeconds(const InodePtr& inode) const { return inode->mappable ? 0 : cacheSeconds; }

std::vector<std::string> Server::openFiles() {
  std::set<std::string> paths;
  for (const InodePtr& inode : open_.inodes(maxOpenNames)) paths.insert(inodes_->path(inode));
  return {paths.begin(), paths.end()};
}
