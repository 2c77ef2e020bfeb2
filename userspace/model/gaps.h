// SPDX-License-Identifier: MIT
// Times in which nothing was looked at because the observer did not run: it was stopped, or got no processor.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/time.h"

namespace laggard::model {

class Gaps {
 public:
  // Looks further apart than this are a gap. Rules that count looks want three of five, or all five of --hold: with three in a row
  // missing they cannot judge. A thread on a busy machine waits for a processor for a second now and then, so that a short interval
  // alone makes no gap.
  static constexpr int kIntervals = 3;
  static constexpr Duration kLeast = std::chrono::seconds(2);
  static constexpr std::size_t kRemembered = 32;  // one by one

  // Two looks that follow each other. `interval`: how far apart they were to be; 0 = unknown, then nothing is a gap.
  void observe(MonoTime before, MonoTime now, Duration interval);

  Duration latest() const { return latest_; }  // that the latest look ended; 0: it came in time
  Duration longest() const { return longest_; }
  Duration total() const { return total_; }
  // As much of all gaps as lies after `begin`; of those that are not remembered one by one, all.
  Duration since(MonoTime begin) const;

 private:
  struct Gap {
    MonoTime begin;
    MonoTime end;
  };
  std::vector<Gap> gaps_;  // oldest first
  Duration forgotten_{};   // total of older ones
  MonoTime forgotten_until_;
  Duration latest_{};
  Duration longest_{};
  Duration total_{};
};

}  // namespace laggard::model
