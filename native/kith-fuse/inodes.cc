// The inode map.
//
// An inode is in the map while the kernel holds lookups on it, or while it is the `parent` of one that is. So a node id
// the kernel sends is always found, and the chain of names above an inode stays whole.
//
// A node id is the inode's number; the root's is 1, and what may clash (foreign directories, numbers out of range) gets one
// of its own, from firstOdd on. With the generation, made of the time of birth, it names one file for ever. So a file
// handle, which is just these two, can be served after the kernel has forgotten the inode (LOOKUP of "."), where the file
// system below opens a file by its number (ext4 and others, as root). That must not lead out of the tree: a directory has
// to lie beneath the root; of other files the kernel must have known that very one before (former_).
//
// At most maxCached descriptors are kept, least recently used first out. Most inodes never have one: a file's attributes are
// asked for by its name in its parent, and count only when they are of the same number, device, type and time of birth, so
// that whoever renames meanwhile, or works beneath the mount, can make them no other file's. While a file that was made here
// is open, its handle's descriptor is its inode's. Else an inode without one is opened
//   1. by its file handle (privileged; taken when its descriptor was first closed), or
//   2. by its name in its parent, opened the same way, checked to be the same inode. As a plain user this fails below a
//      directory that was made unsearchable, so open files then hold their inode's descriptor.
// Names are kept true by the operations that change them: the mount is the only writer of the tree. An inode that lost
// its last link is pinned: its descriptor stays until the kernel forgets it, and so its number cannot be used again by
// the file system while the map has it. One that lost the name known here but has others answers ESTALE when it must
// be opened by name; the kernel then looks its path up again, which makes a name known.
//
// Where someone changes the tree beneath the mount, a number may come to mean another file all the same. Its inode then
// takes the old one's place and its lookups; the kernel sees the other generation and does the same.
#include "inodes.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/mount.h>

#include <algorithm>
#include <iterator>

namespace {

constexpr uint64_t foreignBit = 1ull << 63;
constexpr unsigned facts = STATX_BASIC_STATS | STATX_BTIME | STATX_MNT_ID;
// A chain of names may be renamed while it is walked; then it is read again.
constexpr int chainAttempts = 8;
constexpr size_t formerSlots = 1 << 18;  // neighbours in number do not clash
constexpr int maxDepth = 10'000;
constexpr int inodeAndGeneration = 1;  // the type of handle of ext4 and many others: u32 inode number, u32 generation

uint64_t device(const struct statx& of) { return uint64_t{of.stx_dev_major} << 32 | of.stx_dev_minor; }

size_t sizeOf(const char* handle) {
  return sizeof(struct file_handle) + reinterpret_cast<const struct file_handle*>(handle)->handle_bytes;
}

std::unique_ptr<char[]> copyOf(const char* bytes, size_t length) {
  std::unique_ptr<char[]> copy(new char[length]);
  memcpy(copy.get(), bytes, length);
  return copy;
}

std::unique_ptr<char[]> handleOf(int fd) {
  alignas(struct file_handle) char bytes[sizeof(struct file_handle) + MAX_HANDLE_SZ];
  auto* handle = reinterpret_cast<struct file_handle*>(bytes);
  handle->handle_bytes = MAX_HANDLE_SZ;
  int mountId;
  if (name_to_handle_at(fd, "", handle, &mountId, AT_EMPTY_PATH) != 0) return nullptr;
  return copyOf(bytes, sizeOf(bytes));
}

}  // namespace

Inode::Inode(uint64_t node, uint64_t dev, const struct statx& of, bool foreign)
    : node(node), dev(dev), ino(of.stx_ino), birthSeconds(of.stx_btime.tv_sec), birthNanoseconds(of.stx_btime.tv_nsec),
      type(of.stx_mode & S_IFMT), foreign(foreign) {}

uint32_t Inode::generation() const {
  if (node == 1) return 0;  // as the kernel has it
  const uint64_t mixed = (static_cast<uint64_t>(birthSeconds) * 1'000'000'000 + birthNanoseconds) * 0x9e3779b97f4a7c15u;
  return static_cast<uint32_t>(mixed >> 32);
}

bool Inode::isThat(const struct statx& of) const {
  return type == (of.stx_mode & S_IFMT) && birthSeconds == of.stx_btime.tv_sec && birthNanoseconds == of.stx_btime.tv_nsec;
}

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
  std::unique_ptr<Inodes> inodes(new Inodes(std::move(dir), device(about), about.stx_ino));
  const std::unique_ptr<char[]> handle = handleOf(path.get());
  inodes->handles_ = handle && inodes->openByHandle(inodes->rootDir_, handle.get()) != nullptr;
  const Fd clone(inodes->handles_ ? open_tree(path.get(), "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH) : -1);
  if (clone) inodes->alone_ = Fd(openat(clone.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  inodes->numbers_ = inodes->alone_ && inodes->openByNumber(inodes->alone_, about.stx_ino) != nullptr;
  inodes->root_ = std::make_shared<Inode>(1, inodes->dev_, about, false);
  inodes->root_->lookups = 1;
  inodes->root_->pinned = true;
  inodes->root_->cached = std::make_unique<Inode::Cached>(std::make_shared<const Fd>(std::move(path)));
  inodes->byNode_.insert(inodes->root_);
  return inodes;
}

bool Inodes::isForeign(const struct statx& of) const {
  return device(of) != dev_ || (of.stx_attributes & STATX_ATTR_MOUNT_ROOT) != 0;
}

// A bind mount from the same file system has the keys of inodes that may be in the tree themselves: keep them apart.
Inodes::Key Inodes::key(const struct statx& of, bool foreign) const {
  return {foreign ? device(of) | foreignBit : dev_, of.stx_ino};
}

bool Inodes::isNumberedByInode(const Key& key) const {
  return key.first == dev_ && key.second > 1 && key.second < firstOdd;
}

// 0 when it has none yet.
uint64_t Inodes::nodeLocked(const Key& key) const {
  if (key == Key{dev_, ino_}) return 1;
  if (isNumberedByInode(key)) return key.second;
  const auto found = odd_.find(key);
  return found == odd_.end() ? 0 : found->second;
}

InodePtr Inodes::find(uint64_t node) {
  std::lock_guard lock(mutex_);
  const auto found = byNode_.find(node);
  return found == byNode_.end() ? nullptr : *found;
}

InodePtr Inodes::find(const struct statx& of) {
  std::lock_guard lock(mutex_);
  const auto found = byNode_.find(nodeLocked(key(of, isForeign(of))));
  return found == byNode_.end() || !(*found)->isThat(of) ? nullptr : *found;
}

// Null when it has none.
FdPtr Inodes::cachedLocked(Inode& inode) {
  if (!inode.cached) return inode.held.lock();
  if (!inode.pinned) recent_.splice(recent_.begin(), recent_, inode.cached->place);
  return inode.cached->fd;
}

void Inodes::lend(const InodePtr& inode, const FdPtr& fd) {
  std::lock_guard lock(mutex_);
  inode->held = fd;
}

FdPtr Inodes::fd(const InodePtr& inode) {
  {
    std::lock_guard lock(mutex_);
    if (FdPtr fd = cachedLocked(*inode)) return fd;
  }
  for (int attempt = 0; attempt < chainAttempts; attempt++) {
    FdPtr fd = openChain(inode);
    if (fd || (errno != ESTALE && errno != ENOENT && errno != ENOTDIR)) return fd;
  }
  errno = ESTALE;
  return nullptr;
}

// By its name in its parent: what the name leads to is the inode or is seen not to be, whoever renames it meanwhile. Files
// that are only looked at then never have a descriptor, which beyond maxCached would be closed and opened again and again.
// But directories are opened where that may fail later: below one that was made unsearchable.
bool Inodes::stat(const InodePtr& inode, struct statx& of) {
  FdPtr fd, above;
  InodePtr parent;
  char name[NAME_MAX + 1];
  {
    std::lock_guard lock(mutex_);
    fd = cachedLocked(*inode);
    const bool byName = (handles_ || inode->type != S_IFDIR) && inode->parent && !inode->gone;
    if (!fd && byName && strlen(inode->name.get()) < sizeof(name)) {
      parent = inode->parent;
      above = cachedLocked(*parent);
      strcpy(name, inode->name.get());
    }
  }
  if (!fd && parent && !above) above = this->fd(parent);
  if (!fd && above && statChild(above->get(), name, of) && isOf(*inode, of) && inode->isThat(of)) return true;
  if (!fd) fd = this->fd(inode);
  return fd && statSelf(fd->get(), of);
}

// Goes up to the first inode that can be opened without its parent, and down again from there.
FdPtr Inodes::openChain(const InodePtr& inode) {
  struct Step {
    InodePtr inode;
    std::string name;
  };
  std::vector<Step> down;
  std::unique_ptr<char[]> handle;
  InodePtr at = inode;
  FdPtr fd;
  {
    std::lock_guard lock(mutex_);
    while (true) {
      fd = at->cached ? at->cached->fd : at->held.lock();
      if (fd) break;
      if (at->handle) {
        handle = copyOf(at->handle.get(), sizeOf(at->handle.get()));
        break;
      }
      if (!at->parent || at->gone) {
        errno = ESTALE;
        return nullptr;
      }
      down.push_back({at, at->name.get()});
      at = at->parent;
    }
  }
  if (!fd) {
    fd = openByHandle(rootDir_, handle.get());
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

FdPtr Inodes::openByHandle(const Fd& mount, const char* handle) const {
  alignas(struct file_handle) char bytes[sizeof(struct file_handle) + MAX_HANDLE_SZ];
  memcpy(bytes, handle, sizeOf(handle));
  Fd fd(open_by_handle_at(mount.get(), reinterpret_cast<struct file_handle*>(bytes), O_PATH | O_NOFOLLOW | O_CLOEXEC));
  return fd ? std::make_shared<const Fd>(std::move(fd)) : nullptr;
}

// Of whatever generation: such file systems take 0 for any.
FdPtr Inodes::openByNumber(const Fd& mount, uint64_t ino) const {
  const uint32_t words[2] = {static_cast<uint32_t>(ino), 0};
  alignas(struct file_handle) char bytes[sizeof(struct file_handle) + sizeof(words)]{};
  auto* handle = reinterpret_cast<struct file_handle*>(bytes);
  handle->handle_bytes = sizeof(words);
  handle->handle_type = inodeAndGeneration;
  memcpy(bytes + sizeof(*handle), words, sizeof(words));
  FdPtr fd = openByHandle(mount, bytes);
  struct statx about;
  if (fd && statSelf(fd->get(), about) && device(about) == dev_ && about.stx_ino == ino && about.stx_nlink > 0) return fd;
  errno = ESTALE;
  return nullptr;
}

bool Inodes::isOf(const Inode& inode, const struct statx& of) const {
  const bool foreign = isForeign(of);
  return foreign == inode.foreign && key(of, foreign) == Key{inode.dev, inode.ino};
}

FdPtr Inodes::openChild(const FdPtr& dir, const std::string& name, const Inode& inode) const {
  Fd fd(openat(dir->get(), name.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
  struct statx about;
  if (!fd || !statSelf(fd.get(), about)) return nullptr;
  if (!isOf(inode, about)) {
    errno = ESTALE;
    return nullptr;
  }
  return std::make_shared<const Fd>(std::move(fd));
}

// The directory that one is in, by its inode number: null at the root of the tree, and outside of it. On the ordinary mount
// ".." would lead to what lies over the root: to ourselves.
FdPtr Inodes::above(uint64_t dir) const {
  const FdPtr fd = dir == ino_ ? nullptr : openByNumber(alone_, dir);
  Fd up(fd ? openat(fd->get(), "..", O_PATH | O_DIRECTORY | O_CLOEXEC) : -1);
  return up ? std::make_shared<const Fd>(std::move(up)) : nullptr;
}

// Whether going up from the directory leads to the root of the tree.
bool Inodes::isBeneath(uint64_t dir) const {
  for (int depth = 0; depth < maxDepth && dir != ino_; depth++) {
    const FdPtr up = above(dir);
    struct statx about;
    if (!up || !statSelf(up->get(), about) || about.stx_ino == dir) return false;
    dir = about.stx_ino;
  }
  return dir == ino_;
}

FdPtr Inodes::keep(const InodePtr& inode, FdPtr fd) {
  Closing closing;
  std::lock_guard lock(mutex_);
  if (inode->gone) return fd;
  if (!inode->cached) keepLocked(*inode, std::move(fd), closing);
  return inode->cached->fd;
}

void Inodes::keepLocked(Inode& inode, FdPtr fd, Closing& closing) {
  inode.cached = std::make_unique<Inode::Cached>(std::move(fd));
  if (inode.pinned) return;
  inode.cached->place = recent_.insert(recent_.begin(), &inode);
  while (recent_.size() > maxCached) evictLocked(closing);
}

void Inodes::evictLocked(Closing& closing) {
  Inode& victim = *recent_.back();
  if (handles_ && !victim.handle && !victim.foreign) victim.handle = handleOf(victim.cached->fd->get());
  if (!handles_ && victim.held.expired()) victim.held = victim.cached->fd;
  loseLocked(victim, closing);
}

void Inodes::loseLocked(Inode& inode, Closing& closing) {
  if (!inode.cached) return;
  if (!inode.pinned) recent_.erase(inode.cached->place);
  closing.push_back(std::move(inode.cached->fd));
  inode.cached = nullptr;
}

InodePtr Inodes::countLocked(const struct statx& of, Closing& closing) {
  const bool foreign = isForeign(of);
  const Key where = key(of, foreign);
  uint64_t node = nodeLocked(where);
  if (node == 0) odd_[where] = node = ++lastOdd_;
  InodePtr before;
  if (const auto found = byNode_.find(node); found != byNode_.end()) {
    if ((*found)->isThat(of) || *found == root_) {
      (*found)->lookups++;
      return *found;
    }
    before = *found;
    takeOutLocked(before, closing);
    const InodePtr parent = before->parent;
    if (parent) clearNameLocked(*before);
    dropLocked(parent, closing);
  }
  InodePtr inode = std::make_shared<Inode>(node, where.first, of, foreign);
  inode->lookups = 1 + (before ? std::exchange(before->lookups, 0) : 0);
  byNode_.insert(inode);
  return inode;
}

InodePtr Inodes::remember(const InodePtr& parent, const char* name, const struct statx& of, FdPtr fd) {
  Closing closing;
  std::lock_guard lock(mutex_);
  InodePtr inode = countLocked(of, closing);
  if (!parent)
    inode->pinned = true;
  else if (!inode->parent && inode != root_)
    setNameLocked(*inode, parent, name);
  if (fd && !inode->cached) keepLocked(*inode, std::move(fd), closing);
  return inode;
}

InodePtr Inodes::again(uint64_t node) {
  {
    std::lock_guard lock(mutex_);
    if (const auto found = byNode_.find(node); found != byNode_.end()) {
      (*found)->lookups++;
      return *found;
    }
  }
  FdPtr fd = numbers_ && node >> 32 == 0 ? openByNumber(rootDir_, node) : nullptr;
  if (fd) return adopt(std::move(fd));
  errno = ESTALE;
  return nullptr;
}

InodePtr Inodes::parent(const InodePtr& inode) {
  {
    std::lock_guard lock(mutex_);
    const InodePtr parent = inode == root_ ? root_ : inode->parent;
    if (parent) {
      parent->lookups++;
      return parent;
    }
  }
  const FdPtr up = numbers_ && inode->type == S_IFDIR ? above(inode->ino) : nullptr;
  struct statx about;
  FdPtr fd = up && statSelf(up->get(), about) ? openByNumber(rootDir_, about.stx_ino) : nullptr;
  if (fd) return adopt(std::move(fd));
  errno = ESTALE;
  return nullptr;
}

// Counts one lookup of an inode that was reached without a name, if it belongs to the tree.
InodePtr Inodes::adopt(FdPtr fd) {
  struct statx about;
  errno = ESTALE;
  if (!statSelf(fd->get(), about)) return nullptr;
  if (about.stx_ino == ino_) {
    std::lock_guard lock(mutex_);
    root_->lookups++;
    return root_;
  }
  if (isForeign(about)) return nullptr;
  const bool isDir = S_ISDIR(about.stx_mode);
  if (isDir && !isBeneath(about.stx_ino)) return nullptr;
  Closing closing;
  std::lock_guard lock(mutex_);
  const uint32_t generation = Inode(about.stx_ino, dev_, about, false).generation();
  const Former* former = former_ ? &formerLocked(about.stx_ino) : nullptr;
  if (!isDir && (!former || former->ino != about.stx_ino || former->generation != generation)) {
    errno = ESTALE;
    return nullptr;
  }
  InodePtr inode = countLocked(about, closing);
  if (!inode->cached) keepLocked(*inode, std::move(fd), closing);
  return inode;
}

void Inodes::forget(uint64_t node, uint64_t lookups) {
  Closing closing;
  std::lock_guard lock(mutex_);
  const auto found = byNode_.find(node);
  if (found == byNode_.end() || *found == root_) return;
  InodePtr inode = *found;
  inode->lookups -= std::min(inode->lookups, lookups);
  dropLocked(std::move(inode), closing);
}

void Inodes::takeOutLocked(const InodePtr& inode, Closing& closing) {
  byNode_.erase(inode);
  loseLocked(*inode, closing);
  inode->gone = true;
}

Inodes::Former& Inodes::formerLocked(uint64_t ino) {
  if (!former_) former_.reset(static_cast<Former*>(calloc(formerSlots, sizeof(Former))));
  return former_.get()[ino % formerSlots];
}

void Inodes::dropLocked(InodePtr inode, Closing& closing) {
  while (inode && inode != root_ && inode->lookups == 0 && inode->children == 0 && !inode->gone) {
    if (numbers_ && !inode->pinned && inode->type != S_IFDIR && inode->node == inode->ino)
      formerLocked(inode->ino) = {inode->ino, inode->generation()};
    takeOutLocked(inode, closing);
    if (inode->node != inode->ino) odd_.erase({inode->dev, inode->ino});
    InodePtr parent = inode->parent;
    if (parent) clearNameLocked(*inode);
    inode = std::move(parent);
  }
}

void Inodes::setNameLocked(Inode& inode, const InodePtr& parent, const char* name) {
  if (inode.pinned && inode.cached) inode.cached->place = recent_.insert(recent_.begin(), &inode);
  inode.pinned = false;
  inode.parent = parent;
  inode.name = copyOf(name, strlen(name) + 1);
  parent->children++;
}

void Inodes::clearNameLocked(Inode& inode) {
  inode.parent->children--;
  inode.parent = nullptr;
  inode.name = nullptr;
}

void Inodes::nameGone(const InodePtr& inode, const InodePtr& parent, const char* name, FdPtr fd, bool lastLink) {
  Closing closing;
  std::lock_guard lock(mutex_);
  if (inode->parent == parent && strcmp(inode->name.get(), name) == 0) clearNameLocked(*inode);
  if (!inode->gone && !inode->cached && fd) keepLocked(*inode, std::move(fd), closing);
  if (lastLink && inode->cached && !inode->pinned) {
    recent_.erase(inode->cached->place);
    inode->pinned = true;
  }
  dropLocked(parent, closing);
}

void Inodes::nameMoved(const InodePtr& inode, const InodePtr& parent, const char* name) {
  Closing closing;
  std::lock_guard lock(mutex_);
  if (inode->gone) return;
  InodePtr before = inode->parent;
  if (before) clearNameLocked(*inode);
  setNameLocked(*inode, parent, name);
  dropLocked(before, closing);
}

std::string Inodes::path(const InodePtr& inode) {
  std::lock_guard lock(mutex_);
  std::string path;
  const Inode* at = inode.get();
  for (; at->parent; at = at->parent.get()) path = path.empty() ? at->name.get() : at->name.get() + ("/" + path);
  return at == root_.get() ? path : "(deleted)/" + path;
}
