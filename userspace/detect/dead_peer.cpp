// SPDX-License-Identifier: MIT
// dead-peer: what we sent is acknowledged by nobody, and the kernel goes on trying.
//
// Needs: bytes on their way, of which none was acknowledged for --dead-peer; a retransmission timer that has fired at least
// twice since, or as many probes of a shut window without an answer (one that is answered is a slow reader's, one loss on the
// path makes it fire once); and a process that holds the socket.
//   - Of what this process opened one is enough: it waits for its database.
//   - Of what it accepted at least --dead-peer-count at once, or --dead-peer-share of the listener's connections and more than
//     two: two phones in a tunnel are not news.
#include "detect/dead_peer.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <map>

#include "base/units.h"

namespace laggard::detect {
namespace {

constexpr int kTimersFired = 2;
constexpr std::size_t kFewPeers = 2;  // come and go unnoticed

MonoTime unanswered_since(const model::Connection& connection)
{
  return std::max(connection.send().oldest(), connection.send().last_consumed());
}

}  // namespace

bool concerns_dead_peer(const model::Connection& connection)
{
  const model::SocketSample& sample = connection.latest();
  if (sample.transport != model::Transport::Tcp || !sample.has_file || connection.send().empty())
    return false;
  switch (sample.state) {
    case model::TcpState::Established:
    case model::TcpState::CloseWait:
    case model::TcpState::FinWait1: return is_unanswered(sample);
    default: return false;
  }
}

namespace {

// All connections of a server's port, whether or not something goes on at them.
std::uint64_t connections_of(const model::Model& model, const Subject& subject)
{
  const auto busy = std::ranges::count_if(model.connections(), [&](const auto& entry) {
    const model::SocketSample& sample = entry.second.latest();
    return sample.transport == model::Transport::Tcp && sample.has_file && !sample.is_listener() &&
           sample.netns == subject.netns && sample.tuple.local.port == subject.endpoint.port &&
           model.pools().find(sample.cookie) == nullptr;
  });
  return static_cast<std::uint64_t>(busy) + model.pools().accepted_at(subject.netns, subject.endpoint);
}

// net/ipv4/tcp_timer.c, tcp_model_timeout(): the timer doubles from TCP_RTO_MIN to TCP_RTO_MAX.
Duration gives_up_after(const model::SocketSample& sample)
{
  if (sample.user_timeout > Duration{})
    return sample.user_timeout;
  constexpr Duration kRtoMin = std::chrono::milliseconds(200), kRtoMax = std::chrono::seconds(120);
  const int doublings = std::bit_width(static_cast<std::uint64_t>(kRtoMax / kRtoMin)) - 1;
  const int tries = sample.retransmits_limit;
  if (tries <= doublings)
    return kRtoMin * ((2 << tries) - 1);
  return kRtoMin * ((2 << doublings) - 1) + kRtoMax * (tries - doublings);
}

}  // namespace

bool is_unanswered(const model::SocketSample& sample)
{
  return sample.retransmits >= kTimersFired || sample.probes_unanswered >= kTimersFired;
}

void judge_dead_peer(const Context& context, std::vector<Verdict>& verdicts)
{
  const Thresholds& limits = context.thresholds;
  std::map<std::pair<std::uint32_t, std::uint16_t>, std::vector<Verdict>> accepted;  // by netns and port: workers share a listener
  for (const model::Connection* one : context.connections) {
    const model::Connection& connection = *one;
    const MonoTime since = unanswered_since(connection);
    const Duration age = context.now() - since;
    Verdict verdict{
        .subject = connection_subject(Kind::DeadPeer, context.model, connection),
        .cookie = connection.latest().cookie,
        .since = since,
        .since_is_lower_bound = since == connection.first_seen() && connection.latest().older_than_observer,
        .ripe = since + limits.dead_peer,
        .weight = seconds(age),
        .severity = age >= limits.dead_peer * 10 ? Severity::Critical : Severity::Warning,
    };
    if (verdict.subject.server_side)  // a listener may be bound to every address
      verdict.subject.endpoint.address = {};
    if (verdict.subject.server_side)
      accepted[{verdict.subject.netns, verdict.subject.endpoint.port}].push_back(std::move(verdict));
    else
      verdicts.push_back(std::move(verdict));
  }
  for (auto& [port, dead] : accepted) {
    const bool open = std::ranges::any_of(dead, [&](const Verdict& one) { return context.is_open(Kind::DeadPeer, one.cookie); });
    const auto ripe = static_cast<std::uint64_t>(
        std::ranges::count_if(dead, [&](const Verdict& one) { return one.ripe <= context.now() + context.model.interval(); }));
    const std::uint64_t count = ripe * (open ? 2 : 1);
    const bool many = count >= limits.dead_peer_count ||
                      (count > kFewPeers && static_cast<double>(count) >=
                                                limits.dead_peer_share * static_cast<double>(connections_of(context.model, dead.front().subject)));
    if (many)
      std::ranges::move(dead, std::back_inserter(verdicts));
  }
}

void describe_dead_peer(const Context& context, std::span<const Verdict> members, Finding& finding)
{
  const model::Connection& connection = *context.model.find(members.front().cookie);
  const model::SocketSample& sample = connection.latest();
  const Subject& subject = members.front().subject;
  const std::uint32_t queued = sample.write_seq - sample.snd_una;
  const Duration age = context.now() - unanswered_since(connection);
  const Duration limit = gives_up_after(sample);
  const char* at_least = members.front().since_is_lower_bound ? "at least " : "";

  if (subject.server_side) {
    const std::uint64_t all = std::max<std::uint64_t>(connections_of(context.model, subject), members.size());
    finding.message = fmt::format("{} of {} clients acknowledge nothing any more, the first for {}{}", members.size(), all,
                                  at_least, format_duration(age));
    finding.evidence.push_back({"listener_connections", all});
  } else {
    finding.message = fmt::format("{} sent and nothing acknowledged for {}{}: the peer does not answer", format_bytes(queued),
                                  at_least, format_duration(age));
  }
  finding.details.push_back(fmt::format("{} on their way, the oldest for {}; the retransmission timer has fired {} times",
                                        format_bytes(queued), format_duration(connection.send().lag(context.now())),
                                        std::max(sample.retransmits, sample.probes_unanswered)));
  const MonoTime heard = std::max(sample.last_ack, sample.last_arrival);
  if (known(heard))
    finding.details.push_back(fmt::format("the last that came from the peer came {} ago", format_duration(context.now() - heard)));
  if (sample.retransmits_limit > 0 || sample.user_timeout > Duration{})
    finding.details.push_back(fmt::format(
        "the kernel gives up {} after the first retransmission ({}){}", format_duration(limit),
        sample.user_timeout > Duration{} ? "TCP_USER_TIMEOUT" : fmt::format("tcp_retries2 = {}", sample.retransmits_limit),
        sample.keepalive ? "; keepalive does not help while bytes are on their way" : ""));
  finding.advice = known(heard) && context.now() - heard < age / 2
                       ? "the peer sends and acknowledges nothing: large packets may get lost on the way (MTU), or all of ours"
                   : sample.user_timeout > Duration{}
                       ? "the peer or the path to it is gone: wait, or close these connections"
                       : "the peer or the path to it is gone: set TCP_USER_TIMEOUT (or a timeout in the program), not keepalive alone";

  auto& evidence = finding.evidence;
  evidence.push_back({"send_queue_bytes", std::uint64_t{queued}});
  evidence.push_back({"unacknowledged_seconds", seconds(age)});
  evidence.push_back({"retransmits", std::uint64_t{sample.retransmits}});
  evidence.push_back({"probes_unanswered", std::uint64_t{sample.probes_unanswered}});
  if (known(heard))
    evidence.push_back({"last_heard_seconds", seconds(context.now() - heard)});
  if (sample.retransmits_limit > 0 || sample.user_timeout > Duration{})
    evidence.push_back({"gives_up_seconds", seconds(limit)});
  evidence.push_back({"keepalive", sample.keepalive});
  finding.thresholds.push_back({"dead_peer_seconds", seconds(context.thresholds.dead_peer)});
  if (subject.server_side) {
    finding.thresholds.push_back({"dead_peer_count", context.thresholds.dead_peer_count});
    finding.thresholds.push_back({"dead_peer_share_ratio", context.thresholds.dead_peer_share});
  }
}

}  // namespace laggard::detect
