// Where callers wake up: on the processor they called from, while that costs nobody anything.
//
// A caller who gets his reply is woken by the thread that served him, on whose processor he slept. The scheduler puts
// him on another one that is idle, if there is any, since here that thread still runs: 35 microseconds for waking a
// processor, where the request itself takes 10. Where only threads of policy SCHED_IDLE run, a processor counts as idle,
// and he stays. But such a thread comes after all else that wants its processor, while somebody waits for its reply.
//
// So the threads have that policy only while it is seen to do no harm: they *yield* while requests come in quick
// succession and a processor is idle. A watcher of real-time priority, which therefore is never late itself, looks:
//   - While threads do not yield, once in `delay`, 20 ms at first. They begin when at least `manyServed` requests were served
//     in each `lookUs` since the last look, and fewer threads run or want to than there are processors.
//   - While they yield, every `lookUs`. They end as soon as fewer were served (they starve, or nobody calls: this is not told
//     apart), or when two looks in a row saw no processor idle.
//   - A look that finds no processor idle, and an end before `provenUs`, double the delay, up to `longestDelayUs`; a calm
//     look halves it, and an end after that sets it back. For each look interrupts who runs, who on a busy machine may
//     lose his processor by that.
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
    const bool busy = seen.running >= seen.processors;
    const bool wasBusy = busy_;
    busy_ = busy;
    many_ = static_cast<int64_t>(seen.served) * lookUs >= static_cast<int64_t>(manyServed) * (seen.nowUs - lastUs_);
    lastUs_ = seen.nowUs;
    if (yielding_ ? !many_ || (busy && wasBusy) : busy) {
      const bool well = yielding_ && seen.nowUs - sinceUs_ >= provenUs;
      delayUs_ = well ? shortestDelayUs : std::min(2 * delayUs_, longestDelayUs);
      yielding_ = false;
    } else if (!yielding_ && many_) {
      yielding_ = true;
      sinceUs_ = seen.nowUs;
    } else if (!yielding_) {
      delayUs_ = std::max(delayUs_ / 2, shortestDelayUs);
    }
    return yielding_;
  }

  // How long until the next look.
  int64_t untilNextUs() const { return yielding_ ? lookUs : delayUs_; }
  // Whether the last look saw enough for another to be worth it.
  bool many() const { return many_; }
  // No looks were made for a while; the next one counts from here.
  void resume(int64_t nowUs) { lastUs_ = nowUs; }

 private:
  bool yielding_ = false, busy_ = false, many_ = false;
  int64_t lastUs_ = 0, sinceUs_ = 0, delayUs_ = shortestDelayUs;
};

// The threads that may yield, and their watcher.
class Placement {
 public:
  // `served` counts the requests that were served.
  Placement(unsigned processors, const std::atomic<uint64_t>& served) : processors_(processors), served_(served) {}
  ~Placement() { stop(); }
  void start();
  // Waits for the watcher's end. After that threads keep the usual policy.
  void stop();

  // By each thread, before it serves, and before it ends.
  void enter();
  void leave();
  // By a thread that is about to start another, which would inherit its policy and not be known here yet.
  void beUsual();
  // By each thread, with the `count`-th request.
  void served(uint64_t count) {
    if (count % wakeEvery == 0 && asleep_.load(std::memory_order_relaxed)) wake();
  }

 private:
  static constexpr uint64_t wakeEvery = 64;

  void watch();
  void pause(int64_t us);
  void sleep();
  void wake();
  void yield(bool yielding);

  const unsigned processors_;
  const std::atomic<uint64_t>& served_;
  std::atomic<bool> asleep_ = false, ending_ = false;
  std::mutex mutex_;  // guards the next two, and the policy of threads
  std::vector<pid_t> threads_;
  bool yielding_ = false;
  std::thread watcher_;
};
