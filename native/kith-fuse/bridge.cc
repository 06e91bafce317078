// The socket between kith-fuse and the daemon: <state>/bridge.sock, mode 0600, for processes of the same user and of
// root. kith-fuse listens, because it outlives the daemon. The daemon's side: lib/format/bridge.ts and lib/mount/.
//
// Frame, little endian:
//     0  u32  bytes of the payload, at most 1 MiB + 4096 - 16
//     4  u16  type
//     6  u16  0
//     8  u64  id: chosen by the asking side, repeated in the answer; 0 where no answer comes
//    16  payload
// Types and payloads (text: u16 length, bytes; path: u16 count, that many texts, from `.snapshots` down):
//     1 HELLO    fuse: u32 version, u32 pid, u64 session, u64 root dev, u64 root ino, u32 root fd, u32 0
//                daemon: u32 version, u32 0. The server speaks first; the daemon's greeting makes it the daemon
//     2 SYNC     daemon: empty.   answer: u64 records written to the log by then
//     3 STOP     daemon: empty.   answer: u32 count, that many texts: the files that are open
//     4 STATUS   daemon: empty.   answer: u64 written, taken, freed, lost, session, u32 open files, u32 waiting requests
//     5 INVALIDATE_SNAPSHOTS      daemon: empty.   answer: empty
//     6 ANSWER   u32 errno, u32 0, then what the request's answer holds
//     7 WAKE     fuse, id 0: empty. The log has records, and the daemon had said that it sleeps
//     8 REPLACED fuse, id 0: empty. Another daemon greeted; the connection closes
//    16 LOOKUP   fuse: path, text name.           answer: attributes, text canonical name (empty: the same)
//    17 GETATTR  fuse: path.                      answer: attributes
//    18 READDIR  fuse: path, text after.          answer: u32 count, u32 1 at the end of the directory, else 0; then
//                                                 per entry: attributes, text name, text canonical name
//    19 READ     fuse: path, u64 offset, u32 length.   answer: the bytes; fewer only at the end of the file
//    20 READLINK fuse: path.                      answer: the target's bytes
//    21 GETXATTR fuse: path, text name.           answer: the value; ENODATA where there is none
//    22 LISTXATTR fuse: path.                     answer: names, each with a NUL after it
//    23 SEEK     fuse: path, u64 offset, u32 0 data or 1 hole.   answer: u64 where that begins; ENXIO: nowhere
//    24 FILES    fuse: path of a directory, text name, u32 at most so many.   answer: the small file of that name and the
//                                                 small ones after it, to the end: text name, u32 length, the bytes
// Attributes, 72 bytes: u64 ino, u64 size, u64 blocks of 512, i64 mtime seconds, u32 mtime nanoseconds, u32 mode with
// the type, u32 nlink, u32 uid, u32 gid, u32 number of xattrs, u64 rdev (as dev_t), u64 0.
//
// A request names its file by the path from `.snapshots` down, in canonical names. So no state is shared with the daemon, a
// request that was sent to a daemon that died is sent again to the next one, and one that nobody answers ends with
// EAGAIN after a bounded time.
//
// Threads: one loop does all input and output, without blocking; one runs the daemon's commands, which may wait for
// disks. Other threads hand requests to the loop under `mutex_`.

#include "bridge.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <deque>
#include <mutex>
#include <thread>
#include <unordered_map>
#include <utility>

#include "fd.h"
#include "frames.h"

namespace {

using Time = std::chrono::steady_clock::time_point;
using namespace std::chrono_literals;

constexpr uint32_t version = 1;
constexpr size_t headerBytes = 16;
constexpr size_t firstBytes = 64 << 10;      // of the buffer of who has greeted; it grows to the longest frame that comes
constexpr size_t greetingBytes = 64;         // the longest frame a peer may send before it has greeted
constexpr size_t maxWaiting = 4096;          // requests
constexpr size_t maxCandidates = 4;          // connections that have not greeted
constexpr size_t maxCommands = 64;
constexpr auto reattachTime = 2s;            // how long a request waits for a daemon to come
constexpr auto answerTime = 10s;             // and for its answer in all
constexpr auto sweepTime = 100ms;
constexpr auto flushTime = 1s;

enum Type : uint16_t { hello = 1, sync = 2, stop = 3, status = 4, invalidate = 5, answer = 6, wake = 7, replaced = 8 };

std::vector<uint8_t> frame(uint16_t type, uint64_t id, const std::vector<uint8_t>& payload) {
  FrameWriter out;
  out.bytes.reserve(headerBytes + payload.size());
  out.integer(uint32_t(payload.size()));
  out.integer(type);
  out.integer(uint16_t{0});
  out.integer(id);
  out.bytes.insert(out.bytes.end(), payload.begin(), payload.end());
  return std::move(out.bytes);
}

// An eventfd shared with the change log's wake function, which may be called while the bridge ends.
struct Signal {
  Fd event{::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
  std::atomic<bool> logHasRecords = false;

  void raise() const {
    uint64_t one = 1;
    // A full counter means that the signal is already up.
    [[maybe_unused]] ssize_t written = ::write(event.get(), &one, sizeof one);
  }
  void lower() const {
    uint64_t count;
    [[maybe_unused]] ssize_t read = ::read(event.get(), &count, sizeof count);
  }
};

// One peer. Used by the loop's thread only.
struct Connection {
  Fd fd;
  uint64_t serial;
  Time greetBy;
  std::vector<uint8_t> in = std::vector<uint8_t>(greetingBytes);
  size_t filled = 0;
  bool greeted = false;
  std::deque<std::vector<uint8_t>> out;
  size_t outDone = 0;  // bytes of out.front() that are sent

  // False when the peer is gone.
  bool flush() {
    while (!out.empty()) {
      const auto& next = out.front();
      ssize_t sent = ::send(fd.get(), next.data() + outDone, next.size() - outDone, MSG_NOSIGNAL | MSG_DONTWAIT);
      if (sent < 0) return errno == EAGAIN || errno == EINTR;
      outDone += size_t(sent);
      if (outDone < next.size()) continue;
      out.pop_front();
      outDone = 0;
    }
    return true;
  }
};

bool samePrincipal(int fd) {
  ucred peer;
  socklen_t length = sizeof peer;
  if (::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) != 0) return false;
  return peer.uid == ::geteuid() || peer.uid == 0;
}

}  // namespace

class Bridge::Loop {
 public:
  Loop(Fd listener, Fd stateDir, ino_t socketIno, Identity identity, ChangeLog& log, Callbacks callbacks)
      : listener_(std::move(listener)),
        stateDir_(std::move(stateDir)),
        socketIno_(socketIno),
        identity_(identity),
        log_(log),
        callbacks_(std::move(callbacks)) {
    log_.onWake([signal = signal_] {
      signal->logHasRecords = true;
      signal->raise();
    });
    commander_ = std::thread([this] { command(); });
    thread_ = std::thread([this] { run(); });
  }
  ~Loop();
  void request(BridgeRequest type, std::vector<uint8_t> payload, Answer answer);

 private:
  struct Waiting {
    uint64_t id;
    std::vector<uint8_t> frame;
    Answer answer;
    Time submitted, unsentSince;
    bool sent = false;
  };
  struct Command {
    uint16_t type;
    uint64_t id, serial;
  };
  struct Outgoing {
    uint64_t serial;
    std::vector<uint8_t> frame;
  };

  void run();
  bool turn();
  void accept();
  void promote(std::unique_ptr<Connection> candidate);
  void submit();
  void expire(Time now);
  void send(Waiting& waiting);
  bool input(Connection& from);
  bool parse(Connection& from);
  bool receive(Connection& from, uint16_t type, uint64_t id, const uint8_t* payload, size_t length);
  bool greet(Connection& from, const uint8_t* payload, size_t length);
  void answered(uint64_t id, const uint8_t* payload, size_t length);
  void dropDaemon();
  void command();
  void perform(const Command& command);
  void reply(const Command& command, int error, const FrameWriter& body);

  const Fd listener_, stateDir_;
  const ino_t socketIno_;  // of bridge.sock, which the next server may replace while this one serves what is still open
  const Identity identity_;
  ChangeLog& log_;
  const Callbacks callbacks_;
  const std::shared_ptr<Signal> signal_ = std::make_shared<Signal>();

  std::mutex mutex_;  // guards up to ending_
  std::condition_variable commandCame_, flushed_;
  std::vector<Waiting> submitted_;
  std::vector<Outgoing> outgoing_;
  std::deque<Command> commands_;
  size_t waitingCount_ = 0;  // submitted or waiting
  uint64_t unflushed_ = 0;   // serial of the connection that has output left; 0 for none
  bool ending_ = false;

  // of the loop's thread
  std::unordered_map<uint64_t, Waiting> waiting_;
  std::unique_ptr<Connection> daemon_;
  std::vector<std::unique_ptr<Connection>> candidates_;
  uint64_t lastId_ = 0, lastSerial_ = 0;
  bool stuck_ = false;  // the daemon let a request run out of time and has said nothing since
  Time swept_{};

  std::thread commander_, thread_;
};

Bridge::Loop::~Loop() {
  {
    std::lock_guard lock(mutex_);
    ending_ = true;
  }
  signal_->raise();
  commandCame_.notify_all();
  flushed_.notify_all();
  thread_.join();
  commander_.join();
  for (auto& [id, waiting] : waiting_) waiting.answer(EAGAIN, nullptr, 0);
  for (auto& waiting : submitted_) waiting.answer(EAGAIN, nullptr, 0);
  struct stat socket;
  if (::fstatat(stateDir_.get(), "bridge.sock", &socket, AT_SYMLINK_NOFOLLOW) == 0 && socket.st_ino == socketIno_)
    ::unlinkat(stateDir_.get(), "bridge.sock", 0);
}

void Bridge::Loop::request(BridgeRequest type, std::vector<uint8_t> payload, Answer answer) {
  Waiting waiting{0, {}, std::move(answer), std::chrono::steady_clock::now(), {}};
  waiting.unsentSince = waiting.submitted;
  int error = payload.size() > maxPayload ? ENAMETOOLONG : 0;
  if (error == 0) {
    waiting.frame = frame(uint16_t(type), 0, payload);
    std::lock_guard lock(mutex_);
    if (waitingCount_ >= maxWaiting || ending_) {
      error = EAGAIN;
    } else {
      ++waitingCount_;
      submitted_.push_back(std::move(waiting));
    }
  }
  if (error != 0) return waiting.answer(error, nullptr, 0);
  signal_->raise();
}

// ---- the loop

void Bridge::Loop::run() {
  while (turn()) {
  }
}

bool Bridge::Loop::turn() {
  std::vector<pollfd> polled = {{signal_->event.get(), POLLIN, 0}, {listener_.get(), POLLIN, 0}};
  const bool hadDaemon = daemon_ != nullptr;
  if (hadDaemon) polled.push_back({daemon_->fd.get(), short(POLLIN | (daemon_->out.empty() ? 0 : POLLOUT)), 0});
  for (auto& candidate : candidates_)
    polled.push_back({candidate->fd.get(), short(POLLIN | (candidate->out.empty() ? 0 : POLLOUT)), 0});
  const bool timed = !waiting_.empty() || !candidates_.empty();
  ::poll(polled.data(), polled.size(), timed ? int(std::chrono::milliseconds(sweepTime).count()) : -1);

  size_t next = 2;
  if (hadDaemon && polled[next++].revents != 0 && !(daemon_->flush() && input(*daemon_))) dropDaemon();
  // A candidate that greets becomes the daemon: it leaves its place empty.
  for (auto& candidate : candidates_) {
    if (polled[next++].revents == 0) continue;
    if (!(candidate->flush() && input(*candidate))) candidate.reset();
    if (candidate && candidate->greeted) promote(std::move(candidate));
  }
  if (polled[1].revents != 0) accept();
  submit();
  if (daemon_ && !daemon_->flush()) dropDaemon();
  const Time now = std::chrono::steady_clock::now();
  std::erase_if(candidates_, [now](auto& candidate) { return !candidate || now > candidate->greetBy; });
  if (now - swept_ >= sweepTime) expire(now);

  std::lock_guard lock(mutex_);
  unflushed_ = daemon_ && !daemon_->out.empty() ? daemon_->serial : 0;
  if (outgoing_.empty() && unflushed_ == 0) flushed_.notify_all();
  return !ending_;
}

void Bridge::Loop::accept() {
  Fd fd(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (fd.get() < 0 || !samePrincipal(fd.get()) || candidates_.size() >= maxCandidates) return;
  FrameWriter greeting;
  greeting.integer(version);
  greeting.integer(identity_.pid);
  greeting.integer(identity_.session);
  greeting.integer(identity_.rootDev);
  greeting.integer(identity_.rootIno);
  greeting.integer(uint32_t(identity_.rootFd));
  greeting.integer(uint32_t{0});
  auto candidate = std::make_unique<Connection>();
  candidate->fd = std::move(fd);
  candidate->serial = ++lastSerial_;
  candidate->greetBy = std::chrono::steady_clock::now() + 5s;
  candidate->out.push_back(frame(Type::hello, 0, greeting.bytes));
  if (candidate->flush()) candidates_.push_back(std::move(candidate));
}

void Bridge::Loop::promote(std::unique_ptr<Connection> candidate) {
  dropDaemon();
  daemon_ = std::move(candidate);
  for (auto& [id, waiting] : waiting_) send(waiting);
  if (!parse(*daemon_)) dropDaemon();
}

// Takes in what other threads handed over.
void Bridge::Loop::submit() {
  signal_->lower();
  std::vector<Waiting> submitted;
  std::vector<Outgoing> outgoing;
  {
    std::lock_guard lock(mutex_);
    submitted.swap(submitted_);
    outgoing.swap(outgoing_);
  }
  for (auto& entry : outgoing)
    if (daemon_ && daemon_->serial == entry.serial) daemon_->out.push_back(std::move(entry.frame));
  for (auto& entry : submitted) {
    entry.id = ++lastId_;
    std::memcpy(entry.frame.data() + 8, &entry.id, sizeof entry.id);
    Waiting& kept = waiting_.emplace(entry.id, std::move(entry)).first->second;
    if (daemon_) send(kept);
  }
  // A daemon that asks and asks and never reads.
  if (daemon_ && daemon_->out.size() > 2 * maxWaiting) dropDaemon();
  if (daemon_ && signal_->logHasRecords.exchange(false)) daemon_->out.push_back(frame(Type::wake, 0, {}));
}

void Bridge::Loop::send(Waiting& waiting) {
  waiting.sent = true;
  daemon_->out.push_back(waiting.frame);
}

void Bridge::Loop::expire(Time now) {
  swept_ = now;
  std::vector<Answer> expired;
  for (auto it = waiting_.begin(); it != waiting_.end();) {
    Waiting& waiting = it->second;
    Time end = waiting.submitted + answerTime;
    if (!waiting.sent) end = std::min(end, waiting.unsentSince + reattachTime);
    if (stuck_) end = std::min(end, waiting.submitted + reattachTime);
    if (now < end) {
      ++it;
      continue;
    }
    stuck_ = stuck_ || waiting.sent;
    expired.push_back(std::move(waiting.answer));
    it = waiting_.erase(it);
  }
  {
    std::lock_guard lock(mutex_);
    waitingCount_ -= expired.size();
  }
  for (auto& answer : expired) answer(EAGAIN, nullptr, 0);
}

// False when the peer is gone or does not keep to the protocol.
bool Bridge::Loop::input(Connection& from) {
  ssize_t got = ::recv(from.fd.get(), from.in.data() + from.filled, from.in.size() - from.filled, MSG_DONTWAIT);
  if (got == 0) return false;
  if (got < 0) return errno == EAGAIN || errno == EINTR;
  from.filled += size_t(got);
  return parse(from);
}

// Takes the whole frames out of the buffer; of a candidate only its greeting. Afterwards the next frame has room in it.
bool Bridge::Loop::parse(Connection& from) {
  size_t at = 0, wanted = 0;
  while (from.filled - at >= headerBytes && (&from == daemon_.get() || !from.greeted)) {
    FrameReader header(from.in.data() + at, headerBytes);
    const auto length = header.integer<uint32_t>();
    const auto type = header.integer<uint16_t>();
    const auto reserved = header.integer<uint16_t>();
    const auto id = header.integer<uint64_t>();
    if (reserved != 0 || length > (from.greeted ? maxPayload : greetingBytes - headerBytes)) return false;
    wanted = headerBytes + length;
    if (from.filled - at < wanted) break;
    if (!receive(from, type, id, from.in.data() + at + headerBytes, length)) return false;
    at += headerBytes + length;
  }
  std::memmove(from.in.data(), from.in.data() + at, from.filled - at);
  from.filled -= at;
  if (wanted > from.in.size()) from.in.resize(wanted);
  return true;
}

bool Bridge::Loop::receive(Connection& from, uint16_t type, uint64_t id, const uint8_t* payload, size_t length) {
  if (&from != daemon_.get()) return type == Type::hello && greet(from, payload, length);
  stuck_ = false;
  if (type == Type::answer) {
    if (length < 8) return false;
    answered(id, payload, length);
    return true;
  }
  if (type < Type::sync || type > Type::invalidate || length != 0) return false;
  std::lock_guard lock(mutex_);
  if (commands_.size() >= maxCommands) return false;
  commands_.push_back({type, id, from.serial});
  commandCame_.notify_one();
  return true;
}

bool Bridge::Loop::greet(Connection& from, const uint8_t* payload, size_t length) {
  FrameReader greeting(payload, length);
  const auto theirs = greeting.integer<uint32_t>();
  greeting.integer<uint32_t>();
  if (!greeting.atEnd() || theirs != version) return false;
  from.greeted = true;
  from.in.resize(firstBytes);
  return true;
}

void Bridge::Loop::answered(uint64_t id, const uint8_t* payload, size_t length) {
  auto found = waiting_.find(id);
  if (found == waiting_.end()) return;  // it ran out of time
  Answer answer = std::move(found->second.answer);
  waiting_.erase(found);
  {
    std::lock_guard lock(mutex_);
    --waitingCount_;
  }
  FrameReader reader(payload, length);
  const auto error = reader.integer<uint32_t>();
  // Only an errno may reach the kernel.
  answer(error < 4096 ? int(error) : EIO, payload + 8, length - 8);
}

void Bridge::Loop::dropDaemon() {
  if (!daemon_) return;
  daemon_->out.push_back(frame(Type::replaced, 0, {}));
  // Only when nothing is half sent can the last word be understood; a peer that is gone does not care.
  if (daemon_->outDone == 0) daemon_->flush();
  daemon_.reset();
  stuck_ = false;
  const Time now = std::chrono::steady_clock::now();
  for (auto& [id, waiting] : waiting_) {
    waiting.sent = false;
    waiting.unsentSince = now;
  }
}

// ---- the daemon's commands

void Bridge::Loop::command() {
  for (;;) {
    std::unique_lock lock(mutex_);
    commandCame_.wait(lock, [this] { return ending_ || !commands_.empty(); });
    if (ending_) return;
    Command next = commands_.front();
    commands_.pop_front();
    lock.unlock();
    perform(next);
  }
}

void Bridge::Loop::perform(const Command& command) {
  FrameWriter body;
  int error = 0;
  if (command.type == Type::sync) {
    error = callbacks_.syncMappedPages();
    body.integer(log_.position().written);
  } else if (command.type == Type::invalidate) {
    callbacks_.invalidateSnapshots();
  } else if (command.type == Type::status) {
    const auto position = log_.position();
    const auto open = uint32_t(callbacks_.openFiles().size());
    for (uint64_t value : {position.written, position.taken, position.freed, position.lost, log_.session()})
      body.integer(value);
    std::lock_guard lock(mutex_);
    body.integer(open);
    body.integer(uint32_t(waitingCount_));
  } else {
    FrameWriter names;
    uint32_t count = 0;
    for (const auto& name : callbacks_.openFiles()) {
      if (name.size() > UINT16_MAX || names.bytes.size() + name.size() + 32 > maxPayload) continue;
      names.text(name);
      ++count;
    }
    body.integer(count);
    body.bytes.insert(body.bytes.end(), names.bytes.begin(), names.bytes.end());
  }
  reply(command, error, body);
  if (command.type != Type::stop) return;
  {
    std::unique_lock lock(mutex_);
    flushed_.wait_for(lock, flushTime, [this] { return ending_ || (outgoing_.empty() && unflushed_ == 0); });
  }
  callbacks_.stop();
}

void Bridge::Loop::reply(const Command& command, int error, const FrameWriter& body) {
  FrameWriter payload;
  payload.integer(uint32_t(error));
  payload.integer(uint32_t{0});
  payload.bytes.insert(payload.bytes.end(), body.bytes.begin(), body.bytes.end());
  {
    std::lock_guard lock(mutex_);
    outgoing_.push_back({command.serial, frame(Type::answer, command.id, payload.bytes)});
    unflushed_ = command.serial;
  }
  signal_->raise();
}

// ---- the outside

std::unique_ptr<Bridge> Bridge::start(int stateDirFd, Identity identity, ChangeLog& log, Callbacks callbacks) {
  Fd stateDir(::fcntl(stateDirFd, F_DUPFD_CLOEXEC, 0));
  Fd listener(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (stateDir.get() < 0 || listener.get() < 0) return nullptr;
  // The log's lock says that no other server lives: a socket that is there was left by a dead one.
  if (::unlinkat(stateDirFd, "bridge.sock", 0) != 0 && errno != ENOENT) return nullptr;
  // Addresses are short: the state directory is named by its descriptor.
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::snprintf(address.sun_path, sizeof address.sun_path, "/proc/self/fd/%d/bridge.sock", stateDirFd);
  // The mode of the socket's descriptor becomes that of its file.
  if (::fchmod(listener.get(), 0600) != 0) return nullptr;
  if (::bind(listener.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) return nullptr;
  if (::listen(listener.get(), 8) != 0) return nullptr;
  struct stat socket;
  if (::fstatat(stateDirFd, "bridge.sock", &socket, AT_SYMLINK_NOFOLLOW) != 0) return nullptr;
  return std::unique_ptr<Bridge>(new Bridge(std::make_unique<Loop>(
      std::move(listener), std::move(stateDir), socket.st_ino, identity, log, std::move(callbacks))));
}

Bridge::Bridge(std::unique_ptr<Loop> loop) : loop_(std::move(loop)) {}
Bridge::~Bridge() = default;

void Bridge::request(BridgeRequest type, std::vector<uint8_t> payload, Answer answer) {
  loop_->request(type, std::move(payload), std::move(answer));
}
