// SPDX-License-Identifier: MIT
#include "model/lateness.h"

#include <algorithm>

namespace laggard::model {
namespace {

Duration late_between(MonoTime begin, MonoTime end, MonoTime oldest, Duration lag)
{
  return known(oldest) ? std::max(end - std::max(begin, oldest + lag), Duration{}) : Duration{};
}

}  // namespace

void Lateness::observe(const QueueStep& step, Duration lag, Duration window)
{
  const MonoTime changed = known(step.consumed) ? step.consumed : step.end;
  Duration late = late_between(step.begin, changed, step.oldest_before, lag);
  if (known(step.consumed) || !known(step.oldest_before))
    late += late_between(known(step.consumed) ? step.consumed : step.begin, step.end, step.oldest_after, lag);
  if (looks_.empty()) {
    if (late == Duration{})
      return;
    looks_.add({step.begin, {}, 0, step.unread_bytes, step.copied_seq}, window);
  }
  const bool was_late = known(step.oldest_before) && changed - step.oldest_before >= lag;
  const bool is_late = known(step.oldest_after) && step.end - step.oldest_after >= lag;
  const Look& last = looks_.back();
  looks_.add({step.end, last.late + late, last.spells + (was_late && !is_late ? 1 : 0), step.unread_bytes, step.copied_seq}, window);
  if (looks_.front().late == looks_.back().late)
    looks_.clear();
}

double Lateness::share(MonoTime now, Duration window) const
{
  if (looks_.empty())
    return 0;
  const MonoTime begin = now - window;
  const Look &first = looks_.front(), &second = looks_[std::min<std::size_t>(1, looks_.size() - 1)];
  Duration before = first.late;
  // Of the looks around the window's beginning as much as lies before it.
  if (first.time < begin && second.time > first.time) {
    const double part = std::min(seconds(begin - first.time) / seconds(second.time - first.time), 1.0);
    before += Duration{static_cast<std::int64_t>(static_cast<double>((second.late - first.late).count()) * part)};
  }
  return std::clamp(seconds(looks_.back().late - before) / seconds(window), 0.0, 1.0);
}

}  // namespace laggard::model
