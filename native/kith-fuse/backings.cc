// While an inode has open handles they must all be of one mode: all with the same backing id, or all cached. So the
// first handle decides, and the id is given back after the last. Where the kernel refuses a backing (a file system
// stacked too deep, or one without the operations), the inode is cached.
// A handle's RELEASE comes after the kernel has let go of its backing: to close the id then is safe even when the next
// OPEN of the inode is being served at the same time.
// An inode may be cached at one time and not at another: a passthrough reply has no KEEP_CACHE, so that the kernel drops the
// pages it had before the backing file changes beneath them.
//
// As an ordinary user we may not register files; kith-passthrough does, if root has installed it. Asking costs a round
// trip, which those pay who gain: who reads and writes. A reader is as fast from the kernel's cache, and a writer's WRITEs
// come here in any case. The helper takes no descriptors but those for reading and writing.
#include "backings.h"

#include <fcntl.h>
#include <sys/ioctl.h>

#include "../kith-passthrough/protocol.h"

int32_t Backings::registered(int fd, int mode) {
  if (!privileged_) return mode == O_RDWR ? helper_.open(device_, fd) : 0;
  passthrough::BackingMap map{fd, 0, 0};
  const int id = ioctl(device_, passthrough::iocBackingOpen, &map);
  return id > 0 ? id : 0;
}

int32_t Backings::open(const Inode* inode, int fd, int mode) {
  if (device_ < 0) return 0;
  std::lock_guard lock(mutex_);
  Use& use = uses_[inode];
  if (use.handles++ == 0) use.id = registered(fd, mode);
  return use.id;
}

void Backings::release(const Inode* inode) {
  if (device_ < 0) return;
  std::lock_guard lock(mutex_);
  auto at = uses_.find(inode);
  if (--at->second.handles != 0) return;
  const int32_t id = at->second.id;
  uses_.erase(at);
  if (id == 0) return;
  if (privileged_)
    ioctl(device_, passthrough::iocBackingClose, &id);
  else
    helper_.close(device_, id);
}
