// While an inode has open handles they must all be of one mode: all with the same backing id, or all cached. So the
// first handle decides, and the id is given back after the last. Where the kernel refuses a backing (a file system
// stacked too deep, or one without the operations), the inode is cached.
// A handle's RELEASE comes after the kernel has let go of its backing: to close the id then is safe even when the next
// OPEN of the inode is being served at the same time.
#include "backings.h"

#include <sys/ioctl.h>

#include "wire.h"

int32_t Backings::open(uint64_t node, int fd) {
  if (device_ < 0) return 0;
  std::lock_guard lock(mutex_);
  Use& use = uses_[node];
  if (use.handles++ == 0) {
    wire::BackingMap map{fd, 0, 0};
    const int id = ioctl(device_, wire::iocBackingOpen, &map);
    use.id = id > 0 ? id : 0;
  }
  return use.id;
}

void Backings::release(uint64_t node) {
  if (device_ < 0) return;
  std::lock_guard lock(mutex_);
  auto at = uses_.find(node);
  if (--at->second.handles != 0) return;
  auto id = static_cast<uint32_t>(at->second.id);
  if (id != 0) ioctl(device_, wire::iocBackingClose, &id);
  uses_.erase(at);
}
