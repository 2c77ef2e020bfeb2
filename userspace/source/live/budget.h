// SPDX-License-Identifier: MIT
// One budget of CPU time (--max-cpu) that all walks draw on: one that costs too much becomes rarer, not dearer.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "base/time.h"

namespace laggard::source::live {

enum class Walk : std::uint8_t { Sweep, Holders, Processes, Workloads, Pairs, Programs };
inline constexpr std::size_t kWalks = 6;

// What each walk costs is learned from its runs. Of the budget that is left beside what laggard needs otherwise every walk gets
// what it asks for, to run with each tick; where that is too much for all, those that ask for more than their share run as often as
// their share pays for. Pure.
class Budget {
 public:
  explicit Budget(double max_cpu) : max_cpu_(max_cpu) {}

  // Once per tick, before its walks. `cpu`: all that the process has used so far.
  void begin_tick(MonoTime now, Duration cpu);
  // One that is `wanted` now may come early.
  bool due(Walk walk, MonoTime now, bool wanted = false) const
  {
    const Entry& one = entry(walk);
    return !known(one.last) || now >= one.last + (wanted ? one.period / kWantedIsEarly : one.period);
  }
  void spent(Walk walk, MonoTime now, Duration cpu);
  // The latest run of `walk` has cost so much more, later: what it brought had to be understood.
  void charge(Walk walk, Duration cpu);
  // How long from one run to the next, at the present cost; 0: with each tick.
  Duration period(Walk walk) const { return entry(walk).period; }

  double share_of_walks() const;  // of one core
  Duration interval() const { return Duration{static_cast<std::int64_t>(interval_seconds_ * 1e9)}; }  // between the last two ticks

 private:
  struct Entry {
    // Of a run: itself, and what it brought.
    double walk_seconds = 0;
    double charge_seconds = 0;
    double cost() const { return walk_seconds + charge_seconds; }
    MonoTime last;
    Duration period{};
    Duration in_this_tick{};
  };
  static constexpr int kWantedIsEarly = 3;
  const Entry& entry(Walk walk) const { return entries_[static_cast<std::size_t>(walk)]; }
  Entry& entry(Walk walk) { return entries_[static_cast<std::size_t>(walk)]; }
  void allot();

  double max_cpu_;
  double otherwise_ = 0;  // share of one core that is used for anything else
  double interval_seconds_ = 1;
  MonoTime before_;
  Duration cpu_before_{};
  std::array<Entry, kWalks> entries_{};
};

}  // namespace laggard::source::live
