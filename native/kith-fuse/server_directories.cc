// Directories being read. Offsets are those of the directory under the mount, so they stay true while it changes.
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>

#include "server.h"

namespace {

// Read at once from the directory under the mount.
constexpr size_t minListBytes = 4 << 10, maxListBytes = 32 << 10;
// An entry with its attributes takes at least so many times its bytes there: what does not fit is read again.
constexpr size_t plusGrowth = 4;

// As getdents64 lays it out; `length` is the whole record's.
struct RawEntry {
  uint64_t ino;
  int64_t next;  // offset of the entry after this one
  uint16_t length;
  uint8_t type;
  char name[];
};

bool isDots(const char* name) { return name[0] == '.' && (!name[1] || (name[1] == '.' && !name[2])); }

}  // namespace

struct DirEntry : RawEntry {};

int Server::readdir(Request& request) { return list(request, false); }

int Server::readdirplus(Request& request) { return list(request, true); }

// The stream is kept before the reply is sent: the kernel may go on at once.
int Server::list(Request& request, bool plus) {
  const auto* in = request.take<fuse_read_in>();
  if (!in) return EINVAL;
  InodePtr inode;
  FdPtr path;
  if (const int error = node(request.header().nodeid, inode, path)) return error;
  size_t used = 0;
  if (!inode->foreign) {
    std::unique_ptr<Listings::Stream> dir = listings_.take(inode, path->get(), in->offset);
    if (!dir) return errno;
    const size_t room = std::min<size_t>(in->size, wire::maxTransfer);
    if (const int error = fill(*dir, request.scratch, room, used, plus)) return error;
    if (used > 0) listings_.keep(std::move(dir));
  }
  request.reply(request.scratch, used);
  return 0;
}

int Server::fill(Listings::Stream& dir, char* reply, size_t room, size_t& used, bool plus) {
  if (dir.ended) return 0;
  std::unique_lock lock(listings_.borrowing, std::defer_lock);
  if (dir.borrowed) lock.lock();
  // The last time more may have been read than there was room for.
  if (::lseek(dir.fd.get(), static_cast<off_t>(dir.position), SEEK_SET) < 0) return errno;
  alignas(RawEntry) char raw[maxListBytes];
  const size_t atOnce = std::clamp(plus ? room / plusGrowth : room, minListBytes, maxListBytes);
  while (true) {
    const long got = syscall(SYS_getdents64, dir.fd.get(), raw, atOnce);
    if (got < 0 && used == 0) return errno;
    dir.ended = got == 0;
    if (got <= 0) return 0;
    for (long at = 0; at < got;) {
      const auto& entry = *reinterpret_cast<const DirEntry*>(raw + at);
      if (!isSnapshotsName(dir.inode, entry.name) && !putEntry(dir, entry, reply, room, used, plus)) return 0;
      at += entry.length;
      dir.position = static_cast<uint64_t>(entry.next);
    }
  }
}

// False when the entry does not fit. An entry that went since it was listed is left out.
bool Server::putEntry(const Listings::Stream& dir, const DirEntry& entry, char* reply, size_t room, size_t& used,
                      bool plus) {
  const size_t nameLength = strlen(entry.name);
  const size_t head = plus ? sizeof(fuse_entry_out) : 0;
  const size_t size = FUSE_DIRENT_ALIGN(head + FUSE_NAME_OFFSET + nameLength);
  if (room - used < size) return false;
  char* const at = reply + used;
  memset(at, 0, size);
  uint32_t type = entry.type;
  if (plus && !isDots(entry.name)) {
    struct statx facts;
    if (statChild(dir.fd.get(), entry.name, facts)) {
      fuse_entry_out out;
      fillEntry(out, inodes_->remember(dir.inode, entry.name, facts), facts);
      memcpy(at, &out, sizeof(out));
      type = (facts.stx_mode & S_IFMT) >> 12;
    } else if (errno == ENOENT) {
      return true;
    }
  }
  fuse_dirent out{};
  out.ino = entry.ino;
  out.off = static_cast<uint64_t>(entry.next);
  out.namelen = static_cast<uint32_t>(nameLength);
  out.type = type;
  memcpy(at + head, &out, FUSE_NAME_OFFSET);
  memcpy(at + head + FUSE_NAME_OFFSET, entry.name, nameLength);
  used += size;
  return true;
}

int Server::fsyncdir(Request& request) {
  if (!request.take<fuse_fsync_in>()) return EINVAL;
  InodePtr inode;
  FdPtr path;
  if (const int error = node(request.header().nodeid, inode, path)) return error;
  if (!inode->foreign) {
    bool borrowed;
    const Fd fd = listings_.open(inode, path->get(), borrowed);
    if (!fd || ::fsync(fd.get()) != 0) return errno;
  }
  request.ok();
  return 0;
}
