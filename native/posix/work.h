// Work off the event loop: a call that returns a promise and computes on one of Node's pool threads.
//
// Invariants: the Buffers that the work reads and writes are referenced until it has ended, so they are neither freed nor
// moved; `run` touches no JavaScript value. Whoever gave the Buffers must not change them before the promise settles.
#pragma once

#include "js.h"

#include <functional>
#include <memory>
#include <vector>

namespace posix {

class Work {
 public:
  // Starts `run` and returns the promise, which is fulfilled with undefined. `kept` are the values that `run` needs alive.
  static napi_value start(napi_env env, const std::vector<napi_value> &kept, std::function<void()> run) {
    auto work = std::unique_ptr<Work>(new Work(std::move(run)));
    napi_value name, promise;
    check(napi_create_string_utf8(env, "kith", NAPI_AUTO_LENGTH, &name));
    check(napi_create_async_work(env, nullptr, name, execute, complete, work.get(), &work->handle_));
    for (auto value : kept) {
      napi_ref reference;
      check(napi_create_reference(env, value, 1, &reference));
      work->kept_.push_back(reference);
    }
    check(napi_create_promise(env, &work->deferred_, &promise));
    check(napi_queue_async_work(env, work->handle_));
    work.release();
    return promise;
  }

 private:
  explicit Work(std::function<void()> run) : run_(std::move(run)) {}

  static void execute(napi_env, void *data) { static_cast<Work *>(data)->run_(); }

  static void complete(napi_env env, napi_status status, void *data) {
    std::unique_ptr<Work> work(static_cast<Work *>(data));
    for (auto reference : work->kept_) napi_delete_reference(env, reference);
    napi_delete_async_work(env, work->handle_);
    napi_value value;
    if (napi_get_undefined(env, &value) != napi_ok) return;
    if (status == napi_ok)
      napi_resolve_deferred(env, work->deferred_, value);
    else
      napi_reject_deferred(env, work->deferred_, value);
  }

  std::function<void()> run_;
  std::vector<napi_ref> kept_;
  napi_deferred deferred_ = nullptr;
  napi_async_work handle_ = nullptr;
};

}  // namespace posix
