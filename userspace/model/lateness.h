// SPDX-License-Identifier: MIT
// How much of the recent past a consumer was late: the share of the time in which the oldest unread byte was older than
// --lag. A loop that blocks and then drains everything, again and again, never has a standing queue and is late most of the
// time all the same.
#pragma once

#include <cstdint>

#include "model/history.h"

namespace laggard::model {

// What happened between two looks at a queue. Unknown times: nothing waited, nothing was consumed.
struct QueueStep {
  MonoTime begin{};
  MonoTime end{};
  MonoTime oldest_before{};  // since when what was unread at `begin` waits
  MonoTime consumed{};       // the first time that something was taken, or earlier
  MonoTime oldest_after{};   // since when what is unread at `end` waits
  std::uint32_t unread_bytes = 0;  // at `end`
  std::uint32_t copied_seq = 0;    // at `end`
};

class Lateness {
 public:
  struct Look {
    MonoTime time;
    Duration late{};          // total since the first one
    std::uint32_t spells = 0; // of lateness that ended, since the first one
    std::uint32_t unread_bytes = 0;
    std::uint32_t copied_seq = 0;
  };

  void observe(const QueueStep& step, Duration lag, Duration window);

  // 0 to 1 of the last `window`. Of the time before the first look nothing is known: it counts as not late.
  double share(MonoTime now, Duration window) const;
  // Of lateness that ended within the looks: one long wait is a stall, more than one are a habit.
  std::uint32_t spells() const { return looks_.empty() ? 0 : looks_.back().spells - looks_.front().spells; }
  // Looks of the window and the last one before it. Empty where the consumer was not late in it: most never are, and pay
  // nothing.
  const Looks<Look>& looks() const { return looks_; }

 private:
  Looks<Look> looks_;
};

}  // namespace laggard::model
