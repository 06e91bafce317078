// The bridge: the socket between kith-fuse and the daemon. kith-fuse listens on <state>/bridge.sock, so that a daemon that
// was started again finds it; the newest daemon that greets replaces the one before. Frames: bridge.cc.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "changes.h"

// Requests to the daemon, as numbered on the wire.
enum class BridgeRequest : uint16_t {
  lookup = 16,
  getattr = 17,
  readdir = 18,
  read = 19,
  readlink = 20,
  getxattr = 21,
  listxattr = 22,
  seek = 23,
  files = 24,
};

class Bridge {
 public:
  // What the daemon is told about the mount when it connects.
  struct Identity {
    uint64_t rootDev, rootIno;  // of the directory under the mount, as in struct stat
    uint32_t pid;
    uint64_t session;           // ChangeLog::session()
    int rootFd;                 // this process's descriptor of that directory, which the daemon reopens through /proc
  };
  // Called on a thread of the bridge's own, one at a time; they may block.
  struct Callbacks {
    std::function<void()> stop;                           // unmount and end; the answer has been sent by then
    std::function<int()> syncMappedPages;                 // 0 or an errno
    std::function<void()> invalidateSnapshots;
    std::function<std::vector<std::string>()> openFiles;  // paths below the mount that are open now
  };
  // `error` is 0 or an errno. The payload lives until the call returns.
  using Answer = std::function<void(int error, const uint8_t* payload, size_t length)>;

  static constexpr size_t maxPayload = (1u << 20) + 4096 - 16;

  // Null with errno set when the socket cannot be made.
  static std::unique_ptr<Bridge> start(int stateDirFd, Identity identity, ChangeLog& log, Callbacks callbacks);
  ~Bridge();
  Bridge(const Bridge&) = delete;
  Bridge& operator=(const Bridge&) = delete;

  // Never blocks. `answer` is called exactly once, on the bridge's thread (or on this one, when too many requests wait
  // already): with EAGAIN when no daemon came within 2 s or the daemon did not answer within 10 s.
  void request(BridgeRequest type, std::vector<uint8_t> payload, Answer answer);

 private:
  class Loop;
  explicit Bridge(std::unique_ptr<Loop> loop);
  std::unique_ptr<Loop> loop_;
};
