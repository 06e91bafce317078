// While an inode has open handles they must all be of one mode: all with the same backing id, or all cached. So the
// first handle decides, and the id is given back after the last. Where the kernel refuses a backing (a file system
// stacked too deep, or one without the operations), the inode is cached.
// A handle's RELEASE comes after the kernel has let go of its backing: to close the id then is safe even when the next
// OPEN of the inode is being served at the same time.
// An inode may be cached at one time and not at another: a passthrough reply has no KEEP_CACHE, so that the kernel drops the
// pages it had before the backing file changes beneath them.
//
// A mapping made through a passthrough handle is one of the file below, outlives the handle, and knows nothing of the kernel's
// pages of ours, nor they of it. So while one may live the file is not cached. Whether one does is asked by taking a write
// lease, which the kernel grants only where nobody else has the file open or mapped, and giving it back at once.
//
// A small file that is only read is cached from the first handle on, if nobody has it open (small_files.h). Its pages are
// filled before that handle's reply, so that the kernel cannot be waiting for a READ of one of them, and no other handle's
// reply and no truncation comes in between.
//
// So is a huge file when its first handle reads and writes (server_open.cc).
//
// As an ordinary user we may not register files; kith-passthrough does, if root has installed it. Asking costs a round
// trip, which those pay who gain: who reads and writes. A reader is as fast from the kernel's cache, and a writer's WRITEs
// come here in any case. The helper takes no descriptors but those for reading and writing: where a mapping lives, one is
// opened for it.
#include "backings.h"

#include <fcntl.h>
#include <sys/ioctl.h>

#include "../kith-passthrough/protocol.h"
#include "inodes.h"

namespace {

bool isAlone(int fd) {
  if (fcntl(fd, F_SETLEASE, F_WRLCK) != 0) return false;
  fcntl(fd, F_SETLEASE, F_UNLCK);
  return true;
}

}  // namespace

int32_t Backings::registered(int fd, int mode, bool mapped, const std::function<Fd()>& both) {
  if (device_ < 0) return 0;
  if (!privileged_) {
    if (mode == O_RDWR) return helper_.open(device_, fd);
    const Fd other = mapped ? both() : Fd();
    return other ? helper_.open(device_, other.get()) : 0;
  }
  passthrough::BackingMap map{fd, 0, 0};
  const int id = ioctl(device_, passthrough::iocBackingOpen, &map);
  return id > 0 ? id : 0;
}

Backings::Use& Backings::settledLocked(std::unique_lock<std::mutex>& lock, const Inode* inode) {
  while (true) {
    Use& use = uses_[inode];
    if (!use.filling) return use;
    wasFilled_.wait(lock);
  }
}

Backings::Opened Backings::open(Inode* inode, int fd, int mode, Wish wish, const std::function<Fd()>& both) {
  std::unique_lock lock(mutex_);
  Use& use = settledLocked(lock, inode);
  if (use.handles++ != 0) return {use.id, false};
  const bool rather = wish != Wish::passed;
  if (inode->passed && (rather || !privileged_)) inode->passed = !isAlone(fd);
  use.filling = wish == Wish::filled && use.resizing == 0 && !inode->passed;
  const bool cached = use.filling || (wish == Wish::cached && !inode->passed);
  use.id = cached ? 0 : registered(fd, mode, inode->passed, both);
  if (use.id != 0) inode->passed = true;
  return {use.id, use.filling};
}

void Backings::filled(const Inode* inode) {
  std::lock_guard lock(mutex_);
  uses_[inode].filling = false;
  wasFilled_.notify_all();
}

void Backings::release(const Inode* inode) {
  std::lock_guard lock(mutex_);
  auto at = uses_.find(inode);
  Use& use = at->second;
  if (--use.handles != 0) return;
  const int32_t id = use.id;
  if (use.resizing == 0) uses_.erase(at);
  if (id == 0) return;
  if (privileged_)
    ioctl(device_, passthrough::iocBackingClose, &id);
  else
    helper_.close(device_, id);
}

Backings::Resizing::Resizing(Backings& of, const Inode* inode) : of_(of), inode_(inode) {
  std::unique_lock lock(of_.mutex_);
  of_.settledLocked(lock, inode).resizing++;
}

Backings::Resizing::~Resizing() {
  std::lock_guard lock(of_.mutex_);
  auto at = of_.uses_.find(inode_);
  if (--at->second.resizing == 0 && at->second.handles == 0) of_.uses_.erase(at);
}
