// A worker runs as root with all its capabilities, or as the plain user it was started by, who is then the only caller.
// As root, to create a file:
//   umask (the thread has its own, by unshare) -> supplementary group -> fsgid -> fsuid -> capabilities
// The kernel drops the file-system capabilities of a thread whose fsuid leaves 0, and gives them back on return. Of
// those, all but CAP_FSETID are raised again in between: the mount's own permission checks have been made, with the
// caller's ACLs and groups, which are not known here; but a set-group-id bit must not survive for a caller outside the
// group. For that one rule the kernel sends the caller's supplementary group that owns the parent (protocol 7.38).
// The raw system calls are needed, as glibc's setgroups changes every thread.
#include "caller.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/fsuid.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <iterator>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include "fd.h"

namespace caller {

namespace {

struct Capabilities {
  __user_cap_data_struct words[2];
};

bool switching = false;  // set before threads start

thread_local Capabilities full;  // what the thread started with
thread_local bool setIdKept = true;
thread_local uint32_t mask = 0;  // what umask the thread has: only Creating makes files

bool capabilities(long call, Capabilities& value) {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  return syscall(call, &header, value.words) == 0;
}

void without(unsigned capability) {
  Capabilities value = full;
  value.words[capability / 32].effective &= ~(1u << capability % 32);
  capabilities(SYS_capset, value);
}

void setGroups(size_t count, const uint32_t* groups) { syscall(SYS_setgroups, count, groups); }

// The group in the extension of type extGroups, if there is one. Layout: {u32 size, u32 type}, then for this type
// {u32 count, u32 groups[count]}; sizes are multiples of 8 and include the header.
// They follow names, so they are not aligned.
std::optional<uint32_t> supplementaryGroup(Request& request) {
  const size_t extensions = size_t{request.header().total_extlen} * 8;
  if (extensions == 0 || request.left() < extensions) return {};
  request.bytes(request.left() - extensions);
  uint32_t words[4];  // size, type, count, first group
  while (request.left() >= 8) {
    memcpy(words, request.body(), std::min(request.left(), sizeof(words)));
    if (words[0] < 8 || words[0] > request.left()) return {};
    if (words[1] == wire::extGroups && words[0] >= sizeof(words) && words[2] >= 1) return words[3];
    request.bytes(words[0]);
  }
  return {};
}

void beRoot() {
  setfsuid(0);
  setfsgid(0);
  setGroups(0, nullptr);
  capabilities(SYS_capset, full);
}

// A file of /proc about a thread; "" when there is none.
std::string ofProcess(uint32_t pid, const char* name) {
  const std::string path = "/proc/" + std::to_string(pid) + "/" + name;
  Fd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  std::string text;
  char piece[4096];
  ssize_t got;
  while (fd && (got = read(fd.get(), piece, sizeof(piece))) > 0) text.append(piece, static_cast<size_t>(got));
  return text;
}

// The supplementary groups of a thread.
std::vector<uint32_t> groupsOf(uint32_t pid) {
  std::istringstream lines(ofProcess(pid, "status"));
  std::string line;
  while (std::getline(lines, line) && !line.starts_with("Groups:")) {
  }
  std::istringstream numbers(line.empty() ? line : line.substr(std::min<size_t>(line.size(), strlen("Groups:"))));
  return {std::istream_iterator<uint32_t>(numbers), {}};
}

}  // namespace

bool canSwitch() {
  Capabilities now{};
  if (!capabilities(SYS_capget, now)) return false;
  const unsigned wanted = 1u << CAP_SETUID | 1u << CAP_SETGID | 1u << CAP_DAC_OVERRIDE | 1u << CAP_FSETID;
  switching = geteuid() == 0 && (now.words[0].effective & wanted) == wanted;
  return switching;
}

bool enterThread(int procFds) {
  if (unshare(CLONE_FS) != 0 || fchdir(procFds) != 0) return false;
  umask(0);
  if (!switching) return true;
  setGroups(0, nullptr);
  return capabilities(SYS_capget, full);
}

bool switches() { return switching; }

void keepSetId() {
  if (!switching || setIdKept) return;
  setfsgid(0);
  capabilities(SYS_capset, full);
  setIdKept = true;
}

// A set-group-id bit without group execution survives a write by a member of the file's group: hence the fsgid.
void clearSetId(const Request& request) {
  if (!switching) return;
  setfsgid(request.header().gid);
  if (setIdKept) without(CAP_FSETID);
  setIdKept = false;
}

Creating::Creating(Request& request, uint32_t wanted) {
  // It stays, as the next caller's is mostly the same.
  if (mask != (wanted & 0777)) umask(mask = wanted & 0777);
  const uint32_t uid = request.header().uid, gid = request.header().gid;
  keepSetId();
  if (!switching || (uid == 0 && gid == 0)) return;
  switched_ = true;
  if (const std::optional<uint32_t> group = supplementaryGroup(request)) setGroups(1, &*group);
  setfsgid(gid);
  setfsuid(uid);
  if (uid != 0) without(CAP_FSETID);
}

Creating::~Creating() {
  if (switched_) beRoot();
}

Being::Being(const Request& request) {
  keepSetId();
  if (!switching) return;
  const std::vector<uint32_t> groups = groupsOf(request.header().pid);
  setGroups(groups.size(), groups.data());
  setfsgid(request.header().gid);
  setfsuid(request.header().uid);
}

Being::~Being() {
  if (switching) beRoot();
}

// Between its request and its sleep the caller counts as running.
bool isChanging(const Request& request) {
  std::string call = "running";
  for (int i = 0; i < 1000 && call.starts_with("running"); i++) {
    if (i > 0) sched_yield();
    call = ofProcess(request.header().pid, "syscall");
  }
  const long number = call.empty() ? -1 : strtol(call.c_str(), nullptr, 10);
  for (const long change : {SYS_chown, SYS_lchown, SYS_fchown, SYS_fchownat})
    if (number == change && call[0] != 'r') return true;
  return false;
}

ProcName::ProcName(int fd) { snprintf(text_, sizeof(text_), "%d", fd); }

}  // namespace caller
