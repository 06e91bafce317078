// Whole contents of small files that the daemon sent ahead: whoever reads one file after the other in a directory gets the
// next ones along with the one asked for. Here until they are read, which leaves them in the kernel's cache, or until newer
// ones need the room. Not for use by several threads at once.
#pragma once

#include <algorithm>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

class SnapshotContents {
 public:
  using Bytes = std::shared_ptr<const std::vector<uint8_t>>;

  static constexpr uint64_t maxFileBytes = 64 * 1024;
  static constexpr uint32_t maxAhead = 64;  // files

  // How many files to ask for, when one in this directory is wanted and not here: one, then more and more as long as those
  // sent ahead are read, and fewer when they are not. A reader of one directory after the other starts with more.
  uint32_t wanted(uint64_t directory) {
    if (walks_.size() > maxWalks) walks_.clear();
    Walk& walk = walks_.try_emplace(directory, Walk{last_ / 4, 0}).first->second;
    const bool useful = walk.read * 2 + 1 >= walk.files;
    walk = {std::clamp(useful ? walk.files * 4 : walk.files / 4, 1u, maxAhead), 0};
    last_ = walk.files;
    return walk.files;
  }

  void put(const std::string& key, std::vector<uint8_t> bytes) {
    take(key);
    bytes_ += bytes.size();
    files_.emplace(key, std::make_shared<const std::vector<uint8_t>>(std::move(bytes)));
    order_.push_back(key);
    while (bytes_ > maxBytes || order_.size() > maxFiles) {
      take(std::string(order_.front()));
      order_.pop_front();
    }
  }

  // Null when it is not here.
  Bytes find(const std::string& key, uint64_t directory) {
    auto found = files_.find(key);
    if (found == files_.end()) return nullptr;
    auto walk = walks_.find(directory);
    if (walk != walks_.end()) ++walk->second.read;
    return found->second;
  }

  void take(const std::string& key) {
    auto found = files_.find(key);
    if (found == files_.end()) return;
    bytes_ -= found->second->size();
    files_.erase(found);
  }

 private:
  struct Walk {
    uint32_t files;  // asked for last
    uint32_t read;   // of those, so far
  };
  static constexpr size_t maxBytes = 8 << 20, maxFiles = 4096, maxWalks = 1024;

  std::unordered_map<std::string, Bytes> files_;
  std::deque<std::string> order_;  // of coming; also keys of those that were taken since
  std::unordered_map<uint64_t, Walk> walks_;  // by directory
  size_t bytes_ = 0;
  uint32_t last_ = 0;
};
