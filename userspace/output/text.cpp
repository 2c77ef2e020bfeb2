// SPDX-License-Identifier: MIT
// For people: verdict first, evidence indented, what to do next last (DESIGN section 6).
#include "output/text.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/units.h"
#include "output/escape.h"
#include "output/wording.h"
#include "output/wrap.h"

namespace laggard::output {
namespace {

constexpr unsigned kMinColumns = 40, kMaxColumns = 99, kTableColumns = 100;
constexpr std::size_t kMaxHolders = 8;

// ss writes them so, and who reads the table knows ss.
std::string_view ss_state(const model::SocketSample& sample)
{
  switch (sample.state) {
    case model::TcpState::Established: return "ESTAB";
    case model::TcpState::SynSent: return "SYN-SENT";
    case model::TcpState::SynRecv: return "SYN-RECV";
    case model::TcpState::FinWait1: return "FIN-WAIT-1";
    case model::TcpState::FinWait2: return "FIN-WAIT-2";
    case model::TcpState::TimeWait: return "TIME-WAIT";
    case model::TcpState::Close: return "UNCONN";
    case model::TcpState::CloseWait: return "CLOSE-WAIT";
    case model::TcpState::LastAck: return "LAST-ACK";
    case model::TcpState::Listen: return "LISTEN";
    case model::TcpState::Closing: return "CLOSING";
  }
  return "UNKNOWN";
}

// "42s", "3m12s", "2h05m", "12d3h": at most 6 columns for three years.
std::string compact(Duration duration)
{
  const double exact = std::max(seconds(duration), 0.0);
  const auto s = static_cast<std::uint64_t>(exact);
  if (s < 10)
    return fmt::format("{:.1f}s", exact);
  if (s < 60)
    return fmt::format("{}s", s);
  if (s < 3600)
    return fmt::format("{}m{:02}s", s / 60, s % 60);
  if (s < 86400)
    return fmt::format("{}h{:02}m", s / 3600, s / 60 % 60);
  return fmt::format("{}d{}h", s / 86400, s / 3600 % 24);
}

std::string table_endpoint(const model::Endpoint& endpoint)
{
  std::string text = to_string(endpoint);
  if (endpoint.port == 0)
    text.replace(text.rfind(':') + 1, std::string::npos, "*");
  return text;
}

class TextSink final : public Sink {
 public:
  TextSink(const SinkOptions& options, const Observer& observer)
      : options_(options),
        observer_(observer),
        width_(std::clamp(options.columns == 0 ? 80U : options.columns, kMinColumns, kMaxColumns)),
        table_width_(std::max(options.columns, kTableColumns))
  {
  }

  bool started(const Observer& observer, WallTime) override
  {
    observer_ = observer;
    return diagnose(started_message(observer));
  }

  bool finding(const detect::Finding& finding) override
  {
    // What follows from it says so itself.
    if (finding.has_new_symptoms_only)
      return true;
    std::string out = any_finding_ ? "\n" : "";
    any_finding_ = true;
    out += verdict(finding);
    if (finding.phase != detect::Phase::Resolved)
      out += paragraph(finding);
    return write(options_.fd, out);
  }

  bool socket(const SocketLine& line) override
  {
    std::string out;
    if (!any_row_)
      out = row({"Netid", "State", "Recv-Q", "Send-Q", "Local", "Peer", "Oldest", "Process", ""});
    any_row_ = true;
    return write(options_.fd, out + row(cells_of(line)));
  }

  bool explanation(const Explanation& explanation) override
  {
    constexpr std::size_t kMaxSockets = 10, kMaxFrameLines = 4;
    std::string out = wrap(ours(explanation_message(explanation)), width_, 0, 2);
    const auto line = [&](std::string_view text, std::size_t indent) { out += wrap(ours(text), width_, indent, indent + 4); };
    if (explanation.limit_eta_seconds && *explanation.limit_eta_seconds < 86400)
      line(fmt::format("at this pace memory lasts {}", format_duration(std::chrono::seconds(
                                                           static_cast<long>(*explanation.limit_eta_seconds)))), 2);
    if (!explanation.sockets.empty())
      out += "\nby socket\n";
    for (std::size_t i = 0; i < std::min(explanation.sockets.size(), kMaxSockets); i++)
      line((explanation.sockets[i].asked_for ? "* " : "") + explanation_socket_message(explanation, explanation.sockets[i]), 2);
    if (explanation.sockets.size() > kMaxSockets)
      line(fmt::format("and {} more", explanation.sockets.size() - kMaxSockets), 2);
    if (explanation.total_bytes > 0)
      line(fmt::format("{} with no socket", format_bytes(static_cast<double>(explanation.other_bytes))), 2);
    if (!explanation.stacks.empty())
      out += "\nby stack, innermost call first\n";
    const auto bounded = [&](const std::string& text) { return fit(text, kMaxFrameLines * width_, "…"); };
    for (const Explanation::Stack& stack : explanation.stacks) {
      line(bounded(explanation_stack_message(explanation, stack)), 2);
      for (const Explanation::Frame& frame : stack.frames)
        line(bounded(frame_words(frame)), 6);
    }
    for (const std::string& missing : explanation.missing)
      line("not visible: " + visible(missing), 0);
    return write(options_.fd, out);
  }

  bool degraded(const Degraded& degraded) override
  {
    return diagnose("laggard: degraded: " + degraded_message(degraded));
  }

  bool stopped(const Summary& summary) override
  {
    std::string message = "laggard: " + stopped_message(summary);
    if (summary.incomplete && !observer_.missing.empty())
      message += "; not visible: " + visible(join(observer_.missing, "; "));
    return diagnose(message);
  }

 private:
  struct Cells {
    std::string netid, state, recv_q, send_q, local, peer, oldest, process;
    std::string process_suffix;  // stays where the process must be cut
  };

  std::string ours(std::string_view text) const { return visible(text, {.ascii = options_.ascii}); }

  bool diagnose(std::string_view message)
  {
    write(options_.diagnostics_fd, wrap(ours(message), width_, 0, 2));
    return true;
  }

  std::string age_words(const detect::Finding& finding) const
  {
    const std::string age =
        fmt::format("{}{}", finding.start_is_lower_bound ? "≥ " : "", format_duration(finding.duration));
    if (finding.phase == detect::Phase::Resolved)
      return ours(fmt::format("resolved after {}: {}", age, resolution_words(finding)));
    // Without colors the severity must be readable too.
    return ours(fmt::format("{}open for {}", finding.severity == detect::Severity::Critical ? "critical, " : "", age));
  }

  std::string verdict(const detect::Finding& finding) const
  {
    const std::string name = title(finding.kind);
    const std::string process = ours(process_words(finding.process) +
                                     (finding.processes > 1 ? fmt::format(" and {} more", finding.processes - 1) : std::string{}));
    const std::string place = ours(place_words(finding, "←"));
    const std::string age = age_words(finding);
    std::string head = name + "  " + process;
    std::string line = place.empty() ? head : head + "  " + place;
    const auto fits = [&](const std::string& left) { return display_width(left) + 2 + display_width(age) <= width_; };
    std::string out;
    if (fits(line)) {
      out = pad_right(line, width_ - display_width(age)) + age + '\n';
    } else if (fits(head)) {
      out = pad_right(head, width_ - display_width(age)) + age + '\n' + wrap(place, width_, 4, 6);
    } else {
      out = wrap(head, width_, 0, 4);
      if (!place.empty())
        out += wrap(place, width_, 4, 6);
      out += wrap(age, width_, 4, 6);
    }
    return options_.color ? color_of(finding) + name + "\x1b[0m" + out.substr(name.size()) : out;
  }

  static std::string color_of(const detect::Finding& finding)
  {
    if (finding.phase == detect::Phase::Resolved)
      return "\x1b[1;32m";
    return finding.severity == detect::Severity::Critical ? "\x1b[1;31m" : "\x1b[1;33m";
  }

  std::string paragraph(const detect::Finding& finding) const
  {
    std::string out;
    const auto line = [&](std::string_view text) { out += wrap(ours(text), width_, 2, 6); };
    if (const std::string where = workload_words(finding.process.workload); !where.empty())
      line("in " + where);
    if (const std::string& command = finding.process.workload.command_line; !command.empty())
      line(fit("started as: " + visible(command, {.escape_backslash = true}), 2 * width_, "…"));
    // Another program's fault first: the rest is what it looks like from here.
    if (!finding.symptom_of_text.empty())
      line("follows from " + visible(finding.symptom_of_text, {.escape_backslash = true}));
    for (const std::string& detail : finding.details)
      line(detail);
    if (finding.phase == detect::Phase::Updated && finding.is_group)
      return out;  // who and what to do was said when it opened
    if (finding.is_group)
      line("for example " + examples_words(finding));
    if (finding.holders.size() > 1) {
      const std::size_t shown = std::min(finding.holders.size(), kMaxHolders);
      std::string text = fmt::format("held by {} processes: {}", finding.holders.size(),
                                     fmt::join(finding.holders.begin(),
                                               finding.holders.begin() + static_cast<std::ptrdiff_t>(shown), ", "));
      line(shown < finding.holders.size() ? text + ", …" : text);
    }
    // What is never visible here was said at the start.
    for (const std::string& missing : finding.quality.missing)
      if (std::ranges::find(observer_.missing, missing) == observer_.missing.end())
        line("not visible: " + missing);
    if (finding.quality.lost_records > 0)
      line(fmt::format("{} records were lost meanwhile: there may be more", finding.quality.lost_records));
    if (finding.quality.unobserved > Duration{})
      line(fmt::format("nothing was looked at for {} of that time", format_duration(finding.quality.unobserved)));
    if (!finding.advice.empty())
      out += wrap(ours("→ " + finding.advice), width_, 2, 4);
    return out;
  }

  // Of each by what they differ: the end that the first line does not name, or all of it where that names none.
  static std::string examples_words(const detect::Finding& finding)
  {
    const bool names_local = finding.socket && finding.socket->accepted && finding.endpoints == 1;
    const bool names_peer = finding.socket && !finding.socket->accepted && finding.endpoints == 1;
    std::vector<std::string> words;
    for (std::size_t i = 0; i < std::min(finding.examples.size(), detect::kMaxExamples); i++) {
      const model::Tuple& tuple = finding.examples[i];
      const std::string process = i < finding.example_processes.size() ? visible(finding.example_processes[i], {.escape_backslash = true}) + ' ' : "";
      words.push_back(process + (!has_peer(tuple) || names_peer ? to_string(tuple.local)
                                 : names_local                  ? to_string(tuple.peer)
                                                                : tuple_words(tuple, "←")));
    }
    return fmt::format("{}", fmt::join(words, ", "));
  }

  Cells cells_of(const SocketLine& line) const
  {
    const model::SocketSample& sample = line.sample;
    const bool listener = sample.is_listener();
    Cells cells;
    cells.netid = to_string(sample.transport);
    cells.state = ss_state(sample);
    cells.recv_q = fmt::format_int(listener ? sample.ack_backlog : sample.unread_bytes).str();
    // Of UDP laggard does not collect it: unknown is not 0.
    cells.send_q = sample.transport == model::Transport::Udp
                       ? "-"
                       : fmt::format_int(listener ? sample.max_ack_backlog : sample.write_seq - sample.snd_una).str();
    cells.local = table_endpoint(sample.tuple.local);
    cells.peer = table_endpoint(sample.tuple.peer);
    cells.oldest = line.oldest_unread_at_least ? ours("≥") + compact(*line.oldest_unread_at_least) : "-";
    if (line.process.id) {
      cells.process = line.process.comm.empty() ? "?" : ours(visible(line.process.comm, {.escape_backslash = true}));
      cells.process_suffix = fmt::format("[{}]", line.process.id.tgid);
      if (line.holders.size() > 1)
        cells.process_suffix += fmt::format(" +{}", line.holders.size() - 1);
    } else {
      cells.process = "-";
    }
    return cells;
  }

  std::string row(const Cells& cells) const
  {
    std::string out = pad_right(cells.netid, 5) + ' ' + pad_right(cells.state, 10) + ' ' + pad_left(cells.recv_q, 6) +
                      ' ' + pad_left(cells.send_q, 6) + ' ' + pad_right(cells.local, 21) + ' ' +
                      pad_right(cells.peer, 21) + ' ' + pad_left(cells.oldest, 7) + ' ';
    const std::size_t used = display_width(out) + display_width(cells.process_suffix);
    constexpr std::size_t kShortestName = 6;
    out += fit(cells.process, std::max(kShortestName, table_width_ > used ? table_width_ - used : 0),
               options_.ascii ? "." : "…");
    return out + cells.process_suffix + '\n';
  }

  SinkOptions options_;
  Observer observer_;
  std::size_t width_;
  std::size_t table_width_;
  bool any_finding_ = false;
  bool any_row_ = false;
};

}  // namespace

std::unique_ptr<Sink> make_text_sink(const SinkOptions& options, const Observer& observer)
{
  return std::make_unique<TextSink>(options, observer);
}

}  // namespace laggard::output
