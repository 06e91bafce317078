// As root by mount(2) onto the descriptor itself, so that no path is walked twice; else by fusermount3, which is
// set-uid root, mounts for its caller and passes the device back over a socket named in _FUSE_COMMFD.
#include "mount.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <vector>

extern char** environ;

namespace {

constexpr const char* commonOptions = "default_permissions";

// The first line of what was written into a pipe, without the program's name. Does not wait for more.
std::string firstLine(int pipe) {
  char text[512];
  const ssize_t length = read(pipe, text, sizeof(text));
  std::string line(text, length > 0 ? static_cast<size_t>(length) : 0);
  line = line.substr(0, line.find('\n'));
  const size_t colon = line.find(": ");
  return line.starts_with("fusermount") && colon != std::string::npos ? line.substr(colon + 2) : line;
}

// Exit status of fusermount3, or -1 with errno when it could not be run. `inherited` (or -1) stays open in it. What it
// says goes into `said`, when that is given.
int runHelper(std::vector<std::string> args, int inherited, std::string* said = nullptr) {
  std::vector<char*> argv{const_cast<char*>("fusermount3")};
  for (std::string& arg : args) argv.push_back(arg.data());
  argv.push_back(nullptr);
  std::string variable = "_FUSE_COMMFD=" + std::to_string(inherited);
  std::vector<char*> env;
  for (char** at = environ; *at; at++) env.push_back(*at);
  if (inherited >= 0) env.push_back(variable.data());
  env.push_back(nullptr);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  sigset_t none;
  sigemptyset(&none);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
  int ends[2] = {-1, -1};
  if (said && pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) return -1;
  const Fd reading(ends[0]), writing(ends[1]);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  if (said) posix_spawn_file_actions_adddup2(&actions, writing.get(), STDERR_FILENO);
  pid_t pid;
  const int error = posix_spawnp(&pid, "fusermount3", &actions, &attributes, argv.data(), env.data());
  posix_spawn_file_actions_destroy(&actions);
  posix_spawnattr_destroy(&attributes);
  if (error != 0) {
    errno = error;
    return -1;
  }
  int status = 0;
  while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  if (said) *said = firstLine(reading.get());
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

Fd receiveFd(int socket) {
  char byte;
  iovec part{&byte, 1};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  if (recvmsg(socket, &message, MSG_CMSG_CLOEXEC) <= 0) return {};
  const cmsghdr* head = CMSG_FIRSTHDR(&message);
  if (!head || head->cmsg_level != SOL_SOCKET || head->cmsg_type != SCM_RIGHTS) return {};
  int fd;
  memcpy(&fd, CMSG_DATA(head), sizeof(fd));
  return Fd(fd);
}

// How the directory's own mount keeps access times, as flags for mount(2). It is what keeps them here, too.
unsigned long accessTimes(int dir) {
  struct statvfs of;
  if (fstatvfs(dir, &of) != 0) return 0;
  const unsigned long directories = of.f_flag & ST_NODIRATIME ? MS_NODIRATIME : 0;
  if (of.f_flag & ST_NOATIME) return MS_NOATIME | directories;
  return (of.f_flag & ST_RELATIME ? MS_RELATIME : MS_STRICTATIME) | directories;
}

// One that no later mount gets (statx(2), Linux 6.8); not in every libc's headers.
constexpr unsigned uniqueMountId = 0x4000;

// 0 when it cannot be told. Does not ask the file system, which may be one whose server is gone.
uint64_t mountIdOf(const Fd& root) {
  constexpr int flags = AT_EMPTY_PATH | AT_NO_AUTOMOUNT | AT_STATX_DONT_SYNC;
  struct statx facts;
  return root && statx(root.get(), "", flags, STATX_MNT_ID | uniqueMountId, &facts) == 0 ? facts.stx_mnt_id : 0;
}

}  // namespace

bool Mount::start(int dir, const std::string& path, std::string& error) {
  path_ = path;
  byHelper_ = geteuid() != 0;
  return byHelper_ ? startByHelper(error) : startAsRoot(dir, error);
}

bool Mount::startAsRoot(int dir, std::string& error) {
  device_ = Fd(open("/dev/fuse", O_RDWR | O_CLOEXEC));
  if (!device_) {
    error = std::string("cannot open /dev/fuse (") + strerror(errno) + "): load the fuse kernel module, or run on a host that has it";
    return false;
  }
  char options[160];
  snprintf(options, sizeof(options), "fd=%d,rootmode=40000,user_id=%u,group_id=%u,%s,allow_other", device_.get(), getuid(),
           getgid(), commonOptions);
  const std::string target = "/proc/self/fd/" + std::to_string(dir);
  const unsigned long flags = MS_NOSUID | MS_NODEV | accessTimes(dir);
  if (mount("kith", target.c_str(), "fuse.kith", flags, options) == 0) return true;
  error = std::string("cannot mount over the directory: ") + strerror(errno);
  return false;
}

bool Mount::startByHelper(std::string& error) {
  int pair[2];
  if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0) {
    error = std::string("cannot make a socket: ") + strerror(errno);
    return false;
  }
  Fd ours(pair[0]), theirs(pair[1]);
  fcntl(ours.get(), F_SETFD, FD_CLOEXEC);
  const std::string options = std::string(commonOptions) + ",nosuid,nodev,fsname=kith,subtype=kith";
  std::string said;
  const int status = runHelper({"-o", options, "--", path_}, theirs.get(), &said);
  theirs.reset();
  if (status < 0) {
    error = std::string("cannot run fusermount3 (") + strerror(errno) + "): install the package fuse3";
    return false;
  }
  if (status == 0) device_ = receiveFd(ours.get());
  if (device_) return true;
  error = "fusermount3 could not mount over the directory: " + (said.empty() ? "it did not say why" : said);
  return false;
}

Fd Mount::top() const { return Fd(open(path_.c_str(), O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)); }

void Mount::remember() { mountId_ = mountIdOf(top()); }

Fd Mount::own() const {
  Fd root = top();
  return mountId_ != 0 && mountIdOf(root) == mountId_ ? std::move(root) : Fd();
}

// As root by the descriptor that was looked at: by its path another mount, made meanwhile, could be meant. A mount that
// somebody has a descriptor of can only be detached; what was written goes out when the descriptor is closed.
int Mount::stop() {
  Fd root = own();
  if (!root) return ENOENT;  // unmounted already, or something else lies over it
  if (!byHelper_) return umount2(("/proc/self/fd/" + std::to_string(root.get())).c_str(), MNT_DETACH) == 0 ? 0 : errno;
  root.reset();
  if (runHelper({"-u", "-q", "--", path_}, -1) == 0) return 0;
  return runHelper({"-u", "-z", "-q", "--", path_}, -1) == 0 ? 0 : EBUSY;
}

int Mount::syncPages() {
  const Fd path = own();
  if (!path) return 0;
  // Opened for this moment only: a descriptor that stays would keep the mount busy.
  const Fd root(openat(path.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  return root && syncfs(root.get()) == 0 ? 0 : errno;
}
