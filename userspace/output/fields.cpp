// SPDX-License-Identifier: MIT
#include "output/fields.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>

#include "identify/community_id.h"
#include "output/escape.h"
#include "output/wording.h"

namespace laggard::output {
namespace {

// No enumeration, address, id or time is longer: what is, is prose or a name that a program chose.
constexpr std::size_t kNeverShortenedBytes = 64;

class Builder {
 public:
  Builder() { fields_.reserve(57); }

  template <class T>
  void add(std::string_view name, T&& value)
  {
    add({}, name, FieldValue(std::forward<T>(value)));
  }
  void add(std::string_view name, std::string_view value) { add({}, name, std::string(value)); }
  void add(std::string_view name, const char* value) { add({}, name, std::string(value)); }
  void add_if_known(std::string_view name, const std::string& value)
  {
    if (!value.empty())
      add(name, value);
  }
  void add(std::string_view prefix, std::string_view name, FieldValue value)
  {
    if (const double* number = std::get_if<double>(&value); number != nullptr && !std::isfinite(*number))
      return;
    fields_.push_back({prefix, name, std::move(value)});
  }
  // From a rule: the first of two with one name counts.
  void add(std::string_view prefix, const detect::Field& field)
  {
    if (std::ranges::none_of(fields_, [&](const OutputField& f) { return f.prefix == prefix && f.name == field.name; }))
      add(prefix, field.name, std::visit([](const auto& value) { return FieldValue(value); }, field.value));
  }
  Fields take() { return std::move(fields_); }

 private:
  Fields fields_;
};

constexpr std::string_view kEvidence = "laggard.evidence.";
constexpr std::string_view kThreshold = "laggard.threshold.";

void add_head(Builder& out, const Observer& observer, WallTime time, std::string_view severity, std::string_view event,
              std::string message)
{
  out.add("timestamp", rfc3339(time));
  out.add("severity", severity);
  out.add("event.name", event);
  out.add("message", std::move(message));
  out.add("service.name", "laggard");
  out.add("service.version", observer.version);
  out.add("laggard.schema.version", "1");
  out.add_if_known("host.name", observer.host_name);
  out.add_if_known("k8s.node.name", observer.node_name);
}

// "*" is how ss writes it, not an address.
std::string address_text(const model::Address& address)
{
  if (address.is_unspecified())
    return address.is_ipv6 ? "::" : "0.0.0.0";
  return to_string(address);
}

struct EndpointKeys {
  std::string_view address;
  std::string_view port;
};

void add_endpoint(Builder& out, EndpointKeys keys, const model::Endpoint& endpoint)
{
  out.add(keys.address, address_text(endpoint.address));
  out.add(keys.port, std::uint64_t{endpoint.port});
}

void add_socket(Builder& out, const detect::SocketRef& socket)
{
  constexpr EndpointKeys kLocal{"network.local.address", "network.local.port"};
  constexpr EndpointKeys kPeer{"network.peer.address", "network.peer.port"};
  constexpr EndpointKeys kClient{"client.address", "client.port"};
  constexpr EndpointKeys kServer{"server.address", "server.port"};
  const model::Tuple& tuple = socket.tuple;
  const bool peer = has_peer(tuple);
  out.add("network.transport", to_string(socket.transport));
  out.add("network.type", tuple.local.address.is_ipv6 ? "ipv6" : "ipv4");
  // The names are TCP's; the kernel's CLOSE of an unconnected UDP socket would read as "closed", which it is not.
  if (socket.transport == model::Transport::Tcp || peer)
    out.add("network.connection.state", to_string(socket.state));
  add_endpoint(out, kLocal, tuple.local);
  if (peer)
    add_endpoint(out, kPeer, tuple.peer);
  if (peer && (socket.accepted || socket.connected)) {
    add_endpoint(out, kClient, socket.accepted ? tuple.peer : tuple.local);
    add_endpoint(out, kServer, socket.accepted ? tuple.local : tuple.peer);
  }
  if (peer)
    out.add("network.community_id", identify::community_id(socket.transport, tuple));
  out.add("laggard.socket.cookie", fmt::format_int(socket.cookie).str());
  out.add("laggard.socket.netns", std::uint64_t{socket.netns});
  if (socket.cgroup_id != 0)
    out.add("laggard.socket.cgroup_id", fmt::format_int(socket.cgroup_id).str());
  if (socket.inode != 0)
    out.add("laggard.socket.inode", socket.inode);
}

void add_process(Builder& out, const detect::ProcessRef& process, const std::vector<std::uint32_t>& holders)
{
  if (process.id) {
    out.add("process.pid", std::uint64_t{process.id.tgid});
    out.add_if_known("process.executable.name", process.comm);
    if (process.creation_time != WallTime{})
      out.add("process.creation.time", rfc3339(process.creation_time));
    if (process.vpid != 0)
      out.add("process.vpid", std::uint64_t{process.vpid});
    if (process.uid)
      out.add("process.user.id", std::uint64_t{*process.uid});
    out.add_if_known("process.command_line", process.workload.command_line);
  }
  if (holders.size() > 1)
    out.add("laggard.process.holders", std::vector<std::uint64_t>(holders.begin(), holders.end()));
  const model::Workload& workload = process.workload;
  out.add_if_known("container.id", workload.container_id);
  out.add_if_known("container.runtime.name", workload.container_runtime_name);
  out.add_if_known("k8s.namespace.name", workload.k8s_namespace_name);
  out.add_if_known("k8s.pod.name", workload.k8s_pod_name);
  out.add_if_known("k8s.pod.uid", workload.k8s_pod_uid);
  out.add_if_known("k8s.container.name", workload.k8s_container_name);
  out.add_if_known("laggard.systemd.unit", workload.systemd_unit);
}

void add_losses(Builder& out, const model::Losses& lost)
{
  out.add("laggard.quality.lost_records", lost.total());
  out.add("laggard.loss.ring_full", lost.ring_full);
  out.add("laggard.loss.no_storage", lost.no_storage);
  out.add("laggard.loss.no_totals", lost.no_totals);
  out.add("laggard.loss.skipped_runs", lost.skipped_runs);
}

void add_unobserved(Builder& out, std::string_view name, Duration unobserved)
{
  if (unobserved > Duration{})
    out.add(name, seconds(unobserved));
}

void add_dropped(Builder& out, const Dropped& dropped)
{
  if (dropped.total() == 0)
    return;
  out.add("laggard.output.dropped_opened", dropped.opened);
  out.add("laggard.output.dropped_updated", dropped.updated);
  out.add("laggard.output.dropped_resolved", dropped.resolved);
  out.add("laggard.output.dropped_degraded", dropped.degraded);
}

std::string_view severity_text(const detect::Finding& finding)
{
  if (finding.phase == detect::Phase::Resolved)
    return "info";
  return finding.severity == detect::Severity::Critical ? "error" : "warn";
}

std::string_view event_name(detect::Phase phase)
{
  switch (phase) {
    case detect::Phase::Opened: return "laggard.finding.opened";
    case detect::Phase::Updated: return "laggard.finding.updated";
    case detect::Phase::Resolved: break;
  }
  return "laggard.finding.resolved";
}

// As the rules name it.
void add_evidence(Builder& out, const model::SocketSample& sample, std::optional<Duration> oldest_unread_at_least)
{
  const auto add = [&](std::string_view name, FieldValue value) { out.add(kEvidence, name, std::move(value)); };
  if (sample.is_listener()) {
    add("accept_queue", std::uint64_t{sample.ack_backlog});
    add("accept_queue_limit", std::uint64_t{sample.max_ack_backlog});
    return;
  }
  const bool tcp = sample.transport == model::Transport::Tcp;
  add("recv_queue_bytes", std::uint64_t{sample.unread_bytes});
  add("recv_queue_memory_bytes", std::uint64_t{sample.rmem_bytes});
  add("recv_queue_limit_bytes", std::uint64_t{sample.rcvbuf_bytes});
  if (tcp) {
    add("receive_window_bytes", std::uint64_t{sample.rcv_window_left});
    add("send_queue_bytes", std::uint64_t{sample.write_seq - sample.snd_una});
  } else {
    add("recv_queue_packets", std::uint64_t{sample.queued_packets});
  }
  add("drops_total", sample.drops);
  add("reads_total", sample.reads);
  if (known(sample.last_read))
    add("last_read_seconds", seconds(sample.time - sample.last_read));
  if (oldest_unread_at_least) {
    add("lag_seconds", seconds(*oldest_unread_at_least));
    add("lag_is_lower_bound", true);
  }
  const bool close_wait = sample.state == model::TcpState::CloseWait;
  const MonoTime half_closed = close_wait                                   ? sample.peer_closed_at
                               : sample.state == model::TcpState::FinWait2 ? sample.shutdown_at
                                                                           : MonoTime{};
  if (known(half_closed))
    add("half_closed_seconds", seconds(sample.time - half_closed));
  if (const auto has_read_end = sample.has_read_end(); close_wait && has_read_end)
    add("eof_seen", *has_read_end);
}

std::size_t cost(const FieldValue& value)
{
  if (const auto* text = std::get_if<std::string>(&value))
    return text->size() > kNeverShortenedBytes ? text->size() : 0;
  if (const auto* numbers = std::get_if<std::vector<std::uint64_t>>(&value))
    return numbers->size() > 1 ? numbers->size() * 8 : 0;
  if (const auto* texts = std::get_if<std::vector<std::string>>(&value)) {
    std::size_t sum = 0;
    std::size_t longest = 0;
    for (const std::string& text : *texts) {
      sum += text.size() + 3;
      longest = std::max(longest, text.size());
    }
    return texts->size() > 1 || longest > kNeverShortenedBytes ? sum : 0;
  }
  return 0;
}

void cut(std::string& text)
{
  constexpr std::string_view kEllipsis = "…";
  text.resize(utf8_prefix(text, std::max(text.size() / 2, kNeverShortenedBytes - kEllipsis.size())).size());
  text += kEllipsis;
}

}  // namespace

std::string rfc3339(WallTime time)
{
  const auto day = std::chrono::floor<std::chrono::days>(time);
  const std::chrono::year_month_day date{day};
  const std::int64_t ns = (time - day).count();
  const std::int64_t second = ns / 1'000'000'000;
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:09}Z", static_cast<int>(date.year()),
                     static_cast<unsigned>(date.month()), static_cast<unsigned>(date.day()), second / 3600,
                     second / 60 % 60, second % 60, ns % 1'000'000'000);
}

Fields started_fields(const Observer& observer, WallTime time)
{
  Builder out;
  add_head(out, observer, time, "info", "laggard.agent.started", started_message(observer));
  out.add_if_known("os.version", observer.kernel);
  out.add_if_known("laggard.replay.file", observer.replayed_from);
  out.add("laggard.quality.hooks", hooks_words(observer));
  std::vector<std::string> notes;
  for (const HookChoice& choice : observer.hooks)
    if (!choice.note.empty())
      notes.push_back(choice.feed + ": " + choice.note);
  out.add("laggard.quality.notes", std::move(notes));
  out.add("laggard.quality.missing", observer.missing);
  return out.take();
}

Fields finding_fields(const Observer& observer, const detect::Finding& finding)
{
  Builder out;
  add_head(out, observer, finding.time, severity_text(finding), event_name(finding.phase), finding_message(finding));
  out.add("laggard.finding.id", fmt::format("{:016x}", finding.id));
  out.add("laggard.finding.kind", to_string(finding.kind));
  out.add("laggard.finding.sequence", std::uint64_t{finding.sequence});
  out.add("laggard.finding.start_time", rfc3339(finding.start_time));
  out.add("laggard.finding.start_is_lower_bound", finding.start_is_lower_bound);
  if (finding.phase == detect::Phase::Resolved) {
    // Not the time of this line: the wall clock may have been set in between.
    out.add("laggard.finding.end_time", rfc3339(finding.start_time + finding.duration));
    out.add("laggard.finding.resolution", to_string(finding.resolution.value_or(detect::Resolution::LostSight)));
  }
  out.add("laggard.finding.duration_seconds", seconds(finding.duration));
  if (finding.is_group)
    out.add("laggard.finding.count", finding.count);
  if (finding.is_whole) {
    out.add("laggard.finding.processes", finding.processes);
    out.add("laggard.finding.endpoints", finding.endpoints);
  }
  const auto id_text = [](std::uint64_t id) { return fmt::format("{:016x}", id); };
  if (!finding.symptoms.empty()) {
    std::vector<std::string> symptoms;
    std::ranges::transform(finding.symptoms, std::back_inserter(symptoms), id_text);
    out.add("laggard.finding.symptoms", std::move(symptoms));
  }
  if (finding.symptom_of)
    out.add("laggard.finding.symptom_of", id_text(*finding.symptom_of));
  if (finding.peer_finding)
    out.add("laggard.finding.peer_finding", id_text(*finding.peer_finding));
  out.add("laggard.finding.advice", finding.advice);
  add_process(out, finding.process, finding.holders);
  if (finding.socket)
    add_socket(out, *finding.socket);
  if (finding.is_group || finding.kind == detect::Kind::UserSpaceBuffering || !finding.examples.empty()) {
    std::vector<std::string> examples;
    for (const model::Tuple& tuple : finding.examples)
      if (examples.size() < detect::kMaxExamples)
        examples.push_back(to_string(tuple));
    out.add("laggard.examples", std::move(examples));
    if (!finding.example_processes.empty())
      out.add("laggard.example_processes", finding.example_processes);
  }
  for (const detect::Field& field : finding.evidence)
    out.add(kEvidence, field);
  for (const detect::Field& field : finding.thresholds)
    out.add(kThreshold, field);
  out.add("laggard.quality.hooks", finding.quality.hooks);
  out.add("laggard.quality.lost_records", finding.quality.lost_records);
  add_unobserved(out, "laggard.quality.unobserved_seconds", finding.quality.unobserved);
  out.add("laggard.quality.missing", finding.quality.missing);
  return out.take();
}

Fields socket_fields(const Observer& observer, const SocketLine& line)
{
  const model::SocketSample& sample = line.sample;
  Builder out;
  add_head(out, observer, line.time, "info", "laggard.socket", socket_message(line));
  add_process(out, line.process, line.holders);
  add_socket(out, {sample.transport, sample.state, sample.tuple, sample.accepted, sample.connected, sample.cookie,
                   sample.netns, sample.cgroup_id, sample.inode});
  add_evidence(out, sample, line.oldest_unread_at_least);
  return out.take();
}

std::vector<Fields> explanation_fields(const Observer& observer, const Explanation& explanation)
{
  const auto share = [&](std::uint64_t bytes) {
    return explanation.total_bytes > 0 ? static_cast<double>(bytes) / static_cast<double>(explanation.total_bytes) : 0;
  };
  std::vector<Fields> lines;
  const auto line = [&](std::string_view event, std::string message, const auto& fill) {
    Builder out;
    add_head(out, observer, explanation.time, "info", event, std::move(message));
    add_process(out, explanation.process, {});
    fill(out);
    lines.push_back(out.take());
  };

  line("laggard.explanation", explanation_message(explanation), [&](Builder& out) {
    out.add("laggard.explanation.duration_seconds", seconds(explanation.observed));
    out.add("laggard.explanation.complete", explanation.complete);
    out.add(kEvidence, "memory_bytes", explanation.memory_bytes);
    out.add(kEvidence, "memory_growth_bytes", explanation.net_bytes);
    out.add(kEvidence, "attributed_growth_bytes", explanation.total_bytes);
    out.add(kEvidence, "attributed_ratio", share(explanation.total_bytes - explanation.other_bytes));
    if (explanation.limit_eta_seconds)
      out.add(kEvidence, "memory_limit_eta_seconds", *explanation.limit_eta_seconds);
    out.add("laggard.quality.hooks", explanation.hooks);
    out.add("laggard.quality.missing", explanation.missing);
  });
  for (const Explanation::Socket& socket : explanation.sockets) {
    const std::uint64_t bytes = socket.kernel_bytes + socket.user_bytes;
    line("laggard.explanation.socket", explanation_socket_message(explanation, socket), [&](Builder& out) {
      if (socket.socket)
        add_socket(out, *socket.socket);
      else
        out.add("laggard.socket.cookie", fmt::format_int(socket.cookie).str());
      out.add(kEvidence, "attributed_growth_bytes", bytes);
      out.add(kEvidence, "attributed_ratio", share(bytes));
      out.add(kEvidence, "within_read_bytes", socket.kernel_bytes);
      out.add(kEvidence, "after_read_bytes", socket.user_bytes);
    });
  }
  for (const Explanation::Stack& stack : explanation.stacks) {
    line("laggard.explanation.stack", explanation_stack_message(explanation, stack), [&](Builder& out) {
      if (stack.cookie != 0)
        out.add("laggard.socket.cookie", fmt::format_int(stack.cookie).str());
      out.add("laggard.stack.where", where_id(stack.where));
      out.add("laggard.stack.samples", stack.samples);
      out.add(kEvidence, "attributed_growth_bytes", stack.bytes);
      out.add(kEvidence, "attributed_ratio", share(stack.bytes));
      std::vector<std::string> frames;
      for (const Explanation::Frame& frame : stack.frames)
        frames.push_back(frame_words(frame));
      out.add("laggard.stack.frames", std::move(frames));
    });
  }
  return lines;
}

Fields degraded_fields(const Observer& observer, const Degraded& degraded)
{
  Builder out;
  add_head(out, observer, degraded.time, "warn", "laggard.agent.degraded", degraded_message(degraded));
  add_losses(out, degraded.lost);
  add_unobserved(out, "laggard.loss.unobserved_seconds", degraded.unobserved);
  add_dropped(out, degraded.dropped);
  return out.take();
}

Fields stopped_fields(const Observer& observer, const Summary& summary)
{
  Builder out;
  add_head(out, observer, summary.time, "info", "laggard.agent.stopped", stopped_message(summary));
  out.add("laggard.agent.stop_reason", summary.reason);
  out.add("laggard.agent.incomplete", summary.incomplete);
  out.add("laggard.agent.observed_seconds", seconds(summary.observed));
  out.add("laggard.agent.ticks", summary.ticks);
  out.add("laggard.agent.findings_opened", summary.findings_opened);
  out.add("laggard.agent.findings_open", summary.findings_open);
  out.add("laggard.agent.sockets_tracked", summary.sockets_tracked);
  add_losses(out, summary.lost);
  add_unobserved(out, "laggard.loss.unobserved_seconds", summary.unobserved);
  add_dropped(out, summary.dropped);
  return out.take();
}

bool shorten(Fields& fields)
{
  const auto longest = std::ranges::max_element(fields, {}, [](const OutputField& field) { return cost(field.value); });
  if (longest == fields.end() || cost(longest->value) == 0)
    return false;
  if (auto* text = std::get_if<std::string>(&longest->value)) {
    cut(*text);
  } else if (auto* numbers = std::get_if<std::vector<std::uint64_t>>(&longest->value)) {
    numbers->resize((numbers->size() + 1) / 2);
  } else if (auto* texts = std::get_if<std::vector<std::string>>(&longest->value)) {
    const std::size_t most = std::ranges::max_element(*texts, {}, &std::string::size)->size();
    // Several short clauses say more than one long one. All long ones at once: each time the line is written anew.
    if (most > kNeverShortenedBytes * 4 || texts->size() == 1) {
      for (std::string& one : *texts)
        if (one.size() > most / 2)
          cut(one);
    } else {
      texts->resize(texts->size() * 3 / 4);
    }
  }
  if (fields.back().name != "laggard.quality.shortened")
    fields.push_back({{}, "laggard.quality.shortened", true});
  return true;
}

}  // namespace laggard::output
