// SPDX-License-Identifier: MIT
// stalled-reader: data waits and nobody takes any.
//
// Needs: the oldest unconsumed byte (UDP: datagram) is at least --stall old, and nothing was consumed for --stall. Both
// count from what was seen: the arrival after a long idle time starts at 0, and splice consumes without a read.
// What a read left behind that could have taken it, with nothing come since, is a leftover: the peer waits for an answer, not
// for a reader (a worker that reads all but 8 bytes of a request and is at work on it). It counts after --leftover, or where the
// reader is idle: a process of one thread that sleeps in epoll_wait(), with this socket in an epoll set that has told of it.
// A socket that no process holds (not yet accepted, or orphaned) has no reader that could stall.
#include "detect/stalled_reader.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/units.h"

namespace laggard::detect {

namespace {

constexpr int kMovesOfAReader = 3;  // within the window: from then on it is slow at worst

bool reader_is_idle(const Context& context, const model::Connection& connection)
{
  const model::Process* reader = context.model.find_tgid(connection.latest().reader_tgid);
  return connection.latest().in_epoll && reader != nullptr && reader->latest().threads == 1 && known(reader->waits_since()) &&
         context.now() - reader->waits_since() >= context.thresholds.stall;
}

}  // namespace

bool concerns_stalled_reader(const model::Connection& connection)
{
  return !connection.receive().empty() && connection.latest().has_file && !connection.latest().is_listener();
}

void judge_stalled_reader(const Context& context, std::vector<Verdict>& verdicts)
{
  const Duration stall = context.thresholds.stall;
  for (const model::Connection* one : context.connections) {
    const model::Connection& connection = *one;
    const model::SocketSample& sample = connection.latest();
    const model::StreamAge& receive = connection.receive();
    const std::uint64_t cookie = sample.cookie;
    const MonoTime idle_since = std::max(receive.oldest(), receive.last_consumed());
    // While the finding is open a reader that takes a little now and then does not close it; one that reads on does.
    if (context.is_open(Kind::StalledReader, cookie) &&
        (receive.lag(context.now()) < stall / 2 || connection.moves_in_history() >= kMovesOfAReader))
      continue;
    const bool is_worked_on = sample.is_leftover() && !reader_is_idle(context, connection);
    // TCP drops are retransmitted; a datagram is lost for good.
    const bool loses_data = sample.transport == model::Transport::Udp && connection.recent_drops() > 0;
    verdicts.push_back({
        .subject = connection_subject(Kind::StalledReader, context.model, connection),
        .cookie = cookie,
        .since = receive.oldest(),
        .since_is_lower_bound = receive.is_lower_bound(),
        .ripe = idle_since + (is_worked_on ? std::max(stall, context.thresholds.leftover) : stall),
        .weight = seconds(receive.lag(context.now())),
        .severity = loses_data || context.now() - idle_since >= stall * 10 ? Severity::Critical : Severity::Warning,
    });
  }
}

void describe_stalled_reader(const Context& context, std::span<const Verdict> members, Finding& finding)
{
  const model::Connection& connection = *context.model.find(members.front().cookie);
  const model::SocketSample& sample = connection.latest();
  const Duration age = connection.receive().lag(context.now());
  const char* at_least = connection.receive().is_lower_bound() ? "at least " : "";
  const bool udp = sample.transport == model::Transport::Udp;
  const bool ever_read = sample.reads > 0;

  const std::string queue =
      udp ? fmt::format("{} datagrams ({} of kernel memory)", sample.queued_packets, format_bytes(sample.unread_bytes))
          : format_bytes(sample.unread_bytes);
  const std::string last_read = ever_read ? fmt::format("last read {} ago", format_duration(context.now() - sample.last_read))
                                : sample.older_than_observer ? "not read since laggard watches"
                                                             : "never read";
  finding.message = fmt::format("{} unread, the oldest for {}{}; {}", queue, at_least, format_duration(age), last_read);
  finding.details.push_back(fmt::format("{} unread, the oldest for {}{}", queue, at_least, format_duration(age)));
  finding.details.push_back(last_read +
                            (ever_read ? fmt::format(", {} reads of {} in all", sample.reads,
                                                     format_bytes(static_cast<double>(sample.read_bytes)))
                                       : std::string{}) +
                            fmt::format("; the queue holds {} of {} kernel memory", format_bytes(sample.rmem_bytes),
                                        format_bytes(sample.rcvbuf_bytes)));
  if (sample.is_leftover())
    finding.details.push_back(reader_is_idle(context, connection)
                                  ? "the last read left these bytes; the reader sleeps in epoll_wait and is not told of them again"
                                  : "the last read left these bytes, and nothing has come since");
  if (!udp && sample.rcv_window_left < std::max(sample.rcv_mss, 1U))
    finding.details.push_back("our window is shut: the sender cannot send any more");
  if (udp && connection.recent_drops() > 0)
    finding.details.push_back(fmt::format("{} datagrams dropped at this socket: data is being lost", sample.drops));
  finding.advice = sample.is_leftover() ? "the program did not take all that was there: read until EAGAIN, or until the end of the message"
                                        : "the program has stopped reading this socket: look where its reading thread waits, or close the socket";

  describe_queue(sample, finding);
  auto& evidence = finding.evidence;
  evidence.push_back({"lag_seconds", seconds(age)});
  evidence.push_back({"reads_total", sample.reads});
  evidence.push_back({"drops_total", sample.drops});
  if (ever_read)
    evidence.push_back({"last_read_seconds", seconds(context.now() - sample.last_read)});
  if (sample.is_leftover())
    finding.thresholds.push_back({"leftover_seconds", seconds(context.thresholds.leftover)});
  finding.thresholds.push_back({"stall_seconds", seconds(context.thresholds.stall)});
}

}  // namespace laggard::detect
