// The worker threads and their device descriptors.
#pragma once

#include <functional>
#include <thread>
#include <vector>

#include "fd.h"
#include "queues.h"
#include "server.h"

class Channel {
 public:
  // More than the processors, since some wait in fsync.
  static constexpr int workers = 4;

  // Answers INIT on `device`, which must be the first request. 0, or an errno.
  static int agree(int device, Server& server, bool privileged, bool& rings);

  // Starts the workers. `ended` is called by the last one to end: when the file system was unmounted.
  // `procFds` is a descriptor of /proc/self/fd.
  Channel(int device, int procFds, Server& server, bool rings, std::function<void()> ended);
  // Waits for the end of the workers.
  void join();

 private:
  void work(Way& way, int device);
  void end();

  const int procFds_;
  Server& server_;
  const std::function<void()> ended_;
  std::atomic<int> running_;
  std::vector<Fd> clones_;
  std::list<DeviceWay> ways_;
  std::unique_ptr<Queues> queues_;
  std::vector<std::thread> threads_;
};
