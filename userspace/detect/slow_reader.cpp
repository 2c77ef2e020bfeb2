// SPDX-License-Identifier: MIT
// slow-reader: a TCP reader that does consume, but too late.
//
// Needs: consumption within --stall (late in bursts: within --late-window), and one of
//   (a) a queue that was not once seen empty for --hold, and lag >= --lag as the median over --hold, what waits at a sender on
//       this host included; consumption was seen in the second half of --hold when the finding opens;
//   (b) the same queue and small bites: our window was shut after at least half of the reads, and the median read is at most
//       --bite and at most 1/8 of what typically waits. (A Qt client with a bounded buffer: 12-byte reads, 20 ms of lag, the
//       rest of the backlog waits at the sender.)
//   (c) late in bursts: for at least --late-share of the last --late-window the oldest unread byte was older than --lag, in two
//       spells or more, however often the queue is emptied in between (a loop that blocks for 4 s and then drains everything). Where three connections
//       of the process are late together, four fifths of that share are enough.
// What a read left behind, with nothing come since, does not count: see stalled-reader.
// A bulk reader whose queue never empties because it is the bottleneck has none of these, and is fine.
// Critical is ten times --lag where it gets worse: ever more waits (in a window that is not shut), it is taken ever more
// slowly, or it fills the sender's memory. A reader that takes a steady rate of a source that could send more
// (curl --limit-rate, a player) is as late as two buffers are deep, for ever, and loses nothing.
#include "detect/slow_reader.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "base/units.h"
#include "detect/memory.h"
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

constexpr int kMovesOfAReader = 3;      // within the window: it takes what it left behind before
constexpr std::uint32_t kSpells = 2;    // one alone is a stall that is over
constexpr std::size_t kLateTogether = 3;
constexpr double kShareTogether = 0.8;  // of --late-share
constexpr double kMoreWaits = 1.05;     // times as much as in the third of a window before, each time
constexpr double kSlower = 3;           // who takes much at once and then pauses takes twice as much in one half as in the other

Look look_at(const Context& context, const model::Connection& connection)
{
  Look look;
  const auto& history = connection.history();
  look.lag = lag_of(context.model, connection);
  if (history.empty())
    return look;
  std::vector<double> lags, unread;
  look.min_unread_bytes = history.back().unread_bytes;
  const model::Connection* sender = context.model.peer_of(connection);
  for (const model::QueueLook& one : history) {
    lags.push_back(static_cast<double>(one.lag_seconds) + (sender != nullptr ? seconds(sender->send_lag_at(one.time)) : 0));
    unread.push_back(one.unread_bytes);
    look.min_unread_bytes = std::min(look.min_unread_bytes, one.least_bytes);
    look.max_unread_bytes = std::max(look.max_unread_bytes, one.most_bytes);
  }
  look.median_lag_seconds = model::median(std::move(lags));
  look.typical_unread_bytes = model::median(std::move(unread));
  const model::ReadSpan reads = connection.reads_in_history();
  look.reads = model::read_sizes_between(reads.before, reads.after);
  look.span_seconds = seconds(reads.span);
  look.consumed_bytes = reads.consumed_bytes;
  look.arrived_bytes = reads.arrived_bytes;
  if (look.reads.reads > 0)
    look.closed_share = static_cast<double>(reads.after.closed_window_reads - reads.before.closed_window_reads) /
                        static_cast<double>(look.reads.reads);
  return look;
}

bool lags(const Look& look, Duration threshold) { return look.median_lag_seconds >= seconds(threshold); }

bool takes_small_bites(const Look& look, std::uint64_t bite_bytes, double closed_share)
{
  return look.reads.reads > 0 && look.closed_share >= closed_share && look.reads.p50_bytes <= bite_bytes &&
         static_cast<double>(look.reads.p50_bytes) <= look.typical_unread_bytes / 8;
}

struct Pace {
  double most_unread_bytes = 0;
  double bytes_per_second = 0;
};

Pace pace_of(std::span<const model::Lateness::Look> looks)
{
  const std::uint32_t taken = looks.back().copied_seq - looks.front().copied_seq;
  return {static_cast<double>(std::ranges::max(looks, {}, &model::Lateness::Look::unread_bytes).unread_bytes),
          taken / std::max(seconds(looks.back().time - looks.front().time), 1e-3)};
}

bool gets_worse(const Context& context, const model::Connection& connection, const Look& look)
{
  // Behind a shut window no more can wait than does: what looks like growth is where in its saw-tooth the queue was met.
  const bool has_room = look.closed_share < 0.5;
  const std::span<const model::Lateness::Look> looks = connection.lateness().looks();
  // Less than that is the filling of two buffers.
  const std::size_t third = looks.size() / 3;
  if (third >= 2 && looks.back().time - looks.front().time >= context.thresholds.late_window * 2 / 3) {
    const Pace first = pace_of(looks.first(third)), second = pace_of(looks.subspan(third, third)), last = pace_of(looks.last(third));
    if (has_room && second.most_unread_bytes >= first.most_unread_bytes * kMoreWaits &&
        last.most_unread_bytes >= second.most_unread_bytes * kMoreWaits)
      return true;
    const Pace before = pace_of(looks.first(looks.size() / 2 + 1)), now = pace_of(looks.subspan(looks.size() / 2));
    if (now.bytes_per_second * kSlower <= before.bytes_per_second)
      return true;
  }
  const model::Connection* sender = context.model.peer_of(connection);
  return sender != nullptr && is_filling(context, sender->process());
}

bool is_late(const Context& context, const model::Connection& connection, double part)
{
  const Thresholds& limits = context.thresholds;
  return connection.lateness().spells() >= kSpells &&
         connection.lateness().share(context.now(), limits.late_window) >= limits.late_share * part;
}

}  // namespace

bool concerns_slow_reader(const model::Connection& connection)
{
  const model::SocketSample& sample = connection.latest();
  return sample.transport == model::Transport::Tcp && sample.has_file &&
         connection.receive().last_consumed() != connection.first_seen();
}

void judge_slow_reader(const Context& context, std::vector<Verdict>& verdicts)
{
  const Thresholds& limits = context.thresholds;
  std::map<model::ProcessId, std::size_t> late_together;
  for (const model::Connection* connection : context.connections)
    if (is_late(context, *connection, kShareTogether))
      late_together[connection->process()]++;

  for (const model::Connection* one : context.connections) {
    const model::Connection& connection = *one;
    const model::SocketSample& sample = connection.latest();
    const std::uint64_t cookie = sample.cookie;
    // One incident, one finding: what stalled and takes a little now and then is still stalled.
    const MonoTime consumed = connection.receive().last_consumed();
    if (context.is_open(Kind::StalledReader, cookie))
      continue;
    if (sample.is_leftover() && connection.moves_in_history() < kMovesOfAReader)
      continue;
    const bool open = context.is_open(Kind::SlowReader, cookie);
    const auto together = late_together.find(connection.process());
    const bool many = together != late_together.end() && together->second >= kLateTogether;
    const bool late = is_late(context, connection, open ? 0.5 : many ? kShareTogether : 1) &&
                      context.now() - consumed < std::max(limits.stall, limits.late_window / 2);
    const bool stands = connection.history().size() >= 2 && known(connection.standing_since()) &&
                        context.now() - consumed < limits.stall;
    if (!late && !stands)
      continue;
    const Look look = look_at(context, connection);
    const bool lags_all_along = stands && (lags(look, open ? limits.lag / 2 : limits.lag) ||
                                           takes_small_bites(look, limits.bite_bytes, open ? 0.25 : 0.5));
    if (!late && !lags_all_along)
      continue;
    // What lags for most of the window and consumed within its second half did so while it lagged. A reader that kept up and
    // has stopped did not: if it stays like that it is stalled, and nothing else.
    const bool consumes = context.now() - consumed <= limits.hold / 2;
    const MonoTime held = connection.standing_since() + limits.hold;
    const MonoTime since = lags_all_along ? connection.standing_since() : connection.lateness().looks().front().time;
    const bool critical = look.lag.total() >= limits.lag * 10 && gets_worse(context, connection, look);
    verdicts.push_back({
        .subject = connection_subject(Kind::SlowReader, context.model, connection),
        .cookie = cookie,
        .since = since,
        .since_is_lower_bound = sample.older_than_observer && since == connection.first_seen(),
        .ripe = late       ? context.now()
                : consumes ? held
                           : std::max(held, context.now() + context.model.interval()),
        .weight = std::max(look.median_lag_seconds, seconds(connection.receive().lag(context.now()))),
        .severity = critical ? Severity::Critical : Severity::Warning,
    });
  }
}

namespace {

void describe_late_in_bursts(const Context& context, std::span<const Verdict> members, const model::Connection& connection,
                             Finding& finding)
{
  const Thresholds& limits = context.thresholds;
  const model::SocketSample& sample = connection.latest();
  const double share = connection.lateness().share(context.now(), limits.late_window);
  const std::uint32_t taken =
      connection.lateness().looks().empty() ? 0 : connection.lateness().looks().back().copied_seq - connection.lateness().looks().front().copied_seq;
  finding.message = fmt::format("reads in bursts: for {} of the last {} the oldest byte waited for more than {}{}",
                                format_percent(share), format_duration(limits.late_window), format_duration(limits.lag),
                                members.size() >= kLateTogether ? fmt::format(", on {} connections alike", members.size()) : "");
  finding.details.push_back(finding.message);
  finding.details.push_back(fmt::format("it takes everything and then nothing for a while: {} unread now, {} taken in that time",
                                        format_bytes(sample.unread_bytes), format_bytes(taken)));
  finding.advice = "what blocks the loop that reads these connections? Move it to a thread, or do it in smaller steps";
  describe_queue(sample, finding);
  finding.evidence.push_back({"lag_seconds", seconds(connection.receive().lag(context.now()))});
  if (known(sample.last_read))
    finding.evidence.push_back({"last_read_seconds", seconds(context.now() - sample.last_read)});
  finding.thresholds.push_back({"late_share_ratio", limits.late_share});
  finding.thresholds.push_back({"late_window_seconds", seconds(limits.late_window)});
  finding.thresholds.push_back({"lag_seconds", seconds(limits.lag)});
}

}  // namespace

void describe_slow_reader(const Context& context, std::span<const Verdict> members, Finding& finding)
{
  const model::Connection& connection = *context.model.find(members.front().cookie);
  const model::SocketSample& sample = connection.latest();
  const Look look = look_at(context, connection);
  const double span = std::max(look.span_seconds, 1e-3);
  const double reads_per_second = static_cast<double>(look.reads.reads) / span;
  const double consumed_per_second = static_cast<double>(look.consumed_bytes) / span;
  const bool by_lag = lags(look, context.thresholds.lag / 2);
  const double late_share = connection.lateness().share(context.now(), context.thresholds.late_window);
  finding.evidence.push_back({"late_ratio", late_share});
  const bool stands = known(connection.standing_since()) && context.now() - connection.standing_since() >= context.thresholds.hold;
  if (connection.history().size() < 2 || (!(stands && by_lag) && late_share >= context.thresholds.late_share / 2)) {
    describe_late_in_bursts(context, members, connection, finding);
    return;
  }

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
  if (by_lag && finding.severity == Severity::Warning && look.lag.total() >= context.thresholds.lag * 10)
    finding.advice = "steady and getting no worse, as a deliberate limit looks (--limit-rate, --bwlimit, a player); else: " + finding.advice;

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
