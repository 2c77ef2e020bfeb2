// SPDX-License-Identifier: MIT
// connection-leak: a process opens connections, uses each once, and neither reuses nor closes them.
//
// Needs, of the connections that one process opened to one endpoint, that carried bytes both ways and have nothing queued:
// --leak-count that have been idle for --idle; a number of those that rose in each third of the last --idle; and new ones
// opened in that time, while those stood unused. A pool reuses before it opens, a pool that is filled at once stays as it is,
// and a client that closes what it used keeps a steady number. Looks that do not reach back --idle prove nothing. While the
// finding is open half of the count keeps it: it ends when they are closed, or used.
// Unread bytes are a stalled-reader's, CLOSE_WAIT is close-wait's: neither is in the table.
#include "detect/connection_leak.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/units.h"
#include "model/statistics.h"

namespace laggard::detect {
namespace {

using model::Pooled;
using model::PoolKey;
using model::PoolLook;

// Where --max-cpu lets us look less often than that, three intervals between looks stand for the thirds.
bool rises_in_each_third(const std::vector<PoolLook>& history, Duration idle)
{
  const PoolLook* later = &history.back();
  int thirds = 0;
  for (auto look = std::next(history.rbegin()); look != history.rend() && thirds < 3; ++look) {
    if (later->time - look->time < idle / 4)  // a third, less the jitter of the looks, which are a sixth apart
      continue;
    if (look->unused >= later->unused)
      return false;
    later = &*look;
    thirds++;
  }
  return thirds == 3;
}

bool is_unused(const Context& context, const Pooled& member)
{
  return context.model.pools().looked() - member.sample.idle_since >= context.thresholds.idle;
}

std::uint64_t opened_lately(const Context& context, const PoolKey& key)
{
  const MonoTime begin = context.model.pools().looked() - context.thresholds.idle;
  return static_cast<std::uint64_t>(std::ranges::count_if(context.model.pools().members(), [&](const auto& entry) {
    const model::PooledSample& sample = entry.second.sample;
    return known(sample.opened) && sample.opened > begin && model::Pools::key_of(sample) == key;
  }));
}

}  // namespace

void judge_connection_leak(const Context& context, std::vector<Verdict>& verdicts)
{
  const Thresholds& limits = context.thresholds;
  const model::Pools& pools = context.model.pools();
  // Nearly always nobody has as many: then the members are not looked at.
  std::map<PoolKey, std::vector<const Pooled*>> candidates;
  for (const auto& [key, history] : pools.histories())
    if (std::uint64_t{history.back().unused} * 2 >= limits.leak_count)
      candidates[key] = {};
  if (candidates.empty())
    return;
  for (const auto& [cookie, member] : pools.members())
    if (is_unused(context, member))
      if (const auto found = candidates.find(model::Pools::key_of(member.sample)); found != candidates.end())
        found->second.push_back(&member);

  for (const auto& [key, members] : candidates) {
    const bool open = std::ranges::any_of(
        members, [&](const Pooled* member) { return context.is_open(Kind::ConnectionLeak, member->sample.cookie); });
    if (open ? members.size() * 2 < limits.leak_count
             : members.size() < limits.leak_count || !rises_in_each_third(pools.histories().at(key), limits.idle) ||
                   opened_lately(context, key) == 0)
      continue;
    for (const Pooled* member : members) {
      Subject subject;
      subject.kind = Kind::ConnectionLeak;
      subject.process = member->process();
      subject.netns = key.netns;
      subject.endpoint = key.remote;
      verdicts.push_back({
          .subject = subject,
          .cookie = member->sample.cookie,
          .since = member->sample.idle_since,
          .ripe = context.now(),
          .weight = seconds(context.now() - member->sample.idle_since),
          .severity = members.size() >= limits.leak_count * 10 ? Severity::Critical : Severity::Warning,
      });
    }
  }
}

void describe_connection_leak(const Context& context, std::span<const Verdict> members, Finding& finding)
{
  const Pooled& oldest = *context.model.pools().find(members.front().cookie);
  std::vector<double> idle_seconds;
  double oldest_seconds = 0;
  for (const Verdict& verdict : members) {
    const model::PooledSample& sample = context.model.pools().find(verdict.cookie)->sample;
    idle_seconds.push_back(seconds(context.now() - sample.idle_since));
    oldest_seconds =
        std::max(oldest_seconds, seconds(context.now() - (known(sample.opened) ? sample.opened : sample.idle_since)));
  }
  const double median_seconds = model::median(std::move(idle_seconds));
  const double opened_per_second = static_cast<double>(opened_lately(context, model::Pools::key_of(oldest.sample))) /
                                   seconds(context.thresholds.idle);
  const auto duration = [](double value) { return format_duration(Duration{static_cast<std::int64_t>(value * 1e9)}); };

  finding.message = fmt::format("{} connections used once and left open, idle for {} (median); {:.2g} new ones a second",
                                members.size(), duration(median_seconds), opened_per_second);
  finding.details.push_back(fmt::format("{} connections with bytes both ways have been idle for {} or more, {} as the median",
                                        members.size(), format_duration(context.thresholds.idle), duration(median_seconds)));
  finding.details.push_back(fmt::format("the oldest is {} old; meanwhile {:.2g} new ones a second were opened",
                                        duration(oldest_seconds), opened_per_second));
  finding.advice = "the program opens new connections instead of using these: close each response, or reuse one client";

  finding.evidence.push_back({"opened_per_second", opened_per_second});
  finding.evidence.push_back({"oldest_seconds", oldest_seconds});
  finding.evidence.push_back({"idle_seconds", median_seconds});
  finding.thresholds.push_back({"leak_count", context.thresholds.leak_count});
  finding.thresholds.push_back({"idle_seconds", seconds(context.thresholds.idle)});
}

}  // namespace laggard::detect
