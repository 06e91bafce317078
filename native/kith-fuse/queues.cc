// An entry goes around: registered (once) -> the kernel puts a request into it and completes the command -> the thread
// performs it and puts the reply in its place -> the next command commits the reply and waits for another request.
// A thread that handed its request on (`.snapshots`) waits for the answer with its entry; the bridge bounds that wait.
// FORGET, INTERRUPT and notifications do not go this way: the workers of the device stay.
#include "queues.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <system_error>

#include "caller.h"

namespace {

constexpr size_t pageBytes = 4096;
// Of one queue. Only as many are made as requests were under way at once.
constexpr int maxThreads = 64;
// So that requests which wait for the daemon leave threads to the live tree.
constexpr int maxHandedOn = 48;
// A queue must be served for each processor that could ever be there; some machines have room for very many.
constexpr unsigned maxQueues = 64;

// How many processors there may ever be, which are numbered from 0; 0 when that is not how they are numbered.
unsigned possibleProcessors() {
  FILE* file = fopen("/sys/devices/system/cpu/possible", "re");
  if (!file) return 0;
  unsigned first = 1, last = 0;
  char more = 0;
  const int read = fscanf(file, "%u-%u%c", &first, &last, &more);
  fclose(file);
  if (first != 0 || (read == 3 && more != '\n')) return 0;
  return read == 1 ? 1 : last + 1;
}

// Where that is not allowed (a cpuset, an affinity that someone chose) the thread may run anywhere.
void bindTo(uint16_t processor) {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof(set), &set) != 0 || !CPU_ISSET(processor, &set)) return;
  CPU_ZERO(&set);
  CPU_SET(processor, &set);
  sched_setaffinity(0, sizeof(set), &set);
}

void command(io_uring_sqe& to, uint32_t operation, uint16_t queue, uint64_t commitId) {
  to.opcode = IORING_OP_URING_CMD;
  to.cmd_op = operation;
  wire::EntryCommand about{};
  about.commitId = commitId;
  about.queue = queue;
  memcpy(to.cmd, &about, sizeof(about));
}

}  // namespace

// Its memory, of which only what is used becomes real:
//      0  the head; the end of this page takes the first parts of a request when they are joined
//   4096  the payload, 1 MiB
//   then  scratch, when the payload has a part of the request
class Queues::Entry final : public Way {
 public:
  explicit Entry(uint16_t queue)
      : memory_(static_cast<char*>(mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0))),
        queue_(queue), parts_{{memory_, sizeof(wire::EntryHead)}, {memory_ + pageBytes, wire::maxTransfer}} {}
  ~Entry() {
    if (memory_ != MAP_FAILED) munmap(memory_, bytes);
  }
  explicit operator bool() const { return memory_ != MAP_FAILED; }

  uint16_t queue() const { return queue_; }

  void registering(io_uring_sqe& to) {
    to.addr = reinterpret_cast<uint64_t>(parts_);
    to.len = 2;
    command(to, wire::entryRegister, queue_, 0);
  }
  void committing(io_uring_sqe& to) const { command(to, wire::entryCommitAndFetch, queue_, head().commitId); }

  // Joins the request's header, first argument and payload, before which there is room. Its length, or 0.
  size_t assemble(const char*& start) {
    const fuse_in_header in = head().in;
    const size_t payloadBytes = head().payloadBytes;
    answered_.store(false, std::memory_order_relaxed);
    if (payloadBytes > wire::maxTransfer || in.len < sizeof(in) + payloadBytes) return 0;
    const size_t argument = in.len - sizeof(in) - payloadBytes;
    if (argument > sizeof(head().operation)) return 0;
    char* const to = payload() - argument - sizeof(in);
    memcpy(to, &in, sizeof(in));
    memcpy(to + sizeof(in), head().operation, argument);
    start = to;
    return in.len;
  }
  char* scratch() const { return head().payloadBytes == 0 ? payload() : payload() + wire::maxTransfer; }

  int reply(uint64_t unique, int error, const void* data, size_t length) override {
    if (length > wire::maxTransfer) {
      error = -EIO;
      length = 0;
    }
    if (length && data != payload()) memcpy(payload(), data, length);
    head().out = {static_cast<uint32_t>(sizeof(fuse_out_header) + length), error, unique};
    head().payloadBytes = static_cast<uint32_t>(length);
    answered_.store(true, std::memory_order_release);
    answered_.notify_one();
    return 0;
  }
  // A request that cannot be read.
  void refuse() { reply(head().in.unique, -EIO, nullptr, 0); }
  bool isAnswered() const { return answered_.load(std::memory_order_acquire); }
  void awaitAnswer() const { answered_.wait(false, std::memory_order_acquire); }

 private:
  static constexpr size_t bytes = pageBytes + wire::maxTransfer + wire::bufferBytes;

  wire::EntryHead& head() const { return *reinterpret_cast<wire::EntryHead*>(memory_); }
  char* payload() const { return memory_ + pageBytes; }

  char* const memory_;
  const uint16_t queue_;
  const iovec parts_[2];
  std::atomic<bool> answered_ = false;
};

bool Queues::possible(int device) {
  const unsigned processors = possibleProcessors();
  return processors > 0 && processors <= maxQueues && Uring::open(1, device) != nullptr;
}

Queues::Queues(int device, int procFds, Server& server, std::function<void()> started, std::function<void()> ended)
    : device_(device), procFds_(procFds), server_(server), started_(std::move(started)), ended_(std::move(ended)),
      queues_(possibleProcessors()), placement_(static_cast<unsigned>(sysconf(_SC_NPROCESSORS_ONLN)), replies_),
      refusing_(Uring::open(1, device)) {}

Queues::~Queues() { join(); }

void Queues::start() {
  bool all = true;
  for (uint16_t i = 0; i < queues_.size() && all; i++) {
    all = spawn(i, true);
    std::unique_lock lock(mutex_);
    reported_.wait(lock, [&] { return !all || registered_ + failed_ == i + 1u; });
    all = all && failed_ == 0;
  }
  if (all && !queues_.empty()) {
    placement_.start();
    return;
  }
  fprintf(stderr, "kith-fuse: requests come over the device, not over io_uring\n");
  // A registration that fails tells the kernel not to wait for the queues: here, one without memory for an entry.
  if (!refusing_) return;
  command(refusing_->next(), wire::entryRegister, 0, 0);
  refusing_->enter(0);
}

void Queues::join() {
  while (true) {
    std::list<std::thread> threads;
    {
      std::lock_guard lock(mutex_);
      threads.swap(threads_);
    }
    if (threads.empty()) break;
    for (std::thread& thread : threads) thread.join();
  }
  placement_.stop();
}

bool Queues::spawn(uint16_t queue, bool first) {
  started_();
  queues_[queue].threads++;
  try {
    std::lock_guard lock(mutex_);
    threads_.emplace_back([this, queue, first] {
      work(queue, first);
      ended_();
    });
    return true;
  } catch (const std::system_error& error) {
    fprintf(stderr, "kith-fuse: cannot start a thread: %s\n", error.what());
    queues_[queue].threads--;
    ended_();
    return false;
  }
}

void Queues::work(uint16_t queue, bool first) {
  Entry entry(queue);
  std::unique_ptr<Uring> ring;  // ends before the entry's memory does
  const bool ready = prepare(queue, entry, ring);
  if (!ready) queues_[queue].threads--;
  if (first) report(ready ? Registered::yes : Registered::no);
  if (!ready) return;
  placement_.enter();
  serve(*ring, entry);
  placement_.leave();
}

bool Queues::prepare(uint16_t queue, Entry& entry, std::unique_ptr<Uring>& ring) {
  bindTo(queue);
  if (!caller::enterThread(procFds_) || !entry || !(ring = Uring::open(1, device_))) {
    fprintf(stderr, "kith-fuse: cannot set up a thread for io_uring: %m\n");
    return false;
  }
  entry.registering(ring->next());
  queues_[queue].waiting++;
  int error = ring->enter(0);
  const int32_t refused = ring->failure();
  if (error == 0) error = -refused;
  if (error == 0) return true;
  queues_[queue].waiting--;
  fprintf(stderr, "kith-fuse: the kernel takes no queue over io_uring: %s\n", strerror(error));
  return false;
}

void Queues::report(Registered registered) {
  std::lock_guard lock(mutex_);
  (registered == Registered::yes ? registered_ : failed_)++;
  reported_.notify_all();
}

void Queues::serve(Uring& ring, Entry& entry) {
  Queue& queue = queues_[entry.queue()];
  int32_t result;
  while (true) {
    while (!ring.take(result)) {
      if (const int error = ring.enter(1)) {
        fprintf(stderr, "kith-fuse: cannot wait for requests: %s\n", strerror(error));
        return;
      }
    }
    if (result < 0) {
      // The mount has ended, or the connection was cut.
      if (result != -ENOTCONN && result != -ECONNABORTED && result != -ECANCELED)
        fprintf(stderr, "kith-fuse: the kernel refuses a reply: %s\n", strerror(-result));
      return;
    }
    replies_.load(std::memory_order_acquire);
    if (--queue.waiting == 0 && queue.threads < maxThreads) {
      placement_.beUsual();
      spawn(entry.queue(), false);
    }
    perform(entry);
    placement_.served(replies_.fetch_add(1, std::memory_order_release));
    queue.waiting++;
    entry.committing(ring.next());
  }
}

void Queues::perform(Entry& entry) {
  Queue& queue = queues_[entry.queue()];
  const char* start;
  const size_t length = entry.assemble(start);
  if (length == 0) {
    entry.refuse();
    return;
  }
  Request request(entry, device_, start, length, entry.scratch());
  const bool handedOn = Snapshots::owns(request.header().nodeid);
  if (handedOn && ++queue.handedOn > maxHandedOn) {
    request.fail(EAGAIN);
  } else {
    server_.dispatch(request);
    if (!entry.isAnswered()) entry.awaitAnswer();
  }
  if (handedOn) queue.handedOn--;
}
