// Each worker reads from its own clone of the device, so that the kernel keeps a queue of unanswered requests for each.
// Where cloning is refused (an old kernel, or a user who may not open the device) the workers share one descriptor.
#include "channel.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

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

struct Buffers {
  std::unique_ptr<char[]> request{new char[wire::bufferBytes]};
  std::unique_ptr<char[]> reply{new char[wire::bufferBytes]};
};

}  // namespace

int Channel::agree(int device, Server& server, bool privileged) {
  Buffers buffers;
  const ssize_t length = next(device, buffers.request.get());
  if (length <= 0) return length == 0 ? ENODEV : static_cast<int>(-length);
  Request request(device, buffers.request.get(), static_cast<size_t>(length), buffers.reply.get());
  const int error = server.init(request, device, privileged);
  if (error != 0) request.fail(error);
  return error;
}

Channel::Channel(int device, int procFds, Server& server, std::function<void()> ended)
    : procFds_(procFds), server_(server), ended_(std::move(ended)), running_(workers) {
  for (int i = 0; i < workers; i++) {
    Fd clone = i == 0 ? Fd() : cloneOf(device);
    const int own = clone ? clone.get() : device;
    clones_.push_back(std::move(clone));
    threads_.emplace_back([this, own] { work(own); });
  }
}

Channel::~Channel() {
  for (std::thread& thread : threads_) thread.join();
}

void Channel::work(int device) {
  Buffers buffers;
  ssize_t length = 0;
  if (!caller::enterThread(procFds_)) {
    fprintf(stderr, "kith-fuse: a worker cannot set up its file-system identity: %m\n");
  } else {
    while ((length = next(device, buffers.request.get())) > 0) {
      Request request(device, buffers.request.get(), static_cast<size_t>(length), buffers.reply.get());
      if (!server_.dispatch(request, device)) break;
    }
    if (length < 0) fprintf(stderr, "kith-fuse: cannot read requests: %s\n", strerror(static_cast<int>(-length)));
  }
  if (--running_ == 0) ended_();
}
