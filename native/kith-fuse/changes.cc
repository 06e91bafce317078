// The change log of one mount: <state>/changes, mapped MAP_SHARED by kith-fuse and read by the daemon with pread and
// pwrite, which meet the mapping in the page cache. Either side may be killed at any instant without harm to the other,
// and neither ever waits for the other. The daemon's side is lib/mount/change-log.ts, its codec lib/format/changes.ts.
//
// Layout, little endian. The header has 4096 bytes:
//     0  8 bytes  magic "KITHLOG1"
//     8  u32      version, 1
//    12  u32      bytes of a record, 48
//    16  u64      capacity in records
//    24  u64      written    (server) records published so far, ever
//    32  u64      taken      (daemon) records <= taken may no longer be changed; set BEFORE the daemon looks at anything
//    40  u64      freed      (daemon) records <= freed were made durable elsewhere: their slots may be used again
//    48  u64      lost       (server) grows when a change could not be recorded
//    56  u64      session    (server) random, new at each start of a server
//    64  u64      freed check (daemon) the complement of freed
//    72  u64      asleep     (daemon sets 1, server sets 0) the daemon wants a wake-up for the next record
//    80  u64      lost seen  (daemon) the value of `lost` that it has dealt with
// then `capacity` records; record number n (from 1) lies in slot (n - 1) mod capacity:
//     0  u64      sequence, n; written last
//     8  u64      ino
//    16  u64      parent     (names) the directory
//    24  u64      offset     (data, truncate); (names) bytes of the name
//    32  u64      length     (data)
//    40  u32      kind: 1 data, 2 truncate, 3 attributes, 4 names, 5 open, 6 close, 7 text
//    44  u32      0
// A names record is followed by as many text records as its name needs, each with 32 bytes of it in [8..40), the last
// one filled up with zeros. They are published together, so that the daemon has all of them or none.
//
// Invariant: freed <= taken <= written <= freed + capacity; and every change that was performed is covered by a record
// > freed, or `lost` differs from `lost seen`, or the daemon looked at the file after the change.
//
// Records are a set: a record says "look there". So a change may be absorbed by an earlier record of the same inode
// that is not taken yet, by widening it in place. Races:
//  - The change was performed before its record is sought. If the record found here is not taken after that (fence, then
//    load of `taken`), the daemon will set `taken` later, and look at the file later still: it sees the change.
//  - Widening stores the new range, then loads `taken` again after a full fence. The daemon stores `taken`, then a full
//    fence, then loads the record. So at least one of the two sees the other's store: either the daemon reads the
//    wider range, or the server sees that the record is taken and publishes the whole wider range as a new record.
//    What the daemon reads while the server stores may be a mixture of both; the new record covers both.
//  - `taken` may be read torn by this side (the daemon's pwrite need not store 8 bytes at once). That happens only while
//    the pwrite is under way, so that the daemon has not yet read any record: every outcome is safe.
//  - `freed` read torn could free too much, therefore its complement is stored as well, and a pair that does not match
//    is ignored until the next look.
// Crashes: a server killed between a change and its record has lost the record; a server killed while it fills a slot
// has not published it. The mount is dead then, and the next server starts with `lost` grown: the daemon looks at
// everything. Unread records stay all the same. A daemon killed anywhere leaves `freed` where it was, and the next one
// reads the same records again. The file is allocated in full before it is mapped, so that a full disk is an error at
// start, and not a SIGBUS later.

#include "changes.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <functional>
#include <new>
#include <utility>

static_assert(std::endian::native == std::endian::little, "the log is little endian");

namespace {

constexpr char magic[8] = {'K', 'I', 'T', 'H', 'L', 'O', 'G', '1'};
constexpr uint32_t version = 1;
constexpr uint64_t capacity = 65536;
constexpr size_t headerBytes = 4096;
constexpr size_t newestSlots = 8192;
// So many separate ranges of one inode may wait before they are joined, gaps included: random writes to one file must
// not fill the log of the others.
constexpr uint32_t separateRanges = 256;

enum Kind : uint32_t { data = 1, truncate = 2, attributes = 3, names = 4, open = 5, close = 6, text = 7 };

constexpr size_t textBytes = 32;

uint64_t textRecords(size_t bytes) { return (bytes + textBytes - 1) / textBytes; }

uint64_t saturatingEnd(uint64_t offset, uint64_t length) {
  uint64_t end;
  return __builtin_add_overflow(offset, length, &end) ? UINT64_MAX : end;
}

}  // namespace

struct ChangeLog::Header {
  char magic[8];
  uint32_t version;
  uint32_t recordBytes;
  uint64_t capacity;
  std::atomic<uint64_t> written, taken, freed, lost, session, freedCheck, asleep, lostSeen;
};

struct ChangeLog::Record {
  std::atomic<uint64_t> sequence, ino, parent, offset, length;
  std::atomic<uint32_t> kind;
  uint32_t reserved;
};

std::unique_ptr<ChangeLog> ChangeLog::open(int stateDirFd) {
  static_assert(sizeof(Header) == 88 && sizeof(Record) == 48);
  static_assert(std::atomic<uint64_t>::is_always_lock_free);
  constexpr size_t bytes = headerBytes + capacity * sizeof(Record);
  int fd = ::openat(stateDirFd, "changes", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd < 0) return nullptr;
  auto fail = [fd](int error) {
    ::close(fd);
    errno = error;
    return nullptr;
  };
  struct stat status;
  if (::flock(fd, LOCK_EX | LOCK_NB) != 0 || ::fstat(fd, &status) != 0) return fail(errno);
  if (!S_ISREG(status.st_mode)) return fail(EINVAL);
  if (status.st_size != off_t(bytes) && ::ftruncate(fd, 0) != 0) return fail(errno);
  if (int error = ::posix_fallocate(fd, 0, bytes)) return fail(error);
  void* memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (memory == MAP_FAILED) return fail(errno);
  return std::unique_ptr<ChangeLog>(new ChangeLog(fd, memory, bytes));
}

ChangeLog::ChangeLog(int fd, void* memory, size_t bytes)
    : fd_(fd),
      memory_(memory),
      bytes_(bytes),
      header_(static_cast<Header*>(memory)),
      records_(reinterpret_cast<Record*>(static_cast<char*>(memory) + headerBytes)),
      newest_(newestSlots) {
  Header& h = *header_;
  const uint64_t written = h.written, freed = h.freed;
  const bool whole = std::memcmp(h.magic, ::magic, sizeof h.magic) == 0 && h.version == ::version &&
                     h.recordBytes == sizeof(Record) && h.capacity == ::capacity && freed <= written &&
                     written - freed <= ::capacity && h.freedCheck == ~freed;
  if (!whole) {
    const uint64_t lost = h.lost;
    std::memset(memory_, 0, headerBytes);
    h.lost = lost;
    h.freedCheck = ~uint64_t{0};
    h.version = ::version;
    h.recordBytes = sizeof(Record);
    h.capacity = ::capacity;
    std::memcpy(h.magic, ::magic, sizeof h.magic);
  }
  // A log of this session has not seen what happened before it.
  h.lost = std::max<uint64_t>(h.lost, h.lostSeen) + 1;
  while (session_ == 0)
    if (::getrandom(&session_, sizeof session_, 0) != sizeof session_) session_ = 0;
  h.session = session_;
  freedSeen_ = h.freed;
}

ChangeLog::~ChangeLog() {
  ::munmap(memory_, bytes_);
  ::close(fd_);
}

void ChangeLog::data(uint64_t ino, uint64_t offset, uint64_t length) {
  if (length > 0) add({ino, 0, offset, length, Kind::data});
}
void ChangeLog::truncate(uint64_t ino, uint64_t size) { add({ino, 0, size, 0, Kind::truncate}); }
void ChangeLog::attributes(uint64_t ino) { add({ino, 0, 0, 0, Kind::attributes}); }
void ChangeLog::names(uint64_t parentIno, uint64_t childIno, std::string_view name) {
  add({childIno, parentIno, name.size(), 0, Kind::names, name});
}
void ChangeLog::openedForWriting(uint64_t ino) { add({ino, 0, 0, 0, Kind::open}); }
void ChangeLog::closedAfterWriting(uint64_t ino) { add({ino, 0, 0, 0, Kind::close}); }

void ChangeLog::onWake(std::function<void()> wake) { wake_ = std::move(wake); }

ChangeLog::Position ChangeLog::position() const {
  return {header_->written, header_->taken, header_->freed, header_->lost};
}

ChangeLog::Record& ChangeLog::slot(uint64_t index) const { return records_[index % ::capacity]; }

ChangeLog::Newest& ChangeLog::newest(const Change& change) {
  // Open and close of an inode share a record: what counts is which came last.
  const uint32_t group = change.kind == Kind::close ? uint32_t{Kind::open} : change.kind;
  const uint64_t nameHash = change.kind == Kind::names ? std::hash<std::string_view>{}(change.name) : 0;
  uint64_t mixed = (change.ino ^ change.parent * 0x9e3779b97f4a7c15 ^ nameHash) * 0xbf58476d1ce4e5b9 + group;
  Newest& found = newest_[(mixed ^ mixed >> 31) & (newest_.size() - 1)];
  if (found.ino != change.ino || found.parent != change.parent || found.nameHash != nameHash || found.group != group)
    found = {change.ino, change.parent, nameHash, UINT64_MAX, group, 0};
  return found;
}

void ChangeLog::add(const Change& change) {
  std::atomic_thread_fence(std::memory_order_seq_cst);  // the change itself comes before every load of `taken`
  bool wake;
  {
    std::lock_guard lock(mutex_);
    Change whole = change;
    if (widen(change, whole)) return;
    append(whole);
    std::atomic_thread_fence(std::memory_order_seq_cst);  // publish, then look whether the daemon sleeps
    wake = header_->asleep != 0 && header_->asleep.exchange(0) != 0;
  }
  if (wake && wake_) wake_();
}

// Lets the newest record of the same inode and kind take in the change. When that fails because the record was taken
// meanwhile, `whole` is what a new record must say.
bool ChangeLog::widen(const Change& change, Change& whole) {
  Newest& last = newest(change);
  if (last.index == UINT64_MAX || last.index < header_->taken) {
    last.separate = 0;
    return false;
  }
  if (change.kind == Kind::names) return sameName(last.index, change.name);
  Record& record = slot(last.index);
  const uint64_t offset = record.offset, end = saturatingEnd(offset, record.length);
  const uint64_t changeEnd = saturatingEnd(change.offset, change.length);
  const bool touches = change.offset <= end && offset <= changeEnd;
  if (change.kind == Kind::data && !touches && ++last.separate < separateRanges) return false;
  whole.offset = std::min(offset, change.offset);
  whole.length = change.kind == Kind::data ? std::max(end, changeEnd) - whole.offset : 0;
  if (whole.offset == offset && whole.length == record.length && whole.kind == record.kind) return true;
  record.offset = whole.offset;
  record.length = whole.length;
  record.kind = whole.kind;
  std::atomic_thread_fence(std::memory_order_seq_cst);
  return last.index >= header_->taken;
}

// Names records are never widened: one that says the same is enough, and it was found not to be taken.
bool ChangeLog::sameName(uint64_t index, std::string_view name) const {
  if (slot(index).offset != name.size()) return false;
  for (size_t at = 0; at < name.size(); at += textBytes) {
    const std::string_view part = name.substr(at, textBytes);
    const Record& record = slot(++index);
    const uint64_t words[] = {record.ino, record.parent, record.offset, record.length};
    if (std::memcmp(words, part.data(), part.size()) != 0) return false;
  }
  return true;
}

void ChangeLog::append(const Change& change) {
  Header& h = *header_;
  const uint64_t index = h.written.load(std::memory_order_relaxed);
  const uint64_t texts = textRecords(change.name.size());
  if (!room(index, 1 + texts)) {
    h.lost.fetch_add(1);
    return;
  }
  Record& record = slot(index);
  record.ino.store(change.ino, std::memory_order_relaxed);
  record.parent.store(change.parent, std::memory_order_relaxed);
  record.offset.store(change.offset, std::memory_order_relaxed);
  record.length.store(change.length, std::memory_order_relaxed);
  record.kind.store(change.kind, std::memory_order_relaxed);
  record.sequence.store(index + 1, std::memory_order_release);
  for (uint64_t i = 0; i < texts; i++) {
    uint64_t words[textBytes / 8] = {};
    const std::string_view part = change.name.substr(i * textBytes, textBytes);
    std::memcpy(words, part.data(), part.size());
    Record& text = slot(index + 1 + i);
    text.ino.store(words[0], std::memory_order_relaxed);
    text.parent.store(words[1], std::memory_order_relaxed);
    text.offset.store(words[2], std::memory_order_relaxed);
    text.length.store(words[3], std::memory_order_relaxed);
    text.kind.store(Kind::text, std::memory_order_relaxed);
    text.sequence.store(index + 2 + i, std::memory_order_release);
  }
  h.written.store(index + 1 + texts, std::memory_order_release);
  newest(change).index = index;
}

bool ChangeLog::room(uint64_t written, uint64_t records) {
  if (written - freedSeen_ + records <= ::capacity) return true;
  const uint64_t freed = header_->freed, check = header_->freedCheck;
  if (check == ~freed && freed > freedSeen_ && freed <= written) freedSeen_ = freed;
  return written - freedSeen_ + records <= ::capacity;
}
