// The worker threads and their device descriptors.
#pragma once

#include <functional>
#include <thread>
#include <vector>

#include "fd.h"
#include "server.h"

class Channel {
 public:
  // More than the processors, since some wait in fsync.
  static constexpr int workers = 4;

  // Answers INIT on `device`, which must be the first request. 0, or an errno.
  static int agree(int device, Server& server, bool privileged);

  // Starts the workers. `ended` is called by the last one to end: when the file system was unmounted.
  // `procFds` is a descriptor of /proc/self/fd.
  Channel(int device, int procFds, Server& server, std::function<void()> ended);
  ~Channel();

 private:
  void work(int device);

  const int procFds_;
  Server& server_;
  const std::function<void()> ended_;
  std::atomic<int> running_;
  std::vector<Fd> clones_;
  std::vector<std::thread> threads_;
};
