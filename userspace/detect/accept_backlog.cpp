// SPDX-License-Identifier: MIT
// accept-backlog: connections are established and the server does not accept them.
//
// Needs a listening socket that a process holds and either
//   (a) an accept queue that was empty at no look of --hold, and a child in it, a socket that no process took yet, of that
//       age: a busy server's queue is never seen empty either, but what waits in it is milliseconds old; or
//   (b) overflow: at 2 of the last 5 looks the kernel had dropped handshakes while the queue stood full.
// Children that are older than laggard are known in laggard's own network namespace only (feed `unaccepted`).
#include "detect/accept_backlog.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <vector>

#include "base/units.h"

namespace laggard::detect {
namespace {

constexpr std::size_t kLooks = 5, kLooksWithOverflow = 2;

struct Child {
  MonoTime since;
  bool is_lower_bound = false;
};

MonoTime since_of(const model::Connection& child)
{
  return known(child.latest().opened) ? child.latest().opened : child.first_seen();
}

using Port = std::pair<std::uint32_t, std::uint16_t>;  // (netns, port)
using Children = std::multimap<Port, const model::Connection*>;

void add_child(const model::Connection& connection, Children& children)
{
  if (connection.latest().unaccepted)
    children.emplace(Port{connection.latest().netns, connection.latest().tuple.local.port}, &connection);
}

// Several listeners may share a port, by address or by SO_REUSEPORT: a child has the address it was reached at, and the
// owner of its listener where we saw its handshake.
bool may_belong_to(const model::SocketSample& child, const model::SocketSample& listener)
{
  const model::Address& address = listener.tuple.local.address;
  if (!address.is_unspecified() && address != child.tuple.local.address)
    return false;
  return !child.owner || !listener.owner || child.owner == listener.owner;
}

std::optional<Child> oldest_child(const Children& children, const model::SocketSample& listener)
{
  std::optional<Child> oldest;
  const auto [begin, end] = children.equal_range({listener.netns, listener.tuple.local.port});
  for (auto it = begin; it != end; ++it) {
    const model::Connection& child = *it->second;
    if (may_belong_to(child.latest(), listener) && (!oldest || since_of(child) < oldest->since))
      oldest = Child{since_of(child), !known(child.latest().opened)};
  }
  return oldest;
}

struct Overflow {
  std::size_t recent_looks = 0;
  MonoTime first;
};

Overflow overflow_of(const model::Connection& connection)
{
  Overflow overflow;
  const auto& history = connection.drop_history();
  for (std::size_t i = 1; i < history.size(); i++) {
    const bool full = history[i].queue_full || history[i - 1].queue_full;
    if (!full || history[i].drops == history[i - 1].drops || i + kLooks < history.size())
      continue;
    if (!known(overflow.first))
      overflow.first = history[i].time;
    overflow.recent_looks++;
  }
  return overflow;
}

}  // namespace

bool concerns_accept_backlog(const model::Connection& connection)
{
  const model::SocketSample& sample = connection.latest();
  return sample.unaccepted || (sample.is_listener() && sample.has_file);
}

void judge_accept_backlog(const Context& context, std::vector<Verdict>& verdicts)
{
  const Duration hold = context.thresholds.hold;
  Children children;
  for (const model::Connection* one : context.connections)
    add_child(*one, children);
  for (const model::Connection* one : context.connections) {
    const model::Connection& connection = *one;
    const model::SocketSample& sample = connection.latest();
    const std::uint64_t cookie = sample.cookie;
    if (sample.unaccepted)
      continue;
    const Overflow overflow = overflow_of(connection);
    if (!known(connection.backlog_since()) && overflow.recent_looks == 0)
      continue;
    const auto oldest = oldest_child(children, sample);
    const bool open = context.is_open(Kind::AcceptBacklog, cookie);
    const bool overflows = overflow.recent_looks >= (open ? 1 : kLooksWithOverflow);
    const bool waits = known(connection.backlog_since()) && oldest && (!open || context.now() - oldest->since >= hold / 2);
    if (!overflows && !waits)
      continue;
    const MonoTime since = waits ? oldest->since : overflow.first;
    const Duration age = waits ? context.now() - oldest->since : Duration{};
    verdicts.push_back({
        .subject = connection_subject(Kind::AcceptBacklog, context.model, connection),
        .cookie = cookie,
        .since = since,
        .since_is_lower_bound = waits && oldest->is_lower_bound,
        .ripe = overflows ? context.now() : std::max(connection.backlog_since(), oldest->since) + hold,
        .weight = seconds(age),
        .severity = overflows || age >= hold * 10 ? Severity::Critical : Severity::Warning,
    });
  }
}

void describe_accept_backlog(const Context& context, std::span<const Verdict> members, Finding& finding)
{
  const model::Connection& connection = *context.model.find(members.front().cookie);
  const model::SocketSample& sample = connection.latest();
  Children children;
  for (const auto& [cookie, other] : context.model.connections())
    add_child(other, children);
  const auto oldest = oldest_child(children, sample);
  const Overflow overflow = overflow_of(connection);
  const std::string queue = fmt::format("{} of {} connections wait to be accepted", sample.ack_backlog, sample.max_ack_backlog);
  const std::string age = oldest ? fmt::format(", the oldest for {}{}", oldest->is_lower_bound ? "at least " : "",
                                               format_duration(context.now() - oldest->since))
                                 : std::string{};
  finding.message = queue + age + (overflow.recent_looks > 0 ? "; the queue overflows" : "");
  finding.details.push_back(queue + age);
  if (overflow.recent_looks > 0)
    finding.details.push_back(fmt::format("the queue overflows: {} handshakes dropped since the socket listens", sample.drops));
  const bool inherited = sample.owner && !connection.holders().empty() && sample.owner != connection.process();
  if (inherited)
    finding.details.push_back(fmt::format("the process that listened, pid {}, {}; this one has inherited the descriptor",
                                          sample.owner.tgid,
                                          context.model.find(sample.owner) != nullptr ? "does not hold it any more" : "is gone"));
  finding.advice = inherited ? "nobody accepts here: end this process, and open listening sockets with SOCK_CLOEXEC"
                   : overflow.recent_looks > 0
                       ? "accept faster, or raise listen()'s backlog and net.core.somaxconn: clients time out"
                       : "the accepting thread is stuck or starved: look what it does, and for its other findings";

  auto& evidence = finding.evidence;
  evidence.push_back({"accept_queue", std::uint64_t{sample.ack_backlog}});
  evidence.push_back({"accept_queue_limit", std::uint64_t{sample.max_ack_backlog}});
  if (oldest)
    evidence.push_back({"oldest_seconds", seconds(context.now() - oldest->since)});
  evidence.push_back({"drops_total", sample.drops});
  finding.thresholds.push_back({"hold_seconds", seconds(context.thresholds.hold)});
}

}  // namespace laggard::detect
