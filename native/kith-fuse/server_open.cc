// Opening, creating and closing files.
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "caller.h"
#include "server.h"

namespace {

// What of the caller's flags holds for our descriptor. Not O_APPEND, as each WRITE names its offset; not O_DIRECT, as our
// buffers are not the caller's, and the kernel keeps its cache coherent itself. (Who only writes, and whose every WRITE comes
// here, has another descriptor for it: FileHandle::direct.)
constexpr int keptFlags = O_ACCMODE | O_TRUNC | O_SYNC | O_DSYNC | O_NOATIME;

// Files from this size on are not left to the kernel by those who only write.
constexpr off_t wholeFile = 64 << 20;
// Nor, from this size on, by those who read and write.
constexpr off_t hugeFile = 1 << 30;

bool forWriting(uint32_t flags) { return (flags & O_ACCMODE) != O_RDONLY; }

bool writesDirectly(uint32_t flags) { return flags & O_DIRECT && (flags & O_ACCMODE) == O_WRONLY; }

// Whether each WRITE of this handle should come here, past the kernel's cache. `flags` are its open's. All that append must:
// the kernel opens the backing file to append, too, and goes on appending when fcntl(2) has taken the flag away. The same
// with O_DIRECT: who only writes so often takes it away for a last piece that is no whole block (dd). Who reads, too, is
// rather a data base, which wants the kernel's speed and does no such thing.
bool wantsWrites(int fd, uint32_t flags) {
  if (!forWriting(flags)) return false;
  if (flags & O_APPEND || writesDirectly(flags)) return true;
  if ((flags & O_ACCMODE) == O_RDWR || flags & O_TRUNC) return false;
  struct stat about;
  return fstat(fd, &about) != 0 || about.st_size >= wholeFile;
}

Backings::Wish wishOf(const SmallFiles& small, int fd, uint32_t flags) {
  if (small.suits(fd, flags)) return Backings::Wish::filled;
  struct stat about;
  const bool both = (flags & O_ACCMODE) == O_RDWR && !(flags & O_TRUNC);
  return both && fstat(fd, &about) == 0 && about.st_size >= hugeFile ? Backings::Wish::cached : Backings::Wish::passed;
}

}  // namespace

int Server::open(Request& request) {
  const auto* in = request.take<fuse_open_in>();
  if (!in) return EINVAL;
  InodePtr inode;
  FdPtr path;
  if (const int error = node(request.header().nodeid, inode, path)) return error;
  if (inode->foreign) return EXDEV;
  if (inode->type != S_IFREG) return inode->type == S_IFLNK ? ELOOP : EINVAL;
  const int flags = (static_cast<int>(in->flags) & keptFlags) | O_CLOEXEC;
  const caller::ProcName name(path->get());
  in->open_flags & FUSE_OPEN_KILL_SUIDGID ? caller::clearSetId(request) : caller::keepSetId();
  Fd fd(openat(AT_FDCWD, name.get(), flags));
  // A file with the append-only attribute opens for appending only.
  if (!fd && errno == EPERM && in->flags & O_APPEND) fd = Fd(openat(AT_FDCWD, name.get(), flags | O_APPEND));
  // The kernel opens a file for itself to pass on an ioctl of who has it open, whatever its mode says by now.
  if (!fd && errno == EACCES && !forWriting(in->flags) && !(fd = open_.another(inode))) return EACCES;
  if (!fd) return errno;
  path = nullptr;
  if (in->flags & O_TRUNC) log_.truncate(inode->ino, 0);
  const wire::OpenOut out = opened(request, inode, std::make_shared<const Fd>(std::move(fd)), in->flags);
  if (request.reply(out) != 0) close(out.fh);
  return 0;
}

// Readers are left to the kernel; those of a small file get its bytes with the reply. So are those who write: the whole file
// counts as changing (unseen.h). But of those who only write to a big file, or append to any, each WRITE is seen, past the
// kernel's cache, which would not know what others change in the backing: the daemon then reads again what was written, and
// not the whole. Below wholeFile that is done in the blink of an eye; a file that is being made new has to be read anyway.
// Who also reads may map, and so write unseen. A huge file, of which the whole takes seconds again and again, is for them as
// without passthrough, if nobody has it open or mapped: reads come from the kernel's cache, and each change comes here.
// A handle of the kernel's outlives a killed server, and can still write: the daemon never heard its close, so it goes on
// looking at the file.
wire::OpenOut Server::opened(const Request& request, const InodePtr& inode, FdPtr fd, uint32_t flags) {
  FdPtr held = inodes_->reopensByHandle() ? nullptr : inodes_->fd(inode);
  auto* handle = new FileHandle{std::move(fd), inode, forWriting(flags), false, std::move(held), {}};
  wire::OpenOut out{};
  out.fh = reinterpret_cast<uint64_t>(handle);
  caller::keepSetId();  // the kernel writes with the rights of this moment
  const int fdNow = handle->fd->get();
  const auto both = [&] { return Fd(openat(AT_FDCWD, caller::ProcName(fdNow).get(), O_RDWR | O_CLOEXEC)); };
  const Backings::Opened how =
      backings_.open(inode.get(), fdNow, static_cast<int>(flags) & O_ACCMODE, wishOf(small_, fdNow, flags), both);
  if (how.filling) {
    small_.fill(request, inode, fdNow);
    backings_.filled(inode.get());
  } else if (how.id != 0) {
    inode->kept = 0;
  }
  out.backingId = how.id;
  if (out.backingId != 0) out.flags = wire::openPassthrough;
  // What may be written past the kernel's pages is at least read anew by each who opens it.
  else if (!inode->passed) out.flags = wire::openKeepCache;
  const bool seen = wantsWrites(fdNow, flags);
  if (out.backingId != 0 && seen) out.flags |= wire::openDirectIo | wire::openParallelDirectWrites;
  const int direct = (static_cast<int>(flags) & keptFlags & ~O_TRUNC) | O_DIRECT | O_CLOEXEC;
  if (writesDirectly(flags)) handle->direct = Fd(openat(AT_FDCWD, caller::ProcName(fdNow).get(), direct));
  handle->unseen = out.backingId != 0 && handle->writes && !(seen && (flags & O_ACCMODE) == O_WRONLY);
  open_.add(handle);
  if (handle->writes) inode->writers++;
  if (handle->unseen) {
    // Only who may read, too, may map the file for writing.
    const bool mayMap = (flags & O_ACCMODE) == O_RDWR;
    unseen_.opened(inode, mayMap);
    if (mayMap) forgetAttributes(request, inode);
  }
  return out;
}

// From now on the kernel changes the file's times without telling itself.
void Server::forgetAttributes(const Request& request, const InodePtr& inode) {
  if (inode->mappable.exchange(true)) return;
  const fuse_notify_inval_inode_out out{inode->node, -1, 0};
  request.notify(FUSE_NOTIFY_INVAL_INODE, out);
}

int Server::create(Request& request) {
  const auto* in = request.take<fuse_create_in>();
  const char* name = request.name();
  if (!in || !name) return EINVAL;
  InodePtr dir;
  FdPtr dirFd;
  if (const int error = directory(request.header().nodeid, dir, dirFd)) return error;
  if (isSnapshotsName(dir, name)) return EROFS;
  Fd fd;
  {
    caller::Creating as(request, in->umask);
    // Always a new file: one that appeared beneath the mount, unseen by the kernel, must pass its checks first.
    const int flags = (static_cast<int>(in->flags) & keptFlags) | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC;
    fd = Fd(openat(dirFd->get(), name, flags, in->mode & 07777));
  }
  // It then looks the name up again, and opens what it finds.
  if (!fd && errno == EEXIST && !(in->flags & O_EXCL)) return ESTALE;
  struct statx facts;
  if (!fd || !statSelf(fd.get(), facts)) return errno;
  log_.names(dir->ino, facts.stx_ino, name);
  // Also of a new file: its number may have been another's, of which nothing holds any more.
  if (facts.stx_size == 0) log_.truncate(facts.stx_ino, 0);
  return replyCreated(request, inodes_->remember(dir, name, facts), facts, std::move(fd), in->flags);
}

int Server::tmpfile(Request& request) {
  const auto* in = request.take<fuse_create_in>();
  if (!in || !request.string()) return EINVAL;
  InodePtr dir;
  FdPtr dirFd;
  if (const int error = directory(request.header().nodeid, dir, dirFd)) return error;
  Fd fd;
  {
    caller::Creating as(request, in->umask);
    const int flags = (static_cast<int>(in->flags) & (keptFlags | O_EXCL)) | O_TMPFILE | O_CLOEXEC;
    fd = Fd(openat(dirFd->get(), ".", flags, in->mode & 07777));
  }
  struct statx facts;
  if (!fd || !statSelf(fd.get(), facts)) return errno;
  Fd path(openat(AT_FDCWD, caller::ProcName(fd.get()).get(), O_PATH | O_CLOEXEC));
  if (!path) return errno;
  log_.truncate(facts.stx_ino, 0);
  InodePtr inode = inodes_->remember(nullptr, "", facts, std::make_shared<const Fd>(std::move(path)));
  return replyCreated(request, inode, facts, std::move(fd), in->flags);
}

int Server::replyCreated(Request& request, const InodePtr& inode, const struct statx& facts, Fd fd, uint32_t flags) {
  struct {
    fuse_entry_out entry;
    wire::OpenOut open;
  } out;
  const auto opening = std::make_shared<const Fd>(std::move(fd));
  inodes_->lend(inode, opening);
  out.open = opened(request, inode, opening, flags | O_TRUNC);  // nothing is in it yet
  fillEntry(out.entry, inode, facts);
  if (request.reply(out) != 0) close(out.open.fh);
  return 0;
}

int Server::release(Request& request) {
  const auto* in = request.take<fuse_release_in>();
  if (!in) return EINVAL;
  close(in->fh);
  request.ok();
  return 0;
}

void Server::close(uint64_t fh) {
  auto* handle = reinterpret_cast<FileHandle*>(fh);
  open_.remove(handle);
  const InodePtr inode = handle->inode;
  const bool unseen = handle->unseen;
  if (handle->writes) inode->writers--;
  backings_.release(inode.get());
  delete handle;
  if (unseen) unseen_.closed(inode);
}
