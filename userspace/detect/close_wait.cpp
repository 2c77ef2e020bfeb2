// SPDX-License-Identifier: MIT
// close-wait: the peer closed and the program keeps its end.
//
// Needs: CLOSE_WAIT for --close-wait with a process that still holds the socket. A peer that only half-closed and is
// still being answered (a request, then FIN, then a long response) is at work: what we send restarts the clock.
#include "detect/close_wait.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/units.h"

namespace laggard::detect {
namespace {

Since closed_since(const model::Connection& connection)
{
  const model::SocketSample& sample = connection.latest();
  const bool seen = known(sample.peer_closed_at);
  const MonoTime closed = seen ? sample.peer_closed_at : connection.first_seen();
  // The first look at the send side is not a send.
  const MonoTime produced = connection.send().last_produced();
  if (produced > connection.first_seen() && produced > closed)
    return {produced, false};
  return {closed, !seen};
}

enum class Eof { Seen, NeverLooked, Unknown };

Eof eof_of(const model::SocketSample& sample)
{
  if (sample.eof_seen)
    return Eof::Seen;
  if (sample.eof_eaten || !known(sample.peer_closed_at))
    return Eof::Unknown;
  return Eof::NeverLooked;
}

}  // namespace

void judge_close_wait(const Context& context, std::vector<Verdict>& verdicts)
{
  judge_half_closed(context, Kind::CloseWait, model::TcpState::CloseWait, context.thresholds.close_wait, closed_since, verdicts);
}

void describe_close_wait(const Context& context, std::span<const Verdict> members, Finding& finding)
{
  const model::Connection& connection = *context.model.find(members.front().cookie);
  const model::SocketSample& sample = connection.latest();
  const Since since = closed_since(connection);
  const Eof eof = eof_of(sample);
  const std::string age = half_closed_age(context, since);

  const char* knows = eof == Eof::Seen          ? "the program has read the end of file"
                      : eof == Eof::NeverLooked ? "the program has not read since, so it does not know"
                                                : "whether the program has read the end of file is not known";
  finding.message = fmt::format("the peer closed {} ago and the socket is still open; {}", age, knows);
  finding.details.push_back(fmt::format("CLOSE_WAIT for {}: {}", age, knows));
  if (sample.unread_bytes > 0)
    finding.details.push_back(fmt::format("{} unread in front of the end of file", format_bytes(sample.unread_bytes)));
  finding.advice = eof == Eof::Seen ? "the program read 0 and did not close: look for the error path that drops the descriptor"
                                    : "the program must read until 0 and close; one that waits for nothing never notices";

  describe_queue(sample, finding);
  finding.evidence.push_back({"half_closed_seconds", seconds(context.now() - since.time)});
  if (eof != Eof::Unknown)
    finding.evidence.push_back({"eof_seen", eof == Eof::Seen});
  if (known(sample.last_read))
    finding.evidence.push_back({"last_read_seconds", seconds(context.now() - sample.last_read)});
  finding.thresholds.push_back({"close_wait_seconds", seconds(context.thresholds.close_wait)});
}

}  // namespace laggard::detect
