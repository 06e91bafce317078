// Directories being read. Offsets are those of the directory under the mount, so they stay true while it changes.
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "caller.h"
#include "server.h"

namespace {

constexpr size_t listBytes = 64 << 10;

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

int Server::opendir(Request& request) {
  InodePtr inode;
  FdPtr path;
  if (const int error = node(request.header().nodeid, inode, path)) return error;
  auto handle = std::make_unique<DirHandle>();
  handle->inode = inode;
  if (!inode->foreign) {
    handle->fd = Fd(openat(AT_FDCWD, caller::ProcName(path->get()).get(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!handle->fd) return errno;
  }
  fuse_open_out out{};
  out.fh = reinterpret_cast<uint64_t>(handle.get());
  out.open_flags = wire::openKeepCache | wire::openCacheDir;
  if (request.reply(out) == 0) handle.release();
  return 0;
}

int Server::readdir(Request& request) { return list(request, false); }

int Server::readdirplus(Request& request) { return list(request, true); }

// Once the reply is sent the handle may be gone: another worker may be serving its RELEASEDIR already.
int Server::list(Request& request, bool plus) {
  const auto* in = request.take<fuse_read_in>();
  if (!in) return EINVAL;
  DirHandle& dir = *reinterpret_cast<DirHandle*>(in->fh);
  const size_t room = std::min<size_t>(in->size, wire::maxTransfer);
  size_t used = 0;
  if (const int error = fill(dir, in->offset, request.scratch, room, used, plus)) return error;
  request.reply(request.scratch, used);
  return 0;
}

int Server::fill(DirHandle& dir, uint64_t offset, char* reply, size_t room, size_t& used, bool plus) {
  std::lock_guard lock(dir.mutex);
  if (dir.fd && offset != dir.position) {
    if (::lseek(dir.fd.get(), static_cast<off_t>(offset), SEEK_SET) < 0) return errno;
    dir.begin = dir.end = 0;
    dir.position = offset;
  }
  while (dir.fd) {
    if (dir.begin == dir.end) {
      dir.buffer.resize(listBytes);
      const long got = syscall(SYS_getdents64, dir.fd.get(), dir.buffer.data(), listBytes);
      if (got < 0 && used == 0) return errno;
      if (got <= 0) break;
      dir.begin = 0;
      dir.end = static_cast<size_t>(got);
    }
    const auto& entry = *reinterpret_cast<const DirEntry*>(dir.buffer.data() + dir.begin);
    if (!isSnapshotsName(dir.inode, entry.name) && !putEntry(dir, entry, reply, room, used, plus)) break;
    dir.begin += entry.length;
    dir.position = static_cast<uint64_t>(entry.next);
  }
  return 0;
}

// False when the entry does not fit. An entry that went since it was listed is left out.
bool Server::putEntry(const DirHandle& dir, const DirEntry& entry, char* reply, size_t room, size_t& used, bool plus) {
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

int Server::releasedir(Request& request) {
  const auto* in = request.take<fuse_release_in>();
  if (!in) return EINVAL;
  delete reinterpret_cast<DirHandle*>(in->fh);
  request.ok();
  return 0;
}

int Server::fsyncdir(Request& request) {
  const auto* in = request.take<fuse_fsync_in>();
  if (!in) return EINVAL;
  const Fd& fd = reinterpret_cast<DirHandle*>(in->fh)->fd;
  if (fd && ::fsync(fd.get()) != 0) return errno;
  request.ok();
  return 0;
}
