// SPDX-License-Identifier: MIT
#include "model/stream_age.h"

#include <algorithm>

#include "base/seq32.h"

namespace laggard::model {
namespace {

// A stalled stream grows a mark per look until its window is full; beyond this many, precision in the middle goes.
constexpr std::size_t kMaxMarks = 48;

}  // namespace

void StreamAge::observe(MonoTime now, std::uint32_t produced, std::uint32_t consumed, MonoTime arrival,
                        bool older_than_us)
{
  const bool first_look = !known(last_look_);
  if (first_look || consumed != consumed_)
    last_consumed_ = now;
  if (first_look || produced != produced_)
    last_produced_ = now;

  std::erase_if(marks_, [consumed](const Mark& mark) { return !seq_after(mark.position, consumed); });
  if (seq_after(produced, consumed) && (first_look || marks_.empty() || produced != produced_)) {
    // The newest byte came at `arrival`, so the oldest of the new ones came no later than that.
    MonoTime time = known(arrival) && arrival < now ? arrival : now;
    if (!first_look)
      time = std::max(time, last_look_);
    marks_.push_back({time, produced, first_look && older_than_us});
    if (marks_.size() > kMaxMarks)
      thin_out();
  }
  last_look_ = now;
  produced_ = produced;
  consumed_ = consumed;
}

void StreamAge::restart(MonoTime when)
{
  for (Mark& mark : marks_)
    if (mark.time < when)
      mark = {when, mark.position, false};
}

// Bytes of a dropped mark count as arrived with the next one: younger than they are, never older.
void StreamAge::thin_out()
{
  std::size_t kept = 1;
  for (std::size_t i = 2; i < marks_.size(); i += 2)
    marks_[kept++] = marks_[i];
  if (marks_.size() % 2 == 0)
    marks_[kept++] = marks_.back();
  marks_.resize(kept);
}

}  // namespace laggard::model
