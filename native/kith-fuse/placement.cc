// The watcher, and what is asked of the system. Whether threads can be set back is tried by the watcher on itself before any
// other thread is touched; where that, or its own priority, is refused, it ends, and all threads stay as they were.
#include "placement.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <system_error>

#include "fd.h"

namespace {

bool setPolicy(pid_t thread, int policy, int priority = 0) {
  sched_param parameters{};
  parameters.sched_priority = priority;
  return sched_setscheduler(thread, policy, &parameters) == 0;
}

// Where the policy was chosen by somebody it stays. The least real-time priority comes before all ordinary threads.
bool mayWatch() {
  return sched_getscheduler(0) == SCHED_OTHER && setPolicy(0, SCHED_IDLE) && setPolicy(0, SCHED_OTHER) &&
         setPolicy(0, SCHED_FIFO, sched_get_priority_min(SCHED_FIFO));
}

// Its fourth word: threads that run or want to, a slash, all threads. 0 when it cannot be read.
unsigned runningNow(int loadavg) {
  char text[128];
  const ssize_t length = pread(loadavg, text, sizeof(text) - 1, 0);
  if (length <= 0) return 0;
  text[length] = 0;
  unsigned running = 0;
  return sscanf(text, "%*s %*s %*s %u/", &running) == 1 ? running : 0;
}

int64_t microseconds() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return int64_t{now.tv_sec} * 1'000'000 + now.tv_nsec / 1000;
}

}  // namespace

void Placement::start() {
  try {
    watcher_ = std::thread([this] { watch(); });
  } catch (const std::system_error& error) {
    fprintf(stderr, "kith-fuse: cannot start a thread: %s\n", error.what());
  }
}

void Placement::stop() {
  ending_.store(true);
  wake();
  if (watcher_.joinable()) watcher_.join();
}

void Placement::enter() {
  std::lock_guard lock(mutex_);
  threads_.push_back(gettid());
  if (yielding_) setPolicy(0, SCHED_IDLE);
}

void Placement::leave() {
  std::lock_guard lock(mutex_);
  std::erase(threads_, gettid());
}

void Placement::beUsual() {
  std::lock_guard lock(mutex_);
  if (yielding_) setPolicy(0, SCHED_OTHER);
}

void Placement::watch() {
  const char* const named = getenv("KITH_LOADAVG");
  const Fd loadavg(open(named ? named : "/proc/loadavg", O_RDONLY | O_CLOEXEC));
  if (!loadavg || !mayWatch()) return;
  YieldPolicy policy;
  policy.resume(microseconds());
  uint64_t seen = served_.load();
  while (!ending_.load()) {
    pause(policy.untilNextUs());
    const uint64_t all = served_.load(std::memory_order_relaxed);
    const unsigned running = runningNow(loadavg.get());
    // This thread is one of them. None at all: what is read tells nothing, and counts as no processor idle.
    yield(policy.look({microseconds(), all - seen, running == 0 ? processors_ : running - 1, processors_}));
    seen = all;
    if (policy.many()) continue;
    sleep();
    seen = served_.load();
    policy.resume(microseconds());
  }
  yield(false);
}

// In pieces, so that an end is not held up for long.
void Placement::pause(int64_t us) {
  constexpr int64_t pieceUs = 100'000;
  for (; us > 0 && !ending_.load(); us -= pieceUs) {
    const timespec piece{0, std::min(us, pieceUs) * 1000};
    clock_nanosleep(CLOCK_MONOTONIC, 0, &piece, nullptr);
  }
}

void Placement::sleep() {
  asleep_.store(true);
  // stop() may have been before that.
  if (ending_.load()) return;
  asleep_.wait(true);
}

void Placement::wake() {
  asleep_.store(false);
  asleep_.notify_one();
}

void Placement::yield(bool yielding) {
  std::lock_guard lock(mutex_);
  if (yielding == yielding_) return;
  yielding_ = yielding;
  for (const pid_t thread : threads_) setPolicy(thread, yielding ? SCHED_IDLE : SCHED_OTHER);
}
