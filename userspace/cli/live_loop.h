// SPDX-License-Identifier: MIT
// Time and signals for the commands that look at the running kernel.
#pragma once

#include <signal.h>

#include <functional>
#include <memory>

#include "base/fd.h"
#include "base/result.h"
#include "cli/options.h"
#include "source/live/live_source.h"

namespace laggard::cli {

struct LiveSetup {
  std::unique_ptr<source::live::LiveSource> source;
  model::Observer observer;
};

// Opens the source, with the privileges that there are: give_up_privileges() is for afterwards.
Result<LiveSetup> open_live(const Options& options);
// Keeps the capabilities of `keep` (CAP_* numbers).
Result<void> give_up_privileges(const Options& options, LiveSetup& setup, std::vector<int> keep = {});

// What SIGHUP asks for: the end, or another output file.
enum class Hangup : std::uint8_t { Stops, Reopens };
// From now on until StopSignals are taken SIGHUP ends nothing and is not lost, also where we were started to ignore it.
void hold_hangup();

// While it exists, SIGINT, SIGTERM and SIGHUP end nothing, but make fd() readable, for good. At its end they do again what
// they did before, and those that came meanwhile have had their effect.
class StopSignals {
 public:
  static Result<StopSignals> take(Hangup hangup = Hangup::Stops);
  int fd() const { return fd_.get(); }
  int hangup_fd() const { return hangup_fd_.get(); }  // readable while a SIGHUP waits to be read; -1: it stops
  void give_back();  // before its end

 private:
  struct GiveBack {
    void operator()(const sigset_t* before) const;
  };
  std::unique_ptr<const sigset_t, GiveBack> before_;  // the mask
  Fd fd_;
  Fd hangup_fd_;
};

class LoopClock {
 public:
  static Result<LoopClock> start(const Options& options, int ring_fd, const StopSignals& signals);
  enum class Event : std::uint8_t { Tick, Ring, Hangup, Interrupted, DurationOver };
  Result<Event> wait();

 private:
  Fd ticks_;
  Fd end_;
  int ring_fd_ = -1;
  int stop_fd_ = -1;
  int hangup_fd_ = -1;
};

// Calls `on_tick` at once and then once per interval, until it returns false, a signal comes or the duration is over.
// The value says why it ended. `on_hangup` is for signals that were taken with Hangup::Reopens.
template <class OnTick>
Result<std::string> run_live_loop(const Options& options, source::live::LiveSource& source, const StopSignals& signals, OnTick on_tick,
                                  const std::function<void()>& on_hangup = {})
{
  auto clock = LoopClock::start(options, source.ring_fd(), signals);
  if (!clock)
    return tl::make_unexpected(clock.error());
  for (;;) {
    auto event = clock->wait();
    if (!event)
      return tl::make_unexpected(event.error());
    switch (*event) {
      case LoopClock::Event::Ring: source.drain(); continue;
      case LoopClock::Event::Hangup: on_hangup(); continue;
      case LoopClock::Event::Interrupted: return std::string("interrupted");
      case LoopClock::Event::DurationOver:
      case LoopClock::Event::Tick: {
        Result<bool> goes_on = on_tick();
        if (!goes_on)
          return tl::make_unexpected(goes_on.error());
        if (!*goes_on)
          return std::string("output closed");
        if (*event == LoopClock::Event::DurationOver)
          return std::string("duration reached");
      }
    }
  }
}

}  // namespace laggard::cli
