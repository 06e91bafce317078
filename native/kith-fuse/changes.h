// The change log: what the mount's users changed, told to the daemon through a file that both sides share by the page
// cache. Layout, invariants and the argument for races and crashes: changes.cc.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string_view>
#include <vector>

// All calls are made AFTER the operation was performed. They are thread-safe, wait for nobody but each other, and
// never fail: when the log is full, `lost` grows and the daemon looks at everything.
class ChangeLog {
 public:
  // Opens or makes `changes` in the state directory, which it locks against a second server. Null with errno set when
  // that cannot be done (EWOULDBLOCK: another server has it).
  static std::unique_ptr<ChangeLog> open(int stateDirFd);
  ~ChangeLog();
  ChangeLog(const ChangeLog&) = delete;
  ChangeLog& operator=(const ChangeLog&) = delete;

  // Bytes [offset, offset + length) of the file were written, or made a hole.
  void data(uint64_t ino, uint64_t offset, uint64_t length);
  // The file was cut or grown to `size`; everything from there on changed.
  void truncate(uint64_t ino, uint64_t size);
  // Mode, owner, times or xattrs changed.
  void attributes(uint64_t ino);
  // The entry `name` of the directory `parentIno`, which names `childIno`, came, went or now leads elsewhere.
  void names(uint64_t parentIno, uint64_t childIno, std::string_view name);
  // From now until closedAfterWriting the file may change without further records. May be told again and again.
  void openedForWriting(uint64_t ino);
  // Nobody can change the file unseen any more: the whole of it counts as changed.
  void closedAfterWriting(uint64_t ino);

  // Called at most once per sleep of the daemon, from the thread that logs, after a record was published. Must not block.
  // Set before other threads log.
  void onWake(std::function<void()> wake);

  struct Position {
    uint64_t written, taken, freed, lost;
  };
  Position position() const;
  uint64_t session() const { return session_; }

 private:
  struct Header;
  struct Record;
  // Where the newest record of an inode and group of kinds lies, so that it can take in more.
  struct Newest {
    uint64_t ino, parent, nameHash, index;
    uint32_t group, separate;  // separate: ranges of this inode in the log that could not be joined
  };
  struct Change {
    uint64_t ino, parent, offset, length;
    uint32_t kind;
    std::string_view name = {};  // of names; `offset` is its length then
  };

  ChangeLog(int fd, void* memory, size_t bytes);
  void add(const Change& change);
  bool widen(const Change& change, Change& whole);
  void append(const Change& change);
  bool sameName(uint64_t index, std::string_view name) const;
  bool room(uint64_t written, uint64_t records);
  Record& slot(uint64_t index) const;
  Newest& newest(const Change& change);

  const int fd_;
  void* const memory_;
  const size_t bytes_;
  Header* const header_;
  Record* const records_;
  uint64_t session_ = 0;
  std::mutex mutex_;             // guards what follows and all writes to the mapping
  uint64_t freedSeen_ = 0;       // last `freed` that passed its check
  std::vector<Newest> newest_;   // direct-mapped; its size is a power of two
  std::function<void()> wake_;
};
