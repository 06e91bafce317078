// kith-fuse --dir-fd N --mountpoint PATH --state DIR
//
// Serves the directory that descriptor N is open on, over that directory itself. The state directory holds `changes`
// (the log) and `bridge.sock`. One line goes to standard output: `ready`, or what is wrong. Then the process lives on in
// a session of its own, whatever becomes of its parent, until it is unmounted or told to stop (SIGTERM, or by the
// bridge): it detaches the mount, keeps serving what is still open, and ends when that is closed.
// Exit status: 0 ended in order, 1 did not start, 2 wrong arguments.
//
// Order of the end: workers, then the bridge (its last answers go to the snapshots), then the snapshots, then the log.
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <optional>
#include <string>

#include "bridge.h"
#include "caller.h"
#include "changes.h"
#include "channel.h"
#include "mount.h"
#include "server.h"
#include "snapshots.h"

namespace {

struct Arguments {
  int dirFd = -1;
  std::string mountpoint, state;
};

std::optional<Arguments> parse(int argc, char** argv) {
  Arguments arguments;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string name = argv[i], value = argv[i + 1];
    if (name == "--dir-fd") {
      char* end;
      const long number = strtol(value.c_str(), &end, 10);
      if (*end || value.empty() || number < 0 || number > 1 << 20) return {};
      arguments.dirFd = static_cast<int>(number);
    } else if (name == "--mountpoint") {
      arguments.mountpoint = value;
    } else if (name == "--state") {
      arguments.state = value;
    } else {
      return {};
    }
  }
  if (argc != 7 || arguments.dirFd < 0 || arguments.mountpoint.empty() || arguments.state.empty()) return {};
  return arguments;
}

int refuse(const std::string& why) {
  printf("%s\n", why.c_str());
  fflush(stdout);
  return 1;
}

int refuseErrno(const char* what) { return refuse(std::string(what) + ": " + strerror(errno)); }

// What the parent has open is not ours to keep: its files would stay open as long as the mount.
void closeInherited(int but) {
  if (but > STDERR_FILENO + 1) close_range(STDERR_FILENO + 1, static_cast<unsigned>(but) - 1, 0);
  close_range(static_cast<unsigned>(std::max(but, STDERR_FILENO)) + 1, ~0u, 0);
}

// Limits of the parent's that would fall on its users' operations.
void liftLimits() {
  signal(SIGPIPE, SIG_IGN);
  signal(SIGXFSZ, SIG_IGN);
  signal(SIGIO, SIG_IGN);  // of a lease that someone waits for: unseen.cc
  rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
  }
  limit = {RLIM_INFINITY, RLIM_INFINITY};
  setrlimit(RLIMIT_FSIZE, &limit);
}

// Standard input and output end here; standard error is the log its parent gave.
void leaveParent() {
  printf("ready\n");
  fflush(stdout);
  Fd null(open("/dev/null", O_RDWR | O_CLOEXEC));
  if (null) {
    dup2(null.get(), STDIN_FILENO);
    dup2(null.get(), STDOUT_FILENO);
  }
}

void wake(int event) {
  const uint64_t one = 1;
  if (write(event, &one, sizeof(one)) < 0) fprintf(stderr, "kith-fuse: cannot wake the main thread: %m\n");
}

void drain(int event) {
  uint64_t count;
  if (read(event, &count, sizeof(count)) < 0) fprintf(stderr, "kith-fuse: cannot read an event: %m\n");
}

// What a program had open whose end was just seen: the kernel's words on it may be under way.
constexpr int closingMs = 500;

// Waits for the workers' end; meanwhile unmounts when it is told to, and says what stays open.
void supervise(Mount& mount, Server& server, int signals, int stopEvent, int endEvent) {
  pollfd events[3] = {{signals, POLLIN, 0}, {stopEvent, POLLIN, 0}, {endEvent, POLLIN, 0}};
  while (true) {
    if (poll(events, 3, -1) < 0 && errno != EINTR) return;
    if (events[2].revents) return;
    if (!events[0].revents && !events[1].revents) continue;
    signalfd_siginfo info;
    if (events[0].revents && read(signals, &info, sizeof(info)) < 0) continue;
    if (events[1].revents) drain(stopEvent);
    const int error = mount.stop();
    if (error != 0) fprintf(stderr, "kith-fuse: cannot unmount: %s\n", strerror(error));
    if (poll(&events[2], 1, closingMs) > 0) return;
    for (const std::string& path : server.openFiles()) fprintf(stderr, "kith-fuse: unmounted; still open: %s\n", path.c_str());
  }
}

// The kernel asks anew what `.snapshots` holds, and what the names in it mean.
void notifySnapshotsChanged(int device, Snapshots& snapshots) {
  const std::vector<std::string> names = snapshots.listChanged();
  const fuse_notify_inval_inode_out out{Snapshots::rootNode, 0, 0};
  DeviceWay::send(device, 0, FUSE_NOTIFY_INVAL_INODE, &out, sizeof(out));
  for (const std::string& name : names) {
    fuse_notify_inval_entry_out entry{};
    entry.parent = Snapshots::rootNode;
    entry.namelen = static_cast<uint32_t>(name.size());
    entry.flags = wire::expireOnly;
    std::string message(reinterpret_cast<const char*>(&entry), sizeof(entry));
    message.append(name.c_str(), name.size() + 1);
    DeviceWay::send(device, 0, FUSE_NOTIFY_INVAL_ENTRY, message.data(), message.size());
  }
}

int serve(const Arguments& arguments, int signals) {
  Fd state(open(arguments.state.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!state) return refuseErrno("cannot open the state directory");
  Fd procFds(open("/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!procFds) return refuseErrno("cannot open /proc/self/fd (mount /proc)");
  Fd stopEvent(eventfd(0, EFD_CLOEXEC)), endEvent(eventfd(0, EFD_CLOEXEC));
  if (!stopEvent || !endEvent) return refuseErrno("cannot make an event");
  std::unique_ptr<ChangeLog> log = ChangeLog::open(state.get());
  if (!log) return refuseErrno(errno == EWOULDBLOCK ? "another kith-fuse serves this volume" : "cannot open the change log");
  std::unique_ptr<Inodes> inodes = Inodes::open(arguments.dirFd);
  if (!inodes) return refuseErrno("cannot open the directory");
  struct stat root;
  if (fstat(arguments.dirFd, &root) != 0) return refuseErrno("cannot read the directory's status");
  const Bridge::Identity identity{root.st_dev, root.st_ino, static_cast<uint32_t>(getpid()), log->session(),
                                  arguments.dirFd};
  const bool privileged = caller::canSwitch();
  Server server(std::move(inodes), *log);
  Mount mount;
  std::string error;
  if (!mount.start(arguments.dirFd, arguments.mountpoint, error)) return refuse(error);
  const int device = mount.device();
  const char* const wish = getenv("KITH_IO_URING");
  bool rings = !wish || strcmp(wish, "off") != 0;
  if ((errno = Channel::agree(device, server, privileged, rings)) != 0) return refuseErrno("the kernel's FUSE is too old");

  std::unique_ptr<Snapshots> snapshots;
  std::atomic<Snapshots*> serving = nullptr;
  std::unique_ptr<Bridge> bridge = Bridge::start(
      state.get(), identity, *log,
      {[&] { wake(stopEvent.get()); }, [&] {
         const int failure = mount.syncPages();
         server.settleUnseen();
         return failure;
       }, [&] { if (Snapshots* to = serving) notifySnapshotsChanged(device, *to); },
       [&] { return server.openFiles(); }});
  if (!bridge) {
    const int reason = errno;
    mount.stop();
    errno = reason;
    return refuseErrno("cannot listen on bridge.sock");
  }
  snapshots = std::make_unique<Snapshots>(*bridge, [&](uint64_t unique, int failure, const void* data, size_t length) {
    server.replyLater(unique, failure, data, length);
  });
  server.serveSnapshots(*snapshots);
  serving = snapshots.get();
  Channel channel(device, procFds.get(), server, rings, [&] { wake(endEvent.get()); });
  mount.remember();
  leaveParent();
  supervise(mount, server, signals, stopEvent.get(), endEvent.get());
  channel.join();
  bridge.reset();
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const std::optional<Arguments> arguments = parse(argc, argv);
  if (!arguments) {
    fprintf(stderr, "usage: kith-fuse --dir-fd N --mountpoint PATH --state DIR\n");
    return 2;
  }
  closeInherited(arguments->dirFd);
  fcntl(arguments->dirFd, F_SETFD, FD_CLOEXEC);
  setsid();  // refused when the parent has made us a session's or group's leader already
  if (chdir("/") != 0) return refuseErrno("cannot leave the working directory");
  liftLimits();
  sigset_t handled;
  sigemptyset(&handled);
  for (const int signal : {SIGTERM, SIGINT, SIGHUP}) sigaddset(&handled, signal);
  sigprocmask(SIG_BLOCK, &handled, nullptr);  // in every thread, as they are made after this
  Fd signals(signalfd(-1, &handled, SFD_CLOEXEC));
  if (!signals) return refuseErrno("cannot receive signals");
  return serve(*arguments, signals.get());
}
