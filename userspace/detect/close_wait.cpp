// SPDX-License-Identifier: MIT
// close-wait: the peer closed and the program keeps its end.
//
// Needs: CLOSE_WAIT for --close-wait with a process that still holds the socket. A peer that only half-closed and is
// still being answered (a request, then FIN, then a long response) is at work: what we send restarts the clock.
// A socket in CLOSE that was connected and that a process still holds counts on: the peer's FIN_WAIT2 has ended, what we sent
// then met a RST, and the descriptor is left over all the same.
#include "detect/close_wait.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/units.h"

namespace laggard::detect {
namespace {

Since closed_since(const model::Connection& connection)
{
  const model::SocketSample& sample = connection.latest();
  const bool seen = known(sample.peer_closed_at) || known(sample.ended_at);
  const MonoTime closed = known(sample.peer_closed_at) ? sample.peer_closed_at
                          : seen                       ? sample.ended_at
                                                       : connection.first_seen();
  // The first look at the send side is not a send.
  const MonoTime produced = connection.send().last_produced();
  if (!sample.is_ended() && produced > connection.first_seen() && produced > closed)
    return {produced, false};
  return {closed, !seen};
}

std::string how_it_ended(const model::SocketSample& sample)
{
  if (!sample.is_ended())
    return "CLOSE_WAIT";
  return sample.reset ? "closed (reset by peer)" : sample.timed_out ? "closed (the peer did not answer any more)" : "closed";
}

}  // namespace

bool concerns_close_wait(const model::Connection& connection)
{
  const model::SocketSample& sample = connection.latest();
  return sample.transport == model::Transport::Tcp &&
         ((sample.state == model::TcpState::CloseWait && sample.has_file) || sample.is_ended());
}

void judge_close_wait(const Context& context, std::vector<Verdict>& verdicts)
{
  judge_half_closed(context, Kind::CloseWait, context.thresholds.close_wait, closed_since, verdicts);
}

void describe_close_wait(const Context& context, std::span<const Verdict> members, Finding& finding)
{
  const model::Connection& connection = *context.model.find(members.front().cookie);
  const model::SocketSample& sample = connection.latest();
  const Since since = closed_since(connection);
  const std::optional<bool> has_read_end = sample.has_read_end();
  const std::string age = half_closed_age(context, since);

  const bool told_by_error = sample.is_ended() && !sample.peer_closed;
  const char* knows = told_by_error   ? "the next read or write of it fails"
                      : !has_read_end ? "whether the program has read the end of file is not known"
                      : *has_read_end ? "the program has read the end of file"
                                      : "the program has not read since, so it does not know";
  const char* what = sample.is_ended() && !sample.peer_closed ? (sample.timed_out ? "the connection ended" : "the peer reset it")
                                                              : "the peer closed";
  finding.message = sample.is_ended()
                        ? fmt::format("{} {} ago, the socket is {} and still held; {}", what, age, how_it_ended(sample), knows)
                        : fmt::format("the peer closed {} ago and the socket is still open; {}", age, knows);
  finding.details.push_back(fmt::format("{} for {}: {}", how_it_ended(sample), age, knows));
  if (sample.unread_bytes > 0)
    finding.details.push_back(fmt::format("{} unread in front of the end of file", format_bytes(sample.unread_bytes)));
  finding.advice = told_by_error ? "a connection that is reset must be closed: look for the error path that drops the descriptor"
                   : has_read_end == true ? "the program read 0 and did not close: look for the error path that drops the descriptor"
                                    : "the program must read until 0 and close; one that waits for nothing never notices";

  describe_queue(sample, finding);
  finding.evidence.push_back({"half_closed_seconds", seconds(context.now() - since.time)});
  if (has_read_end)
    finding.evidence.push_back({"eof_seen", *has_read_end});
  if (known(sample.last_read))
    finding.evidence.push_back({"last_read_seconds", seconds(context.now() - sample.last_read)});
  finding.thresholds.push_back({"close_wait_seconds", seconds(context.thresholds.close_wait)});
}

}  // namespace laggard::detect
