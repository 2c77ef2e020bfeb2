// SPDX-License-Identifier: MIT
// connection-leak: a process comes by sockets, uses each once, and neither reuses nor closes them.
//
// Needs, of the sockets of one process and role (it opened them, it accepted them, or they are UDP), --leak-count that have been
// idle for --idle; a number of those that rose in each third of the time looked at; new ones in that time; and as good as
// none of them closed or used again. A set is looked at
//   - per endpoint, for --idle: who opens a new one where one stands unused does not reuse;
//   - as a whole, for twice --idle, where each is to an endpoint of its own, for there was nothing to reuse; and accepted ones,
//     whose clients may be alive and silent. Few keep-alive timeouts exceed that.
// A pool reuses before it opens, a pool that is filled at once stays as it is, and who closes what it used keeps a steady number.
// A message that came out of the blue and was read shows that somebody listens (one subscription per user): such a socket does
// not count, where a third of a set shows it none does, and the others have to be silent for twice the longest silence that
// one of them ended. An accepted connection whose other end a process of this host holds is that one's to close. Looks that do
// not reach back prove nothing. While the finding is open half of the count keeps it: it ends when they are closed, or used.
// Unread bytes are a stalled-reader's, CLOSE_WAIT is close-wait's, bytes that nobody acknowledges are dead-peer's: none of them
// is in the table.
#include "detect/connection_leak.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

#include "base/units.h"
#include "model/statistics.h"

namespace laggard::detect {
namespace {

using model::Pooled;
using model::PoolHistory;
using model::PoolKey;
using model::PoolLook;
using model::Role;

constexpr std::uint64_t kLeftOver = 20;  // of as many one may have left: a set of which more are closed or used is healthy

Duration span_of(const PoolKey& key, Duration idle)
{
  return key.endpoint && key.role != Role::Accepted ? idle : idle * 2;
}

// Where --max-cpu lets us look less often than that, three intervals between looks stand for the thirds.
bool rises_in_each_third(std::span<const PoolLook> looks, Duration span)
{
  const PoolLook* later = &looks.back();
  int thirds = 0;
  for (auto look = std::next(looks.rbegin()); look != looks.rend() && thirds < 3; ++look) {
    if (later->time - look->time < span / 4)  // a third, less the jitter of the looks, which are a sixth of --idle apart
      continue;
    if (look->unused >= later->unused)
      return false;
    later = &*look;
    thirds++;
  }
  return thirds == 3;
}

std::uint32_t left_within(std::span<const PoolLook> looks, Duration span)
{
  auto first = looks.rbegin();
  while (first != looks.rend() && looks.back().time - first->time < span)
    ++first;
  return looks.back().left - (first != looks.rend() ? first->left : looks.front().left);
}

bool is_unused(const Context& context, const Pooled& member, const PoolHistory& set)
{
  const Duration silence = std::max(context.thresholds.idle, set.longest_silence * 2);
  return member.may_be_forgotten() && context.model.pools().looked() - member.sample.idle_since >= silence;
}

bool is_listened_to(const PoolHistory& set) { return set.in_use * 3 >= set.members; }

bool is_fresh(const Context& context, const Pooled& member)
{
  const MonoTime opened = member.sample.opened;
  return known(opened) && opened > context.model.pools().looked() - context.thresholds.idle;
}

std::uint64_t opened_lately(const Context& context, const PoolKey& role)
{
  return static_cast<std::uint64_t>(std::ranges::count_if(context.model.pools().members(), [&](const auto& entry) {
    return is_fresh(context, entry.second) && model::Pools::role_of(entry.second) == role;
  }));
}

using Members = std::vector<const Pooled*>;

// `fresh`: new ones of the role.
bool leaks(const Context& context, const PoolKey& key, const PoolHistory& set, const Members& unused, std::uint64_t fresh)
{
  const Thresholds& limits = context.thresholds;
  if (is_listened_to(set))
    return false;
  if (std::ranges::any_of(unused, [&](const Pooled* member) {
        return context.is_open(Kind::ConnectionLeak, member->sample.cookie);
      }))
    return unused.size() * 2 >= limits.leak_count;
  const Duration span = span_of(key, limits.idle);
  return unused.size() >= limits.leak_count && rises_in_each_third(set.looks, span) &&
         left_within(set.looks, span) * kLeftOver < unused.size() && fresh > 0;
}

}  // namespace

void judge_connection_leak(const Context& context, std::vector<Verdict>& verdicts)
{
  const Thresholds& limits = context.thresholds;
  const model::Pools& pools = context.model.pools();
  // Nearly always nobody has as many, or their number stands: then the members are not looked at.
  const bool any_open = context.any_open(Kind::ConnectionLeak);
  std::map<PoolKey, Members> sets;
  for (const auto& [key, history] : pools.histories())
    if (std::uint64_t{history.looks.back().unused} * 2 >= limits.leak_count &&
        (any_open || rises_in_each_third(history.looks, span_of(key, limits.idle))))
      sets[key] = {};
  if (sets.empty())
    return;
  std::map<PoolKey, std::uint64_t> fresh;
  for (const auto& [cookie, member] : pools.members()) {
    const PoolKey role = model::Pools::role_of(member);
    fresh[role] += is_fresh(context, member);
    for (const PoolKey& key : {model::Pools::key_of(member), role})
      if (const auto set = sets.find(key); set != sets.end() && is_unused(context, member, pools.histories().at(key)))
        set->second.push_back(&member);
  }

  std::map<PoolKey, std::set<const Pooled*>> leaked;  // by role: the sets of one process are one finding
  for (const auto& [key, unused] : sets) {
    const PoolKey role{key.owner, key.netns, key.role, std::nullopt};
    if ((key.endpoint || key.role != Role::Accepted) && leaks(context, key, pools.histories().at(key), unused, fresh[role]))
      leaked[role].insert(unused.begin(), unused.end());
  }

  for (const auto& [role, members] : leaked)
    for (const Pooled* member : members) {
      Subject subject;
      subject.kind = Kind::ConnectionLeak;
      subject.process = member->process();
      subject.netns = role.netns;
      subject.transport = role.role == Role::Udp ? model::Transport::Udp : model::Transport::Tcp;
      subject.server_side = role.role == Role::Accepted;
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

void describe_connection_leak(const Context& context, std::span<const Verdict> members, Finding& finding)
{
  const model::Pools& pools = context.model.pools();
  const Pooled& oldest = *pools.find(members.front().cookie);
  const Role role = oldest.role;
  std::vector<double> idle_seconds;
  std::set<model::Endpoint> endpoints;
  double oldest_seconds = 0;
  for (const Verdict& verdict : members) {
    const Pooled& member = *pools.find(verdict.cookie);
    const model::PooledSample& sample = member.sample;
    idle_seconds.push_back(seconds(context.now() - sample.idle_since));
    oldest_seconds =
        std::max(oldest_seconds, seconds(context.now() - (known(sample.opened) ? sample.opened : sample.idle_since)));
    endpoints.insert(*model::Pools::key_of(member).endpoint);
  }
  const double median_seconds = model::median(std::move(idle_seconds));
  const double opened_per_second =
      static_cast<double>(opened_lately(context, model::Pools::role_of(oldest))) / seconds(context.thresholds.idle);
  const auto duration = [](double value) { return format_duration(Duration{static_cast<std::int64_t>(value * 1e9)}); };

  const model::Endpoint endpoint = *endpoints.begin();
  const std::string where = endpoints.size() > 1               ? fmt::format(" to {} endpoints", endpoints.size())
                            : role == Role::Accepted           ? fmt::format(" on port {}", endpoint.port)
                            : endpoint.port == 0               ? std::string{}
                                                               : " to " + model::to_string(endpoint);
  const char* what = role == Role::Udp ? "UDP sockets" : role == Role::Accepted ? "accepted connections" : "connections";
  finding.message = fmt::format("{} {}{} used once and left open, idle for {} (median); {:.2g} new ones a second",
                                members.size(), what, where, duration(median_seconds), opened_per_second);
  finding.details.push_back(fmt::format("{} {}{} have been idle for {} or more, {} as the median", members.size(), what, where,
                                        format_duration(context.thresholds.idle), duration(median_seconds)));
  finding.details.push_back(fmt::format("the oldest is {} old; meanwhile {:.2g} new ones a second were opened",
                                        duration(oldest_seconds), opened_per_second));
  switch (role) {
    case Role::Opened:
      finding.advice = endpoints.size() > 1
                           ? "the program keeps a connection for each endpoint it has met: close them, or give its pool an idle timeout"
                           : "the program opens new connections instead of using these: close each response, or reuse one client";
      break;
    case Role::Accepted:
      finding.advice = "nothing comes from these clients any more, they may be gone: give the server an idle timeout or TCP keepalive";
      break;
    case Role::Udp:
      finding.advice = "the program opens a socket per exchange and keeps it: close it after the answer or the timeout";
      break;
  }

  finding.evidence.push_back({"opened_per_second", opened_per_second});
  finding.evidence.push_back({"oldest_seconds", oldest_seconds});
  finding.evidence.push_back({"idle_seconds", median_seconds});
  finding.evidence.push_back({"endpoints", std::uint64_t{endpoints.size()}});
  if (role == Role::Udp)
    finding.quality.missing.push_back("what a UDP socket sends without being answered is not seen");
  finding.thresholds.push_back({"leak_count", context.thresholds.leak_count});
  finding.thresholds.push_back({"idle_seconds", seconds(context.thresholds.idle)});
}

}  // namespace laggard::detect
