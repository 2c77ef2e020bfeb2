// SPDX-License-Identifier: MIT
#include "model/losses.h"

#include <algorithm>

namespace laggard::model {

void LossHistory::observe(const Look& before, const Look& now, Duration apart, Duration window)
{
  if (now.drops != before.drops) {
    if (looks_.empty())
      looks_.add(before, window);
    if (bursts_.empty() || before.time - bursts_.back().end >= apart)
      bursts_.push_back({before.time, now.time});
    else
      bursts_.back().end = now.time;
  }
  std::erase_if(bursts_, [&](const Burst& burst) { return burst.end <= now.time - window; });
  if (bursts_.empty()) {
    std::vector<Burst>{}.swap(bursts_);
    looks_.clear();
    return;
  }
  looks_.add(now, window);
}

double LossHistory::ratio() const
{
  const auto lost = static_cast<double>(dropped());
  return lost > 0 ? lost / (lost + static_cast<double>(arrived())) : 0;
}

double LossHistory::share(Duration window) const
{
  const double pace = std::max(1.0, seconds(window) / std::max(seconds(span()), 1e-3));
  const double lost = static_cast<double>(dropped());
  const double all = lost + static_cast<double>(arrived()) * pace;
  return all > 0 ? lost / all : 0;
}

Duration LossHistory::longest_pause() const
{
  Duration longest{};
  for (std::size_t i = 1; i < bursts_.size(); i++)
    longest = std::max(longest, bursts_[i].begin - bursts_[i - 1].end);
  return longest;
}

}  // namespace laggard::model
