// Writes a change log as kith-fuse does, for test/mount/change-log.test.ts.
//   log-writer DIR                 carries out lines of standard input; answers each with `written lost`
//     data INO OFFSET LENGTH | truncate INO SIZE | attributes INO | names PARENT INO | open INO | close INO
//     repeat COUNT FIRST-INO       one data record for each of COUNT inodes
//   log-writer DIR race THREADS ROUNDS FILES
//     each thread counts up the numbers in the file DIR/truth, one 8-byte number an inode, and logs each after it was
//     written. Prints `wake` for each wake-up.
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

void perform(ChangeLog& log, const std::string& line) {
  std::istringstream in(line);
  std::string what;
  uint64_t a = 0, b = 0, c = 0;
  in >> what >> a >> b >> c;
  if (what == "data") log.data(a, b, c);
  if (what == "truncate") log.truncate(a, b);
  if (what == "attributes") log.attributes(a);
  if (what == "names") log.names(a, b);
  if (what == "open") log.openedForWriting(a);
  if (what == "close") log.closedAfterWriting(a);
  if (what == "repeat")
    for (uint64_t i = 0; i < a; ++i) log.data(b + i, 0, 1);
}

void count(ChangeLog& log, int truth, uint64_t seed, uint64_t rounds, uint64_t first, uint64_t files) {
  std::vector<uint64_t> value(files);
  for (uint64_t round = 1; round <= rounds; ++round) {
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    // Mostly the same few inodes, so that records are widened just as they are taken.
    const uint64_t at = (seed >> 33) % (round % 16 == 0 ? files : std::min<uint64_t>(files, 3));
    ++value[at];
    const uint64_t ino = first + at;
    if (::pwrite(truth, &value[at], 8, off_t(ino * 8)) != 8) std::abort();
    log.data(ino, value[at] % 1000, 1);
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
    const uint64_t threads = std::strtoull(argv[3], nullptr, 10), rounds = std::strtoull(argv[4], nullptr, 10),
                   files = std::strtoull(argv[5], nullptr, 10);
    std::vector<std::thread> running;
    for (uint64_t i = 0; i < threads; ++i)
      running.emplace_back(count, std::ref(*log), truth, i + 1, rounds, 1 + i * files, files);
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
