// A stream that was read from is kept, and found again by its directory and position. Several may stand at the same place:
// any of them will do, as a stream holds nothing but the place. It keeps the descriptor, as some file systems' offsets hold
// for one descriptor only while the directory changes (overlayfs); on all others one that was let go of (maxKept) is opened
// again, and put there.
// Offset 0 always opens the directory anew, so that whoever begins sees what is there now.
// A stream at its end has given its descriptor back already; it waits for the request that asks whether there is more.
#include "listings.h"

#include <fcntl.h>

#include <algorithm>

#include "caller.h"

Fd Listings::open(const InodePtr& dir, int path, bool& borrowed) {
  borrowed = false;
  Fd fd(openat(AT_FDCWD, caller::ProcName(path).get(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (fd || errno != EACCES) return fd;
  std::lock_guard lock(mutex_);
  borrowed = true;
  for (const Readable& held : readable_)
    if (held.dir == dir) return Fd(fcntl(held.fd.get(), F_DUPFD_CLOEXEC, 0));
  errno = EACCES;
  return {};
}

std::unique_ptr<Listings::Stream> Listings::take(const InodePtr& dir, int path, uint64_t offset) {
  if (offset != 0) {
    std::lock_guard lock(mutex_);
    const auto found = std::find_if(kept_.begin(), kept_.end(), [&](const auto& stream) {
      return stream->inode == dir && stream->position == offset;
    });
    if (found != kept_.end()) {
      std::unique_ptr<Stream> stream = std::move(*found);
      kept_.erase(found);
      return stream;
    }
  }
  auto stream = std::make_unique<Stream>(Stream{dir, {}, offset, false, false});
  stream->fd = open(dir, path, stream->borrowed);
  return stream->fd ? std::move(stream) : nullptr;
}

void Listings::keep(std::unique_ptr<Stream> stream) {
  if (stream->ended) stream->fd.reset();
  std::unique_ptr<Stream> oldest;  // closed when the mutex is free
  std::lock_guard lock(mutex_);
  kept_.push_front(std::move(stream));
  if (kept_.size() <= maxKept) return;
  oldest = std::move(kept_.back());
  kept_.pop_back();
}

void Listings::gone(const InodePtr& dir) {
  std::list<std::unique_ptr<Stream>> streams;
  std::list<Readable> readable;
  std::lock_guard lock(mutex_);
  for (auto at = kept_.begin(); at != kept_.end();) {
    const auto next = std::next(at);
    if ((*at)->inode == dir) streams.splice(streams.end(), kept_, at);
    at = next;
  }
  for (auto at = readable_.begin(); at != readable_.end();) {
    const auto next = std::next(at);
    if (at->dir == dir) readable.splice(readable.end(), readable_, at);
    at = next;
  }
}

void Listings::keepReadable(const InodePtr& dir, int path) {
  Fd fd(openat(AT_FDCWD, caller::ProcName(path).get(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd) return;
  std::list<Readable> oldest;
  std::lock_guard lock(mutex_);
  const auto found = std::find_if(readable_.begin(), readable_.end(), [&](const Readable& held) { return held.dir == dir; });
  if (found != readable_.end()) oldest.splice(oldest.end(), readable_, found);
  readable_.push_front({dir, std::move(fd)});
  if (readable_.size() > maxKept) oldest.splice(oldest.end(), readable_, std::prev(readable_.end()));
}
