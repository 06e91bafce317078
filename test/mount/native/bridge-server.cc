// Runs a bridge as kith-fuse does, without a mount, for test/mount/bridge.test.ts.
//   bridge-server DIR     carries out lines of standard input:
//     ask COUNT           asks the daemon for attributes COUNT times; prints `answer NUMBER ERRNO LENGTH` for each
//     change              logs a change
// Prints `ready`, and `sync`, `stop`, `invalidate` when the daemon says so.
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <iostream>
#include <sstream>
#include <string>

#include "bridge.h"
#include "frames.h"

namespace {

void say(const std::string& line) {
  const std::string out = line + "\n";
  if (::write(STDOUT_FILENO, out.data(), out.size()) != ssize_t(out.size())) std::abort();
}

}  // namespace

int main(int, char** argv) {
  const int dir = ::open(argv[1], O_RDONLY | O_DIRECTORY);
  auto log = ChangeLog::open(dir);
  if (!log) return 1;
  const Bridge::Identity identity{1, 2, uint32_t(::getpid()), log->session(), dir};
  auto bridge = Bridge::start(dir, identity, *log,
                              {[] { say("stop"); },
                               [] {
                                 say("sync");
                                 return 0;
                               },
                               [] { say("invalidate"); }, [] { return std::vector<std::string>{"a/b", "c"}; }});
  if (!bridge) {
    say(std::string("error ") + std::strerror(errno));
    return 1;
  }
  say("ready");
  uint64_t number = 0;
  for (std::string line; std::getline(std::cin, line);) {
    std::istringstream in(line);
    std::string what;
    uint64_t count = 0;
    in >> what >> count;
    if (what == "change") log->data(5, number++ * 10, 1);
    if (what != "ask") continue;
    for (uint64_t i = 0; i < count; ++i) {
      FrameWriter path;
      path.integer(uint16_t{0});
      bridge->request(BridgeRequest::getattr, std::move(path.bytes),
                      [at = number++](int error, const uint8_t*, size_t length) {
                        say("answer " + std::to_string(at) + " " + std::to_string(error) + " " + std::to_string(length));
                      });
    }
  }
}
