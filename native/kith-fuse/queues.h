// The threads that serve the kernel's queues of requests over io_uring. The kernel has one queue for each processor and
// puts a request into that of the processor its caller runs on; a thread bound there answers without waking another one.
//
// Each thread has one entry, thus one request at a time: what one does slowly never holds up a request that another could
// take. A queue whose last waiting thread gets a request makes one more, up to a bound; threads and entries stay, as an
// entry cannot be taken back from the kernel. The kernel uses the entry that was free last, so the many stay cold.
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "placement.h"
#include "server.h"
#include "uring.h"

class Queues {
 public:
  // Whether requests may come this way at all. Asked before INIT is answered: after that the kernel waits for the queues.
  static bool possible(int device);

  // `started` is called before each thread starts, `ended` by each when it ends. `procFds` as for Channel.
  Queues(int device, int procFds, Server& server, std::function<void()> started, std::function<void()> ended);
  ~Queues();
  // Once INIT was answered in favour of io_uring. If the kernel does not get each queue it is told to use the device alone.
  void start();
  // Waits for the end of all threads, which comes with the mount's.
  void join();

 private:
  class Entry;
  struct Queue {
    std::atomic<int> waiting = 0;  // threads that wait for a request
    std::atomic<int> threads = 0;
    std::atomic<int> handedOn = 0;  // requests whose answer somebody else will give
  };
  enum class Registered { yes, no };

  bool spawn(uint16_t queue, bool first);
  void work(uint16_t queue, bool first);
  bool prepare(uint16_t queue, Entry& entry, std::unique_ptr<Uring>& ring);
  void report(Registered registered);
  void serve(Uring& ring, Entry& entry);
  void perform(Entry& entry);

  const int device_, procFds_;
  Server& server_;
  const std::function<void()> started_, ended_;
  std::vector<Queue> queues_;
  // Replies that were given. The kernel sends a request after the replies that it follows upon, and who can see this only in
  // our memory sees it by this: it grows before a reply goes, and is read when a request has come.
  std::atomic<uint64_t> replies_ = 0;
  Placement placement_;
  const std::unique_ptr<Uring> refusing_;  // belongs to the thread that made this: see start()
  std::mutex mutex_;                       // guards all below
  std::condition_variable reported_;
  size_t registered_ = 0, failed_ = 0;
  std::list<std::thread> threads_;
};
