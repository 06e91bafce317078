// One io_uring of one thread: no other may touch it. Only what FUSE over io_uring needs: commands of 128 bytes that are
// submitted one or a few at a time, and waiting for completions.
#pragma once

#include <linux/io_uring.h>

#include <cstddef>
#include <cstdint>
#include <memory>

#include "fd.h"

class Uring {
 public:
  // To be called by the thread that will use it. At most `entries` commands are under way. Null, and errno, when the
  // kernel refuses. `device` becomes the ring's file 0, on which every command works.
  static std::unique_ptr<Uring> open(unsigned entries, int device);
  ~Uring();
  Uring(const Uring&) = delete;
  Uring& operator=(const Uring&) = delete;

  // A command to fill in, all zero, on file 0; it goes with the next enter().
  io_uring_sqe& next();
  // Submits what next() gave out; waits until at least `completions` are there. 0, or an errno.
  int enter(unsigned completions);
  // Takes one completion. False when there is none.
  bool take(int32_t& result);
  // The negative errno of the completion that is there, if it is one; else 0. Leaves it.
  int32_t failure() const;

 private:
  struct Mapping {
    void* at = nullptr;
    size_t bytes = 0;
    ~Mapping();
    bool map(int fd, size_t size, uint64_t offset);
  };
  static constexpr size_t commandBytes = 128;

  Uring() = default;

  Fd fd_;
  Mapping rings_, commands_;
  unsigned prepared_ = 0;
  unsigned *submitTail_ = nullptr, *completeHead_ = nullptr, *completeTail_ = nullptr;
  unsigned submitMask_ = 0, completeMask_ = 0;
  const io_uring_cqe* completions_ = nullptr;
};
