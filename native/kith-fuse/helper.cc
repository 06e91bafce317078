// The helper may be installed, ended and started again at any time. Without it nothing is registered; what is registered
// stays so, as the kernel keeps it. A helper that does not answer in time is let go of, and tried again later.
#include "helper.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "../kith-passthrough/protocol.h"

namespace {

constexpr std::chrono::seconds patience{1};
constexpr std::chrono::seconds untilNextTry{5};

}  // namespace

bool PassthroughHelper::connected() {
  if (socket_) return true;
  const auto now = std::chrono::steady_clock::now();
  if (now < nextTry_) return false;
  nextTry_ = now + untilNextTry;
  const char* named = getenv(passthrough::socketVariable);
  const char* path = named ? named : passthrough::socketPath;
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (strlen(path) >= sizeof(address.sun_path)) return false;
  strcpy(address.sun_path, path);
  Fd socket(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  const timeval timeout{patience.count(), 0};
  ucred peer{};
  socklen_t length = sizeof(peer);
  // Who gets the device may answer in our place: only root may have it.
  if (!socket || setsockopt(socket.get(), SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout)) != 0 ||
      setsockopt(socket.get(), SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout)) != 0 ||
      connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0 ||
      getsockopt(socket.get(), SOL_SOCKET, SO_PEERCRED, &peer, &length) != 0 || peer.uid != 0)
    return false;
  socket_ = std::move(socket);
  return true;
}

bool PassthroughHelper::send(uint32_t operation, int32_t id, const int* fds, int count, int flags) {
  passthrough::Message request{operation, id};
  iovec part{&request, sizeof(request)};
  alignas(cmsghdr) char control[CMSG_SPACE(2 * sizeof(int))]{};
  const size_t bytes = static_cast<size_t>(count) * sizeof(int);
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = CMSG_SPACE(bytes);
  cmsghdr* head = CMSG_FIRSTHDR(&message);
  head->cmsg_level = SOL_SOCKET;
  head->cmsg_type = SCM_RIGHTS;
  head->cmsg_len = CMSG_LEN(bytes);
  memcpy(CMSG_DATA(head), fds, bytes);
  return sendmsg(socket_.get(), &message, MSG_NOSIGNAL | flags) == sizeof(request);
}

int32_t PassthroughHelper::open(int device, int fd) {
  if (!connected()) return 0;
  giveBack(device);
  const int fds[2] = {device, fd};
  int32_t reply = 0;
  if (socket_ && send(passthrough::openBacking, 0, fds, 2, 0) && recv(socket_.get(), &reply, sizeof(reply), 0) == sizeof(reply))
    return reply > 0 ? reply : 0;
  socket_.reset();
  return 0;
}

void PassthroughHelper::close(int device, int32_t id) {
  owed_.push_back(id);
  if (connected()) giveBack(device);
}

void PassthroughHelper::giveBack(int device) {
  while (!owed_.empty() && send(passthrough::closeBacking, owed_.back(), &device, 1, MSG_DONTWAIT)) owed_.pop_back();
  if (!owed_.empty() && errno != EAGAIN && errno != ETOOMANYREFS) socket_.reset();
}
