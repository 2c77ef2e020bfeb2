// SPDX-License-Identifier: MIT
// The running kernel as a source of ticks.
#pragma once

#include <bpf/libbpf.h>

#include <memory>

#include "base/result.h"
#include "source/decode.h"
#include "source/live/attribution.h"
#include "source/live/loader.h"
#include "source/live/pair_probe.h"
#include "source/live/workload_teller.h"

namespace laggard::source::live {

// Spreads work so that it stays under a share of one core, however much there is.
class Pacer {
 public:
  explicit Pacer(double max_share) : max_share_(max_share) {}
  bool due(MonoTime now) const { return now >= next_; }
  void spent(MonoTime now, Duration cpu);
  Duration period() const { return period_; }

 private:
  double max_share_;
  MonoTime next_;
  Duration period_{};
};

struct LiveOptions {
  double max_cpu = 0.01;  // share of one core for the walks over sockets and over files, half each; processes come with every tick
  std::map<std::string, std::string> forced_hooks;
  std::vector<std::string_view> feeds;  // empty: all
  Duration pools_period{};              // how often idle connections are looked at; 0: never
  PairOptions pairs;                    // none: no probes
  bool command_lines = false;           // tell those of processes: there may be secrets in them
};

class LiveSource {
 public:
  // Loads, attaches and seeds: every socket that exists now is known afterwards.
  static Result<std::unique_ptr<LiveSource>> open(const LiveOptions& options);
  ~LiveSource();
  LiveSource(const LiveSource&) = delete;
  LiveSource& operator=(const LiveSource&) = delete;

  const Plan& plan() const { return plan_; }

  // Whether iterators can still be opened with no capability at all (since 5.19); asks a child process.
  bool works_without_capabilities() const;

  // Ends the epoch and looks at everything that is due. `walk_holders`: also who holds what, whatever it costs.
  // `everything`: a sweep even if none is due, idle sockets too.
  Result<RawTick> tick(bool walk_holders, bool everything = false);

  // From now on, charges the growth of a process to the sockets it reads. The tick that ends it brings the result. Where that
  // is under way, or is for as many as can be at once, nothing happens: ask again.
  Result<void> attribute(const AttributionRequest& request);
  Attributions& attributions() { return attributions_; }
  bool can_attribute() const { return plan_.has("growth") && !attribution_refused_; }

  const WorkloadTeller& workloads() const { return workloads_; }
  PairProbe* pairs() { return pairs_.get(); }  // null: none were asked for

  // Of the programs that are always there, as of the last tick.
  const std::vector<model::ProgramRuns>& program_runs() const { return program_runs_; }

  // Readable when the kernel side has much to say: then drain() without waiting for the tick.
  int ring_fd() const { return ring_buffer__epoll_fd(ring_.get()); }
  void drain();

 private:
  struct FreeRing {
    void operator()(ring_buffer* ring) const { ring_buffer__free(ring); }
  };

  LiveSource(Loaded loaded, const LiveOptions& options);
  Result<void> start();
  std::uint64_t look_at_own_programs();  // runs that were skipped
  bpf_link* sweep_link() const;
  Result<void> sweep(RawTick& into);
  Result<void> walk(bpf_link* link, RawTick& into);
  void look_at_pairs(MonoTime now, RawTick& into);

  Plan plan_;
  Skeleton skeleton_;
  std::unique_ptr<ring_buffer, FreeRing> ring_;
  Attributions attributions_;
  bool attribution_refused_ = false;  // once: it is not tried again
  std::unique_ptr<PairProbe> pairs_;
  std::vector<model::ProgramRuns> program_runs_;
  RawTick pending_;  // records from the ring since the last tick
  Pacer sweep_pacer_;
  Pacer holders_pacer_;
  Pacer pairs_pacer_;
  Pacer programs_pacer_;
  WorkloadTeller workloads_;
  Duration pools_period_;
  MonoTime pools_due_;
};

}  // namespace laggard::source::live
