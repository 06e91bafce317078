// Attributes of a file in a snapshot: as the daemon sends them (layout: bridge.cc), and as the kernel wants them.
#pragma once

#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "frames.h"
#include "wire.h"

constexpr uint32_t snapshotBlockBytes = 4096;

struct SnapshotAttributes {
  uint64_t ino, size, blocks;
  int64_t mtime;
  uint32_t mtimeNs, mode, nlink, uid, gid, xattrs;
  uint64_t rdev;
};

inline SnapshotAttributes readAttributes(FrameReader& from) {
  SnapshotAttributes a;
  a.ino = from.integer<uint64_t>();
  a.size = from.integer<uint64_t>();
  a.blocks = from.integer<uint64_t>();
  a.mtime = from.integer<int64_t>();
  a.mtimeNs = from.integer<uint32_t>();
  a.mode = from.integer<uint32_t>();
  a.nlink = from.integer<uint32_t>();
  a.uid = from.integer<uint32_t>();
  a.gid = from.integer<uint32_t>();
  a.xattrs = from.integer<uint32_t>();
  a.rdev = from.integer<uint64_t>();
  from.integer<uint64_t>();
  return a;
}

// As the kernel packs a device number into 32 bits.
inline uint32_t packedDevice(uint64_t rdev) {
  const uint32_t high = major(rdev), low = minor(rdev);
  return (low & 0xff) | (high << 8) | ((low & ~0xffu) << 12);
}

inline fuse_attr kernelAttributes(const SnapshotAttributes& a) {
  fuse_attr out{};
  out.ino = a.ino;
  out.size = a.size;
  out.blocks = a.blocks;
  out.atime = out.mtime = out.ctime = uint64_t(a.mtime);
  out.atimensec = out.mtimensec = out.ctimensec = a.mtimeNs;
  out.mode = a.mode;
  out.nlink = a.nlink;
  out.uid = a.uid;
  out.gid = a.gid;
  out.rdev = packedDevice(a.rdev);
  out.blksize = snapshotBlockBytes;
  return out;
}

inline wire::StatxOut kernelStatx(const SnapshotAttributes& a, uint64_t seconds) {
  wire::StatxOut out{};
  out.attrValid = seconds;
  out.mask = STATX_BASIC_STATS;
  out.blksize = snapshotBlockBytes;
  out.nlink = a.nlink;
  out.uid = a.uid;
  out.gid = a.gid;
  out.mode = uint16_t(a.mode);
  out.ino = a.ino;
  out.size = a.size;
  out.blocks = a.blocks;
  out.atime = out.ctime = out.mtime = {a.mtime, a.mtimeNs, 0};
  out.rdevMajor = major(a.rdev);
  out.rdevMinor = minor(a.rdev);
  return out;
}
