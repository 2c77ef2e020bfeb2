// SPDX-License-Identifier: MIT
// How old is the oldest byte of a stream that was produced and not yet consumed?
//
// Remembers when the produced position reached what value; the answer is the time at which it first passed today's
// consumed position. So it counts from the first unconsumed arrival, a producer that goes on does not restart it, and
// consumption of any kind (read, splice, discard) moves it. Serves both directions: rcv_nxt against copied_seq, and
// write_seq against snd_una.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "base/time.h"

namespace laggard::model {

class StreamAge {
 public:
  // One look. `arrival`: when the newest byte came, where the kernel knows (lrcvtime), else unknown. `older_than_us`:
  // what is there at the first look may have come before anybody looked; else an earlier look would have shown it.
  void observe(MonoTime now, std::uint32_t produced, std::uint32_t consumed, MonoTime arrival = {},
               bool older_than_us = true);

  // What waits counts from `when` on, unless it came later: before, nobody was there to take it.
  void restart(MonoTime when);

  bool empty() const { return marks_.empty(); }
  // When the oldest unconsumed byte was there for certain: the true moment is this one or earlier, by at most the time
  // between two looks.
  MonoTime oldest() const { return marks_.empty() ? MonoTime{} : marks_.front().time; }
  // Some of it was there at the first look: the true moment may be much earlier.
  bool is_lower_bound() const { return !marks_.empty() && marks_.front().inherited; }
  // Nothing was consumed at or after this time; the first look counts as consumption, for before it we know nothing.
  MonoTime last_consumed() const { return last_consumed_; }
  MonoTime last_produced() const { return last_produced_; }
  Duration lag(MonoTime now) const { return marks_.empty() ? Duration{} : now - marks_.front().time; }

 private:
  struct Mark {
    MonoTime time;
    std::uint32_t position;
    bool inherited;
  };
  void thin_out();

  std::vector<Mark> marks_;  // oldest first; each position is beyond the consumed one
  MonoTime last_look_;
  MonoTime last_consumed_;
  MonoTime last_produced_;
  std::uint32_t produced_ = 0;
  std::uint32_t consumed_ = 0;
};

}  // namespace laggard::model
