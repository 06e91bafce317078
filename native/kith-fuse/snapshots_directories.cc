// Listing directories of snapshots, in batches as the daemon gives them. Of a directory that is being listed
// the newest batch is kept, and where each batch began, so that seeking back asks for the same batch again. Who lists it at the
// same time shares this. Cookies: 0 `.`, 1 `..`, then 2 + index.
#include "snapshots_tree.h"

void Snapshots::Tree::startListing(uint64_t id) {
  std::lock_guard lock(mutex_);
  if (id == rootNode) directories_.erase(id);  // the others never change
}

// Called with mutex_ held.
Snapshots::Tree::Directory& Snapshots::Tree::directory(uint64_t id) {
  auto found = directories_.find(id);
  if (found != directories_.end()) return found->second;
  if (directories_.size() >= maxDirectories) directories_.erase(directories_.begin());
  return directories_[id];
}

void Snapshots::Tree::list(const Listing& listing) {
  const uint64_t index = listing.offset < 2 ? 0 : listing.offset - 2;
  std::unique_lock lock(mutex_);
  const Directory& dir = directory(listing.node);
  if (!dir.holds(index)) {
    lock.unlock();
    return fetch(listing, index);
  }
  const std::vector<char> out = render(listing, dir);
  if (out.empty()) directories_.erase(listing.node);
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
    const auto& starts = directory(listing.node).starts;
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
  if (listed_.size() > maxListed) listed_.clear();
  if (listing.node != rootNode)
    for (const Listed& entry : batch)
      listed_.insert_or_assign(keyOf(listing.node, entry.name, entry.name), entry.attributes);
  Directory& directory = this->directory(listing.node);
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
