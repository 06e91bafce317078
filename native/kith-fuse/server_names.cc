// Names: finding, making, linking, removing and renaming them.
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <limits.h>
#include <linux/fs.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <optional>

#include "caller.h"
#include "server.h"

int Server::lookup(Request& request) {
  InodePtr dir;
  FdPtr fd;
  const char* name = request.string();
  if (!name || !*name || strchr(name, '/')) return EINVAL;
  fuse_entry_out out{};
  struct statx facts;
  // A file handle is being opened: "." asks whether the inode is still known, ".." for its parent.
  if (strcmp(name, ".") == 0) return replyHandle(request, inodes_->again(request.header().nodeid));
  if (strcmp(name, "..") == 0) {
    dir = inodes_->find(request.header().nodeid);
    return dir ? replyHandle(request, inodes_->parent(dir)) : ESTALE;
  }
  if (const int error = directory(request.header().nodeid, dir, fd)) return error;
  if (isSnapshotsName(dir, name)) {
    snapshots_->fillRootEntry(out);
    request.reply(out);
    return 0;
  }
  if (!statChild(fd->get(), name, facts)) {
    if (errno != ENOENT) return errno;
    out.entry_valid = cacheSeconds;
    request.reply(out);
    return 0;
  }
  fillEntry(out, inodes_->remember(dir, name, facts), facts);
  request.reply(out);
  return 0;
}

// `inode` has been counted; null, and errno, when there is none.
int Server::replyHandle(Request& request, const InodePtr& inode) {
  if (!inode) return errno;
  struct statx facts;
  if (!inodes_->stat(inode, facts)) {
    const int error = errno;
    inodes_->forget(inode->node, 1);
    return error;
  }
  fuse_entry_out out;
  fillEntry(out, inode, facts);
  request.reply(out);
  return 0;
}

int Server::forget(Request& request) {
  if (const auto* in = request.take<fuse_forget_in>()) inodes_->forget(request.header().nodeid, in->nlookup);
  return 0;
}

int Server::batchForget(Request& request) {
  const auto* in = request.take<fuse_batch_forget_in>();
  for (uint32_t i = 0; in && i < in->count; i++) {
    const auto* one = request.take<fuse_forget_one>();
    if (!one) break;
    if (Snapshots::owns(one->nodeid))
      snapshots_->forget(one->nodeid, one->nlookup);
    else
      inodes_->forget(one->nodeid, one->nlookup);
  }
  return 0;
}

int Server::replyNew(Request& request, const InodePtr& parent, int parentFd, const char* name) {
  struct statx facts;
  if (!statChild(parentFd, name, facts)) return errno;
  log_.names(parent->ino, facts.stx_ino, name);
  if (S_ISREG(facts.stx_mode) && facts.stx_size == 0) log_.truncate(facts.stx_ino, 0);
  fuse_entry_out out;
  fillEntry(out, inodes_->remember(parent, name, facts), facts);
  request.reply(out);
  return 0;
}

int Server::mknod(Request& request) {
  const auto* in = request.take<fuse_mknod_in>();
  const char* name = request.name();
  if (!in || !name) return EINVAL;
  InodePtr dir;
  FdPtr fd;
  if (const int error = directory(request.header().nodeid, dir, fd)) return error;
  if (isSnapshotsName(dir, name)) return EROFS;
  const unsigned rdevMajor = in->rdev >> 8 & 0xfff, rdevMinor = (in->rdev & 0xff) | (in->rdev >> 12 & 0xfff00);
  {
    caller::Creating as(request, in->umask);
    if (mknodat(fd->get(), name, in->mode, makedev(rdevMajor, rdevMinor)) != 0) return errno;
  }
  return replyNew(request, dir, fd->get(), name);
}

int Server::mkdir(Request& request) {
  const auto* in = request.take<fuse_mkdir_in>();
  const char* name = request.name();
  if (!in || !name) return EINVAL;
  InodePtr dir;
  FdPtr fd;
  if (const int error = directory(request.header().nodeid, dir, fd)) return error;
  if (isSnapshotsName(dir, name)) return EROFS;
  {
    caller::Creating as(request, in->umask);
    if (mkdirat(fd->get(), name, in->mode) != 0) return errno;
  }
  return replyNew(request, dir, fd->get(), name);
}

int Server::symlink(Request& request) {
  const char* name = request.name();
  const char* target = request.string();
  if (!name || !target) return EINVAL;
  InodePtr dir;
  FdPtr fd;
  if (const int error = directory(request.header().nodeid, dir, fd)) return error;
  if (isSnapshotsName(dir, name)) return EROFS;
  {
    caller::Creating as(request, 0);
    if (symlinkat(target, fd->get(), name) != 0) return errno;
  }
  return replyNew(request, dir, fd->get(), name);
}

int Server::link(Request& request) {
  const auto* in = request.take<fuse_link_in>();
  const char* name = request.name();
  if (!in || !name) return EINVAL;
  if (Snapshots::owns(in->oldnodeid)) return EXDEV;
  InodePtr inode, dir;
  FdPtr inodeFd, dirFd;
  if (const int error = node(in->oldnodeid, inode, inodeFd)) return error;
  if (const int error = directory(request.header().nodeid, dir, dirFd)) return error;
  if (isSnapshotsName(dir, name)) return EROFS;
  if (inode->foreign) return EXDEV;
  // By way of /proc, as AT_EMPTY_PATH needs a privilege. It stops at the inode even when that is a symbolic link.
  if (linkat(AT_FDCWD, caller::ProcName(inodeFd->get()).get(), dirFd->get(), name, AT_SYMLINK_FOLLOW) != 0) return errno;
  log_.attributes(inode->ino);
  inodeFd = nullptr;
  return replyNew(request, dir, dirFd->get(), name);
}

int Server::unlink(Request& request) { return remove(request, 0); }

int Server::rmdir(Request& request) { return remove(request, AT_REMOVEDIR); }

// What a name leads to before it is moved or taken away. `inode` is null when the kernel does not know it: then nothing is
// kept. `fd` is there only for what goes away.
struct Server::Doomed {
  struct statx facts;
  InodePtr inode;
  FdPtr fd;
  bool lastLink;
};

// Where no descriptor is to be had, it is looked at by name, and stays unpinned.
bool Server::examine(int dirFd, const char* name, bool goesAway, Doomed& doomed) {
  Fd fd(goesAway ? ::openat(dirFd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC) : -1);
  if (goesAway && !fd && errno == ENOENT) return false;
  if (!(fd ? statSelf(fd.get(), doomed.facts) : statChild(dirFd, name, doomed.facts))) return false;
  doomed.inode = inodes_->find(doomed.facts);
  doomed.lastLink = doomed.facts.stx_nlink <= 1 || S_ISDIR(doomed.facts.stx_mode);
  if (doomed.inode && fd) doomed.fd = std::make_shared<const Fd>(std::move(fd));
  return true;
}

int Server::remove(Request& request, int flag) {
  const char* name = request.name();
  if (!name) return EINVAL;
  InodePtr dir;
  FdPtr fd;
  if (const int error = directory(request.header().nodeid, dir, fd)) return error;
  if (isSnapshotsName(dir, name)) return EROFS;
  Doomed doomed;
  if (!examine(fd->get(), name, true, doomed)) return errno;
  if (unlinkat(fd->get(), name, flag) != 0) return errno;
  if (doomed.inode) inodes_->nameGone(doomed.inode, dir, name, doomed.fd, doomed.lastLink);
  if (doomed.inode && flag & AT_REMOVEDIR) listings_.gone(doomed.inode);
  log_.names(dir->ino, doomed.facts.stx_ino, name);
  request.ok();
  return 0;
}

int Server::rename(Request& request) {
  const auto* in = request.take<fuse_rename_in>();
  return in ? move(request, in->newdir, 0) : EINVAL;
}

int Server::rename2(Request& request) {
  const auto* in = request.take<fuse_rename2_in>();
  return in ? move(request, in->newdir, in->flags) : EINVAL;
}

int Server::move(Request& request, uint64_t newDirId, unsigned flags) {
  const char* oldName = request.name();
  const char* newName = request.name();
  if (!oldName || !newName) return EINVAL;
  if (Snapshots::owns(newDirId)) return EROFS;
  InodePtr oldDir, newDir;
  FdPtr oldFd, newFd;
  if (const int error = directory(request.header().nodeid, oldDir, oldFd)) return error;
  if (const int error = directory(newDirId, newDir, newFd)) return error;
  if (isSnapshotsName(oldDir, oldName) || isSnapshotsName(newDir, newName)) return EROFS;
  Doomed moved, replaced;
  const bool exchange = (flags & RENAME_EXCHANGE) != 0;
  if (!examine(oldFd->get(), oldName, false, moved)) return errno;
  const bool replaces = examine(newFd->get(), newName, !exchange, replaced);
  {
    std::optional<caller::Creating> as;
    if (flags & RENAME_WHITEOUT) as.emplace(request, 0);  // the whiteout is the caller's
    if (renameat2(oldFd->get(), oldName, newFd->get(), newName, flags) != 0) {
      const int error = errno;
      // It may have been made, and taken away again: the directory's times have changed.
      const fuse_notify_inval_inode_out out{oldDir->node, -1, 0};
      if (flags & RENAME_WHITEOUT) request.notify(FUSE_NOTIFY_INVAL_INODE, out);
      return error;
    }
  }

  const bool same = replaces && moved.facts.stx_ino == replaced.facts.stx_ino;  // two links to one file: nothing happened
  if (!same) {
    if (replaces && replaced.inode && !exchange) {
      inodes_->nameGone(replaced.inode, newDir, newName, replaced.fd, replaced.lastLink);
      if (replaced.inode->type == S_IFDIR) listings_.gone(replaced.inode);
    }
    if (moved.inode) inodes_->nameMoved(moved.inode, newDir, newName);
    if (replaces && replaced.inode && exchange) inodes_->nameMoved(replaced.inode, oldDir, oldName);
  }
  log_.names(oldDir->ino, moved.facts.stx_ino, oldName);
  log_.names(newDir->ino, moved.facts.stx_ino, newName);
  if (replaces) log_.names(newDir->ino, replaced.facts.stx_ino, newName);
  if (replaces && exchange) log_.names(oldDir->ino, replaced.facts.stx_ino, oldName);
  if (flags & RENAME_WHITEOUT && statChild(oldFd->get(), oldName, replaced.facts))
    log_.names(oldDir->ino, replaced.facts.stx_ino, oldName);
  request.ok();
  return 0;
}

int Server::readlink(Request& request) {
  InodePtr inode;
  FdPtr fd;
  if (const int error = node(request.header().nodeid, inode, fd)) return error;
  const ssize_t length = readlinkat(fd->get(), "", request.scratch, PATH_MAX);
  if (length < 0) return errno;
  request.reply(request.scratch, static_cast<size_t>(length));
  return 0;
}
