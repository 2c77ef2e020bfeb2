// SPDX-License-Identifier: MIT
#include "output/wording.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/units.h"
#include "output/escape.h"

namespace laggard::output {
namespace {

std::string counted(std::uint64_t count, std::string_view thing)
{
  return fmt::format("{} {}{}", count, thing, count == 1 ? "" : "s");
}

std::string dropped_words(const Dropped& dropped)
{
  std::vector<std::string> kinds;
  for (const auto& [count, kind] : {std::pair{dropped.opened, "opened"}, std::pair{dropped.updated, "updated"},
                                    std::pair{dropped.resolved, "resolved"}, std::pair{dropped.degraded, "degraded"}})
    if (count > 0)
      kinds.push_back(fmt::format("{} {}", count, kind));
  return fmt::format("{} of output dropped ({})", counted(dropped.total(), "line"), join(kinds, ", "));
}

std::string losses_words(const model::Losses& lost)
{
  std::vector<std::string> kinds;
  if (lost.ring_full > 0)
    kinds.push_back(fmt::format("{} ring full", lost.ring_full));
  if (lost.no_storage > 0)
    kinds.push_back(fmt::format("{} no socket storage", lost.no_storage));
  if (lost.no_totals > 0)
    kinds.push_back(fmt::format("{} no process totals", lost.no_totals));
  return fmt::format("{} lost ({})", counted(lost.total(), "record"), join(kinds, ", "));
}

}  // namespace

std::string join(const std::vector<std::string>& parts, std::string_view separator)
{
  return fmt::format("{}", fmt::join(parts, separator));
}

std::string process_words(const detect::ProcessRef& process)
{
  if (!process.id)
    return "unknown process";
  if (process.comm.empty())
    return fmt::format("pid {}", process.id.tgid);
  return fmt::format("{}[{}]", visible(process.comm, {.escape_backslash = true}), process.id.tgid);
}

std::string workload_words(const model::Workload& workload)
{
  constexpr std::size_t kShortId = 12;  // as docker ps and crictl ps show it
  std::string words;
  if (!workload.k8s_pod_name.empty())
    words = fmt::format("pod {}/{}", workload.k8s_namespace_name, workload.k8s_pod_name);
  else if (!workload.k8s_pod_uid.empty())
    words = "pod " + workload.k8s_pod_uid;
  else if (workload.container_id.empty())
    words = workload.systemd_unit;
  if (!workload.k8s_container_name.empty())
    words += '/' + workload.k8s_container_name;
  else if (!workload.container_id.empty())
    words += fmt::format("{}container {}", words.empty() ? "" : ", ", workload.container_id.substr(0, kShortId));
  return visible(words);
}

namespace {

std::string of_the_growth(const Explanation& explanation, std::uint64_t bytes)
{
  const double share = explanation.total_bytes > 0 ? static_cast<double>(bytes) / static_cast<double>(explanation.total_bytes) : 0;
  return fmt::format("{} ({})", format_bytes(static_cast<double>(bytes)), format_percent(share));
}

}  // namespace

std::string explanation_message(const Explanation& explanation)
{
  const std::string who = process_words(explanation.process);
  const std::string time = format_duration(explanation.observed);
  if (explanation.total_bytes == 0)
    return fmt::format("{} took no new memory in {}", who, time);
  const std::string with_reads = of_the_growth(explanation, explanation.total_bytes - explanation.other_bytes);
  return fmt::format("{} took {} of new memory in {}, {} of it with what it read from {}; {} {}", who,
                     format_bytes(static_cast<double>(explanation.total_bytes)), time, with_reads,
                     counted(explanation.sockets.size(), "socket"), format_bytes(std::abs(explanation.net_bytes)),
                     explanation.net_bytes < 0 ? "less are left than before" : "more are left than before");
}

std::string explanation_socket_message(const Explanation& explanation, const Explanation::Socket& socket)
{
  const std::string place = socket.socket ? tuple_words(socket.socket->tuple, "<-") : "a socket that is closed by now";
  return fmt::format("{} with {}: {} filled by reads, {} touched after them",
                     of_the_growth(explanation, socket.kernel_bytes + socket.user_bytes), place,
                     format_bytes(static_cast<double>(socket.kernel_bytes)), format_bytes(static_cast<double>(socket.user_bytes)));
}

std::string_view where_id(Explanation::Where where)
{
  switch (where) {
    case Explanation::Where::WithinRead: return "within_read";
    case Explanation::Where::AfterRead: return "after_read";
    case Explanation::Where::OtherSystemCall: return "other_system_call";
    case Explanation::Where::NoSocket: break;
  }
  return "no_socket";
}

std::string explanation_stack_message(const Explanation& explanation, const Explanation::Stack& stack)
{
  const std::string place = stack.place.empty() ? stack.cookie != 0 ? std::string("a socket that is closed by now") : "" : stack.place;
  std::string where;
  switch (stack.where) {
    case Explanation::Where::WithinRead: where = "within reads of " + place; break;
    case Explanation::Where::AfterRead: where = "after reads of " + place; break;
    case Explanation::Where::OtherSystemCall: where = "within a system call that is no socket read"; break;
    case Explanation::Where::NoSocket: where = "by a thread that read no socket"; break;
  }
  return fmt::format("{} {}, in {}", of_the_growth(explanation, stack.bytes), where,
                     stack.frames.empty() ? "code that could not be told" : frame_words(stack.frames.front()));
}

namespace {

// A program chooses its names, and how long they are. Go's may be over 1 KB; of this no line carries more than one.
constexpr std::size_t kMaxNameBytes = 4096;

std::string name_words(std::string_view name)
{
  return visible(utf8_prefix(name, kMaxNameBytes)) + (name.size() > kMaxNameBytes ? "…" : "");
}

}  // namespace

std::string frame_words(const Explanation::Frame& frame)
{
  const std::string module = frame.module.substr(frame.module.rfind('/') + 1);
  std::string text = !frame.symbol.empty() ? fmt::format("{}+{:#x}", name_words(frame.symbol), frame.symbol_offset)
                     : !module.empty()     ? fmt::format("{:#x}", frame.module_offset)
                                           : fmt::format("{:#x}", frame.address);
  if (!module.empty())
    text += fmt::format(" ({})", name_words(module));
  if (!frame.source.empty())
    text += fmt::format(" at {}", name_words(frame.source));
  return text;
}

bool has_peer(const model::Tuple& tuple) { return !tuple.peer.address.is_unspecified() || tuple.peer.port != 0; }

std::string tuple_words(const model::Tuple& tuple, std::string_view arrow)
{
  return has_peer(tuple) ? fmt::format("{} {} {}", to_string(tuple.local), arrow, to_string(tuple.peer))
                         : to_string(tuple.local);
}

std::string place_words(const detect::Finding& finding, std::string_view arrow)
{
  // Leaked sockets may be to an endpoint each: the message names the one that all share.
  if (!finding.socket || finding.kind == detect::Kind::ConnectionLeak)
    return {};
  const detect::SocketRef& socket = *finding.socket;
  if (!finding.is_group)
    return tuple_words(socket.tuple, arrow);
  const bool peer = has_peer(socket.tuple);
  const bool local_end = socket.accepted || !peer;
  if (finding.endpoints > 1)
    return fmt::format("{} {} {}", counted(finding.count, peer ? "connection" : "socket"), local_end ? "on" : "to",
                       counted(finding.endpoints, "endpoint"));
  return fmt::format("{} {} {}", counted(finding.count, peer ? "connection" : "socket"), local_end ? "on" : "to",
                     to_string(local_end ? socket.tuple.local : socket.tuple.peer));
}

std::string resolution_words(const detect::Finding& finding)
{
  std::string words{finding.resolution ? to_string(*finding.resolution) : "reason unknown"};
  std::ranges::replace(words, '_', ' ');
  return words;
}

std::string hooks_words(const Observer& observer)
{
  std::vector<std::string> parts;
  for (const HookChoice& choice : observer.hooks)
    parts.push_back(choice.feed + '=' + (choice.hook.empty() ? "off" : choice.hook));
  return join(parts, " ");
}

std::string finding_message(const detect::Finding& finding)
{
  const std::string place = place_words(finding, "<-");
  const std::string where = workload_words(finding.process.workload);
  std::string message = fmt::format("{}{}{}{} {}", process_words(finding.process), where.empty() ? "" : fmt::format(" ({})", where),
                                    place.empty() ? "" : " ", place, to_string(finding.kind));
  if (finding.phase == detect::Phase::Resolved)
    message += fmt::format(" resolved after {}{}, {}; before that", finding.start_is_lower_bound ? "at least " : "",
                           format_duration(finding.duration), resolution_words(finding));
  return message + ": " + visible(finding.message);
}

std::string started_message(const Observer& observer)
{
  std::vector<std::string> off;
  for (const HookChoice& choice : observer.hooks)
    if (choice.hook.empty())
      off.push_back(choice.feed);
  std::string feeds = counted(observer.hooks.size(), "feed");
  if (!off.empty())
    feeds = fmt::format("{} of {} ({} off)", observer.hooks.size() - off.size(), feeds, join(off, ", "));
  std::string message = fmt::format("laggard {} {} {}, kernel {}: {}", observer.version,
                                    observer.replayed_from.empty() ? "watching" : "replaying a recording of",
                                    observer.host_name.empty() ? "this host" : observer.host_name,
                                    observer.kernel.empty() ? "unknown" : observer.kernel, feeds);
  if (!observer.missing.empty())
    message += "; not visible: " + join(observer.missing, "; ");
  return visible(message);
}

std::string degraded_message(const Degraded& degraded)
{
  std::string message = degraded.message;
  if (degraded.lost.total() > 0)
    message += "; " + losses_words(degraded.lost);
  if (degraded.dropped.total() > 0)
    message += "; " + dropped_words(degraded.dropped);
  return visible(message);
}

std::string stopped_message(const Summary& summary)
{
  const std::string span = format_duration(summary.observed);
  std::string message;
  if (summary.findings_opened > 0)
    message = fmt::format("{} in {}, {} still open", counted(summary.findings_opened, "finding"), span,
                          summary.findings_open);
  if (summary.incomplete)
    message = message.empty()
                  ? fmt::format("could not look at everything for {}: no finding does not mean that all is well", span)
                  : "could not look at everything, there may be more: " + message;
  else if (message.empty())
    message = fmt::format("nothing found in {}", span);
  message += fmt::format("; {}, {}", counted(summary.sockets_tracked, "socket"), counted(summary.ticks, "look"));
  if (summary.lost.total() > 0)
    message += ", " + losses_words(summary.lost);
  if (summary.lost.skipped_runs > 0)
    message += fmt::format(", {} unseen", counted(summary.lost.skipped_runs, "event"));
  if (summary.unobserved > Duration{})
    message += fmt::format(", nothing looked at for {}", format_duration(summary.unobserved));
  if (summary.dropped.total() > 0)
    message += ", " + dropped_words(summary.dropped);
  if (!summary.reason.empty())
    message += "; ended: " + summary.reason;
  return visible(message);
}

std::string socket_message(const SocketLine& line)
{
  const model::SocketSample& sample = line.sample;
  std::string message = fmt::format("{} {} {}: ", process_words(line.process), to_string(sample.transport),
                                    tuple_words(sample.tuple, "<-"));
  if (sample.is_listener())
    return message + fmt::format("{} of {} waiting to be accepted", sample.ack_backlog, sample.max_ack_backlog);
  message += fmt::format("{} unread", format_bytes(sample.unread_bytes));
  if (line.oldest_unread_at_least)
    message += fmt::format(", the oldest for at least {}", format_duration(*line.oldest_unread_at_least));
  return message;
}

}  // namespace laggard::output
