// SPDX-License-Identifier: MIT
#include "output/queued_sink.h"

#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <optional>
#include <utility>

namespace laggard::output {
namespace {

using detect::Finding;
using detect::Phase;

constexpr std::size_t kOverheadBytes = 200;  // nodes of the containers

std::size_t size_of(const std::string& text) { return text.capacity(); }

std::size_t size_of(const std::vector<std::string>& texts)
{
  std::size_t bytes = 0;
  for (const std::string& text : texts)
    bytes += sizeof text + size_of(text);
  return bytes;
}

std::size_t size_of(const std::vector<detect::Field>& fields)
{
  std::size_t bytes = 0;
  for (const detect::Field& field : fields) {
    const auto* text = std::get_if<std::string>(&field.value);
    bytes += sizeof field + (text != nullptr ? size_of(*text) : 0);
  }
  return bytes;
}

std::size_t size_of(const Finding& finding)
{
  const model::Workload& workload = finding.process.workload;
  return sizeof finding + size_of(finding.process.comm) + size_of(workload.container_id) +
         size_of(workload.k8s_namespace_name) + size_of(workload.k8s_pod_name) + size_of(workload.k8s_container_name) +
         size_of(workload.systemd_unit) + size_of(workload.command_line) + finding.holders.size() * 4 +
         finding.examples.size() * sizeof(model::Tuple) + size_of(finding.symptom_of_text) +
         finding.symptoms.size() * 8 + size_of(finding.message) + size_of(finding.details) + size_of(finding.advice) +
         size_of(finding.evidence) + size_of(finding.thresholds) + size_of(finding.quality.hooks) +
         size_of(finding.quality.missing);
}

std::optional<WallTime> time_of(const auto& content)
{
  return std::visit(
      [](const auto& event) -> std::optional<WallTime> {
        if constexpr (requires { event.time; })
          return event.time;
        else
          return std::nullopt;
      },
      content);
}

Fd either_of(int one, int other)
{
  Fd both{::epoll_create1(EPOLL_CLOEXEC)};
  for (const int fd : {one, other})
    if (epoll_event event{.events = EPOLLIN, .data = {}}; fd >= 0)
      ::epoll_ctl(both.get(), EPOLL_CTL_ADD, fd, &event);
  return both;
}

void add(model::Losses& sum, const model::Losses& more)
{
  sum.ring_full += more.ring_full;
  sum.no_storage += more.no_storage;
  sum.no_totals += more.no_totals;
  sum.skipped_runs += more.skipped_runs;
}

}  // namespace

QueuedSink::QueuedSink(std::unique_ptr<Sink> inner, int stop_fd, int diagnostics_fd, QueueLimits limits)
    : limits_(limits),
      diagnostics_fd_(diagnostics_fd),
      inner_(std::move(inner)),
      end_(::eventfd(0, EFD_CLOEXEC)),
      give_up_(either_of(stop_fd, end_.get()))
{
  inner_->give_up_when(give_up_.get());
  diagnostics_.give_up_when(give_up_.get());
  // Signals are for the thread that waits for them.
  sigset_t all, before;
  sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  thread_ = std::jthread([this] { run(); });
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

QueuedSink::~QueuedSink()
{
  {
    const std::lock_guard lock{mutex_};
    is_ending_ = true;
  }
  ::eventfd_write(end_.get(), 1);
  changed_.notify_all();
}

bool QueuedSink::started(const Observer& observer, WallTime time)
{
  return push({Started{observer, time}, sizeof(Started)}, kNeverDropped);
}

bool QueuedSink::finding(const Finding& finding)
{
  return push({finding, size_of(finding)}, finding.phase == Phase::Updated ? kUpdated : kTelling);
}

bool QueuedSink::socket(const SocketLine& line) { return push({line, sizeof line}, kNeverDropped); }

bool QueuedSink::explanation(const Explanation& explanation)
{
  return push({explanation, sizeof explanation}, kNeverDropped);
}

bool QueuedSink::degraded(const Degraded& degraded)
{
  return push({degraded, sizeof degraded + size_of(degraded.message)}, kDegraded);
}

bool QueuedSink::stopped(const Summary& summary)
{
  if (!push({summary, sizeof summary}, kNeverDropped))
    return false;
  std::unique_lock lock{mutex_};
  written_.wait(lock, [this] { return has_failed_ || (events_.empty() && !is_writing_); });
  return is_usable();
}

bool QueuedSink::takes_more()
{
  const std::lock_guard lock{mutex_};
  return is_usable();
}

void QueuedSink::diagnose(std::string line)
{
  const std::size_t bytes = size_of(line);
  push({Diagnostic{std::move(line)}, bytes}, kDegraded);
}

void QueuedSink::between_lines(std::function<void()> action)
{
  {
    const std::lock_guard lock{mutex_};
    action_ = std::move(action);
  }
  changed_.notify_all();
}

std::size_t QueuedSink::waiting() const
{
  const std::lock_guard lock{mutex_};
  return events_.size() + (is_writing_ ? 1 : 0);
}

Dropped QueuedSink::dropped() const
{
  const std::lock_guard lock{mutex_};
  return dropped_;
}

bool QueuedSink::is_usable()
{
  if (has_failed_)
    failed(failure_);
  return !has_failed_;
}

bool QueuedSink::push(Event event, Rank rank)
{
  {
    const std::lock_guard lock{mutex_};
    if (!is_usable())
      return false;
    const Order order = next_++;
    if (const auto* finding = std::get_if<Finding>(&event.content);
        finding != nullptr && finding->phase == Phase::Resolved) {
      resolved_[finding->id] = order;
      if (never_opened_.contains(finding->id))
        rank = kOrphaned;
    }
    latest_ = time_of(event.content).value_or(latest_);
    // The few that are never dropped push out no other.
    event.bytes = rank == kNeverDropped ? 0 : event.bytes + kOverheadBytes;
    bytes_ += event.bytes;
    events_.emplace(order, std::move(event));
    ranks_[rank].insert(order);
    make_room();
  }
  changed_.notify_all();
  return true;
}

void QueuedSink::make_room()
{
  while (events_.size() - ranks_[kNeverDropped].size() > limits_.events || bytes_ > limits_.bytes) {
    const auto full = std::find_if(ranks_.begin(), ranks_.begin() + kNeverDropped,
                                   [](const auto& orders) { return !orders.empty(); });
    if (full == ranks_.begin() + kNeverDropped)
      return;
    drop(*full->begin());
  }
}

void QueuedSink::drop(Order order)
{
  const Event event = take(order);
  // The line about it stands where the gap begins.
  if (unsaid_.dropped.total() == 0)
    unsaid_.time = time_of(event.content).value_or(latest_);
  const auto* finding = std::get_if<Finding>(&event.content);
  auto count = &Dropped::degraded;
  if (finding != nullptr)
    count = finding->phase == Phase::Opened    ? &Dropped::opened
            : finding->phase == Phase::Updated ? &Dropped::updated
                                               : &Dropped::resolved;
  (dropped_.*count)++;
  (unsaid_.dropped.*count)++;
  if (const auto* degraded = std::get_if<Degraded>(&event.content)) {
    add(unsaid_.lost, degraded->lost);
    unsaid_.unobserved += degraded->unobserved;
  }
  if (finding != nullptr && finding->phase == Phase::Opened) {
    never_opened_.insert(finding->id);
    if (const auto end = resolved_.find(finding->id); end != resolved_.end()) {
      ranks_[kTelling].erase(end->second);
      ranks_[kOrphaned].insert(end->second);
    }
  }
}

QueuedSink::Event QueuedSink::take(Order order)
{
  auto node = events_.extract(order);
  Event event = std::move(node.mapped());
  bytes_ -= event.bytes;
  for (auto& orders : ranks_)
    orders.erase(order);
  if (const auto* finding = std::get_if<Finding>(&event.content);
      finding != nullptr && finding->phase == Phase::Resolved) {
    resolved_.erase(finding->id);
    never_opened_.erase(finding->id);
  }
  return event;
}

void QueuedSink::run()
{
  std::unique_lock lock{mutex_};
  for (;;) {
    changed_.wait(lock, [this] { return is_ending_ || action_ || !events_.empty(); });
    if (is_ending_)
      return;
    if (const auto action = std::exchange(action_, nullptr)) {
      lock.unlock();
      action();
      lock.lock();
      continue;
    }
    Event event;
    if (unsaid_.dropped.total() > 0) {
      unsaid_.message = "the output did not take lines as fast as they came";
      event.content = std::exchange(unsaid_, {});
    } else {
      event = take(events_.begin()->first);
    }
    if (auto* summary = std::get_if<Summary>(&event.content))
      summary->dropped = dropped_;
    is_writing_ = true;
    lock.unlock();
    const bool is_written = write(event);
    lock.lock();
    is_writing_ = false;
    if (!is_written) {
      has_failed_ = true;
      failure_ = inner_->error();
      events_.clear();
      written_.notify_all();
      return;
    }
    written_.notify_all();
  }
}

bool QueuedSink::write(const Event& event)
{
  struct Visitor {
    QueuedSink& self;
    bool operator()(const Started& started) const { return self.inner_->started(started.observer, started.time); }
    bool operator()(const Finding& finding) const { return self.inner_->finding(finding); }
    bool operator()(const SocketLine& line) const { return self.inner_->socket(line); }
    bool operator()(const Explanation& explanation) const { return self.inner_->explanation(explanation); }
    bool operator()(const Degraded& degraded) const { return self.inner_->degraded(degraded); }
    bool operator()(const Summary& summary) const { return self.inner_->stopped(summary); }
    // Nobody has to read it.
    bool operator()(const Diagnostic& diagnostic) const
    {
      self.diagnostics_.write(self.diagnostics_fd_, diagnostic.line);
      return true;
    }
  };
  return std::visit(Visitor{*this}, event.content);
}

}  // namespace laggard::output
