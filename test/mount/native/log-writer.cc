// Writes a change log as kith-fuse does, for test/mount/change-log.test.ts.
//   log-writer DIR                 carries out lines of standard input; answers each with `written lost`
//     data INO OFFSET LENGTH | truncate INO SIZE | attributes INO | names PARENT INO NAME | open INO | close INO
//     repeat COUNT FIRST-INO       one data record for each of COUNT inodes
//   log-writer DIR race THREADS INODES
//     each thread changes the 64 bytes of each of its inodes, one after the other, in the file DIR/truth (64 bytes an
//     inode) from 0 to 1, and logs each byte after it was written. Prints `wake` for each wake-up, and `done`.
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <sstream>
#include <thread>
#include <vector>

#include "changes.h"

namespace {

constexpr uint64_t slots = 64;

void perform(ChangeLog& log, const std::string& line) {
  std::istringstream in(line);
  std::string what;
  uint64_t a = 0, b = 0, c = 0;
  in >> what >> a >> b;
  std::string name;
  if (what == "names") in >> name;
  else in >> c;
  if (what == "data") log.data(a, b, c);
  if (what == "truncate") log.truncate(a, b);
  if (what == "attributes") log.attributes(a);
  if (what == "names") log.names(a, b, name);
  if (what == "open") log.openedForWriting(a);
  if (what == "close") log.closedAfterWriting(a);
  if (what == "repeat")
    for (uint64_t i = 0; i < a; ++i) log.data(b + i, 0, 1);
}

// Fills the slots of one inode after the other, so that each record is widened until the daemon takes it.
void fill(ChangeLog& log, int truth, uint64_t first, uint64_t inodes) {
  for (uint64_t ino = first; ino < first + inodes; ++ino)
    for (uint64_t slot = 0; slot < slots; ++slot) {
      const uint8_t one = 1;
      if (::pwrite(truth, &one, 1, off_t(ino * slots + slot)) != 1) std::abort();
      log.data(ino, slot, 1);
    }
}

}  // namespace

int main(int argc, char** argv) {
  int dir = ::open(argv[1], O_RDONLY | O_DIRECTORY);
  auto log = ChangeLog::open(dir);
  if (!log) {
    std::printf("error %s\n", std::strerror(errno));
    return 1;
  }
  if (argc > 2) {
    log->onWake([] {
      if (::write(STDOUT_FILENO, "wake\n", 5) != 5) std::abort();
    });
    int truth = ::openat(dir, "truth", O_RDWR | O_CREAT, 0600);
    const uint64_t threads = std::strtoull(argv[3], nullptr, 10), inodes = std::strtoull(argv[4], nullptr, 10);
    std::vector<std::thread> running;
    for (uint64_t i = 0; i < threads; ++i) running.emplace_back(fill, std::ref(*log), truth, 1 + i * inodes, inodes);
    for (auto& thread : running) thread.join();
    std::puts("done");
    return 0;
  }
  for (std::string line; std::getline(std::cin, line);) {
    perform(*log, line);
    const auto position = log->position();
    std::printf("%llu %llu\n", (unsigned long long)position.written, (unsigned long long)position.lost);
    std::fflush(stdout);
  }
}
