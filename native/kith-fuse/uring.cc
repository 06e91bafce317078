// The kernel's side runs only while the thread waits (DEFER_TASKRUN): a request is copied into our memory by the very thread
// that serves it, on its processor, and no completion interrupts it at work.
#include "uring.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>

Uring::Mapping::~Mapping() {
  if (at) munmap(at, bytes);
}

bool Uring::Mapping::map(int fd, size_t size, uint64_t offset) {
  void* mapped = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, static_cast<off_t>(offset));
  if (mapped == MAP_FAILED) return false;
  at = mapped;
  bytes = size;
  return true;
}

std::unique_ptr<Uring> Uring::open(unsigned entries, int device) {
  io_uring_params params{};
  params.flags = IORING_SETUP_SQE128 | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN;
  Fd fd(static_cast<int>(syscall(SYS_io_uring_setup, entries, &params)));
  if (!fd) return nullptr;
  std::unique_ptr<Uring> ring(new Uring);
  const size_t submitBytes = params.sq_off.array + params.sq_entries * sizeof(unsigned);
  const size_t completeBytes = params.cq_off.cqes + params.cq_entries * sizeof(io_uring_cqe);
  if (!ring->rings_.map(fd.get(), std::max(submitBytes, completeBytes), IORING_OFF_SQ_RING)) return nullptr;
  if (!ring->commands_.map(fd.get(), params.sq_entries * commandBytes, IORING_OFF_SQES)) return nullptr;
  if (syscall(SYS_io_uring_register, fd.get(), IORING_REGISTER_FILES, &device, 1) != 0) return nullptr;
  char* const rings = static_cast<char*>(ring->rings_.at);
  const auto word = [rings](uint32_t offset) { return reinterpret_cast<unsigned*>(rings + offset); };
  ring->submitTail_ = word(params.sq_off.tail);
  ring->submitMask_ = *word(params.sq_off.ring_mask);
  ring->completeHead_ = word(params.cq_off.head);
  ring->completeTail_ = word(params.cq_off.tail);
  ring->completeMask_ = *word(params.cq_off.ring_mask);
  ring->completions_ = reinterpret_cast<const io_uring_cqe*>(rings + params.cq_off.cqes);
  for (unsigned i = 0; i < params.sq_entries; i++) word(params.sq_off.array)[i] = i;
  ring->fd_ = std::move(fd);
  return ring;
}

Uring::~Uring() = default;

io_uring_sqe& Uring::next() {
  const unsigned place = (*submitTail_ + prepared_++) & submitMask_;
  char* const at = static_cast<char*>(commands_.at) + place * commandBytes;
  memset(at, 0, commandBytes);
  auto& command = *reinterpret_cast<io_uring_sqe*>(at);
  command.flags = IOSQE_FIXED_FILE;
  return command;
}

int Uring::enter(unsigned completions) {
  if (prepared_) std::atomic_ref(*submitTail_).store(*submitTail_ + prepared_, std::memory_order_release);
  while (true) {
    const long submitted = syscall(SYS_io_uring_enter, fd_.get(), prepared_, completions, IORING_ENTER_GETEVENTS, nullptr, 0);
    if (submitted >= 0) {
      prepared_ -= static_cast<unsigned>(submitted);
      if (prepared_ == 0) return 0;
    } else if (errno != EINTR && errno != EAGAIN && errno != EBUSY) {
      return errno;
    }
  }
}

bool Uring::take(int32_t& result) {
  const unsigned head = *completeHead_;
  if (head == std::atomic_ref(*completeTail_).load(std::memory_order_acquire)) return false;
  result = completions_[head & completeMask_].res;
  std::atomic_ref(*completeHead_).store(head + 1, std::memory_order_release);
  return true;
}

int32_t Uring::failure() const {
  const unsigned head = *completeHead_;
  if (head == std::atomic_ref(*completeTail_).load(std::memory_order_acquire)) return 0;
  return std::min(completions_[head & completeMask_].res, 0);
}
