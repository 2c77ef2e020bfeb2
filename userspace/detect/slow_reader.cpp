// SPDX-License-Identifier: MIT
// slow-reader: a TCP reader that does consume, but whose queue stands.
//
// Needs: a queue that was not once seen empty for --hold, consumption within --stall, seen in the second half of --hold when
// the finding opens, and either
//   (a) lag >= --lag as the median over --hold, what waits at a sender on this host included, or
//   (b) small bites: our window was shut after at least half of the reads, and the median read is at most --bite and at
//       most 1/8 of what typically waits. (A Qt client with a bounded buffer: 12-byte reads, 20 ms of lag, the rest of
//       the backlog waits at the sender.)
// A bulk reader whose queue never empties because it is the bottleneck has neither, and is fine.
#include "detect/slow_reader.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/units.h"
#include "model/statistics.h"

namespace laggard::detect {
namespace {

struct Look {
  Lag lag;
  double median_lag_seconds = 0;
  double typical_unread_bytes = 0;
  std::uint32_t min_unread_bytes = 0;
  std::uint32_t max_unread_bytes = 0;
  double closed_share = 0;  // of the reads
  model::ReadSizes reads;
  double span_seconds = 0;
  std::uint64_t consumed_bytes = 0;
  std::uint64_t arrived_bytes = 0;
};

Look look_at(const Context& context, const model::Connection& connection)
{
  Look look;
  const auto& history = connection.history();
  const model::SocketSample& first = history.front();
  const model::SocketSample& last = history.back();
  look.lag = lag_of(context.model, connection);
  std::vector<double> lags = connection.lags_in_history();
  if (const model::Connection* sender = context.model.peer_of(connection))
    for (std::size_t i = 0; i < lags.size(); i++)
      lags[i] += seconds(sender->send_lag_at(history[i].time));
  look.median_lag_seconds = model::median(std::move(lags));
  std::vector<double> unread;
  look.min_unread_bytes = last.unread_bytes;
  for (const model::SocketSample& sample : history) {
    unread.push_back(sample.unread_bytes);
    look.min_unread_bytes = std::min({look.min_unread_bytes, sample.unread_bytes,
                                      sample.min_unread_bytes.value_or(sample.unread_bytes)});
    look.max_unread_bytes = std::max({look.max_unread_bytes, sample.unread_bytes, sample.max_unread_bytes});
  }
  look.typical_unread_bytes = model::median(std::move(unread));
  look.reads = model::read_sizes_between(first, last);
  look.span_seconds = seconds(last.time - first.time);
  look.consumed_bytes = last.copied_seq - first.copied_seq;
  look.arrived_bytes = last.rcv_nxt - first.rcv_nxt;
  if (look.reads.reads > 0)
    look.closed_share = static_cast<double>(last.closed_window_reads - first.closed_window_reads) /
                        static_cast<double>(look.reads.reads);
  return look;
}

bool lags(const Look& look, Duration threshold) { return look.median_lag_seconds >= seconds(threshold); }

bool takes_small_bites(const Look& look, std::uint64_t bite_bytes, double closed_share)
{
  return look.reads.reads > 0 && look.closed_share >= closed_share && look.reads.p50_bytes <= bite_bytes &&
         static_cast<double>(look.reads.p50_bytes) <= look.typical_unread_bytes / 8;
}

}  // namespace

void judge_slow_reader(const Context& context, std::vector<Verdict>& verdicts)
{
  const Thresholds& limits = context.thresholds;
  for (const auto& [cookie, connection] : context.model.connections()) {
    const model::SocketSample& sample = connection.latest();
    if (sample.transport != model::Transport::Tcp || !sample.has_file || connection.history().size() < 2 ||
        !known(connection.standing_since()))
      continue;
    if (connection.receive().last_consumed() == connection.first_seen() ||
        context.now() - connection.receive().last_consumed() >= limits.stall)
      continue;
    // One incident, one finding: what stalled and takes a little now and then is still stalled.
    if (context.is_open(Kind::StalledReader, cookie))
      continue;
    const bool open = context.is_open(Kind::SlowReader, cookie);
    const Look look = look_at(context, connection);
    if (!lags(look, open ? limits.lag / 2 : limits.lag) &&
        !takes_small_bites(look, limits.bite_bytes, open ? 0.25 : 0.5))
      continue;
    // What lags for most of the window and consumed within its second half did so while it lagged. A reader that kept up and
    // has stopped did not: if it stays like that it is stalled, and nothing else.
    const bool consumes = context.now() - connection.receive().last_consumed() <= limits.hold / 2;
    const MonoTime held = connection.standing_since() + limits.hold;
    verdicts.push_back({
        .subject = connection_subject(Kind::SlowReader, context.model, connection),
        .cookie = cookie,
        .since = connection.standing_since(),
        .since_is_lower_bound = sample.older_than_observer && connection.standing_since() == connection.first_seen(),
        .ripe = consumes ? held : std::max(held, context.now() + context.model.interval()),
        .weight = look.median_lag_seconds,
        .severity = lags(look, limits.lag * 10) ? Severity::Critical : Severity::Warning,
    });
  }
}

void describe_slow_reader(const Context& context, std::span<const Verdict> members, Finding& finding)
{
  const model::Connection& connection = *context.model.find(members.front().cookie);
  const model::SocketSample& sample = connection.latest();
  const Look look = look_at(context, connection);
  const double span = std::max(look.span_seconds, 1e-3);
  const double reads_per_second = static_cast<double>(look.reads.reads) / span;
  const double consumed_per_second = static_cast<double>(look.consumed_bytes) / span;
  const bool by_lag = lags(look, context.thresholds.lag / 2);

  finding.message = fmt::format("reads {}/s of {} and is {} behind with {} unread",
                                format_count(reads_per_second), format_bytes(static_cast<double>(look.reads.p50_bytes)),
                                format_duration(look.lag.total()), format_bytes(sample.unread_bytes));
  finding.details.push_back(fmt::format("queue never emptied: {} unread, {} to {} in the last {}{}",
                                        format_bytes(sample.unread_bytes), format_bytes(look.min_unread_bytes),
                                        format_bytes(look.max_unread_bytes),
                                        format_duration(context.thresholds.hold),
                                        look.closed_share >= 0.01
                                            ? fmt::format("; our window was shut after {} of the reads",
                                                          format_percent(look.closed_share))
                                            : ""));
  finding.details.push_back(fmt::format(
      "reads: {}/s of {} (median); {} taken, {} behind here{}", format_count(reads_per_second),
      format_bytes(static_cast<double>(look.reads.p50_bytes)), format_rate(consumed_per_second),
      format_duration(look.lag.here),
      look.lag.at_sender > Duration{} ? fmt::format(", {} more wait at the sender", format_duration(look.lag.at_sender))
      : look.closed_share >= 0.5      ? ", more waits at the sender"
                                      : ""));
  if (static_cast<double>(look.reads.p50_bytes) * 8 <= look.typical_unread_bytes)
    finding.advice = fmt::format("the program takes {} per call from a queue of {}: read until EAGAIN, or larger blocks",
                                 format_bytes(static_cast<double>(look.reads.p50_bytes)),
                                 format_bytes(look.typical_unread_bytes));
  else
    finding.advice = "the program takes large blocks but too seldom: look at what it does between two reads";

  describe_queue(sample, finding);
  auto& evidence = finding.evidence;
  evidence.push_back({"recv_queue_min_bytes", std::uint64_t{look.min_unread_bytes}});
  evidence.push_back({"recv_queue_max_bytes", std::uint64_t{look.max_unread_bytes}});
  evidence.push_back({"lag_seconds", seconds(look.lag.total())});
  evidence.push_back({"sender_lag_seconds", seconds(look.lag.at_sender)});
  evidence.push_back({"read_size_p50_bytes", look.reads.p50_bytes});
  evidence.push_back({"read_size_p99_bytes", look.reads.p99_bytes});
  evidence.push_back({"reads_per_second", reads_per_second});
  evidence.push_back({"consumed_bytes_per_second", consumed_per_second});
  evidence.push_back({"arrival_bytes_per_second", static_cast<double>(look.arrived_bytes) / span});
  evidence.push_back({"window_closed_ratio", look.closed_share});
  if (known(sample.last_read))
    evidence.push_back({"last_read_seconds", seconds(context.now() - sample.last_read)});
  finding.thresholds.push_back({"hold_seconds", seconds(context.thresholds.hold)});
  finding.thresholds.push_back({"stall_seconds", seconds(context.thresholds.stall)});
  if (by_lag)
    finding.thresholds.push_back({"lag_seconds", seconds(context.thresholds.lag)});
  else
    finding.thresholds.push_back({"bite_bytes", context.thresholds.bite_bytes});
}

}  // namespace laggard::detect
