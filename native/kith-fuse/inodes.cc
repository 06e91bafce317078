// The inode map.
//
// An inode is in the map while the kernel holds lookups on it, or while it is the `parent` of one that is. So a node id
// the kernel sends is always found, and the chain of names above an inode stays whole.
//
// At most maxCached descriptors are kept, least recently used first out. An inode without one is opened again
//   1. by its file handle (privileged; taken when its descriptor was first closed), or
//   2. by its name in its parent, opened the same way, checked to be the same inode. As a plain user this fails below a
//      directory that was made unsearchable, so open files then hold their inode's descriptor.
// Names are kept true by the operations that change them: the mount is the only writer of the tree. An inode that lost
// its last link is pinned: its descriptor stays until the kernel forgets it, and so its number cannot be used again by
// the file system while the map has it. One that lost the name known here but has others answers ESTALE when it must
// be opened by name; the kernel then looks its path up again, which makes a name known.
#include "inodes.h"

#include <errno.h>
#include <string.h>

#include <algorithm>
#include <iterator>

namespace {

constexpr uint64_t foreignBit = 1ull << 63;
constexpr unsigned facts = STATX_BASIC_STATS | STATX_BTIME | STATX_MNT_ID;
// A chain of names may be renamed while it is walked; then it is read again.
constexpr int chainAttempts = 8;

uint64_t device(const struct statx& of) { return uint64_t{of.stx_dev_major} << 32 | of.stx_dev_minor; }

bool sameBirth(const statx_timestamp& a, const statx_timestamp& b) {
  return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

std::vector<char> handleOf(int fd) {
  alignas(struct file_handle) char bytes[sizeof(struct file_handle) + MAX_HANDLE_SZ];
  auto* handle = reinterpret_cast<struct file_handle*>(bytes);
  handle->handle_bytes = MAX_HANDLE_SZ;
  int mountId;
  if (name_to_handle_at(fd, "", handle, &mountId, AT_EMPTY_PATH) != 0) return {};
  return {bytes, bytes + sizeof(struct file_handle) + handle->handle_bytes};
}

}  // namespace

bool statChild(int dir, const char* name, struct statx& out) {
  return statx(dir, name, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT, facts, &out) == 0;
}

bool statSelf(int fd, struct statx& out) { return statx(fd, "", AT_EMPTY_PATH, facts, &out) == 0; }

std::unique_ptr<Inodes> Inodes::open(int root) {
  Fd dir(openat(root, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  struct statx about;
  if (!dir || !statSelf(dir.get(), about)) return nullptr;
  Fd path(openat(dir.get(), ".", O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!path) return nullptr;
  std::unique_ptr<Inodes> inodes(new Inodes(std::move(dir), device(about)));
  std::vector<char> handle = handleOf(path.get());
  inodes->handles_ = !handle.empty() && inodes->openByHandle(handle) != nullptr;
  inodes->root_ = std::make_shared<Inode>(1, inodes->dev_, about, false);
  inodes->root_->lookups = 1;
  inodes->root_->pinned = true;
  inodes->root_->fd = std::make_shared<const Fd>(std::move(path));
  inodes->byNode_[1] = inodes->root_;
  inodes->byKey_[{inodes->dev_, about.stx_ino}] = inodes->root_.get();
  return inodes;
}

bool Inodes::isForeign(const struct statx& of) const {
  return device(of) != dev_ || (of.stx_attributes & STATX_ATTR_MOUNT_ROOT) != 0;
}

// A bind mount from the same file system has the keys of inodes that may be in the tree themselves: keep them apart.
Inodes::Key Inodes::key(const struct statx& of, bool foreign) const {
  return {foreign ? device(of) | foreignBit : dev_, of.stx_ino};
}

InodePtr Inodes::find(uint64_t node) {
  std::lock_guard lock(mutex_);
  auto found = byNode_.find(node);
  return found == byNode_.end() ? nullptr : found->second;
}

InodePtr Inodes::find(const struct statx& of) {
  std::lock_guard lock(mutex_);
  auto found = byKey_.find(key(of, isForeign(of)));
  return found == byKey_.end() ? nullptr : byNode_.at(found->second->node);
}

FdPtr Inodes::fd(const InodePtr& inode) {
  {
    std::lock_guard lock(mutex_);
    if (inode->fd) {
      if (!inode->pinned) recent_.splice(recent_.begin(), recent_, inode->place);
      return inode->fd;
    }
  }
  for (int attempt = 0; attempt < chainAttempts; attempt++) {
    FdPtr fd = openChain(inode);
    if (fd || (errno != ESTALE && errno != ENOENT && errno != ENOTDIR)) return fd;
  }
  errno = ESTALE;
  return nullptr;
}

// Goes up to the first inode that can be opened without its parent, and down again from there.
FdPtr Inodes::openChain(const InodePtr& inode) {
  struct Step {
    InodePtr inode;
    std::string name;
  };
  std::vector<Step> down;
  std::vector<char> handle;
  InodePtr at = inode;
  FdPtr fd;
  {
    std::lock_guard lock(mutex_);
    while (true) {
      fd = at->fd ? at->fd : at->held.lock();
      handle = at->handle;
      if (fd || !handle.empty()) break;
      if (!at->parent) {
        errno = ESTALE;
        return nullptr;
      }
      down.push_back({at, at->name});
      at = at->parent;
    }
  }
  if (!fd) {
    fd = openByHandle(handle);
    if (!fd) return nullptr;
    fd = keep(at, std::move(fd));
  }
  for (auto step = down.rbegin(); step != down.rend(); ++step) {
    FdPtr child = openChild(fd, step->name, *step->inode);
    if (!child) return nullptr;
    fd = keep(step->inode, std::move(child));
  }
  return fd;
}

FdPtr Inodes::openByHandle(const std::vector<char>& handle) const {
  alignas(struct file_handle) char bytes[sizeof(struct file_handle) + MAX_HANDLE_SZ];
  std::copy(handle.begin(), handle.end(), bytes);
  Fd fd(open_by_handle_at(rootDir_.get(), reinterpret_cast<struct file_handle*>(bytes), O_PATH | O_NOFOLLOW | O_CLOEXEC));
  return fd ? std::make_shared<const Fd>(std::move(fd)) : nullptr;
}

FdPtr Inodes::openChild(const FdPtr& dir, const std::string& name, const Inode& inode) const {
  Fd fd(openat(dir->get(), name.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
  struct statx about;
  if (!fd || !statSelf(fd.get(), about)) return nullptr;
  const bool foreign = isForeign(about);
  if (foreign != inode.foreign || !(key(about, foreign) == Key{inode.dev, inode.ino})) {
    errno = ESTALE;
    return nullptr;
  }
  return std::make_shared<const Fd>(std::move(fd));
}

FdPtr Inodes::keep(const InodePtr& inode, FdPtr fd) {
  Closing closing;
  std::lock_guard lock(mutex_);
  if (!inode->fd) keepLocked(*inode, std::move(fd), closing);
  return inode->fd;
}

void Inodes::keepLocked(Inode& inode, FdPtr fd, Closing& closing) {
  inode.fd = std::move(fd);
  if (inode.pinned) return;
  inode.place = recent_.insert(recent_.begin(), &inode);
  while (recent_.size() > maxCached) evictLocked(closing);
}

void Inodes::evictLocked(Closing& closing) {
  Inode& victim = *recent_.back();
  recent_.pop_back();
  if (handles_ && victim.handle.empty() && !victim.foreign) victim.handle = handleOf(victim.fd->get());
  victim.held = victim.fd;
  closing.push_back(std::move(victim.fd));
  victim.fd = nullptr;
}

InodePtr Inodes::remember(const InodePtr& parent, const char* name, const struct statx& of, FdPtr fd) {
  const bool foreign = isForeign(of);
  const Key where = key(of, foreign);
  Closing closing;
  std::lock_guard lock(mutex_);
  auto found = byKey_.find(where);
  // The same number with another type or birth is another file: someone changed the tree behind the mount.
  if (found != byKey_.end() &&
      (found->second->type != (of.stx_mode & S_IFMT) || !sameBirth(found->second->birth, of.stx_btime))) {
    byKey_.erase(found);
    found = byKey_.end();
  }
  InodePtr inode;
  if (found == byKey_.end()) {
    inode = std::make_shared<Inode>(nextNode_++, where.dev, of, foreign);
    byNode_[inode->node] = inode;
    byKey_[where] = inode.get();
  } else {
    inode = byNode_.at(found->second->node);
  }
  inode->lookups++;
  if (!parent)
    inode->pinned = true;
  else if (!inode->parent && inode != root_)
    setNameLocked(*inode, parent, name);
  if (fd && !inode->fd) keepLocked(*inode, std::move(fd), closing);
  return inode;
}

InodePtr Inodes::again(const InodePtr& inode) {
  std::lock_guard lock(mutex_);
  inode->lookups++;
  return inode;
}

InodePtr Inodes::parent(const InodePtr& inode) {
  std::lock_guard lock(mutex_);
  return inode->parent;
}

void Inodes::forget(uint64_t node, uint64_t lookups) {
  Closing closing;
  InodePtr inode;
  std::lock_guard lock(mutex_);
  auto found = byNode_.find(node);
  if (found == byNode_.end() || found->second == root_) return;
  inode = found->second;
  inode->lookups -= std::min(inode->lookups, lookups);
  dropLocked(inode, closing);
}

void Inodes::dropLocked(InodePtr inode, Closing& closing) {
  while (inode && inode != root_ && inode->lookups == 0 && inode->children == 0) {
    auto at = byKey_.find({inode->dev, inode->ino});
    if (at != byKey_.end() && at->second == inode.get()) byKey_.erase(at);
    if (inode->fd && !inode->pinned) recent_.erase(inode->place);
    closing.push_back(std::move(inode->fd));
    inode->fd = nullptr;
    byNode_.erase(inode->node);
    InodePtr parent = std::move(inode->parent);
    inode->parent = nullptr;
    if (parent) parent->children--;
    inode = std::move(parent);
  }
}

void Inodes::setNameLocked(Inode& inode, const InodePtr& parent, const char* name) {
  if (inode.pinned && inode.fd) inode.place = recent_.insert(recent_.begin(), &inode);
  inode.pinned = false;
  inode.parent = parent;
  inode.name = name;
  parent->children++;
}

void Inodes::clearNameLocked(Inode& inode) {
  inode.parent->children--;
  inode.parent = nullptr;
  inode.name.clear();
}

void Inodes::nameGone(const InodePtr& inode, const InodePtr& parent, const char* name, FdPtr fd, bool lastLink) {
  Closing closing;
  std::lock_guard lock(mutex_);
  if (inode->parent == parent && inode->name == name) clearNameLocked(*inode);
  if (!inode->fd && fd) keepLocked(*inode, std::move(fd), closing);
  if (lastLink && inode->fd && !inode->pinned) {
    recent_.erase(inode->place);
    inode->pinned = true;
  }
  dropLocked(parent, closing);
}

void Inodes::nameMoved(const InodePtr& inode, const InodePtr& parent, const char* name) {
  Closing closing;
  std::lock_guard lock(mutex_);
  InodePtr before = inode->parent;
  if (before) clearNameLocked(*inode);
  setNameLocked(*inode, parent, name);
  dropLocked(before, closing);
}

std::string Inodes::path(const InodePtr& inode) {
  std::lock_guard lock(mutex_);
  std::string path;
  const Inode* at = inode.get();
  for (; at->parent; at = at->parent.get()) path = path.empty() ? at->name : at->name + "/" + path;
  return at == root_.get() ? path : "(deleted)/" + path;
}
