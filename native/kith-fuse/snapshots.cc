// `.snapshots` below the mount. A node is kept as (parent, name, canonical name); the daemon is asked by the path in canonical
// names, so nothing here depends on which daemon answers.
//
// Below `.snapshots` itself one snapshot goes by several names: its exact instant, a day, `latest`. The latter come to mean
// another snapshot in time. The daemon's answer to their LOOKUP carries the exact (canonical) name, and the node stands for
// that: what is open under `latest` stays what it was, and the next lookup of `latest` finds another node. So everything
// below an exact name never changes, and the kernel may keep it for long: names, attributes, what a directory lists, and
// that a name is not there. An exact name itself may go, with its snapshot; a day and `latest` may move on. When the daemon
// says so, the kernel is told to ask for each of these names again (main.cc); should no daemon say so, it asks for the
// moving ones after a second.
//
// A node lives while the kernel has looked it up more often than it forgot, or has children here. A directory is listed in
// batches as the daemon gives them; a handle keeps the newest batch, and where each batch began, so that seeking back asks
// for the same batch again. Cookies: 0 `.`, 1 `..`, then 2 + index.

#include "snapshots.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "frames.h"
#include "snapshot_attributes.h"
#include "wire.h"

namespace {

constexpr uint64_t longSeconds = 24 * 3600;  // for what never changes
constexpr size_t maxListed = 65536;          // entries
constexpr uint64_t shortSeconds = 1;         // for the list of snapshots, and names that may come to mean another one

struct Node {
  uint64_t parent;
  std::string name, canonical;
  bool hasXattrs = true;  // false spares a question: programs ask for xattrs of every file
  uint64_t lookups = 0, children = 0;
};

struct Listed {
  SnapshotAttributes attributes;
  std::string name, canonical;
};

// One open directory. Guarded by Tree::mutex_.
struct Directory {
  struct Start {
    uint64_t index;
    std::string after;
  };
  std::vector<Start> starts = {{0, ""}};  // where batches begin, ascending
  std::vector<Listed> batch;              // the newest one
  uint64_t first = 0;                     // index of batch[0]
  bool loaded = false, last = false;      // last: the directory ends with this batch

  bool holds(uint64_t index) const {
    return loaded && index >= first && (last || index < first + batch.size());
  }
};

struct Listing {
  uint64_t unique, node, handle, offset;
  uint32_t room;
  bool plus;
};

std::string keyOf(uint64_t parent, std::string_view name, std::string_view canonical) {
  std::string key(reinterpret_cast<const char*>(&parent), sizeof parent);
  return key.append(name).append(1, '\0').append(canonical);
}

bool isName(std::string_view name) {
  return !name.empty() && name.size() <= 255 && name != "." && name != ".." &&
         name.find('/') == std::string_view::npos && name.find('\0') == std::string_view::npos;
}

template <typename Part>
const Part* part(const char*& body, size_t& length) {
  if (length < sizeof(Part)) return nullptr;
  const auto* found = reinterpret_cast<const Part*>(body);
  body += sizeof(Part);
  length -= sizeof(Part);
  return found;
}

std::string_view text(const char* body, size_t length) { return {body, ::strnlen(body, length)}; }

}  // namespace

class Snapshots::Tree : public std::enable_shared_from_this<Tree> {
 public:
  Tree(Bridge& bridge, Reply reply) : bridge_(bridge), reply_(std::move(reply)) {
    nodes_[rootNode] = {0, "", "", false, 1, 0};
    root_.ino = rootNode;
    root_.mode = S_IFDIR | 0555;
    root_.nlink = 2;
    root_.uid = ::geteuid();
    root_.gid = ::getegid();
    root_.mtime = ::time(nullptr);
  }
  void handle(const fuse_in_header& header, const char* body, size_t length);
  void forget(uint64_t id, uint64_t lookups);
  fuse_entry_out rootEntry() const { return entry(rootNode, root_, shortSeconds); }
  std::vector<std::string> knownNames();

 private:
  bool change(uint32_t opcode);
  void lookup(uint64_t unique, uint64_t parent, std::string_view name);
  void lookedUp(uint64_t unique, uint64_t parent, const std::string& name, int error, FrameReader from);
  void attributes(const fuse_in_header& header);
  void open(uint64_t unique, const fuse_open_in* in);
  void openDirectory(uint64_t unique, uint64_t id);
  void read(uint64_t unique, uint64_t id, const fuse_read_in* in);
  void readlink(uint64_t unique, uint64_t id);
  void seek(uint64_t unique, uint64_t id, const fuse_lseek_in* in);
  void xattr(BridgeRequest type, uint64_t unique, uint64_t id, const fuse_getxattr_in* in, std::string_view name);
  void list(const Listing& listing);
  void fetch(const Listing& listing, uint64_t index);
  int store(const Listing& listing, uint64_t first, const uint8_t* payload, size_t length);
  std::vector<char> render(const Listing& listing, const Directory& directory);
  bool put(std::vector<char>& out, const Listing& listing, uint64_t cookie, const Listed& entry, bool dot);

  std::optional<FrameWriter> path(uint64_t id);
  uint64_t adopt(uint64_t parent, const std::string& name, const std::string& canonical,
                 const SnapshotAttributes& attributes);
  bool hasXattrs(uint64_t id);
  fuse_entry_out entry(uint64_t id, const SnapshotAttributes& attributes, uint64_t nameSeconds) const;
  static uint64_t nameSeconds(uint64_t parent, std::string_view name, std::string_view canonical) {
    return parent != rootNode || name == canonical ? longSeconds : shortSeconds;
  }

  void ok(uint64_t unique) { reply_(unique, 0, nullptr, 0); }
  void fail(uint64_t unique, int error) { reply_(unique, -error, nullptr, 0); }
  template <typename Part>
  void reply(uint64_t unique, const Part& out) {
    reply_(unique, 0, &out, sizeof out);
  }
  // Asks the daemon about the node; `use` gets a good answer, all others go to the kernel as they are.
  template <typename Use>
  void ask(BridgeRequest type, uint64_t unique, uint64_t id, std::string_view name, Use use);
  template <typename Use>
  void send(BridgeRequest type, uint64_t unique, FrameWriter request, Use use);

  Bridge& bridge_;
  const Reply reply_;
  SnapshotAttributes root_{};
  std::mutex mutex_;  // guards all below
  std::unordered_map<uint64_t, Node> nodes_;
  std::unordered_map<std::string, uint64_t> byKey_;
  std::unordered_map<uint64_t, Directory> directories_;
  // What listings told of entries of snapshots, by keyOf: programs list a whole directory first, then ask for each entry.
  std::unordered_map<std::string, SnapshotAttributes> listed_;
  std::unordered_set<uint64_t> top_;  // the nodes of names of snapshots
  uint64_t lastNode_ = rootNode, lastHandle_ = 0;
};

// ---- nodes

std::optional<FrameWriter> Snapshots::Tree::path(uint64_t id) {
  std::lock_guard lock(mutex_);
  std::vector<const std::string*> names;
  while (id != rootNode) {
    auto found = nodes_.find(id);
    if (found == nodes_.end()) return std::nullopt;
    names.push_back(&found->second.canonical);
    id = found->second.parent;
  }
  FrameWriter out;
  out.integer(uint16_t(names.size()));
  for (auto name = names.rbegin(); name != names.rend(); ++name) out.text(**name);
  return names.size() > UINT16_MAX ? std::nullopt : std::optional(std::move(out));
}

// The node of this name, looked up once more. Called with mutex_ held.
uint64_t Snapshots::Tree::adopt(uint64_t parent, const std::string& name, const std::string& canonical,
                                const SnapshotAttributes& attributes) {
  auto [known, isNew] = byKey_.try_emplace(keyOf(parent, name, canonical), lastNode_ + 1);
  if (isNew) {
    ++lastNode_;
    nodes_[lastNode_] = {parent, name, canonical, attributes.xattrs > 0, 0, 0};
    ++nodes_[parent].children;
    if (parent == rootNode) top_.insert(lastNode_);
  }
  ++nodes_[known->second].lookups;
  return known->second;
}

std::vector<std::string> Snapshots::Tree::knownNames() {
  std::lock_guard lock(mutex_);
  std::vector<std::string> names;
  for (uint64_t id : top_) names.push_back(nodes_.at(id).name);
  return names;
}

bool Snapshots::Tree::hasXattrs(uint64_t id) {
  std::lock_guard lock(mutex_);
  auto found = nodes_.find(id);
  return found == nodes_.end() || found->second.hasXattrs;
}

void Snapshots::Tree::forget(uint64_t id, uint64_t lookups) {
  std::lock_guard lock(mutex_);
  auto found = nodes_.find(id);
  if (found == nodes_.end() || id == rootNode) return;
  found->second.lookups -= std::min(lookups, found->second.lookups);
  while (id != rootNode) {
    Node& node = nodes_[id];
    if (node.lookups > 0 || node.children > 0) return;
    byKey_.erase(keyOf(node.parent, node.name, node.canonical));
    const uint64_t parent = node.parent;
    nodes_.erase(id);
    top_.erase(id);
    --nodes_[parent].children;
    id = parent;
  }
}

fuse_entry_out Snapshots::Tree::entry(uint64_t id, const SnapshotAttributes& attributes, uint64_t nameSeconds) const {
  fuse_entry_out out{};
  out.nodeid = id;
  out.entry_valid = nameSeconds;
  out.attr_valid = id == rootNode ? shortSeconds : longSeconds;
  out.attr = kernelAttributes(attributes);
  return out;
}

// ---- asking

template <typename Use>
void Snapshots::Tree::send(BridgeRequest type, uint64_t unique, FrameWriter request, Use use) {
  bridge_.request(type, std::move(request.bytes),
                  [self = shared_from_this(), unique, use](int error, const uint8_t* payload, size_t length) {
                    // Nothing is removed from a snapshot; the snapshot itself was.
                    if (error == ENOENT) error = ESTALE;
                    if (error != 0) return self->fail(unique, error);
                    use(*self, payload, length);
                  });
}

template <typename Use>
void Snapshots::Tree::ask(BridgeRequest type, uint64_t unique, uint64_t id, std::string_view name, Use use) {
  auto request = path(id);
  if (!request) return fail(unique, ESTALE);
  if (!name.empty()) request->text(name);
  send(type, unique, std::move(*request), use);
}

// ---- operations

void Snapshots::Tree::handle(const fuse_in_header& header, const char* body, size_t length) {
  const uint64_t unique = header.unique, id = header.nodeid;
  switch (header.opcode) {
    case FUSE_FORGET: {
      const auto* in = part<fuse_forget_in>(body, length);
      return in ? forget(id, in->nlookup) : void();
    }
    case FUSE_LOOKUP: return lookup(unique, id, text(body, length));
    case FUSE_GETATTR:
    case wire::opStatx: return attributes(header);
    case FUSE_READLINK: return readlink(unique, id);
    case FUSE_OPEN: return open(unique, part<fuse_open_in>(body, length));
    case FUSE_OPENDIR: return openDirectory(unique, id);
    case FUSE_READ: return read(unique, id, part<fuse_read_in>(body, length));
    case FUSE_LSEEK: return seek(unique, id, part<fuse_lseek_in>(body, length));
    case FUSE_READDIR:
    case FUSE_READDIRPLUS: {
      const auto* in = part<fuse_read_in>(body, length);
      if (!in) return fail(unique, EINVAL);
      return list({unique, id, in->fh, in->offset, in->size, header.opcode == FUSE_READDIRPLUS});
    }
    case FUSE_GETXATTR:
    case FUSE_LISTXATTR: {
      const auto* in = part<fuse_getxattr_in>(body, length);
      const bool get = header.opcode == FUSE_GETXATTR;
      return xattr(get ? BridgeRequest::getxattr : BridgeRequest::listxattr, unique, id, in,
                   get ? text(body, length) : std::string_view());
    }
    case FUSE_STATFS: {
      fuse_statfs_out out{};
      out.st.bsize = out.st.frsize = snapshotBlockBytes;
      out.st.namelen = 255;
      return reply(unique, out);
    }
    case FUSE_ACCESS: {
      const auto* in = part<fuse_access_in>(body, length);
      return in && (in->mask & W_OK) ? fail(unique, EROFS) : ok(unique);
    }
    case FUSE_GETLK: {
      fuse_lk_out out{};
      out.lk.type = F_UNLCK;
      return reply(unique, out);
    }
    case FUSE_POLL: {
      const auto* in = part<fuse_poll_in>(body, length);
      return reply(unique, fuse_poll_out{in ? in->events : 0, 0});
    }
    case FUSE_RELEASEDIR: {
      const auto* in = part<fuse_release_in>(body, length);
      std::lock_guard lock(mutex_);
      if (in) directories_.erase(in->fh);
      return ok(unique);
    }
    // Nothing is ever dirty here, and readers need not wait for each other.
    case FUSE_RELEASE: case FUSE_FLUSH: case FUSE_FSYNC: case FUSE_FSYNCDIR: case FUSE_SYNCFS: case FUSE_SETLK:
    case FUSE_SETLKW: return ok(unique);
    // Never ENOSYS: the kernel would stop asking for the live tree as well.
    case FUSE_COPY_FILE_RANGE: case wire::opCopyFileRange64: return fail(unique, EXDEV);
    case FUSE_IOCTL: return fail(unique, ENOTTY);
    default: return fail(unique, change(header.opcode) ? EROFS : EOPNOTSUPP);
  }
}

bool Snapshots::Tree::change(uint32_t opcode) {
  switch (opcode) {
    case FUSE_SETATTR: case FUSE_SYMLINK: case FUSE_MKNOD: case FUSE_MKDIR: case FUSE_UNLINK: case FUSE_RMDIR:
    case FUSE_RENAME: case FUSE_RENAME2: case FUSE_LINK: case FUSE_WRITE: case FUSE_SETXATTR: case FUSE_REMOVEXATTR:
    case FUSE_CREATE: case FUSE_FALLOCATE: case FUSE_TMPFILE: return true;
    default: return false;
  }
}

void Snapshots::Tree::lookup(uint64_t unique, uint64_t parent, std::string_view name) {
  if (!isName(name)) return fail(unique, name.size() > 255 ? ENAMETOOLONG : ENOENT);
  {
    std::unique_lock lock(mutex_);
    auto known = listed_.find(keyOf(parent, name, name));
    if (known != listed_.end()) {
      const fuse_entry_out out =
          entry(adopt(parent, std::string(name), std::string(name), known->second), known->second, longSeconds);
      lock.unlock();
      return reply(unique, out);
    }
  }
  auto request = path(parent);
  if (!request) return fail(unique, ESTALE);
  request->text(name);
  bridge_.request(BridgeRequest::lookup, std::move(request->bytes),
                  [self = shared_from_this(), unique, parent, name = std::string(name)](
                      int error, const uint8_t* payload, size_t length) {
                    self->lookedUp(unique, parent, name, error, {payload, length});
                  });
}

void Snapshots::Tree::lookedUp(uint64_t unique, uint64_t parent, const std::string& name, int error,
                               FrameReader from) {
  if (error == ENOENT && parent != rootNode) {
    fuse_entry_out none{};
    none.entry_valid = longSeconds;
    return reply(unique, none);
  }
  if (error != 0) return fail(unique, error);
  const SnapshotAttributes found = readAttributes(from);
  std::string canonical = from.text();
  if (canonical.empty()) canonical = name;
  if (!from.atEnd() || !isName(canonical)) return fail(unique, EIO);
  uint64_t id;
  {
    std::lock_guard lock(mutex_);
    id = adopt(parent, name, canonical, found);
  }
  reply(unique, entry(id, found, nameSeconds(parent, name, canonical)));
}

void Snapshots::Tree::attributes(const fuse_in_header& header) {
  const uint64_t unique = header.unique;
  const bool statx = header.opcode == wire::opStatx;
  auto answer = [unique, statx](Tree& self, const SnapshotAttributes& found, uint64_t seconds) {
    if (statx) return self.reply(unique, kernelStatx(found, seconds));
    fuse_attr_out out{};
    out.attr_valid = seconds;
    out.attr = kernelAttributes(found);
    self.reply(unique, out);
  };
  if (header.nodeid == rootNode) return answer(*this, root_, shortSeconds);
  ask(BridgeRequest::getattr, unique, header.nodeid, {}, [=](Tree& self, const uint8_t* payload, size_t length) {
    FrameReader from(payload, length);
    const SnapshotAttributes found = readAttributes(from);
    if (!from.atEnd()) return self.fail(unique, EIO);
    answer(self, found, longSeconds);
  });
}

void Snapshots::Tree::open(uint64_t unique, const fuse_open_in* in) {
  if (!in || (in->flags & O_ACCMODE) != O_RDONLY || (in->flags & O_TRUNC)) return fail(unique, EROFS);
  fuse_open_out out{};
  out.open_flags = wire::openKeepCache;
  reply(unique, out);
}

void Snapshots::Tree::openDirectory(uint64_t unique, uint64_t id) {
  fuse_open_out out{};
  if (id != rootNode) out.open_flags = wire::openKeepCache | wire::openCacheDir;
  {
    std::lock_guard lock(mutex_);
    out.fh = ++lastHandle_;
    directories_.try_emplace(out.fh);
  }
  reply(unique, out);
}

void Snapshots::Tree::read(uint64_t unique, uint64_t id, const fuse_read_in* in) {
  auto request = path(id);
  if (!in || !request) return fail(unique, in ? ESTALE : EINVAL);
  const uint32_t size = std::min<uint32_t>(in->size, wire::maxTransfer);
  request->integer(in->offset);
  request->integer(size);
  send(BridgeRequest::read, unique, std::move(*request),
       [unique, size](Tree& self, const uint8_t* payload, size_t length) {
         if (length > size) return self.fail(unique, EIO);
         self.reply_(unique, 0, payload, length);
       });
}

void Snapshots::Tree::readlink(uint64_t unique, uint64_t id) {
  ask(BridgeRequest::readlink, unique, id, {}, [unique](Tree& self, const uint8_t* payload, size_t length) {
    if (length == 0 || length >= 4096) return self.fail(unique, EIO);
    self.reply_(unique, 0, payload, length);
  });
}

void Snapshots::Tree::seek(uint64_t unique, uint64_t id, const fuse_lseek_in* in) {
  auto request = path(id);
  if (!request) return fail(unique, ESTALE);
  if (!in || (in->whence != SEEK_DATA && in->whence != SEEK_HOLE)) return fail(unique, EINVAL);
  request->integer(in->offset);
  request->integer(uint32_t(in->whence == SEEK_HOLE));
  send(BridgeRequest::seek, unique, std::move(*request), [unique](Tree& self, const uint8_t* payload, size_t length) {
    FrameReader from(payload, length);
    const fuse_lseek_out out{from.integer<uint64_t>()};
    if (!from.atEnd()) return self.fail(unique, EIO);
    self.reply(unique, out);
  });
}

void Snapshots::Tree::xattr(BridgeRequest type, uint64_t unique, uint64_t id, const fuse_getxattr_in* in,
                            std::string_view name) {
  const bool get = type == BridgeRequest::getxattr;
  if (!in || (get && (name.empty() || name.size() > 255))) return fail(unique, EINVAL);
  if (!hasXattrs(id)) {
    if (get) return fail(unique, ENODATA);
    return in->size == 0 ? reply(unique, fuse_getxattr_out{}) : ok(unique);
  }
  ask(type, unique, id, name, [unique, size = in->size](Tree& self, const uint8_t* payload, size_t length) {
    if (size == 0) return self.reply(unique, fuse_getxattr_out{uint32_t(length), 0});
    if (length > size) return self.fail(unique, ERANGE);
    self.reply_(unique, 0, payload, length);
  });
}

// ---- directories

void Snapshots::Tree::list(const Listing& listing) {
  const uint64_t index = listing.offset < 2 ? 0 : listing.offset - 2;
  std::unique_lock lock(mutex_);
  auto found = directories_.find(listing.handle);
  if (found == directories_.end()) {
    lock.unlock();
    return fail(listing.unique, EBADF);
  }
  if (!found->second.holds(index)) {
    lock.unlock();
    return fetch(listing, index);
  }
  const std::vector<char> out = render(listing, found->second);
  lock.unlock();
  reply_(listing.unique, 0, out.data(), out.size());
}

// Gets the batch that holds the entry number `index`, or the next one on the way there; then lists again.
void Snapshots::Tree::fetch(const Listing& listing, uint64_t index) {
  auto request = path(listing.node);
  if (!request) return fail(listing.unique, ESTALE);
  uint64_t first;
  {
    std::lock_guard lock(mutex_);
    auto found = directories_.find(listing.handle);
    if (found == directories_.end()) return fail(listing.unique, EBADF);
    const auto& starts = found->second.starts;
    auto start = std::upper_bound(starts.begin(), starts.end(), index,
                                  [](uint64_t wanted, const Directory::Start& s) { return wanted < s.index; });
    --start;  // the first one is 0
    first = start->index;
    request->text(start->after);
  }
  send(BridgeRequest::readdir, listing.unique, std::move(*request),
       [listing, first](Tree& self, const uint8_t* payload, size_t length) {
         if (int error = self.store(listing, first, payload, length)) return self.fail(listing.unique, error);
         self.list(listing);
       });
}

int Snapshots::Tree::store(const Listing& listing, uint64_t first, const uint8_t* payload, size_t length) {
  FrameReader from(payload, length);
  const auto count = from.integer<uint32_t>();
  const bool last = from.integer<uint32_t>() != 0;
  std::vector<Listed> batch;
  for (uint32_t i = 0; i < count && from.ok(); ++i) {
    Listed entry;
    entry.attributes = readAttributes(from);
    entry.name = from.text();
    entry.canonical = from.text();
    if (entry.canonical.empty()) entry.canonical = entry.name;
    if (!isName(entry.name) || !isName(entry.canonical)) return EIO;
    batch.push_back(std::move(entry));
  }
  // An empty batch that is not the last would be asked for again for ever.
  if (!from.atEnd() || (batch.empty() && !last)) return EIO;
  std::lock_guard lock(mutex_);
  auto found = directories_.find(listing.handle);
  if (found == directories_.end()) return EBADF;
  if (listed_.size() > maxListed) listed_.clear();
  if (listing.node != rootNode)
    for (const Listed& entry : batch)
      listed_.insert_or_assign(keyOf(listing.node, entry.name, entry.name), entry.attributes);
  Directory& directory = found->second;
  directory.first = first;
  directory.batch = std::move(batch);
  directory.last = last;
  directory.loaded = true;
  const uint64_t end = first + directory.batch.size();
  if (last) return 0;
  // The list of snapshots may have changed since the next batch was known to start elsewhere.
  auto& starts = directory.starts;
  auto next = std::find_if(starts.begin(), starts.end(), [first](const auto& start) { return start.index > first; });
  if (next != starts.end() && next->index == end) return 0;
  starts.erase(next, starts.end());
  starts.push_back({end, directory.batch.back().name});
  return 0;
}

// What fits, from the batch at hand. Called with mutex_ held.
std::vector<char> Snapshots::Tree::render(const Listing& listing, const Directory& directory) {
  std::vector<char> out;
  out.reserve(std::min<size_t>(listing.room, 64 * 1024));
  uint64_t cookie = listing.offset;
  for (; cookie < 2; ++cookie) {
    Listed dot{root_, cookie == 0 ? "." : "..", ""};
    dot.attributes.ino = listing.node;
    if (!put(out, listing, cookie + 1, dot, true)) return out;
  }
  for (uint64_t at = cookie - 2 - directory.first; at < directory.batch.size(); ++at, ++cookie)
    if (!put(out, listing, cookie + 1, directory.batch[at], false)) break;
  return out;
}

bool Snapshots::Tree::put(std::vector<char>& out, const Listing& listing, uint64_t cookie, const Listed& entry,
                          bool dot) {
  const size_t prefix = listing.plus ? sizeof(fuse_entry_out) : 0;
  const size_t bytes = FUSE_DIRENT_ALIGN(prefix + FUSE_NAME_OFFSET + entry.name.size());
  if (out.size() + bytes > listing.room) return false;
  const size_t start = out.size();
  out.resize(start + bytes);
  if (listing.plus && !dot) {
    const uint64_t id = adopt(listing.node, entry.name, entry.canonical, entry.attributes);
    const fuse_entry_out looked = this->entry(id, entry.attributes, nameSeconds(listing.node, entry.name, entry.canonical));
    std::memcpy(out.data() + start, &looked, sizeof looked);
  }
  fuse_dirent dirent{};
  dirent.ino = entry.attributes.ino;
  dirent.off = cookie;
  dirent.namelen = uint32_t(entry.name.size());
  dirent.type = (entry.attributes.mode & S_IFMT) >> 12;
  std::memcpy(out.data() + start + prefix, &dirent, FUSE_NAME_OFFSET);
  std::memcpy(out.data() + start + prefix + FUSE_NAME_OFFSET, entry.name.data(), entry.name.size());
  return true;
}

// ---- the outside

Snapshots::Snapshots(Bridge& bridge, Reply reply) : tree_(std::make_shared<Tree>(bridge, std::move(reply))) {}
Snapshots::~Snapshots() = default;

void Snapshots::handle(const fuse_in_header& header, const char* body, size_t length) {
  tree_->handle(header, body, length);
}
std::vector<std::string> Snapshots::knownNames() { return tree_->knownNames(); }
void Snapshots::forget(uint64_t nodeid, uint64_t lookups) { tree_->forget(nodeid, lookups); }
void Snapshots::fillRootEntry(fuse_entry_out& out) const { out = tree_->rootEntry(); }
