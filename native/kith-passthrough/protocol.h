// What kith-fuse and kith-passthrough say to each other, over a SOCK_SEQPACKET socket, in the machine's own byte order.
//
//     request:  0 u32 operation   4 i32 id         with descriptors: open: device, file; close: device
//     reply:    0 i32             the id of a backing file, or a negative errno; to open only
#pragma once

#include <sys/ioctl.h>

#include <cstdint>

namespace passthrough {

constexpr const char* socketPath = "/run/kith-passthrough.sock";
constexpr const char* socketVariable = "KITH_PASSTHROUGH_SOCKET";  // names another one

enum Operation : uint32_t { openBacking = 1, closeBacking = 2 };

struct Message {
  uint32_t operation;
  int32_t id;
};

// The kernel's calls on a FUSE device, protocol 7.40.
struct BackingMap {
  int32_t fd;
  uint32_t flags;
  uint64_t padding;
};
constexpr unsigned long iocBackingOpen = _IOW(229, 1, BackingMap);
constexpr unsigned long iocBackingClose = _IOW(229, 2, uint32_t);

}  // namespace passthrough
