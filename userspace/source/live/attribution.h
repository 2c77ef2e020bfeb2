// SPDX-License-Identifier: MIT
// One attribution of memory growth (DESIGN 5.3, stage 2): for a few seconds the kernel side counts with which sockets the
// memory of one process grows. The object exists exactly while the programs are attached.
#pragma once

#include <functional>
#include <laggard/abi/growth.h>
#include <memory>
#include <span>
#include <vector>

#include "base/result.h"
#include "model/net.h"
#include "source/decode.h"
#include "source/live/loader.h"

namespace laggard::source::live {

struct AttributionRequest {
  model::ProcessId process;
  Duration duration{};
  Duration stack_interval{};  // zero: no stacks
};

class Attribution {
 public:
  // `programs`: those of the hook plan. Needs no capability (since 5.19): they are loaded already.
  static Result<std::unique_ptr<Attribution>> begin(laggard_bpf& skeleton, std::span<const std::string_view> programs,
                                                    const AttributionRequest& request, MonoTime now);
  ~Attribution();
  Attribution(const Attribution&) = delete;
  Attribution& operator=(const Attribution&) = delete;

  void stop() { stopped_ = true; }  // the next tick ends it
  // It begins after a tick and ends before one: a little less rather than an interval more.
  bool is_over(MonoTime now) const { return stopped_ || now >= begin_ + request_.duration - request_.duration / 20; }

  // Detaches and appends one GROWTH record per socket.
  void finish(MonoTime now, std::uint32_t epoch, RawTick& into);

  // Samples that came since the last call, oldest first.
  struct Samples {
    std::function<void(const laggard_stack_sample&)> stack;
    std::function<void(const laggard_stack_owner&)> owner;
  };
  void take(const Samples& samples);
  std::uint64_t lost_samples() const { return skeleton_.bss->growth_run.lost_samples; }

 private:
  struct DestroyLink {
    void operator()(bpf_link* link) const { bpf_link__destroy(link); }
  };
  struct FreeRing {
    void operator()(ring_buffer* ring) const { ring_buffer__free(ring); }
  };
  Attribution(laggard_bpf& skeleton, const AttributionRequest& request, MonoTime now)
      : skeleton_(skeleton), request_(request), begin_(now)
  {
  }
  static int on_sample(void* context, void* data, std::size_t size);

  laggard_bpf& skeleton_;
  AttributionRequest request_;
  MonoTime begin_;
  bool stopped_ = false;
  std::vector<std::unique_ptr<bpf_link, DestroyLink>> links_;
  std::unique_ptr<ring_buffer, FreeRing> ring_;
  const Samples* taker_ = nullptr;  // while take() runs
};

}  // namespace laggard::source::live
