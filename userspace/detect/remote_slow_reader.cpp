// SPDX-License-Identifier: MIT
// remote-slow-reader: the other end does not take what we send; our sender is the victim.
//
// Needs: a send queue whose oldest byte is older than --lag as the median over --hold, and a connection that the peer's
// receive window held back for at least --rwnd-share of that time. One alone is normal: a download into a compressor is
// window-limited (nginx: 58-73 % of the time, 60 ms behind), and a lossy path is behind without any window being shut.
// Critical is ten times --lag where it gets worse: the peer has taken nothing for as long, or this program's memory fills with
// what it sends. A peer that takes a steady rate of a source that could send more is as late as two buffers are deep, for ever.
// A peer that does not even answer probes of its window is dead-peer's.
// When the reader is on this host as well it has its own finding, which is the guilty one: this one, which points to it, waits
// for it, but for no longer than the judgement of a reader can take (--stall).
#include "detect/remote_slow_reader.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/units.h"
#include "detect/dead_peer.h"
#include "detect/memory.h"
#include "model/statistics.h"

namespace laggard::detect {
namespace {

struct Look {
  double median_lag_seconds = 0;
  double limited_ratio = 0;
};

Look look_at(const model::Connection& connection)
{
  Look look;
  const auto& history = connection.send_history();
  std::vector<double> lags;
  for (const model::SendLook& one : history)
    lags.push_back(seconds(one.lag));
  look.median_lag_seconds = model::median(std::move(lags));
  const model::SendLook &first = history.front(), &last = history.back();
  // Counted in jiffies, which can round beyond the time that passed.
  if (last.time > first.time)
    look.limited_ratio =
        std::clamp(seconds(last.rwnd_limited - first.rwnd_limited) / seconds(last.time - first.time), 0.0, 1.0);
  return look;
}

bool gets_worse(const Context& context, const model::Connection& connection)
{
  return context.now() - connection.send().last_consumed() >= context.thresholds.lag * 10 ||
         is_filling(context, connection.process());
}

bool reader_is_being_judged(const Context& context, const model::Connection& sender)
{
  const model::Connection* reader = context.model.peer_of(sender);
  if (reader == nullptr || !reader->latest().has_file || !known(reader->standing_since()))
    return false;
  const std::uint64_t cookie = reader->latest().cookie;
  return !context.is_open(Kind::SlowReader, cookie) && !context.is_open(Kind::StalledReader, cookie);
}

}  // namespace

bool concerns_remote_slow_reader(const model::Connection& connection)
{
  const model::SocketSample& sample = connection.latest();
  return sample.transport == model::Transport::Tcp && sample.has_file && connection.send_history().size() >= 2 &&
         !is_unanswered(sample);
}

void judge_remote_slow_reader(const Context& context, std::vector<Verdict>& verdicts)
{
  const Thresholds& limits = context.thresholds;
  for (const model::Connection* one : context.connections) {
    const model::Connection& connection = *one;
    const model::SocketSample& sample = connection.latest();
    const std::uint64_t cookie = sample.cookie;
    const Look look = look_at(connection);
    const int divisor = context.is_open(Kind::RemoteSlowReader, cookie) ? 2 : 1;
    if (look.median_lag_seconds < seconds(limits.lag / divisor) || look.limited_ratio < limits.rwnd_share / divisor)
      continue;
    const bool waits = reader_is_being_judged(context, connection);
    verdicts.push_back({
        .subject = connection_subject(Kind::RemoteSlowReader, context.model, connection),
        .cookie = cookie,
        .since = connection.sending_since(),
        .since_is_lower_bound = sample.older_than_observer && connection.sending_since() == connection.first_seen(),
        .ripe = connection.sending_since() + limits.hold + (waits ? limits.stall : Duration{}),
        .weight = look.median_lag_seconds,
        .severity = look.median_lag_seconds >= seconds(limits.lag * 10) && gets_worse(context, connection) ? Severity::Critical
                                                                                                            : Severity::Warning,
    });
  }
}

void describe_remote_slow_reader(const Context& context, std::span<const Verdict> members, Finding& finding)
{
  const model::Connection& connection = *context.model.find(members.front().cookie);
  const model::SocketSample& sample = connection.latest();
  const Look look = look_at(connection);
  const Duration lag = connection.send().lag(context.now());
  const std::uint32_t queued_bytes = sample.write_seq - sample.snd_una;

  finding.message = fmt::format("the peer is {} behind: {} wait here, its window held us back {} of the time",
                                format_duration(lag), format_bytes(queued_bytes), format_percent(look.limited_ratio));
  finding.details.push_back(fmt::format("{} sent and not taken, the oldest for {}", format_bytes(queued_bytes),
                                        format_duration(lag)));
  finding.details.push_back(fmt::format("the peer's receive window held us back {} of the last {}; it is {} now",
                                        format_percent(look.limited_ratio), format_duration(context.thresholds.hold),
                                        sample.snd_wnd > 0 ? format_bytes(sample.snd_wnd) : std::string("shut")));
  finding.advice = "the program at the other end reads too slowly: look there, and bound what this one queues for it";

  auto& evidence = finding.evidence;
  evidence.push_back({"send_queue_bytes", std::uint64_t{queued_bytes}});
  evidence.push_back({"rwnd_limited_ratio", look.limited_ratio});
  evidence.push_back({"lag_seconds", seconds(lag)});
  evidence.push_back({"send_window_bytes", std::uint64_t{sample.snd_wnd}});
  finding.thresholds.push_back({"hold_seconds", seconds(context.thresholds.hold)});
  finding.thresholds.push_back({"lag_seconds", seconds(context.thresholds.lag)});
  finding.thresholds.push_back({"rwnd_share_ratio", context.thresholds.rwnd_share});
}

}  // namespace laggard::detect
