// A file's status as it crosses to JavaScript. lib/base/posix.ts has the same layout.
#pragma once

#include <cstdint>
#include <sys/stat.h>

namespace posix {

// 14 fields of 8 bytes, in the machine's byte order: the first eight as 64-bit integers, the rest as doubles.
struct StatRecord {
  uint64_t dev;
  uint64_t ino;
  uint64_t rdev;
  int64_t atime_ns;
  int64_t mtime_ns;
  int64_t ctime_ns;
  int64_t btime_ns;  // 0 where the file system keeps none
  uint64_t mount_id;
  double mode;
  double nlink;
  double uid;
  double gid;
  double size;
  double blocks;  // of 512 bytes
};
static_assert(sizeof(StatRecord) == 14 * 8);

// statx(2) without following a symlink; an empty name means `fd` itself. Returns 0 or an errno.
int readStat(int fd, const char *name, StatRecord &out);

}  // namespace posix
