// SPDX-License-Identifier: MIT
// A sink that never makes its caller wait: what is said goes through a bounded queue to a thread that says it to
// another sink. When the queue is full the least telling lines go first, and how many went is said as soon as lines are
// taken again.
#pragma once

#include <array>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <variant>

#include "base/fd.h"
#include "output/sink.h"

namespace laggard::output {

struct QueueLimits {
  std::size_t events = 10'000;
  std::size_t bytes = std::size_t{4} << 20;  // rough
};

class QueuedSink final : public Sink {
 public:
  // Once `stop_fd` is readable, and at the end of this object, a reader that does not read is waited for a second; -1:
  // none. The thread has the privileges of the caller, from now on: drop them before.
  explicit QueuedSink(std::unique_ptr<Sink> inner, int stop_fd = -1, int diagnostics_fd = 2, QueueLimits limits = {});
  // What was not written is gone, unless stopped() was called.
  ~QueuedSink() override;

  // False: some earlier line could not be written.
  bool started(const Observer& observer, WallTime time) override;
  bool finding(const detect::Finding& finding) override;
  bool socket(const SocketLine& line) override;
  bool explanation(const Explanation& explanation) override;
  bool degraded(const Degraded& degraded) override;
  // Returns when all of it is written, or cannot be.
  bool stopped(const Summary& summary) override;
  bool takes_more() override;

  // A line for standard error, in its turn.
  void diagnose(std::string line);
  // Runs before the next line, on the thread that writes; one that has not run yet is replaced.
  void between_lines(std::function<void()> action);

  std::size_t waiting() const;
  Dropped dropped() const;

 private:
  struct Started {
    Observer observer;
    WallTime time;
  };
  struct Diagnostic {
    std::string line;
  };
  struct Event {
    std::variant<Started, detect::Finding, SocketLine, Explanation, Degraded, Diagnostic, Summary> content;
    std::size_t bytes = 0;
  };
  // What goes first when there is no room. A finding that was never said to open need not be said to end.
  enum Rank : std::uint8_t { kUpdated, kDegraded, kOrphaned, kTelling, kNeverDropped, kRanks };
  using Order = std::uint64_t;  // of arrival

  bool push(Event event, Rank rank);
  void make_room();
  void drop(Order order);
  Event take(Order order);
  void run();
  bool write(const Event& event);
  bool is_usable();  // with the mutex held

  const QueueLimits limits_;
  const int diagnostics_fd_;
  std::unique_ptr<Sink> inner_;
  Fd end_;      // readable at the end of this object
  Fd give_up_;  // readable once either end_ or stop_fd is
  Writer diagnostics_;

  mutable std::mutex mutex_;  // of all below; not held while anything is written
  std::condition_variable changed_;
  std::condition_variable written_;
  std::map<Order, Event> events_;
  std::array<std::set<Order>, kRanks> ranks_;
  std::map<std::uint64_t, Order> resolved_;  // by id of the finding, while in the queue
  std::set<std::uint64_t> never_opened_;     // ids of findings whose opening was dropped, until they are resolved
  Order next_ = 0;
  WallTime latest_;  // that was said
  std::size_t bytes_ = 0;
  Dropped dropped_;
  Degraded unsaid_;  // drops; its losses and gaps are those of dropped lines, which would be said nowhere
  std::function<void()> action_;
  bool is_writing_ = false;
  bool is_ending_ = false;
  std::error_code failure_;
  bool has_failed_ = false;
  std::jthread thread_;  // last: it uses all of the above
};

}  // namespace laggard::output
