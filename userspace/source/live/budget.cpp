// SPDX-License-Identifier: MIT
#include "source/live/budget.h"

#include <algorithm>
#include <utility>

namespace laggard::source::live {
namespace {

// What is given to a walk where all ask for too much: connections first, and the operations of --pairs, for who has asked for them
// waits for them; then the memory of processes and who holds what.
constexpr std::array<double, kWalks> kWeights = {5, 2, 2, 1, 5, 2};
constexpr double kFirstCounts = 0.3;  // the first run is like no other
constexpr double kOtherwiseLearns = 0.1;
// What laggard needs otherwise is no reason to see nothing at all.
constexpr double kLeastForWalks = 0.5;

// What a run has cost is waited for before the next: the average is kept whatever they cost. Nothing is held against a walk after
// that: one run in a hundred may be a hundred times as dear as the others.
double learned(double before, double now) { return before == 0 ? now * kFirstCounts : now; }

}  // namespace

void Budget::begin_tick(MonoTime now, Duration cpu)
{
  if (known(before_) && now > before_) {
    interval_seconds_ = seconds(now - before_);
    Duration walked{};
    for (Entry& one : entries_)
      walked += std::exchange(one.in_this_tick, {});
    // What is done once, such as reading the functions of a program, is not what is needed from now on.
    const double otherwise = std::clamp(seconds(cpu - cpu_before_ - walked) / interval_seconds_, 0.0, max_cpu_);
    otherwise_ += (otherwise - otherwise_) * kOtherwiseLearns;
  }
  before_ = now;
  cpu_before_ = cpu;
  allot();
}

void Budget::spent(Walk walk, MonoTime now, Duration cpu)
{
  Entry& one = entry(walk);
  one.walk_seconds = learned(one.walk_seconds, seconds(cpu));
  one.in_this_tick += cpu;
  one.last = now;
  allot();
}

void Budget::charge(Walk walk, Duration cpu)
{
  Entry& one = entry(walk);
  one.charge_seconds = learned(one.charge_seconds, seconds(cpu));
  one.in_this_tick += cpu;
  allot();
}

double Budget::share_of_walks() const { return std::max(max_cpu_ - otherwise_, max_cpu_ * kLeastForWalks); }

void Budget::allot()
{
  double left = share_of_walks(), weights = 0;
  std::array<bool, kWalks> satisfied{};
  for (const double weight : kWeights)
    weights += weight;
  // Who asks for less than a share by weight gets it, and what that leaves is for the others.
  for (bool again = true; again;) {
    again = false;
    for (std::size_t i = 0; i < kWalks; i++) {
      const double asks = entries_[i].cost() / interval_seconds_;
      if (satisfied[i] || asks > left * kWeights[i] / weights)
        continue;
      satisfied[i] = again = true;
      left -= asks;
      weights -= kWeights[i];
    }
  }
  for (std::size_t i = 0; i < kWalks; i++) {
    Entry& one = entries_[i];
    one.period = satisfied[i] ? Duration{}
                              : Duration{static_cast<std::int64_t>(one.cost() / (left * kWeights[i] / weights) * 1e9)};
  }
}

}  // namespace laggard::source::live
