// SPDX-License-Identifier: MIT
#include "cli/session.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <utility>

#include "base/seq32.h"
#include "base/units.h"
#include "detect/unpaired_operations.h"
#include "source/decode.h"
#include "source/live/memory_limit.h"

namespace laggard::cli {
namespace {

constexpr int kPatienceMs = 1000;
constexpr std::uint64_t kMostMemory = 256 << 20;
// Measured: laggard without sockets, and a stuck connection with what one look at it takes meanwhile.
constexpr std::uint64_t kMemoryWithoutSockets = 24 << 20, kMemoryOfConnection = 1536;
constexpr std::uint64_t kFewestConnections = 1000;

model::ModelOptions bounded(model::ModelOptions options, std::uint64_t max_memory)
{
  const std::uint64_t room = max_memory > kMemoryWithoutSockets ? max_memory - kMemoryWithoutSockets : 0;
  options.max_connections = std::max(room / kMemoryOfConnection, kFewestConnections);
  return options;
}

}  // namespace

std::uint64_t max_memory_of(const Options& options)
{
  if (options.max_memory > 0)
    return options.max_memory;
  const std::uint64_t limit = source::live::memory_room_of(static_cast<std::uint32_t>(::getpid())).limit_bytes;
  return limit > 0 ? std::min(limit / 2, kMostMemory) : kMostMemory;
}

Session::Session(const Options& options, model::Observer observer, std::unique_ptr<output::Sink> sink)
    : options_(options),
      observer_(std::move(observer)),
      sink_(std::move(sink)),
      model_(bounded(detect::model_options(options.thresholds), max_memory_of(options))),
      detector_({options.thresholds, options.filter, observer_.hooks_text(), observer_.missing})
{
}

bool Session::started(WallTime time) { return !sink_ || sink_->started(observer_, time); }

bool Session::tick(source::RawTick raw)
{
  auto decoded = source::decode(raw);
  if (!decoded) {
    error_ = decoded.error().message();
    return true;
  }
  // Every look raises the epoch by one; 0 is unknown.
  const std::uint32_t epoch_before = model_.last_tick_facts().epoch;
  if (ticks_ > 0 && epoch_before != 0 && decoded->epoch != epoch_before + 1)
    missing_ticks_ += seq_after(decoded->epoch, epoch_before) ? decoded->epoch - epoch_before - 1 : 1;
  ticks_++;
  source::RawTick{}.swap(raw);  // as large as what was made of it
  if (metrics_ != nullptr)
    metrics_->records(*decoded);
  model_.apply(std::move(*decoded));
  if (metrics_ != nullptr)
    metrics_->tick(model_);
  const std::vector<detect::Finding> findings = detector_.evaluate(model_);
  model_.shed([this](std::uint64_t cookie) { return detector_.names(cookie); });
  if (!observer_.replayed_from.empty())
    look_for_answer();
  return say_degraded() && say(findings) && (!sink_ || sink_->takes_more());
}

// A recording holds the attributions that its own session asked for. With other thresholds others are suspects, of which
// nothing can be concluded: that is not "nothing found".
void Session::look_for_answer()
{
  // The source attributes some processes at a time, and may have just begun with others.
  const Duration patience = 2 * std::max(options_.thresholds.attribution, detect::Thresholds{}.attribution) + 3 * model_.interval();
  for (const detect::Suspect& suspect : detector_.suspects())
    if (model_.now() - suspect.since > patience + suspect.patience)
      never_answered_.insert(suspect.process);
}

bool Session::say(const std::vector<detect::Finding>& findings)
{
  if (metrics_ != nullptr)
    std::ranges::for_each(findings, [this](const detect::Finding& finding) { metrics_->finding(finding); });
  return !sink_ || std::ranges::all_of(findings, [this](const detect::Finding& finding) { return sink_->finding(finding); });
}

// Blind and quiet must differ. Each loss is said when it happens, not per record.
bool Session::say_degraded()
{
  const model::TickFacts& facts = model_.last_tick_facts();
  std::vector<std::string> messages;
  model::Losses fresh = facts.lost;
  fresh.ring_full -= lost_said_.ring_full;
  fresh.no_storage -= lost_said_.no_storage;
  fresh.no_totals -= lost_said_.no_totals;
  fresh.skipped_runs -= lost_said_.skipped_runs;
  // Each walk tries the same ones again.
  const std::uint64_t untracked = facts.lost.no_storage - std::exchange(no_storage_before_, facts.lost.no_storage);
  if (untracked > 0 && untracked >= 2 * untracked_said_) {
    messages.push_back(fmt::format("sockets could not be tracked: {} attempts failed, for there was no memory for them in the kernel or in laggard's cgroup", untracked));
    untracked_said_ = untracked;
  }
  if (fresh.ring_full > 0)
    messages.push_back(fmt::format("{} records lost, the ring was full: busy sockets are seen less often", fresh.ring_full));
  if (fresh.no_totals > 0)
    messages.push_back(fmt::format("{} additions to read totals lost: retained ratios may be too high", fresh.no_totals));
  if (!skipped_said_ && facts.lost.skipped_runs > 0) {
    messages.push_back("events pass unseen where this kernel interrupts a tracing program: counts of reads are a little low");
    skipped_said_ = true;
  }
  const Duration gap = model_.gaps().latest();
  if (gap > Duration{})
    messages.push_back(fmt::format("nothing was looked at for {}, although a look is due every {}: laggard was stopped, or got no "
                                   "processor. What began and ended meanwhile is not known",
                                   format_duration(gap), format_duration(facts.meant_interval)));
  const Duration shortest = shortest_hold();
  if (!slow_sweep_said_ && facts.swept && facts.sweep_period > shortest / 2) {
    messages.push_back(fmt::format("a look at all {} sockets takes so long that it happens every {} to stay within --max-cpu: "
                                   "findings about sockets that nobody reads come that much later",
                                   facts.sockets_visited, format_duration(facts.sweep_period)));
    slow_sweep_said_ = true;
  }
  if (!evicted_said_ && model_.evicted() > 0) {
    messages.push_back(fmt::format("more than {} sockets with something to judge: of the others, those that wait for the shortest "
                                   "time, nothing is said (--max-memory)", model_.options().max_connections));
    evicted_said_ = true;
  }
  for (const auto& [key, state] : model_.pairs()) {
    const model::PairSample& pair = state.latest;
    if (!pairs_lost_said_ && pair.lost + pair.unreadable > 0) {
      messages.push_back(fmt::format("operations of '{}' in process {}: {} there was no room to remember, of {} the key could not be read: "
                                     "what is outstanding is not exact", pair.name, pair.process.tgid, pair.lost, pair.unreadable));
      pairs_lost_said_ = true;
    }
    if (half_seen_said_.contains(pair.name))
      continue;
    if (std::string half = detect::half_seen(options_.thresholds, pair); !half.empty()) {
      messages.push_back(std::move(half));
      half_seen_said_.insert(pair.name);
    }
  }
  if (missing_ticks_ > missing_ticks_said_) {
    messages.push_back(fmt::format("ticks missing from the recording: {}; what happened meanwhile is not known",
                                   missing_ticks_ - missing_ticks_said_));
    missing_ticks_said_ = missing_ticks_;
  }
  if (never_answered_.size() > never_answered_said_) {
    messages.push_back(fmt::format("the memory of process {} grows, but the recording does not tell with what: while it was "
                                   "made, with its thresholds, that was no suspect", never_answered_.begin()->tgid));
    never_answered_said_ = never_answered_.size();
  }
  if (messages.empty())
    return true;
  lost_said_ = facts.lost;
  if (metrics_ != nullptr)
    metrics_->degraded();
  return !sink_ || sink_->degraded({facts.wall_time, fmt::format("{}", fmt::join(messages, ". ")), fresh, {}, gap});
}

bool Session::degraded(const std::string& message)
{
  if (metrics_ != nullptr)
    metrics_->degraded();
  return !sink_ || sink_->degraded({model_.last_tick_facts().wall_time, message, {}});
}

bool Session::stop(const std::string& reason)
{
  const bool reader_is_there = say(detector_.finish(model_));
  const model::TickFacts& facts = model_.last_tick_facts();
  output::Summary summary;
  summary.time = facts.wall_time;
  summary.observed = model_.now() - model_.started();
  summary.ticks = ticks_;
  summary.findings_opened = detector_.counts().opened;
  summary.findings_open = detector_.counts().open;
  summary.sockets_tracked = model_.connections().size();
  summary.lost = facts.lost;
  summary.unobserved = model_.gaps().total();
  summary.incomplete = is_incomplete();
  summary.reason = reason;
  return reader_is_there && (!sink_ || sink_->stopped(summary));
}

int Session::exit_code() const
{
  const detect::Counts& counts = detector_.counts();
  if (options_.fail_on && (counts.any_critical || (counts.any_warning && *options_.fail_on == detect::Severity::Warning)))
    return kFindings;
  return is_incomplete() ? kIncomplete : kObserved;
}

// A finding takes at least so long.
Duration Session::shortest_hold() const { return std::min(options_.thresholds.hold, options_.thresholds.stall); }

bool Session::is_incomplete() const
{
  return !error_.empty() || ticks_ == 0 || missing_ticks_ > 0 || model_.evicted() > 0 || !never_answered_.empty() ||
         model_.gaps().longest() >= shortest_hold() ||
         model_.last_tick_facts().lost.total() > options_.loss_limit;
}

int Session::output_ended() const { return sink_ ? cli::output_ended(*sink_) : kObserved; }

int output_ended(const output::Sink& sink)
{
  if (!sink.error() || sink.error() == std::errc::broken_pipe)
    return kObserved;
  // EINTR: asked to stop while it waited for its reader.
  const bool unread = sink.error() == std::errc::interrupted;
  // Whoever does not read our output may be who does not read our errors.
  if (pollfd errors{STDERR_FILENO, POLLOUT, 0}; ::poll(&errors, 1, kPatienceMs) == 0)
    return kIncomplete;
  std::fprintf(stderr, "laggard: cannot write the output: %s\n",
               unread ? "nobody reads it, and the pipe is full" : sink.error().message().c_str());
  return kIncomplete;
}

model::Observer describe_observer(const std::vector<model::HookChoice>& hooks)
{
  model::Observer observer;
  observer.version = LAGGARD_VERSION;
  std::array<char, 256> name{};
  if (::gethostname(name.data(), name.size() - 1) == 0)
    observer.host_name = name.data();
  // Given by the DaemonSet. gethostname() says the pod's name there.
  if (const char* node = std::getenv("NODE_NAME"); node != nullptr && *node != '\0')
    observer.host_name = observer.node_name = node;
  utsname kernel{};
  if (::uname(&kernel) == 0)
    observer.kernel = kernel.release;
  observer.hooks = hooks;
  for (const model::HookChoice& choice : hooks)
    if (!choice.note.empty())
      observer.missing.push_back(fmt::format("{}: {}", choice.feed, choice.note));
  return observer;
}

}  // namespace laggard::cli
