// SPDX-License-Identifier: MIT
#include "model/gaps.h"

#include <algorithm>

namespace laggard::model {

void Gaps::observe(MonoTime before, MonoTime now, Duration interval)
{
  latest_ = {};
  if (interval <= Duration{} || now - before <= std::max(interval * kIntervals, kLeast))
    return;
  latest_ = now - before;
  longest_ = std::max(longest_, latest_);
  total_ += latest_;
  gaps_.push_back({before, now});
  if (gaps_.size() <= kRemembered)
    return;
  forgotten_ += gaps_.front().end - gaps_.front().begin;
  forgotten_until_ = gaps_.front().end;
  gaps_.erase(gaps_.begin());
}

Duration Gaps::since(MonoTime begin) const
{
  Duration sum = begin < forgotten_until_ ? forgotten_ : Duration{};
  for (const Gap& gap : gaps_)
    sum += std::max(gap.end - std::max(gap.begin, begin), Duration{});
  return sum;
}

}  // namespace laggard::model
