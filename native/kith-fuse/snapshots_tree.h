// What snapshots.cc, snapshots_read.cc and snapshots_directories.cc share: the nodes the kernel knows below `.snapshots`, and
// the way of a question to the daemon. How it works: snapshots.cc.
#pragma once

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
#include "snapshot_contents.h"
#include "snapshots.h"
#include "wire.h"

class Snapshots::Tree : public std::enable_shared_from_this<Tree> {
 private:
  static constexpr uint64_t longSeconds = 24 * 3600;  // for what never changes
  static constexpr size_t maxListed = 65536;          // entries
  static constexpr size_t maxDirectories = 64;        // being listed
  static constexpr uint64_t shortSeconds = 1;         // for the list of snapshots, and names that may come to mean another one

  struct Node {
    uint64_t parent;
    std::string name, canonical;
    bool hasXattrs = true;  // false spares a question: programs ask for xattrs of every file
    uint64_t lookups = 0, children = 0;
    uint64_t fileBytes = 0;  // 0 for what is no file
  };

  struct Listed {
    SnapshotAttributes attributes;
    std::string name, canonical;
  };

  // One directory being listed. Guarded by Tree::mutex_.
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
    uint64_t unique, node, offset;
    uint32_t room;
    bool plus;
  };

  static std::string keyOf(uint64_t parent, std::string_view name, std::string_view canonical) {
    std::string key(reinterpret_cast<const char*>(&parent), sizeof parent);
    return key.append(name).append(1, '\0').append(canonical);
  }

  static bool isName(std::string_view name) {
    return !name.empty() && name.size() <= 255 && name != "." && name != ".." &&
           name.find('/') == std::string_view::npos && name.find('\0') == std::string_view::npos;
  }

 public:
  Tree(Bridge& bridge, Reply reply) : bridge_(bridge), reply_(std::move(reply)) {
    nodes_[rootNode] = {0, "", "", false, 1, 0, 0};
    root_.ino = rootNode;
    root_.mode = S_IFDIR | 0555;
    root_.nlink = 2;
    root_.uid = ::geteuid();
    root_.gid = ::getegid();
    listChanged();
  }
  void handle(const fuse_in_header& header, const char* body, size_t length);
  void forget(uint64_t id, uint64_t lookups);
  fuse_entry_out rootEntry() { return entry(rootNode, root(), shortSeconds); }
  void listChanged();
  std::vector<std::string> knownNames();

 private:
  bool change(uint32_t opcode);
  void lookup(uint64_t unique, uint64_t parent, std::string_view name);
  void lookedUp(uint64_t unique, uint64_t parent, const std::string& name, int error, FrameReader from);
  void attributes(const fuse_in_header& header);
  void open(uint64_t unique, const fuse_open_in* in);
  void read(uint64_t unique, uint64_t id, const fuse_read_in* in);
  bool readSmall(uint64_t unique, uint64_t id, const fuse_read_in& in);
  void readlink(uint64_t unique, uint64_t id);
  void seek(uint64_t unique, uint64_t id, const fuse_lseek_in* in);
  void xattr(BridgeRequest type, uint64_t unique, uint64_t id, const fuse_getxattr_in* in, std::string_view name);
  void startListing(uint64_t id);
  Directory& directory(uint64_t id);
  void list(const Listing& listing);
  void fetch(const Listing& listing, uint64_t index);
  int store(const Listing& listing, uint64_t first, const uint8_t* payload, size_t length);
  std::vector<char> render(const Listing& listing, const Directory& directory);
  bool put(std::vector<char>& out, const Listing& listing, uint64_t cookie, const Listed& entry, bool dot);

  SnapshotAttributes root() {
    std::lock_guard lock(mutex_);
    return root_;
  }
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
  std::mutex mutex_;  // guards all below
  SnapshotAttributes root_{};
  std::unordered_map<uint64_t, Node> nodes_;
  std::unordered_map<std::string, uint64_t> byKey_;
  std::unordered_map<uint64_t, Directory> directories_;  // by node, at most maxDirectories
  // What listings told of entries of snapshots, by keyOf: programs list a whole directory first, then ask for each entry.
  std::unordered_map<std::string, SnapshotAttributes> listed_;
  std::unordered_set<uint64_t> top_;  // the nodes of names of snapshots
  SnapshotContents contents_;  // by keyOf
  uint64_t lastNode_ = rootNode;
};

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
