// SPDX-License-Identifier: MIT
// The running kernel as a source of ticks.
#pragma once

#include <bpf/libbpf.h>

#include <memory>

#include "base/result.h"
#include "source/decode.h"
#include "source/live/attribution.h"
#include "source/live/budget.h"
#include "source/live/loader.h"
#include "source/live/pair_probe.h"
#include "source/live/sweep.h"
#include "source/live/workload_teller.h"

namespace laggard::source::live {

struct LiveOptions {
  double max_cpu = 0.01;  // share of one core, for everything
  std::uint64_t max_memory = 256 << 20;  // what one look brings is a part of it
  std::map<std::string, std::string> forced_hooks;
  std::vector<std::string_view> feeds;  // empty: all
  Duration pools_period{};              // how often idle connections are looked at; 0: never
  PairOptions pairs;                    // none: no probes; else this process must have one thread
  bool command_lines = false;           // tell those of processes: there may be secrets in them
  Duration interval{};                  // how far apart the ticks will be; recorded with each
  Duration ripens_after = std::chrono::seconds(5);  // what is seen for so long is a finding
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

  enum class Look : std::uint8_t {
    Due,      // what is due
    Holders,  // who holds what is wanted, too, as far as the budget allows
    All,      // all walks, whatever they cost
  };
  // Ends the epoch. `everything`: idle sockets, too.
  Result<RawTick> tick(Look look, bool everything = false);

  // What became of the latest tick has cost so much.
  void charge(Duration cpu);

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
  void look_at_pairs(MonoTime now, bool walked_processes, RawTick& into);
  void take_pending(RawTick& into);
  Duration slice() const;
  void allow_announcements();
  void allow_states();

  Plan plan_;
  Skeleton skeleton_;
  std::unique_ptr<ring_buffer, FreeRing> ring_;
  Attributions attributions_;
  bool attribution_refused_ = false;  // once: it is not tried again
  std::unique_ptr<PairProbe> pairs_;
  std::vector<model::ProgramRuns> program_runs_;
  RawTick pending_;  // records from the ring since the last tick
  std::size_t expected_bytes_ = 0;  // as many as the last tick had
  Budget budget_;
  Sweep sweep_;
  bool swept_ = false;  // in the latest tick, if only a part
  WorkloadTeller workloads_;
  std::uint64_t new_sockets_at_most_;
  std::uint64_t max_memory_;
  bool has_memory_limit_ = true;   // until we have looked
  std::uint64_t kept_for_us_ = 0;  // of that limit
  Duration pools_period_;
  Duration interval_;
  MonoTime pools_due_;
};

}  // namespace laggard::source::live
