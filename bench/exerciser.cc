// exerciser WORKLOAD DIR AMOUNT
//
// Does one kind of file work in DIR and prints how many nanoseconds it took. In C++, since the same calls from Node cost
// more than the file system they are to measure. AMOUNT is MiB for `write` to `random-both`, files for the others.
// `read` and the random ones need the file that `write` left; `stat`, `rename` and `unlink` those of `create`.
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cstdint>
#include <string>
#include <vector>

namespace {

constexpr size_t kMiB = 1 << 20;

[[noreturn]] void fail(const char* what) {
  fprintf(stderr, "%s: %s\n", what, strerror(errno));
  exit(1);
}

uint64_t now() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<uint64_t>(t.tv_sec) * 1000000000u + static_cast<uint64_t>(t.tv_nsec);
}

// xorshift64*: the same places and bytes in every run.
uint64_t random64() {
  static uint64_t state = 0x9e3779b97f4a7c15u;
  state ^= state >> 12;
  state ^= state << 25;
  state ^= state >> 27;
  return state * 0x2545f4914f6cdd1du;
}

struct Job {
  std::string dir;
  size_t amount;

  std::string data() const { return dir + "/data"; }
  std::string file(size_t i) const { return dir + "/file" + std::to_string(i); }
  std::string renamed(size_t i) const { return dir + "/renamed" + std::to_string(i); }
};

int openData(const Job& job, int flags) {
  const int fd = open(job.data().c_str(), flags | O_CLOEXEC, 0644);
  if (fd < 0) fail("open");
  return fd;
}

void write(const Job& job, size_t request, bool durable) {
  std::vector<char> buffer(request);
  for (size_t i = 0; i < request; i += 8) {
    const uint64_t value = random64();
    memcpy(&buffer[i], &value, 8);
  }
  const int fd = openData(job, O_WRONLY | O_CREAT | O_TRUNC);
  for (size_t left = job.amount * kMiB; left > 0; left -= request)
    if (::write(fd, buffer.data(), request) != static_cast<ssize_t>(request)) fail("write");
  if (durable && fsync(fd) != 0) fail("fsync");
  if (close(fd) != 0) fail("close");
}

void read(const Job& job) {
  std::vector<char> buffer(kMiB);
  const int fd = openData(job, O_RDONLY);
  for (size_t i = 0; i < job.amount; i++)
    if (::read(fd, buffer.data(), kMiB) != static_cast<ssize_t>(kMiB)) fail("read");
  close(fd);
}

// One request of 4 KiB for every 64 KiB of the file, at random places.
void scatter(const Job& job, bool writing) {
  std::vector<char> buffer(4096, 'x');
  const int fd = openData(job, writing ? O_WRONLY : O_RDONLY);
  const size_t places = job.amount * kMiB / 4096;
  for (size_t i = 0; i < places / 16; i++) {
    const off_t at = static_cast<off_t>(random64() % places * 4096);
    const ssize_t done = writing ? pwrite(fd, buffer.data(), 4096, at) : pread(fd, buffer.data(), 4096, at);
    if (done != 4096) fail(writing ? "pwrite" : "pread");
  }
  if (close(fd) != 0) fail("close");
}

// The same in turn, through one descriptor, as databases do.
void scatterBoth(const Job& job) {
  std::vector<char> buffer(4096, 'x');
  const int fd = openData(job, O_RDWR);
  const size_t places = job.amount * kMiB / 4096;
  for (size_t i = 0; i < places / 16; i++) {
    const off_t at = static_cast<off_t>(random64() % places * 4096);
    const ssize_t done = i % 2 ? pwrite(fd, buffer.data(), 4096, at) : pread(fd, buffer.data(), 4096, at);
    if (done != 4096) fail("pread or pwrite");
  }
  if (close(fd) != 0) fail("close");
}

void create(const Job& job) {
  for (size_t i = 0; i < job.amount; i++) {
    const int fd = open(job.file(i).c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (fd < 0) fail("create");
    if (::write(fd, "x", 1) != 1) fail("write");
    close(fd);
  }
}

void statAll(const Job& job) {
  struct stat result;
  for (size_t i = 0; i < job.amount; i++)
    if (stat(job.file(i).c_str(), &result) != 0) fail("stat");
}

void renameAll(const Job& job) {
  for (size_t i = 0; i < job.amount; i++)
    if (rename(job.file(i).c_str(), job.renamed(i).c_str()) != 0) fail("rename");
}

void unlinkAll(const Job& job) {
  for (size_t i = 0; i < job.amount; i++)
    if (unlink(job.renamed(i).c_str()) != 0) fail("unlink");
}

bool run(const std::string& workload, const Job& job) {
  if (workload == "write") write(job, kMiB, false);
  else if (workload == "write-4k") write(job, 4096, false);
  else if (workload == "write-fsync") write(job, kMiB, true);
  else if (workload == "read") read(job);
  else if (workload == "random-read") scatter(job, false);
  else if (workload == "random-write") scatter(job, true);
  else if (workload == "random-both") scatterBoth(job);
  else if (workload == "create") create(job);
  else if (workload == "stat") statAll(job);
  else if (workload == "rename") renameAll(job);
  else if (workload == "unlink") unlinkAll(job);
  else return false;
  return true;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) {
    fprintf(stderr, "exerciser WORKLOAD DIR AMOUNT\n");
    return 2;
  }
  const Job job{argv[2], strtoul(argv[3], nullptr, 10)};
  const uint64_t start = now();
  if (!run(argv[1], job)) {
    fprintf(stderr, "no workload %s\n", argv[1]);
    return 2;
  }
  printf("%llu\n", static_cast<unsigned long long>(now() - start));
  return 0;
}
