// SPDX-License-Identifier: MIT
#include <algorithm>
#include <array>
#include <cassert>

#include "base/units.h"
#include "detect/accept_backlog.h"
#include "detect/close_wait.h"
#include "detect/connection_leak.h"
#include "detect/dead_peer.h"
#include "detect/fin_wait_2.h"
#include "detect/heap_growth.h"
#include "detect/remote_slow_reader.h"
#include "detect/rule.h"
#include "detect/slow_reader.h"
#include "detect/stalled_reader.h"
#include "detect/udp_receive_overflow.h"
#include "detect/unpaired_operations.h"
#include "detect/user_space_buffering.h"

namespace laggard::detect {

model::ModelOptions model_options(const Thresholds& thresholds)
{
  return {.window = thresholds.hold,
          .lag = thresholds.lag,
          .late_window = thresholds.late_window,
          .drop_window = thresholds.drop_window,
          .memory_window = thresholds.memory_window,
          .idle = thresholds.idle};
}

std::span<const Rule> rules()
{
  static constexpr std::array kRules = {kSlowReader, kStalledReader, kUserSpaceBuffering, kCloseWait, kFinWait2,
                                         kUdpReceiveOverflow, kRemoteSlowReader, kAcceptBacklog, kConnectionLeak,
                                         kHeapGrowth, kUnpairedOperations, kDeadPeer};
  return kRules;
}

const Rule& rule_of(Kind kind)
{
  const auto found = std::ranges::find(rules(), kind, &Rule::kind);
  assert(found != rules().end());
  return *found;
}

std::uint32_t subject_tag(const Subject& subject)
{
  std::size_t hash = model::hash_bytes(&subject.process.tgid, sizeof subject.process.tgid);
  const auto mix = [&hash](const auto& value) { hash = model::hash_bytes(&value, sizeof value, hash); };
  mix(subject.process.start_ns);
  mix(subject.kind);
  mix(subject.netns);
  mix(subject.transport);
  mix(subject.server_side);
  mix(subject.endpoint.address.bytes);
  mix(subject.endpoint.port);
  hash = model::hash_bytes(subject.pair.data(), subject.pair.size(), hash);
  if (subject.is_whole)
    mix(subject.program);
  return static_cast<std::uint32_t>(hash ^ hash >> 32);
}

SocketRef socket_ref(const model::Model& model, const model::SocketSample& sample)
{
  return {sample.transport, sample.state, sample.tuple, model.is_server_side(sample), sample.connected,
          sample.cookie, sample.netns, sample.cgroup_id, sample.inode};
}

Subject process_subject(Kind kind, model::ProcessId process)
{
  Subject subject;
  subject.kind = kind;
  subject.process = process;
  return subject;
}

Subject connection_subject(Kind kind, const model::Model& model, const model::Connection& connection)
{
  const model::SocketSample& sample = connection.latest();
  const bool server = model.is_server_side(sample) || sample.tuple.peer.port == 0;
  return {.kind = kind,
          .process = connection.process(),
          .netns = sample.netns,
          .transport = sample.transport,
          .server_side = server,
          .endpoint = server ? sample.tuple.local : sample.tuple.peer,
          .pair = {},
          .is_whole = false,
          .program = 0};
}

Lag lag_of(const model::Model& model, const model::Connection& connection)
{
  Lag lag{.here = connection.receive().lag(model.now())};
  if (const model::Connection* peer = model.peer_of(connection))
    lag.at_sender = peer->send().lag(model.now());
  return lag;
}

void judge_half_closed(const Context& context, Kind kind, Duration threshold, Since (*since_of)(const model::Connection&),
                       std::vector<Verdict>& verdicts)
{
  for (const model::Connection* connection : context.connections) {
    const Since since = since_of(*connection);
    const Duration age = context.now() - since.time;
    verdicts.push_back({
        .subject = connection_subject(kind, context.model, *connection),
        .cookie = connection->latest().cookie,
        .since = since.time,
        .since_is_lower_bound = since.is_lower_bound,
        .ripe = since.time + threshold,
        .weight = seconds(age),
        .severity = age >= threshold * 10 ? Severity::Critical : Severity::Warning,
    });
  }
}

std::string half_closed_age(const Context& context, Since since)
{
  return (since.is_lower_bound ? "at least " : "") + format_duration(context.now() - since.time);
}

void describe_queue(const model::SocketSample& sample, Finding& finding)
{
  finding.evidence.push_back({"recv_queue_bytes", std::uint64_t{sample.unread_bytes}});
  finding.evidence.push_back({"recv_queue_memory_bytes", std::uint64_t{sample.rmem_bytes}});
  finding.evidence.push_back({"recv_queue_limit_bytes", std::uint64_t{sample.rcvbuf_bytes}});
  if (sample.transport == model::Transport::Udp)
    finding.evidence.push_back({"recv_queue_packets", std::uint64_t{sample.queued_packets}});
  else
    finding.evidence.push_back({"receive_window_bytes", std::uint64_t{sample.rcv_window_left}});
}

}  // namespace laggard::detect
