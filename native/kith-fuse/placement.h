// Where callers wake up: on the processor they called from, while that costs nobody anything.
//
// A caller who gets his reply is woken by the thread that served him, on whose processor he slept. The scheduler puts
// him on another one that is idle, if there is any, since here that thread still runs: 35 microseconds for waking a
// processor, where the request itself takes 10. Where only threads of policy SCHED_IDLE run, a processor counts as idle,
// and he stays. But such a thread comes after all else that wants its processor, while somebody waits for its reply.
//
// So the threads have that policy only while it is seen to do no harm: they *yield* while requests come in quick
// succession and a processor is idle. A watcher of real-time priority, which therefore is never late itself, looks every
// `lookUs`:
//   - Threads begin to yield when at least `manyServed` requests were served since the last look, fewer threads run or
//     want to than there are processors, and the last trial's delay has passed.
//   - They end as soon as fewer were served (they starve, or nobody calls: this is not told apart), or when two looks in
//     a row saw no processor idle.
//   - Each end doubles the delay before the next trial, up to `longestDelayUs`; when it went well for `provenUs` it begins
//     with the shortest again.
// So a request waits by this for two looks at most, 4 ms (one that saw enough of it served, one that sees none), and that
// once for each trial. An idle mount has no looks at all: a thread wakes the watcher with each `wakeEvery`-th request.
//
// Who may not give SCHED_IDLE up again (without CAP_SYS_NICE), or have a watcher of real-time priority, has none of this.
#pragma once

#include <sys/types.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

// When threads yield. Pure: the clock and what was seen are given.
class YieldPolicy {
 public:
  static constexpr int64_t lookUs = 2000;
  static constexpr uint64_t manyServed = 8;
  static constexpr int64_t shortestDelayUs = 20'000, longestDelayUs = 1'000'000, provenUs = 100'000;

  struct Look {
    int64_t nowUs;        // of a clock that never goes back
    uint64_t served;      // requests since the last look
    unsigned running;     // threads of the machine that run or want to, but for the watcher
    unsigned processors;  // of the machine
  };

  // Whether threads yield until the next look.
  bool look(const Look& seen) {
    const bool many = seen.served >= manyServed;
    const bool busy = seen.running >= seen.processors;
    const bool wasBusy = busy_;
    busy_ = busy;
    if (!yielding_) {
      yielding_ = many && !busy && seen.nowUs >= nextTrialUs_;
      sinceUs_ = seen.nowUs;
    } else if (!many || (busy && wasBusy)) {
      yielding_ = false;
      delayUs_ = seen.nowUs - sinceUs_ >= provenUs ? shortestDelayUs : std::min(2 * delayUs_, longestDelayUs);
      nextTrialUs_ = seen.nowUs + delayUs_;
    }
    return yielding_;
  }

 private:
  bool yielding_ = false, busy_ = false;
  int64_t sinceUs_ = 0, nextTrialUs_ = 0, delayUs_ = shortestDelayUs / 2;
};

// The threads that may yield, and their watcher.
class Placement {
 public:
  explicit Placement(unsigned processors) : processors_(processors) {}
  ~Placement() { stop(); }
  void start();
  // Waits for the watcher's end. After that threads keep the usual policy.
  void stop();

  // By each thread, before it serves, and before it ends.
  void enter();
  void leave();
  // By a thread that is about to start another, which would inherit its policy and not be known here yet.
  void beUsual();
  // By each thread, with every request.
  void served() {
    const uint64_t before = served_.fetch_add(1, std::memory_order_relaxed);
    if (before % wakeEvery == 0 && asleep_.load(std::memory_order_relaxed)) wake();
  }

 private:
  static constexpr uint64_t wakeEvery = 64;
  static constexpr int quietLooks = 10;  // then the watcher sleeps

  void watch();
  bool look(YieldPolicy& policy, int loadavg, uint64_t& seen);
  void sleep();
  void wake();
  void yield(bool yielding);

  const unsigned processors_;
  std::atomic<uint64_t> served_ = 0;
  std::atomic<bool> asleep_ = false, ending_ = false;
  std::mutex mutex_;  // guards the next two, and the policy of threads
  std::vector<pid_t> threads_;
  bool yielding_ = false;
  std::thread watcher_;
};
