// Small files of a batch, one after the other into one memory, by one call: what costs more in calls than in reading when
// it is done piece by piece from JavaScript (lib/store/seal-job.ts).
//
// A file is as of one instant: its status before and after the reading must agree in size, mtime and ctime. Whatever is
// not a plain small file at rest (or is wanted otherwise, see `special`) is left to the caller.
#include "js.h"
#include "stat.h"

#include <algorithm>
#include <array>
#include <fcntl.h>
#include <string_view>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <vector>

namespace posix {

// The items of lib/store/seal-messages.ts, little endian: number u32, flags u8, directory's descriptor u32, length of the
// name u16, name; with spans: their length u32, and they.
constexpr uint8_t last_try = 1, with_spans = 2, regular_file = 4;
constexpr size_t item_head_bytes = 11;

enum class Status : uint8_t { file = 0, changed = 1, gone = 2, unreadable = 3 };
enum class Stop : uint32_t { end = 0, no_room = 1, special = 2 };

// Attributes of a file as an entry has them, without its content (lib/format/entry.ts).
constexpr size_t fixed_entry_bytes = 52;
constexpr size_t max_attribute_bytes = 4096;
constexpr size_t max_found_bytes = 4 + 1 + 12 + fixed_entry_bytes + 255 + 2 * max_attribute_bytes;

class Out {
 public:
  explicit Out(uint8_t *at) : at_(at) {}
  void raw(const void *data, size_t size) {
    memcpy(at_, data, size);
    at_ += size;
  }
  // Little endian, whatever the machine's order.
  template <typename T>
  void put(T value) {
    auto bits = static_cast<std::make_unsigned_t<T>>(value);
    for (size_t i = 0; i < sizeof bits; i++) *at_++ = static_cast<uint8_t>(bits >> (8 * i));
  }
  uint8_t *at() const { return at_; }

 private:
  uint8_t *at_;
};

struct Item {
  uint32_t number;
  uint8_t flags;
  int dir_fd;
  Name name;
  size_t name_bytes;
  size_t end;  // in the request
};

static uint32_t little(const uint8_t *at, int bytes) {
  uint32_t value = 0;
  for (int i = 0; i < bytes; i++) value |= uint32_t{at[i]} << (8 * i);
  return value;
}

static Item itemAt(const uint8_t *request, size_t size, size_t at) {
  if (size - at < item_head_bytes) throw BadArgument{"posix: an item is cut short"};
  const auto *head = request + at;
  Item item{little(head, 4), head[4], static_cast<int>(little(head + 5, 4)), {}, little(head + 9, 2), 0};
  item.end = at + item_head_bytes + item.name_bytes;
  if (item.end > size) throw BadArgument{"posix: an item is cut short"};
  const auto *name = head + item_head_bytes;
  if (item.name_bytes == 0 || item.name_bytes > 255 || memchr(name, 0, item.name_bytes) ||
      memchr(name, '/', item.name_bytes))
    throw BadArgument{"posix: a name is one component: not empty, no slash, no NUL"};
  memcpy(item.name.bytes, name, item.name_bytes);
  item.name.bytes[item.name_bytes] = 0;
  if (!strcmp(item.name.bytes, ".") || !strcmp(item.name.bytes, "..")) throw BadArgument{"posix: . and .. are not names"};
  return item;
}

// Without changing the atime where that is allowed (to the file's owner and to root).
static int openToRead(const Item &item) {
  int flags = O_RDONLY | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC;
  int fd = openat(item.dir_fd, item.name.bytes, flags | O_NOATIME);
  return fd < 0 && errno == EPERM ? openat(item.dir_fd, item.name.bytes, flags) : fd;
}

// Extended attributes that fit into a few KiB, sorted by name. False where they do not, or cannot be read.
class Attributes {
 public:
  bool read(int fd) {
    ssize_t size = flistxattr(fd, names_.data(), names_.size());
    if (size < 0) return errno == EOPNOTSUPP;
    size_t used = 0;
    for (const char *name = names_.data(); name < names_.data() + size; name += strlen(name) + 1) {
      ssize_t length = fgetxattr(fd, name, values_.data() + used, values_.size() - used);
      if (length < 0 && errno == ENODATA) continue;
      // A size of 0 asks how long a value is: a full buffer must not be taken for an answer.
      if (length < 0 || used + static_cast<size_t>(length) >= values_.size()) return false;
      list_.push_back({name, {values_.data() + used, static_cast<size_t>(length)}});
      used += static_cast<size_t>(length);
    }
    std::sort(list_.begin(), list_.end());
    return true;
  }
  size_t count() const { return list_.size(); }
  size_t bytes() const {
    size_t sum = 0;
    for (const auto &[name, value] : list_) sum += 5 + name.size() + value.size();
    return sum;
  }
  void write(Out &out) const {
    for (const auto &[name, value] : list_) {
      out.put(static_cast<uint8_t>(name.size()));
      out.put(static_cast<uint32_t>(value.size()));
      out.raw(name.data(), name.size());
      out.raw(value.data(), value.size());
    }
  }

 private:
  std::array<char, max_attribute_bytes> names_, values_;
  std::vector<std::pair<std::string_view, std::string_view>> list_;
};

static void writeEntryHead(Out &out, const Item &item, const StatRecord &stat, const Attributes &attributes) {
  out.put(uint8_t{1});  // a file
  out.put(uint8_t{0});  // at rest
  out.put(static_cast<uint16_t>(static_cast<uint32_t>(stat.mode) & 07777));
  out.put(static_cast<uint32_t>(stat.uid));
  out.put(static_cast<uint32_t>(stat.gid));
  out.put(stat.mtime_ns);
  out.put(stat.ctime_ns);
  out.put(stat.ino);
  out.put(static_cast<uint32_t>(stat.nlink));
  out.put(static_cast<uint64_t>(stat.size));
  out.put(static_cast<uint16_t>(item.name_bytes));
  out.put(static_cast<uint16_t>(attributes.count()));
  out.raw(item.name.bytes, item.name_bytes);
  attributes.write(out);
}

static ssize_t readFully(int fd, uint8_t *into, size_t size) {
  size_t done = 0;
  while (done < size) {
    ssize_t got = pread(fd, into + done, size - done, static_cast<off_t>(done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return -1;
    if (got == 0) break;
    done += static_cast<size_t>(got);
  }
  return static_cast<ssize_t>(done);
}

class Intake {
 public:
  Intake(uint8_t *memory, size_t size, size_t used, size_t limit) : memory_(memory), size_(size), used_(used), limit_(limit) {}

  size_t used() const { return used_; }

  // What becomes of the item goes to `out`; anything but `end` leaves it to the caller.
  Stop take(const Item &item, Out &out) {
    if ((item.flags & (last_try | with_spans)) || !(item.flags & regular_file)) return Stop::special;
    Fd file(openToRead(item));
    if (file.get() < 0) {
      // Something else than a file by now: the caller sees what.
      if (errno == ELOOP || errno == ENXIO) return Stop::special;
      return failed(item, errno, out);
    }
    StatRecord before, after;
    if (int error = readStat(file.get(), "", before)) return failed(item, error, out);
    auto size = static_cast<size_t>(before.size);
    if (!S_ISREG(static_cast<mode_t>(before.mode)) || size > limit_ || before.blocks * 512 < before.size)
      return Stop::special;
    if (size > size_ - used_) return Stop::no_room;
    Attributes attributes;
    // Each attribute costs 5 bytes more than its name and value: very many short ones are not for the room in `found`.
    if (!attributes.read(file.get()) || attributes.bytes() > 2 * max_attribute_bytes) return Stop::special;
    ssize_t got = readFully(file.get(), memory_ + used_, size);
    if (got < 0) return failed(item, errno, out);
    if (int error = readStat(file.get(), "", after)) return failed(item, error, out);
    bool at_rest = static_cast<size_t>(got) == size && before.size == after.size && before.mtime_ns == after.mtime_ns &&
                   before.ctime_ns == after.ctime_ns;
    begin(item, at_rest ? Status::file : Status::changed, out);
    if (!at_rest) return Stop::end;
    out.put(static_cast<uint32_t>(used_));
    out.put(static_cast<uint32_t>(size));
    out.put(static_cast<uint32_t>(fixed_entry_bytes + item.name_bytes + attributes.bytes()));
    writeEntryHead(out, item, before, attributes);
    used_ += size;
    return Stop::end;
  }

 private:
  static void begin(const Item &item, Status status, Out &out) {
    out.put(item.number);
    out.put(static_cast<uint8_t>(status));
  }

  static Stop failed(const Item &item, int error, Out &out) {
    begin(item, error == ENOENT ? Status::gone : Status::unreadable, out);
    if (error != ENOENT) out.put(static_cast<uint32_t>(error));
    return Stop::end;
  }

  uint8_t *memory_;
  size_t size_, used_, limit_;
};

// readSmall(request, at, memory, used, limit, found): reads items from `at` of the request on, files of at most `limit`
// bytes, behind the `used` bytes of the memory. Writes to `found`, little endian: next item's place u32, used now u32, why
// it stopped u32, end of what follows u32; then what was found, each: number u32, status u8, and
//   file        its place in memory u32, size u32, length u32 and bytes of its entry without the content
//   unreadable  errno u32
static napi_value readSmall(const Call &call) {
  auto *request = static_cast<uint8_t *>(call.memory(0, 0));
  void *start;
  size_t request_bytes, memory_bytes, found_bytes;
  check(napi_get_buffer_info(call.env, call.values[0], &start, &request_bytes));
  auto *memory = static_cast<uint8_t *>(call.memory(2, 0));
  check(napi_get_buffer_info(call.env, call.values[2], &start, &memory_bytes));
  auto *found = static_cast<uint8_t *>(call.memory(5, 16 + max_found_bytes));
  check(napi_get_buffer_info(call.env, call.values[5], &start, &found_bytes));
  auto at = static_cast<size_t>(call.integer(1)), used = static_cast<size_t>(call.integer(3));
  auto limit = static_cast<size_t>(call.integer(4));
  if (at > request_bytes || used > memory_bytes) throw BadArgument{"posix: a place is outside of its buffer"};
  Intake intake(memory, memory_bytes, used, limit);
  Out out(found + 16);
  auto stop = Stop::end;
  while (at < request_bytes) {
    if (static_cast<size_t>(out.at() - found) + max_found_bytes > found_bytes) {
      stop = Stop::no_room;
      break;
    }
    Item item = itemAt(request, request_bytes, at);
    stop = intake.take(item, out);
    if (stop != Stop::end) break;
    at = item.end;
  }
  Out head(found);
  head.put(static_cast<uint32_t>(at));
  head.put(static_cast<uint32_t>(intake.used()));
  head.put(static_cast<uint32_t>(stop));
  head.put(static_cast<uint32_t>(out.at() - found));
  return undefined(call.env);
}

void defineIntake(napi_env env, napi_value exports) { define<readSmall>(env, exports, "readSmall"); }

}  // namespace posix
