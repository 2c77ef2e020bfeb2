// SPDX-License-Identifier: MIT
// fin-wait-2: we shut down sending, the peer never answers with its own end, and a process waits on the socket.
//
// Needs: FIN_WAIT2 for --fin-wait with a process that holds the socket (an orphan has none: the kernel times it out). A
// peer that still sends its answer is at work: every arrival restarts the clock.
#include "detect/fin_wait_2.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/units.h"

namespace laggard::detect {
namespace {

Since silent_since(const model::Connection& connection)
{
  const model::SocketSample& sample = connection.latest();
  const bool seen = known(sample.shutdown_at);
  const MonoTime shut = seen ? sample.shutdown_at : connection.first_seen();
  if (known(sample.last_arrival) && sample.last_arrival > shut)
    return {sample.last_arrival, false};
  return {shut, !seen};
}

}  // namespace

bool concerns_fin_wait_2(const model::Connection& connection)
{
  const model::SocketSample& sample = connection.latest();
  return sample.transport == model::Transport::Tcp && sample.state == model::TcpState::FinWait2 && sample.has_file;
}

void judge_fin_wait_2(const Context& context, std::vector<Verdict>& verdicts)
{
  judge_half_closed(context, Kind::FinWait2, context.thresholds.fin_wait, silent_since, verdicts);
}

void describe_fin_wait_2(const Context& context, std::span<const Verdict> members, Finding& finding)
{
  const model::Connection& connection = *context.model.find(members.front().cookie);
  const model::SocketSample& sample = connection.latest();
  const Since since = silent_since(connection);
  const std::string age = half_closed_age(context, since);
  finding.message = fmt::format("sending was shut down and the peer has neither sent nor closed for {}", age);
  finding.details.push_back(fmt::format("FIN_WAIT2, silent for {}: our end of the stream is finished, the peer's is not", age));
  if (sample.unread_bytes > 0)
    finding.details.push_back(fmt::format("{} unread", format_bytes(sample.unread_bytes)));
  finding.advice = "the peer does not close: look there for a close-wait finding, and give this program a receive timeout";

  describe_queue(sample, finding);
  finding.evidence.push_back({"half_closed_seconds", seconds(context.now() - since.time)});
  finding.thresholds.push_back({"fin_wait_seconds", seconds(context.thresholds.fin_wait)});
}

}  // namespace laggard::detect
