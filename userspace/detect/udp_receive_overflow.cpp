// SPDX-License-Identifier: MIT
// udp-receive-overflow: datagrams arrive at a socket that has no room for them.
//
// Needs: receive drops in at least 3 of the last 5 looks, or of all that arrived over --hold at least --drop-share, lost at
// moments that are half of --hold apart, or as large a share of all that arrived over --drop-window, lost in at least two bursts
// (half of --hold apart): a receiver that flushes for a second every ten. A reader that was held up once loses one burst: no
// finding. The last kind stays open for twice the longest pause between two bursts.
// What the socket had lost before we first saw it says nothing.
#include "detect/udp_receive_overflow.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/units.h"

namespace laggard::detect {
namespace {

constexpr std::size_t kLooks = 5, kLooksWithDrops = 3;

struct Losses {
  std::size_t recent_looks = 0;  // of the last five
  MonoTime first;                // the look that showed the first loss of the history
  Duration spread{};             // from the first loss to the last one
  Duration span{};
  std::uint64_t dropped = 0;
  std::uint64_t arrived = 0;     // dropped ones included
  double share() const { return arrived > 0 ? static_cast<double>(dropped) / static_cast<double>(arrived) : 0; }
  double per_second() const { return static_cast<double>(dropped) / std::max(seconds(span), 1e-3); }
};

Losses losses_of(const model::Connection& connection)
{
  Losses losses;
  const auto& history = connection.drop_history();
  if (history.size() < 2)
    return losses;
  MonoTime last;
  for (std::size_t i = 1; i < history.size(); i++) {
    if (history[i].drops == history[i - 1].drops)
      continue;
    if (!known(losses.first))
      losses.first = history[i].time;
    last = history[i].time;
    losses.recent_looks += i + kLooks >= history.size();
  }
  losses.spread = last - losses.first;
  losses.span = history.back().time - history.front().time;
  losses.dropped = history.back().drops - history.front().drops;
  losses.arrived = losses.dropped + (history.back().arrived - history.front().arrived);
  return losses;
}

constexpr std::size_t kBursts = 2;

bool loses_in_bursts(const Context& context, const model::Connection& connection)
{
  const model::LossHistory& losses = connection.losses();
  return losses.bursts().size() >= kBursts && losses.share(context.thresholds.drop_window) >= context.thresholds.drop_share &&
         context.now() - losses.bursts().back().end <= losses.longest_pause() * 2;
}

}  // namespace

bool concerns_udp_receive_overflow(const model::Connection& connection)
{
  const model::SocketSample& sample = connection.latest();
  return sample.transport == model::Transport::Udp && sample.has_file &&
         (!connection.drop_history().empty() || !connection.losses().empty());
}

void judge_udp_receive_overflow(const Context& context, std::vector<Verdict>& verdicts)
{
  const Thresholds& limits = context.thresholds;
  for (const model::Connection* one : context.connections) {
    const model::Connection& connection = *one;
    const model::SocketSample& sample = connection.latest();
    const std::uint64_t cookie = sample.cookie;
    const Losses losses = losses_of(connection);
    const bool keeps_losing = losses.recent_looks >= kLooksWithDrops;
    const bool loses_a_share =
        losses.span >= limits.hold && losses.spread >= limits.hold / 2 && losses.share() >= limits.drop_share;
    const bool still_loses = losses.recent_looks > 0 && context.is_open(Kind::UdpReceiveOverflow, cookie);
    // The next loss may be the one that counts, and it may be the last one for a while: who holds the socket must be known
    // by then.
    const bool soon = losses.recent_looks == kLooksWithDrops - 1;
    const bool in_bursts = loses_in_bursts(context, connection);
    const bool found = keeps_losing || loses_a_share || still_loses || in_bursts;
    if (!found && !soon)
      continue;
    verdicts.push_back({
        .subject = connection_subject(Kind::UdpReceiveOverflow, context.model, connection),
        .cookie = cookie,
        .since = in_bursts ? connection.losses().bursts().front().begin : losses.first,
        .ripe = found ? context.now() : context.now() + context.model.interval(),
        .weight = in_bursts ? connection.losses().share(limits.drop_window) : losses.per_second(),
        .severity = Severity::Critical,  // nobody sends a datagram again
    });
  }
}

void describe_udp_receive_overflow(const Context& context, std::span<const Verdict> members, Finding& finding)
{
  const model::Connection& connection = *context.model.find(members.front().cookie);
  const model::SocketSample& sample = connection.latest();
  const Losses losses = losses_of(connection);

  if (loses_in_bursts(context, connection) && losses.recent_looks < kLooksWithDrops) {
    const model::LossHistory& bursts = connection.losses();
    const double share = bursts.ratio();
    finding.message = fmt::format("loses datagrams in bursts, {} of what came in {}: its receive buffer of {} is full at times",
                                  format_percent(share), format_duration(bursts.span()),
                                  format_bytes(sample.rcvbuf_bytes));
    finding.details.push_back(fmt::format("{} lost in {} bursts within {}, {} since the socket exists", bursts.dropped(),
                                          bursts.bursts().size(), format_duration(bursts.span()), sample.drops));
    finding.advice = "the program stops reading now and then: let another thread read, or set SO_RCVBUF to what comes in that time";
    describe_queue(sample, finding);
    finding.evidence.push_back({"drops_total", sample.drops});
    finding.evidence.push_back({"drops_ratio", share});
    finding.evidence.push_back({"drop_bursts", std::uint64_t{bursts.bursts().size()}});
    finding.thresholds.push_back({"drop_window_seconds", seconds(context.thresholds.drop_window)});
    finding.thresholds.push_back({"drop_share_ratio", context.thresholds.drop_share});
    return;
  }

  finding.message = fmt::format("loses {} datagrams a second, {} of what arrives: its receive buffer of {} is full",
                                format_count(losses.per_second()), format_percent(losses.share()),
                                format_bytes(sample.rcvbuf_bytes));
  finding.details.push_back(fmt::format("{} of {} datagrams lost in the last {}, {} since the socket exists", losses.dropped,
                                        losses.arrived, format_duration(losses.span), sample.drops));
  finding.details.push_back(fmt::format("{} datagrams wait; the queue holds {} of {} kernel memory", sample.queued_packets,
                                        format_bytes(sample.rmem_bytes), format_bytes(sample.rcvbuf_bytes)));
  finding.advice = "the program reads too slowly or too seldom for what is sent: recvmmsg, more readers, or a larger SO_RCVBUF";

  describe_queue(sample, finding);
  finding.evidence.push_back({"drops_total", sample.drops});
  finding.evidence.push_back({"drops_per_second", losses.per_second()});
  finding.evidence.push_back({"drops_ratio", losses.share()});
  finding.thresholds.push_back({"hold_seconds", seconds(context.thresholds.hold)});
  finding.thresholds.push_back({"drop_share_ratio", context.thresholds.drop_share});
}

}  // namespace laggard::detect
