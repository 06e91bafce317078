// RELEASE comes when the last descriptor is closed, and a mapping may live on: its pages belong to the backing file, and
// nothing tells of their end. So a file stays in the set after its last handle, and is looked at before each snapshot, and
// when somebody asks for its attributes.
// But for one that nobody could map: it is at rest at once.
// Whether anybody can still write is asked by taking a read lease, which the kernel grants only where nobody can, and
// giving it back at once. A file whose inode the kernel has forgotten is mapped by nobody: a mapping holds its path.
#include "unseen.h"

#include <fcntl.h>

#include <string>

namespace {

// Beyond so many files, one is looked at when it is closed: nobody may come for a snapshot in a long while.
constexpr size_t maxWaiting = 8192;

// Not as caller.h does it: also the thread of the bridge comes here.
Fd openToLook(int path) { return Fd(open(("/proc/self/fd/" + std::to_string(path)).c_str(), O_RDONLY | O_CLOEXEC)); }

}  // namespace

void Unseen::opened(const InodePtr& inode, bool mayMap) {
  std::lock_guard lock(mutex_);
  Use& use = uses_[inode->node];
  use.inode = inode;
  use.handles++;
  use.opens++;
  use.mayBeMapped |= mayMap;
  log_.openedForWriting(inode->ino);
}

void Unseen::closed(const InodePtr& inode) {
  Use seen;
  {
    std::lock_guard lock(mutex_);
    const auto at = uses_.find(inode->node);
    Use& use = at->second;
    use.handles--;
    if (use.handles == 0 && !use.mayBeMapped) {
      uses_.erase(at);
      log_.closedAfterWriting(inode->ino);
      return;
    }
    if (use.handles > 0 || uses_.size() <= maxWaiting) return;
    seen = use;
  }
  settle(seen);
}

void Unseen::settle() {
  std::vector<Use> all;
  {
    std::lock_guard lock(mutex_);
    all.reserve(uses_.size());
    for (const auto& [node, use] : uses_) all.push_back(use);
  }
  for (const Use& seen : all) settle(seen);
}

void Unseen::settle(const Use& seen) {
  const InodePtr& inode = seen.inode;
  const bool ends = seen.handles == 0 && atRest(inode);
  if (!ends) {
    const FdPtr path = inodes_.fd(inode);
    if (const Fd fd = path ? openToLook(path->get()) : Fd())
      sync_file_range(fd.get(), 0, 0, SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE);
  }
  std::lock_guard lock(mutex_);
  if (uses_.contains(inode->node) && !(ends && endLocked(seen))) log_.openedForWriting(inode->ino);
}

// From then on the kernel may keep the attributes; who opens the file to map it counts here first, and has them forgotten then.
// Only for somebody whose reply with the attributes of now follows: it outdoes one with older attributes that is on its way.
bool Unseen::ended(const InodePtr& inode) {
  Use seen;
  {
    std::lock_guard lock(mutex_);
    const auto at = uses_.find(inode->node);
    if (at == uses_.end()) {
      inode->mappable = false;
      return true;
    }
    if (at->second.handles > 0) return false;
    seen = at->second;
  }
  if (!atRest(inode)) return false;
  std::lock_guard lock(mutex_);
  if (uses_.contains(inode->node) && !endLocked(seen)) return false;
  inode->mappable = false;
  return true;
}

// Of a use that was seen at rest, if it was not opened again since.
bool Unseen::endLocked(const Use& seen) {
  const auto at = uses_.find(seen.inode->node);
  if (at->second.opens != seen.opens) return false;
  uses_.erase(at);
  log_.closedAfterWriting(seen.inode->ino);
  return true;
}

bool Unseen::atRest(const InodePtr& inode) {
  if (inodes_.find(inode->node) != inode) return true;
  const FdPtr path = inodes_.fd(inode);
  const Fd fd = path ? openToLook(path->get()) : Fd();
  if (!fd || fcntl(fd.get(), F_SETLEASE, F_RDLCK) != 0) return false;
  fcntl(fd.get(), F_SETLEASE, F_UNLCK);
  return true;
}
