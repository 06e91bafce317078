// Serves `.snapshots` below the mount: read-only, from the daemon's answers, without ever blocking a FUSE thread.
// It owns the node ids with bit 63 set.
#pragma once

#include <linux/fuse.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "bridge.h"

class Snapshots {
 public:
  // Sends one reply to the kernel; called from any thread. `error` is 0 or a negative errno, as in fuse_out_header.
  using Reply = std::function<void(uint64_t unique, int error, const void* data, size_t length)>;

  static constexpr uint64_t rootNode = 1ull << 63 | 1;

  // The bridge must outlive this; `reply` must work until the bridge is destroyed.
  Snapshots(Bridge& bridge, Reply reply);
  ~Snapshots();

  static bool owns(uint64_t nodeid) { return nodeid >> 63 != 0; }

  // Answers, now or later, every request whose nodeid it owns; `body` is what follows the header. FORGET included.
  void handle(const fuse_in_header& header, const char* body, size_t length);

  // For BATCH_FORGET, which names nodes in its body: those that owns() are given here one by one.
  void forget(uint64_t nodeid, uint64_t lookups);

  // The list of snapshots has changed: the names in `.snapshots` that the kernel may hold on to.
  std::vector<std::string> listChanged();

  // The answer to LOOKUP of `.snapshots` in the mount's root. Short timeouts; its node is never forgotten.
  void fillRootEntry(fuse_entry_out& out) const;

 private:
  class Tree;
  std::shared_ptr<Tree> tree_;  // shared with the answers still to come
};
