// The kernel's FUSE protocol: the system's <linux/fuse.h>, and the later facts (7.39 to 7.45) that Debian 12's lacks.
// The names are our own, so that a newer system header does not clash with them.
#pragma once

#include <linux/fuse.h>

#include <cstddef>
#include <cstdint>

namespace wire {

// Requests of one transfer carry at most 256 pages; a request's buffer also takes its headers.
constexpr uint32_t maxPages = 256;
constexpr size_t maxTransfer = 1u << 20;
constexpr size_t bufferBytes = maxTransfer + 4096;

// Opcodes.
constexpr uint32_t opStatx = 52;
constexpr uint32_t opCopyFileRange64 = 53;

// INIT: bits 32.. travel in flags2.
constexpr uint64_t initCreateSuppGroup = 1ull << 34;
constexpr uint64_t initPassthrough = 1ull << 37;
constexpr uint64_t initOverIoUring = 1ull << 41;

// Replies to OPEN and CREATE.
constexpr uint32_t openDirectIo = 1u << 0;
constexpr uint32_t openKeepCache = 1u << 1;
constexpr uint32_t openCacheDir = 1u << 3;
constexpr uint32_t openParallelDirectWrites = 1u << 6;
constexpr uint32_t openPassthrough = 1u << 7;

// Flag of NOTIFY_INVAL_ENTRY, 7.38: the name is asked for again, and what is below it stays. Older kernels drop it all.
constexpr uint32_t expireOnly = 1u << 0;

// An extension after a creating request's names: the caller's supplementary group that owns the parent, if any.
constexpr uint32_t extGroups = 32;

// The reply to INIT, and the part of a reply that says how a file was opened, with the fields of 7.40.
struct InitOut {
  uint32_t major, minor, maxReadahead, flags;
  uint16_t maxBackground, congestionThreshold;
  uint32_t maxWrite, timeGran;
  uint16_t maxPages, mapAlignment;
  uint32_t flags2;
  uint32_t maxStackDepth;  // of file systems below and with ours; passthrough needs 1 at least
  uint32_t unused[6];
};
static_assert(sizeof(InitOut) == 64);
struct OpenOut {
  uint64_t fh;
  uint32_t flags;
  int32_t backingId;
};
static_assert(sizeof(OpenOut) == 16);

// STATX: the reply's `stat` has the layout of statx(2)'s own struct up to its device numbers.
struct StatxIn {
  uint32_t getattrFlags, reserved;
  uint64_t fh;
  uint32_t flags, mask;
};
struct StatxTime {
  int64_t seconds;
  uint32_t nanoseconds;
  int32_t reserved;
};
struct StatxOut {
  uint64_t attrValid;
  uint32_t attrValidNsec, flags;
  uint64_t spare[2];
  uint32_t mask, blksize;
  uint64_t attributes;
  uint32_t nlink, uid, gid;
  uint16_t mode, spare0;
  uint64_t ino, size, blocks, attributesMask;
  StatxTime atime, btime, ctime, mtime;
  uint32_t rdevMajor, rdevMinor, devMajor, devMinor;
  uint64_t spare2[14];
};
static_assert(sizeof(StatxOut) == 32 + 256);

// FUSE over io_uring, 7.42. A request comes, and its reply goes, in an entry: a head, and a payload that takes a largest
// request. The first argument of a request is in `operation`; what follows it (names, data) in the payload; replies are
// all in the payload. The entry is registered once with a queue, of which the kernel has one for each processor.
struct EntryHead {
  union {
    fuse_in_header in;
    fuse_out_header out;
    char room[128];
  };
  char operation[128];
  uint64_t flags, commitId;  // the latter as the kernel gave it, to be told with the reply
  uint32_t payloadBytes, padding;
  uint64_t reserved;
};
static_assert(sizeof(EntryHead) == 288);
// Command of an io_uring on the device, at the end of its io_uring_sqe.
struct EntryCommand {
  uint64_t flags, commitId;
  uint16_t queue;
  uint8_t padding[6];
};
static_assert(sizeof(EntryCommand) == 24);
constexpr uint32_t entryRegister = 1;
constexpr uint32_t entryCommitAndFetch = 2;

struct CopyFileRangeOut {
  uint64_t bytes;
};

}  // namespace wire
