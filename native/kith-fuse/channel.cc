// Each worker reads from its own clone of the device, so that the kernel keeps a queue of unanswered requests for each.
// Where cloning is refused (an old kernel, or a user who may not open the device) the workers share one descriptor.
#include "channel.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <new>

#include "caller.h"

namespace {

Fd cloneOf(int device) {
  Fd clone(open("/dev/fuse", O_RDWR | O_CLOEXEC));
  uint32_t of = static_cast<uint32_t>(device);
  if (!clone || ioctl(clone.get(), FUSE_DEV_IOC_CLONE, &of) != 0) return {};
  return clone;
}

// Length of the request read, 0 when the mount has ended, or -errno.
ssize_t next(int device, char* buffer) {
  while (true) {
    const ssize_t length = read(device, buffer, wire::bufferBytes);
    if (length >= static_cast<ssize_t>(sizeof(fuse_in_header))) return length;
    if (length >= 0) return -EPROTO;
    if (errno == ENODEV) return 0;
    // ENOENT: the request was interrupted before it was read.
    if (errno != EINTR && errno != EAGAIN && errno != ENOENT) return -errno;
  }
}

// The bytes of a WRITE come to lie at the begin of a page, from where they can be written with O_DIRECT.
class Buffers {
 public:
  char* request() const { return pages_.get() + pageBytes - sizeof(fuse_in_header) - sizeof(fuse_write_in); }
  char* reply() const { return reply_.get(); }

 private:
  static constexpr size_t pageBytes = 4096;
  struct Free {
    void operator()(char* memory) const { operator delete[](memory, std::align_val_t{pageBytes}); }
  };
  const std::unique_ptr<char[], Free> pages_{new (std::align_val_t{pageBytes}) char[pageBytes + wire::bufferBytes]};
  const std::unique_ptr<char[]> reply_{new char[wire::bufferBytes]};
};

}  // namespace

int Channel::agree(int device, Server& server, bool privileged, bool& rings) {
  Buffers buffers;
  const ssize_t length = next(device, buffers.request());
  if (length <= 0) return length == 0 ? ENODEV : static_cast<int>(-length);
  DeviceWay way(device);
  Request request(way, device, buffers.request(), static_cast<size_t>(length), buffers.reply());
  rings = rings && Queues::possible(device);
  const int error = server.init(request, device, privileged, rings);
  if (error != 0) request.fail(error);
  return error;
}

Channel::Channel(int device, int procFds, Server& server, bool rings, std::function<void()> ended)
    : procFds_(procFds), server_(server), ended_(std::move(ended)), running_(workers) {
  for (int i = 0; i < workers; i++) {
    Fd clone = i == 0 ? Fd() : cloneOf(device);
    const int own = clone ? clone.get() : device;
    clones_.push_back(std::move(clone));
    ways_.emplace_back(own);
    threads_.emplace_back([this, own, &way = ways_.back()] { work(way, own); });
  }
  if (!rings) return;
  queues_ = std::make_unique<Queues>(device, procFds, server, [this] { running_++; }, [this] { end(); });
  queues_->start();
}

void Channel::join() {
  for (std::thread& thread : threads_) thread.join();
  if (queues_) queues_->join();
}

void Channel::end() {
  if (--running_ == 0) ended_();
}

void Channel::work(Way& way, int device) {
  Buffers buffers;
  ssize_t length = 0;
  if (!caller::enterThread(procFds_)) {
    fprintf(stderr, "kith-fuse: a worker cannot set up its file-system identity: %m\n");
  } else {
    while ((length = next(device, buffers.request())) > 0) {
      Request request(way, device, buffers.request(), static_cast<size_t>(length), buffers.reply());
      if (!server_.dispatch(request)) break;
    }
    if (length < 0) fprintf(stderr, "kith-fuse: cannot read requests: %s\n", strerror(static_cast<int>(-length)));
  }
  end();
}
