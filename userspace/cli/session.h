// SPDX-License-Identifier: MIT
// What watch, record and replay have in common: a tick goes in, lines come out.
#pragma once

#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>

#include "cli/options.h"
#include "detect/detector.h"
#include "model/model.h"
#include "output/metrics.h"
#include "output/sink.h"
#include "source/decode.h"

namespace laggard::cli {

class Session {
 public:
  // `sink` may be null: detect only.
  Session(const Options& options, model::Observer observer, std::unique_ptr<output::Sink> sink);

  bool started(WallTime time);
  // What is said and seen from now on is also counted there; not owned.
  void count_in(output::Metrics* metrics) { metrics_ = metrics; }
  // False: the reader of our output has left.
  bool tick(source::RawTick raw);
  bool stop(const std::string& reason);
  // Says why something could not be looked at, whatever was found: "nothing found" would be a lie from now on.
  void cannot_see(const std::string& why) { error_ = why; }
  // Something is seen less well from now on. False: the reader of our output has left.
  bool degraded(const std::string& message);
  int exit_code() const;
  bool is_incomplete() const;
  // After started(), tick() or stop() said false.
  int output_ended() const;

  bool wants_holders() const { return detector_.wants_holders(); }
  const std::vector<detect::Suspect>& suspects() const { return detector_.suspects(); }
  const detect::Counts& counts() const { return detector_.counts(); }
  std::size_t sockets_tracked() const { return model_.connections().size(); }
  std::uint64_t ticks() const { return ticks_; }
  Duration unobserved() const { return model_.gaps().total(); }
  std::uint64_t missing_ticks() const { return missing_ticks_; }  // between the first and the last
  const std::string& error() const { return error_; }  // a tick that could not be decoded, or what cannot_see() said

 private:
  bool say(const std::vector<detect::Finding>& findings);
  bool say_degraded();
  void look_for_answer();
  Duration shortest_hold() const;

  const Options& options_;
  model::Observer observer_;
  std::unique_ptr<output::Sink> sink_;
  output::Metrics* metrics_ = nullptr;
  model::Model model_;
  detect::Detector detector_;
  model::Losses lost_said_;
  std::uint64_t no_storage_before_ = 0;
  std::uint64_t untracked_said_ = 0;
  bool slow_sweep_said_ = false;
  bool skipped_said_ = false;
  bool evicted_said_ = false;
  bool pairs_lost_said_ = false;
  std::set<std::string> half_seen_said_;  // pairs
  std::uint64_t ticks_ = 0;
  std::uint64_t missing_ticks_ = 0;
  std::uint64_t missing_ticks_said_ = 0;
  std::string error_;
  std::set<model::ProcessId> never_answered_;  // of a recording: who was to be attributed, in vain
  std::size_t never_answered_said_ = 0;
};

// After `sink` said that it takes no more: 0 where the reader just left, else says what happened on stderr and is 4.
int output_ended(const output::Sink& sink);

// --max-memory, or what there is without it.
std::uint64_t max_memory_of(const Options& options);

model::Observer describe_observer(const std::vector<model::HookChoice>& hooks);

}  // namespace laggard::cli
