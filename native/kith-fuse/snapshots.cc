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
// A node lives while the kernel has looked it up more often than it forgot, or has children here.

#include <fcntl.h>

#include "snapshots_tree.h"

namespace {

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
    const uint64_t fileBytes = S_ISREG(attributes.mode) ? attributes.size : 0;
    nodes_[lastNode_] = {parent, name, canonical, attributes.xattrs > 0, 0, 0, fileBytes};
    ++nodes_[parent].children;
    if (parent == rootNode) top_.insert(lastNode_);
  }
  ++nodes_[known->second].lookups;
  return known->second;
}

// By this time the kernel sees that what it listed of `.snapshots` holds no more.
void Snapshots::Tree::listChanged() {
  timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  std::lock_guard lock(mutex_);
  root_.mtime = now.tv_sec;
  root_.mtimeNs = uint32_t(now.tv_nsec);
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
    case FUSE_OPENDIR: return fail(unique, ENOSYS);  // as of the live tree: listings.h
    case FUSE_READ: return read(unique, id, part<fuse_read_in>(body, length));
    case FUSE_LSEEK: return seek(unique, id, part<fuse_lseek_in>(body, length));
    case FUSE_READDIR:
    case FUSE_READDIRPLUS: {
      const auto* in = part<fuse_read_in>(body, length);
      if (!in) return fail(unique, EINVAL);
      if (in->offset == 0) startListing(id);
      return list({unique, id, in->offset, in->size, header.opcode == FUSE_READDIRPLUS});
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
  if (header.nodeid == rootNode) return answer(*this, root(), shortSeconds);
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

// ---- the outside

Snapshots::Snapshots(Bridge& bridge, Reply reply) : tree_(std::make_shared<Tree>(bridge, std::move(reply))) {}
Snapshots::~Snapshots() = default;

void Snapshots::handle(const fuse_in_header& header, const char* body, size_t length) {
  tree_->handle(header, body, length);
}
std::vector<std::string> Snapshots::listChanged() {
  tree_->listChanged();
  return tree_->knownNames();
}
void Snapshots::forget(uint64_t nodeid, uint64_t lookups) { tree_->forget(nodeid, lookups); }
void Snapshots::fillRootEntry(fuse_entry_out& out) const { out = tree_->rootEntry(); }
