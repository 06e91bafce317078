// Extended attributes, POSIX ACLs among them. The calls that take a descriptor refuse O_PATH ones: hence /proc paths.
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "caller.h"
#include "server.h"

namespace {

constexpr size_t shortSetxattr = 8;  // the request's fixed part before SETXATTR_EXT

// Only root sees the names under trusted.
size_t withoutTrusted(char* names, size_t length) {
  size_t kept = 0;
  for (size_t at = 0; at < length;) {
    const size_t size = strlen(names + at) + 1;
    if (strncmp(names + at, "trusted.", 8) != 0) {
      memmove(names + kept, names + at, size);
      kept += size;
    }
    at += size;
  }
  return kept;
}

// Names under system the kernel leaves to file systems to guard: on NFS an ACL, say. Only those that it guards itself
// pass for others than root.
bool guarded(const Request& request, const char* name) {
  return request.header().uid == 0 || strncmp(name, "system.", 7) != 0 || strncmp(name, "system.posix_acl_", 17) == 0;
}

}  // namespace

int Server::setxattr(Request& request) {
  fuse_setxattr_in in{};
  const size_t fixed = extendedSetxattr_ ? sizeof(in) : shortSetxattr;
  const char* head = request.bytes(fixed);
  const char* name = head ? request.string() : nullptr;
  if (!name) return EINVAL;
  memcpy(&in, head, fixed);
  const char* value = request.bytes(in.size);
  if (!value) return EINVAL;
  if (!guarded(request, name)) return EOPNOTSUPP;
  InodePtr inode;
  FdPtr fd;
  if (const int error = node(request.header().nodeid, inode, fd)) return error;
  if (inode->foreign) return EXDEV;
  const caller::ProcName path(fd->get());
  caller::keepSetId();
  if (::setxattr(path.get(), name, value, in.size, static_cast<int>(in.flags)) != 0) return errno;
  // An ACL set by someone outside the file's group also clears set-group-id.
  struct statx facts;
  if (in.setxattr_flags & FUSE_SETXATTR_ACL_KILL_SGID && statSelf(fd->get(), facts) && facts.stx_mode & S_ISGID)
    fchmodat(AT_FDCWD, path.get(), facts.stx_mode & 07777 & ~S_ISGID, 0);
  log_.attributes(inode->ino);
  fd = nullptr;
  request.ok();
  return 0;
}

int Server::getxattr(Request& request) {
  const auto* in = request.take<fuse_getxattr_in>();
  const char* name = in ? request.string() : nullptr;
  if (!name) return EINVAL;
  InodePtr inode;
  FdPtr fd;
  if (const int error = node(request.header().nodeid, inode, fd)) return error;
  const size_t room = std::min<size_t>(in->size, XATTR_SIZE_MAX);
  const ssize_t size = ::getxattr(caller::ProcName(fd->get()).get(), name, request.scratch, room);
  if (size < 0) return errno;
  fd = nullptr;
  if (in->size != 0) {
    request.reply(request.scratch, static_cast<size_t>(size));
    return 0;
  }
  fuse_getxattr_out out{static_cast<uint32_t>(size), 0};
  request.reply(out);
  return 0;
}

int Server::listxattr(Request& request) {
  const auto* in = request.take<fuse_getxattr_in>();
  if (!in) return EINVAL;
  InodePtr inode;
  FdPtr fd;
  if (const int error = node(request.header().nodeid, inode, fd)) return error;
  const ssize_t all = ::listxattr(caller::ProcName(fd->get()).get(), request.scratch, XATTR_LIST_MAX);
  if (all < 0) return errno;
  fd = nullptr;
  auto size = static_cast<size_t>(all);
  if (request.header().uid != 0) size = withoutTrusted(request.scratch, size);
  if (in->size == 0) {
    fuse_getxattr_out out{static_cast<uint32_t>(size), 0};
    request.reply(out);
    return 0;
  }
  if (size > in->size) return ERANGE;
  request.reply(request.scratch, size);
  return 0;
}

int Server::removexattr(Request& request) {
  const char* name = request.string();
  if (!name) return EINVAL;
  if (!guarded(request, name)) return EOPNOTSUPP;
  InodePtr inode;
  FdPtr fd;
  if (const int error = node(request.header().nodeid, inode, fd)) return error;
  if (inode->foreign) return EXDEV;
  if (::removexattr(caller::ProcName(fd->get()).get(), name) != 0) return errno;
  log_.attributes(inode->ino);
  fd = nullptr;
  request.ok();
  return 0;
}
