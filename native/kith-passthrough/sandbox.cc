// The kernel keeps the identity under which a backing file was registered, and later reads and writes with it. So it must
// be the peer's in all that a file system looks at: user, groups, no CAP_DAC_OVERRIDE, CAP_SYS_RESOURCE or CAP_FSETID.
// Real and saved user id stay root's, so that the peer can neither signal nor trace the process; the way back that they
// leave is closed by the filter, which allows no call that changes an identity.
#include "sandbox.h"

#include <errno.h>
#include <grp.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "protocol.h"

namespace {

#if defined(__x86_64__)
constexpr unsigned architecture = AUDIT_ARCH_X86_64;
#elif defined(__aarch64__)
constexpr unsigned architecture = AUDIT_ARCH_AARCH64;
#else
#error "name the audit architecture of this machine"
#endif

constexpr size_t maxGroups = 65536;  // the kernel's own bound
gid_t groups[maxGroups];

constexpr sock_filter load(size_t offset) { return BPF_STMT(BPF_LD | BPF_W | BPF_ABS, static_cast<unsigned>(offset)); }
// Skips the next instruction unless the loaded word is `value`.
constexpr sock_filter unless(long value) {
  return BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<unsigned>(value), 0, 1);
}
constexpr sock_filter result(unsigned what) { return BPF_STMT(BPF_RET | BPF_K, what); }
constexpr sock_filter allow = result(SECCOMP_RET_ALLOW);
constexpr sock_filter forbid = result(SECCOMP_RET_KILL_PROCESS);

bool filterCalls() {
  // An ioctl's command is 32 bits wide for the kernel, too: the low half of the argument (little-endian machines).
  sock_filter program[] = {
      load(offsetof(seccomp_data, arch)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, architecture, 1, 0), forbid,
      load(offsetof(seccomp_data, nr)),
      unless(SYS_recvmsg), allow,
      unless(SYS_sendto), allow,
      unless(SYS_statx), allow,
      unless(SYS_fstatfs), allow,
      unless(SYS_fcntl), allow,
      unless(SYS_close), allow,
      unless(SYS_exit_group), allow,
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_ioctl, 1, 0), forbid,
      load(offsetof(seccomp_data, args[1])),
      unless(static_cast<long>(passthrough::iocBackingOpen)), allow,
      unless(static_cast<long>(passthrough::iocBackingClose)), allow,
      forbid,
  };
  const sock_fprog filter{sizeof(program) / sizeof(program[0]), program};
  return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0;
}

bool keepOnlyAdmin() {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct words[2]{};
  words[0].permitted = words[0].effective = 1u << CAP_SYS_ADMIN;
  return syscall(SYS_capset, &header, words) == 0;
}

}  // namespace

bool becomePeer(int socket, uid_t uid, gid_t gid) {
  socklen_t length = sizeof(groups);
  if (getsockopt(socket, SOL_SOCKET, SO_PEERGROUPS, groups, &length) != 0) return false;
  if (setgroups(length / sizeof(gid_t), groups) != 0 || setresgid(gid, gid, gid) != 0) return false;
  if (setresuid(0, uid, 0) != 0 || !keepOnlyAdmin()) return false;
  // After the change of identity, which would undo it: not to outlive the service.
  prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
  return prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == 0 && filterCalls();
}
