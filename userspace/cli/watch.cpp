// SPDX-License-Identifier: MIT
#include <fmt/format.h>
#include <malloc.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <functional>

#include "base/units.h"
#include "cli/commands.h"
#include "cli/heartbeat.h"
#include "cli/live_loop.h"
#include "cli/service_manager.h"
#include "cli/session.h"
#include "identify/clock.h"
#include "output/escape.h"
#include "output/metrics_publisher.h"
#include "output/output_file.h"
#include "output/queued_sink.h"
#include "source/live/host.h"
#include "source/recording.h"

namespace laggard::cli {
namespace {

int cannot(const Error& error)
{
  std::fprintf(stderr, "laggard: cannot observe: %s\n", error.message().c_str());
  return kCannotObserve;
}

// What was found missing only when it was needed: once each.
bool tell_of_missing(LiveSetup& setup, Session& session)
{
  bool goes_on = true;
  for (const std::string& clause : setup.source->workloads().missing())
    if (std::ranges::find(setup.observer.missing, clause) == setup.observer.missing.end()) {
      setup.observer.missing.push_back(clause);
      goes_on = goes_on && session.degraded("not visible: " + clause);
    }
  return goes_on;
}

int cannot_publish(const Error& error)
{
  std::fprintf(stderr, "laggard: %s\n", output::visible(error.message()).c_str());
  return kCannotObserve;
}

std::string cannot_reopen(const Error& error)
{
  std::string line = fmt::format("laggard: --output-file: {}; lines go on to the former file", output::visible(error.message()));
  const std::string user = ::geteuid() == 65534 ? "nobody" : std::to_string(::geteuid());
  if (error.code == std::errc::permission_denied)
    line += fmt::format(". Having loaded its programs, laggard is the user {}: let logrotate make the file for it ('create 0640 {} root') "
                        "in a directory that it may enter, or use --keep-privileges", user, user);
  return line + '\n';
}

WallTime wall_now() { return std::chrono::time_point_cast<Duration>(std::chrono::system_clock::now()); }

// A line for standard error, which may have a reader that does not read.
using Diagnose = std::function<void(std::string)>;

void diagnose_at_once(const std::string& line) { std::fputs(line.c_str(), stderr); }

// What became of the probes since the last tick.
bool tell_of_pairs(const Options& options, LiveSetup& setup, Session& session, const Diagnose& diagnose)
{
  if (setup.source->pairs() == nullptr)
    return true;
  // Text for people says it on standard error by itself.
  const bool is_text = options.command == Command::Watch && sink_options(options).format == output::Format::Text;
  bool goes_on = true;
  for (const std::string& message : setup.source->pairs()->take_messages()) {
    if (!is_text)
      diagnose(fmt::format("laggard: {}\n", output::visible(message)));
    goes_on = goes_on && session.degraded(message);
  }
  return goes_on;
}

// What the kernel's types took while the programs were loaded, and what an incident took once it is over.
class Memory {
 public:
  Memory()
  {
    // Large blocks are given back as they are freed; by itself glibc would raise the limit to the largest that it has seen.
    ::mallopt(M_MMAP_THRESHOLD, kLargeBlock);
    ::malloc_trim(0);
  }
  void ticked(std::size_t sockets)
  {
    most_ = std::max(most_, sockets);
    if (most_ >= kWorthIt && sockets < most_ / 2) {
      most_ = sockets;
      again_ = kTicksUntilCalm;
    }
    // More than once: some is in use until the next sweep.
    if (again_ > 0 && again_-- % kTicksBetween == 0)
      ::malloc_trim(0);
  }

 private:
  static constexpr int kLargeBlock = 4 << 20;
  static constexpr std::size_t kWorthIt = 2000;
  static constexpr int kTicksUntilCalm = 24, kTicksBetween = 4;
  std::size_t most_ = 0;
  int again_ = 0;
};

void attribute(const Options& options, std::span<const detect::Suspect> suspects, source::live::LiveSource& source,
               const Diagnose& diagnose)
{
  for (const detect::Suspect& suspect : suspects) {
    if (!source.can_attribute())
      return;
    if (auto begun = source.attribute({.process = suspect.process,
                                       .duration = options.thresholds.attribution,
                                       .needed_bytes = suspect.needed_bytes,
                                       .patience = suspect.patience,
                                       .stack_interval = {}});
        !begun)
      diagnose(fmt::format("laggard: memory growth will be correlated with reads, not attributed to them: {}\n",
                           begun.error().message()));
  }
}

// What else is to be done within the loop; what is empty is not.
struct Duties {
  std::function<void()> ticked;   // after each
  std::function<void()> hung_up;  // for Hangup::Reopens
  Diagnose diagnose = diagnose_at_once;
};

// Live ticks through a session; into a recording as well where there is one.
int observe(const Options& options, LiveSetup& setup, const StopSignals& signals, Session& session,
            source::RecordingWriter* recording, const Duties& duties, std::string& reason)
{
  if (!session.started(wall_now()))
    return session.output_ended();
  std::string trouble;
  using Look = source::live::LiveSource::Look;
  Memory memory;
  const auto on_tick = [&]() -> Result<bool> {
    auto raw = setup.source->tick(session.wants_holders() ? Look::Holders : Look::Due);
    if (!raw)
      return tl::make_unexpected(raw.error());
    if (recording != nullptr)
      if (auto written = recording->write(*raw); !written) {
        trouble = written.error().message();
        return false;
      }
    const Duration before = identify::thread_cpu();
    const bool understood = session.tick(std::move(*raw));
    setup.source->charge(identify::thread_cpu() - before);
    const bool goes_on = understood && tell_of_pairs(options, setup, session, duties.diagnose) && tell_of_missing(setup, session);
    attribute(options, session.suspects(), *setup.source, duties.diagnose);
    memory.ticked(session.sockets_tracked());
    if (duties.ticked)
      duties.ticked();
    return goes_on;
  };
  auto ended = run_live_loop(options, *setup.source, signals, on_tick, duties.hung_up);
  if (!ended) {
    session.cannot_see(ended.error().message());
    session.stop("cannot observe any more");
    return cannot(ended.error());
  }
  reason = *ended;
  if (!trouble.empty()) {
    std::fprintf(stderr, "laggard: %s\n", trouble.c_str());
    session.cannot_see(trouble);
    session.stop("the recording cannot be written");
    return kIncomplete;
  }
  // A reader that left before we were done wants no summary.
  if (reason == "output closed")
    return session.output_ended();
  if (const bool said = session.stop(reason); !said && session.output_ended() != kObserved)
    return kIncomplete;
  return session.exit_code();
}

}  // namespace

int run_watch(const Options& options)
{
  output::SinkOptions to = sink_options(options);
  std::optional<output::OutputFile> file;
  if (options.output_file.empty()) {
    output::append_always(to.fd);
  } else {
    hold_hangup();
    const auto owner = options.keep_privileges ? std::nullopt : source::live::user_after_dropping();
    auto opened = output::OutputFile::open(options.output_file, owner);
    if (!opened) {
      std::fprintf(stderr, "laggard: --output-file: %s\n", opened.error().message().c_str());
      return kUsage;
    }
    file = std::move(*opened);
    to.fd = file->fd();
  }
  std::optional<Heartbeat> heartbeat;
  if (!options.heartbeat.empty()) {
    auto opened = Heartbeat::open(options.heartbeat, options.interval);
    if (!opened) {
      std::fprintf(stderr, "laggard: %s\n", opened.error().message().c_str());
      return kUsage;
    }
    heartbeat = std::move(*opened);
  }
  ServiceManager service_manager = ServiceManager::from_environment();
  std::unique_ptr<output::MetricsPublisher> publisher;
  // Before anything takes time, and with the privileges that a low port needs.
  if (options.metrics || !options.metrics_textfile.empty()) {
    auto opened = output::MetricsPublisher::open(options.metrics, options.metrics_textfile);
    if (!opened)
      return cannot_publish(opened.error());
    publisher = std::move(*opened);
  }
  auto setup = open_live(options);
  if (!setup)
    return cannot(setup.error());
  if (auto dropped = give_up_privileges(options, *setup); !dropped)
    return cannot(dropped.error());
  auto signals = StopSignals::take(file ? Hangup::Reopens : Hangup::Stops);
  if (!signals)
    return cannot(signals.error());
  auto sink = std::make_unique<output::QueuedSink>(output::make_sink(to, setup->observer), signals->fd());
  output::QueuedSink& queue = *sink;
  Session session{options, setup->observer, std::move(sink)};
  output::Metrics metrics{setup->observer};
  if (publisher) {
    session.count_in(&metrics);
    if (auto begun = publisher->start(metrics); !begun)
      return cannot_publish(begun.error());
    if (options.metrics)
      std::fprintf(stderr, "laggard: metrics at %s\n", publisher->url().c_str());
  }
  std::string reason;
  Duties duties;
  duties.diagnose = [&](std::string line) { queue.diagnose(std::move(line)); };
  duties.hung_up = [&] {
    queue.between_lines([&] {
      if (auto reopened = file->reopen(); !reopened)
        queue.diagnose(cannot_reopen(reopened.error()));
    });
  };
  duties.ticked = [&] {
    if (publisher) {
      metrics.output(queue.waiting(), queue.dropped());
      metrics.programs(setup->source->program_runs());
      publisher->publish(metrics);
    }
    service_manager.ticked(fmt::format("{} findings open, {} sockets", session.counts().open, session.sockets_tracked()));
    if (!heartbeat)
      return;
    if (auto beaten = heartbeat->beat(); !beaten) {
      queue.diagnose(fmt::format("laggard: {}; 'laggard health' will say that we are stuck\n", beaten.error().message()));
      heartbeat.reset();
    }
  };
  const int exit_code = observe(options, *setup, *signals, session, nullptr, duties, reason);
  service_manager.stopping();
  if (publisher) {
    metrics.output(queue.waiting(), queue.dropped());
    publisher->publish(metrics);
  }
  return exit_code;
}

int run_record(const Options& options)
{
  auto setup = open_live(options);
  if (!setup)
    return cannot(setup.error());
  auto recording = source::RecordingWriter::create(options.file, {setup->observer});
  if (!recording) {
    std::fprintf(stderr, "laggard: %s\n", recording.error().message().c_str());
    return kUsage;
  }
  if (auto dropped = give_up_privileges(options, *setup); !dropped)
    return cannot(dropped.error());
  auto signals = StopSignals::take();
  if (!signals)
    return cannot(signals.error());
  // The detector runs along so that the recording holds the same walks as a watch would have made.
  Session session{options, setup->observer, nullptr};
  std::fprintf(stderr, "laggard: recording to %s; stop with Ctrl-C\n", options.file.c_str());
  std::string reason;
  const int exit_code = observe(options, *setup, *signals, session, recording->get(), {}, reason);
  signals->give_back();
  const std::string gaps =
      session.unobserved() > Duration{} ? fmt::format(", nothing looked at for {}", format_duration(session.unobserved())) : std::string{};
  std::fprintf(stderr, "laggard: %llu ticks recorded (%s)%s, %llu findings in them; see them with 'laggard replay %s'\n",
               static_cast<unsigned long long>(session.ticks()), reason.c_str(), gaps.c_str(),
               static_cast<unsigned long long>(session.counts().opened), options.file.c_str());
  return exit_code;
}

}  // namespace laggard::cli
