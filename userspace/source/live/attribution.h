// SPDX-License-Identifier: MIT
// Attributions of memory growth (DESIGN 5.3, stage 2): for a few seconds the kernel side counts with which sockets the memory
// of a process grows, for several processes at once. Its programs are attached exactly while there is one.
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
  // Goes on until so much was gained, for `patience` at most: what grows in steps rests for longer than `duration`.
  std::uint64_t needed_bytes = 0;
  Duration patience{};
  Duration stack_interval{};  // zero: no stacks
};

class Attributions {
 public:
  // `programs`: those of the hook plan. Needs no capability (since 5.19): they are loaded already.
  Attributions(laggard_bpf& skeleton, std::span<const std::string_view> programs) : skeleton_(skeleton), programs_(programs) {}
  ~Attributions();
  Attributions(const Attributions&) = delete;
  Attributions& operator=(const Attributions&) = delete;

  bool is_full() const { return running_.size() >= LAGGARD_MAX_SUSPECTS; }
  bool any() const { return !running_.empty(); }
  bool has(model::ProcessId process) const;
  // Not for one that is attributed already, nor where it is full. Of several with stacks the last one has them.
  Result<void> begin(const AttributionRequest& request, MonoTime now);
  void stop() { stopped_ = true; }  // the next tick ends all

  // Ends those that are over and appends one GROWTH record per socket.
  void finish(MonoTime now, std::uint32_t epoch, RawTick& into);

  // Samples that came since the last call, oldest first.
  struct Samples {
    std::function<void(const laggard_stack_sample&)> stack;
    std::function<void(const laggard_stack_owner&)> owner;
  };
  void take(const Samples& samples);
  std::uint64_t lost_samples() const;  // of those that run

 private:
  struct Running {
    AttributionRequest request;
    MonoTime begin;
    std::uint32_t generation = 0;
    std::uint32_t index = 0;
  };
  struct DestroyLink {
    void operator()(bpf_link* link) const { bpf_link__destroy(link); }
  };
  struct FreeRing {
    void operator()(ring_buffer* ring) const { ring_buffer__free(ring); }
  };
  Result<void> attach();
  std::uint32_t free_index() const;
  bool is_over(const Running& running, const laggard_suspect& suspect, MonoTime now) const;
  void tell(const Running& running, const laggard_suspect& suspect, MonoTime now, std::uint32_t epoch, RawTick& into);
  int suspects_fd() const;
  static int on_sample(void* context, void* data, std::size_t size);

  laggard_bpf& skeleton_;
  std::span<const std::string_view> programs_;
  std::vector<Running> running_;
  std::uint32_t generations_ = 0;
  bool stopped_ = false;
  std::vector<std::unique_ptr<bpf_link, DestroyLink>> links_;
  std::unique_ptr<ring_buffer, FreeRing> ring_;
  const Samples* taker_ = nullptr;  // while take() runs
};

}  // namespace laggard::source::live
