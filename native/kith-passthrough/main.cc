// kith-passthrough [SOCKET]
//
// Lets the kith-fuse of ordinary users have the kernel read and write files by itself (FUSE_PASSTHROUGH). Registering a
// backing file wants CAP_SYS_ADMIN. This program, run by root, has it, and does that one call on descriptors which a peer
// passes: its FUSE device and a file. It opens nothing, and no path ever reaches it.
//
// What a peer must not gain. The kernel takes of the file only which one it is: it opens it anew at each open on the
// mount, in the mode that is asked for there, checking nothing, and reads and writes it with the identity it was
// registered under. Whoever has the device controls the mount. So:
//   - The file is open for reading and writing, not O_PATH, not O_APPEND, and carries no append-only or immutable
//     attribute. To the holder of such a descriptor the kernel has granted all that passthrough gives.
//   - It is a regular file of a file system that keeps files. Files of /proc, /sys and the like judge a writer by the
//     identity that opened them, and must never see ours.
//   - The identity is the peer's (sandbox.cc), so that quotas, space reserved for root and set-id bits stay what they are. What
//     remains is CAP_SYS_ADMIN; on these file systems reading and writing ask for it only under strict overcommit, where
//     tmpfs then gives the last admin_reserve_kbytes.
//   - The device is /dev/fuse by its number, and of the peer's own having: it could answer all requests of that mount as
//     it likes, as it is.
//   - A registered file stays open without counting in the peer's RLIMIT_NOFILE: a user has at most maxFiles of them.
//     Those a peer leaves behind count until the service is started again; the kernel frees them with the mount.
//   - Each peer has a process of its own, maxPeers a user, which holds a device only while it does one call: a mount whose
//     server died must not live on here. A peer that is slow, or whose file system hangs, stops nobody else.
//   - Root is refused: it needs no help.
// Exit status: 0 told to end, 1 did not start, 2 wrong arguments.
#include <errno.h>
#include <fcntl.h>
#include <linux/stat.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/wait.h>

#include <atomic>

#include "../kith-fuse/fd.h"
#include "protocol.h"
#include "sandbox.h"

namespace {

using passthrough::Message;

constexpr int maxUsers = 64;
constexpr int maxPeers = 8;      // connections of one user: one for each mount
constexpr int maxFiles = 16384;  // registered files of one user
constexpr int sendSeconds = 5;

// Shared by all processes of the service.
struct User {
  uid_t uid;
  int peers;  // counted by the first process alone
  std::atomic<int> files;
};
User* users;
pid_t pids[maxUsers][maxPeers];

bool isFuse(int fd) {
  struct statx about;
  if (statx(fd, "", AT_EMPTY_PATH, STATX_TYPE, &about) != 0 || !S_ISCHR(about.stx_mode)) return false;
  return about.stx_rdev_major == 10 && about.stx_rdev_minor == 229;
}

bool keepsFiles(int fd) {
  struct statfs about;
  if (fstatfs(fd, &about) != 0) return false;
  switch (static_cast<uint32_t>(about.f_type)) {
    case 0xef53:      // ext2, ext3, ext4
    case 0x58465342:  // xfs
    case 0x9123683e:  // btrfs
    case 0xf2f52010:  // f2fs
    case 0xca451a4e:  // bcachefs
    case 0x2fc12fc1:  // zfs
    case 0x01021994:  // tmpfs
      return true;
    default:
      return false;
  }
}

// 0, or why this file is not registered.
int refusal(int fd) {
  const int flags = fcntl(fd, F_GETFL);
  if (flags < 0) return errno;
  if ((flags & O_ACCMODE) != O_RDWR || flags & (O_PATH | O_APPEND)) return EACCES;
  struct statx about;
  if (statx(fd, "", AT_EMPTY_PATH, STATX_TYPE, &about) != 0) return errno;
  if (!S_ISREG(about.stx_mode)) return EINVAL;
  if (about.stx_attributes & (STATX_ATTR_APPEND | STATX_ATTR_IMMUTABLE)) return EPERM;
  return keepsFiles(fd) ? 0 : EOPNOTSUPP;
}

int registerFile(User& user, int device, int file) {
  if (!isFuse(device)) return -ENOTTY;
  if (const int error = refusal(file)) return -error;
  if (user.files.fetch_add(1) >= maxFiles) {
    user.files--;
    return -EMFILE;
  }
  const passthrough::BackingMap map{file, 0, 0};
  const int id = ioctl(device, passthrough::iocBackingOpen, &map);
  if (id > 0) return id;
  const int error = id < 0 ? errno : EIO;
  user.files--;
  return -error;
}

void release(User& user, int device, int32_t id) {
  const auto number = static_cast<uint32_t>(id);
  if (isFuse(device) && ioctl(device, passthrough::iocBackingClose, &number) == 0 && user.files.fetch_sub(1) <= 0) user.files++;
}

// One request. False when the peer is gone, or does not keep to the protocol.
bool serveOne(int peer, User& user) {
  Message request;
  iovec part{&request, sizeof(request)};
  alignas(cmsghdr) char control[CMSG_SPACE(2 * sizeof(int))];
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  const ssize_t length = recvmsg(peer, &message, MSG_CMSG_CLOEXEC);
  Fd fds[2];
  size_t count = 0;
  const cmsghdr* head = length < 0 ? nullptr : CMSG_FIRSTHDR(&message);
  if (head && head->cmsg_level == SOL_SOCKET && head->cmsg_type == SCM_RIGHTS) {
    for (; count < 2 && head->cmsg_len >= CMSG_LEN((count + 1) * sizeof(int)); count++) {
      int fd;
      memcpy(&fd, CMSG_DATA(head) + count * sizeof(int), sizeof(fd));
      fds[count] = Fd(fd);
    }
  }
  if (length != sizeof(request) || message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) return false;
  if (request.operation == passthrough::closeBacking && count == 1) {
    release(user, fds[0].get(), request.id);
    return true;
  }
  if (request.operation != passthrough::openBacking || count != 2) return false;
  const int32_t reply = registerFile(user, fds[0].get(), fds[1].get());
  return sendto(peer, &reply, sizeof(reply), MSG_NOSIGNAL, nullptr, 0) == sizeof(reply);
}

[[noreturn]] void servePeer(Fd peer, User& user, const ucred& who) {
  const timeval timeout{sendSeconds, 0};
  setsockopt(peer.get(), SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout));
  if (becomePeer(peer.get(), who.uid, who.gid))
    while (serveOne(peer.get(), user)) {
    }
  _exit(0);
}

// The user's record, or null when there is no room.
User* userOf(uid_t uid) {
  User* room = nullptr;
  for (User* user = users; user < users + maxUsers; user++) {
    const bool unused = user->peers == 0 && user->files == 0;
    if (user->uid == uid && !unused) return user;
    if (unused && !room) room = user;
  }
  if (room) room->uid = uid;
  return room;
}

void admit(int listener, int signals) {
  Fd peer(accept4(listener, nullptr, nullptr, SOCK_CLOEXEC));
  ucred who{};
  socklen_t length = sizeof(who);
  if (!peer || getsockopt(peer.get(), SOL_SOCKET, SO_PEERCRED, &who, &length) != 0 || who.uid == 0) return;
  User* user = userOf(who.uid);
  if (!user || user->peers >= maxPeers) return;
  const pid_t pid = fork();
  if (pid == 0) {
    close(listener);
    close(signals);
    servePeer(std::move(peer), *user, who);
  }
  for (pid_t& place : pids[user - users]) {
    if (pid < 0 || place != 0) continue;
    place = pid;
    user->peers++;
    return;
  }
}

void reap() {
  while (true) {
    const pid_t pid = waitpid(-1, nullptr, WNOHANG);
    if (pid <= 0) return;
    for (int i = 0; i < maxUsers * maxPeers; i++) {
      pid_t& place = pids[i / maxPeers][i % maxPeers];
      if (place != pid) continue;
      place = 0;
      users[i / maxPeers].peers--;
    }
  }
}

int fail(const char* what) {
  fprintf(stderr, "kith-passthrough: %s: %s\n", what, strerror(errno));
  return 1;
}

// A socket that everybody may connect to. None, with errno set; EADDRINUSE: another one listens there.
Fd listenOn(const char* path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  errno = ENAMETOOLONG;
  if (strlen(path) >= sizeof(address.sun_path)) return {};
  strcpy(address.sun_path, path);
  const auto* where = reinterpret_cast<const sockaddr*>(&address);
  Fd probe(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  errno = EADDRINUSE;
  if (!probe || connect(probe.get(), where, sizeof(address)) == 0) return {};
  if (errno == ECONNREFUSED) unlink(path);
  Fd listener(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  umask(0111);
  if (!listener || bind(listener.get(), where, sizeof(address)) != 0 || listen(listener.get(), 16) != 0) return {};
  return listener;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc > 2) {
    fprintf(stderr, "usage: kith-passthrough [SOCKET]\n");
    return 2;
  }
  const char* path = argc == 2 ? argv[1] : passthrough::socketPath;
  if (geteuid() != 0) {
    errno = EPERM;
    return fail("must be run by root");
  }
  void* shared = mmap(nullptr, sizeof(User) * maxUsers, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (shared == MAP_FAILED) return fail("cannot get memory");
  users = static_cast<User*>(shared);
  sigset_t handled;
  sigemptyset(&handled);
  for (const int signal : {SIGTERM, SIGINT, SIGCHLD}) sigaddset(&handled, signal);
  sigprocmask(SIG_BLOCK, &handled, nullptr);
  const Fd signals(signalfd(-1, &handled, SFD_CLOEXEC));
  if (!signals) return fail("cannot receive signals");
  const Fd listener = listenOn(path);
  if (!listener) return fail(path);
  while (true) {
    pollfd events[2] = {{signals.get(), POLLIN, 0}, {listener.get(), POLLIN, 0}};
    if (poll(events, 2, -1) < 0) continue;
    if (events[1].revents) admit(listener.get(), signals.get());
    signalfd_siginfo info;
    if (!events[0].revents || read(signals.get(), &info, sizeof(info)) != sizeof(info)) continue;
    if (info.ssi_signo != SIGCHLD) break;
    reap();
  }
  unlink(path);
  return 0;
}
