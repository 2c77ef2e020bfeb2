// SPDX-License-Identifier: MIT
#include "cli/live_loop.h"

#include <linux/capability.h>
#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>

#include <algorithm>
#include <array>

#include "cli/session.h"
#include "output/escape.h"
#include "source/live/host.h"

namespace laggard::cli {
namespace {

timespec to_timespec(Duration duration)
{
  const auto whole = std::chrono::duration_cast<std::chrono::seconds>(duration);
  return {whole.count(), (duration - whole).count()};
}

Result<Fd> timer(Duration first, Duration period)
{
  Fd fd{::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC)};
  const itimerspec times{to_timespec(period), to_timespec(first)};
  if (!fd || ::timerfd_settime(fd.get(), 0, &times, nullptr) != 0)
    return errno_failure("cannot make a timer");
  return fd;
}

// Not what we were started to ignore: nohup, or '&' in a script.
sigset_t stop_signals()
{
  sigset_t set;
  sigemptyset(&set);
  for (const int number : {SIGINT, SIGTERM, SIGHUP}) {
    struct sigaction action {};
    if (::sigaction(number, nullptr, &action) == 0 && action.sa_handler != SIG_IGN)
      sigaddset(&set, number);
  }
  return set;
}

sigset_t only(int number)
{
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, number);
  return set;
}

}  // namespace

Result<LiveSetup> open_live(const Options& options)
{
  source::live::PairOptions pairs{options.pairs, options.pairs_limit, {}};
  if (options.command == Command::Explain)
    pairs = {};  // it looks at memory only
  // Six looks within --idle: two for each third.
  auto source = source::live::LiveSource::open({.max_cpu = options.max_cpu,
                                                .max_memory = max_memory_of(options),
                                                .forced_hooks = options.hooks,
                                                .feeds = {},
                                                .pools_period = options.thresholds.idle / 6,
                                                .pairs = std::move(pairs),
                                                .command_lines = options.command_lines,
                                                .interval = options.interval,
                                                .ripens_after = std::max(options.thresholds.stall, options.thresholds.hold)});
  if (!source)
    return tl::make_unexpected(source.error());
  LiveSetup setup{std::move(*source), {}};
  if (auto* probe = setup.source->pairs(); probe != nullptr && probe->usable() == 0) {
    std::string why = "no pair of --pairs can be probed";
    for (const std::string& message : probe->take_messages())
      why += "\n" + output::visible(message);
    return failure(why);
  }
  setup.observer = describe_observer(setup.source->plan().choices);
  const source::live::HostFacts facts = source::live::host_facts();
  if (!facts.initial_pid_ns)
    setup.observer.missing.push_back("pids are those of the host's initial pid namespace, not of this one");
  for (std::string& clause : setup.source->workloads().missing())
    setup.observer.missing.push_back(std::move(clause));
  return setup;
}

Result<void> give_up_privileges(const Options& options, LiveSetup& setup, std::vector<int> keep)
{
  if (options.keep_privileges)
    return {};
  // Programs that start later are probed, too, and their functions have names.
  if (setup.source->pairs() != nullptr)
    keep.insert(keep.end(), {CAP_SYS_PTRACE, CAP_DAC_READ_SEARCH, CAP_CHECKPOINT_RESTORE});
  if (!setup.source->works_without_capabilities()) {
    keep.push_back(CAP_BPF);
    setup.observer.missing.push_back("kernel before 5.19: CAP_BPF is kept, everything else is dropped");
  }
  if (std::ranges::find(keep, CAP_SYS_PTRACE) == keep.end())
    setup.observer.missing.push_back("executable paths and memory maps of other users (capabilities are dropped after loading)");
  return source::live::drop_privileges(keep);
}

void hold_hangup()
{
  ::signal(SIGHUP, SIG_DFL);
  const sigset_t set = only(SIGHUP);
  ::sigprocmask(SIG_BLOCK, &set, nullptr);
}

Result<StopSignals> StopSignals::take(Hangup hangup)
{
  StopSignals signals;
  sigset_t set = stop_signals();
  sigset_t before;
  if (::sigprocmask(SIG_BLOCK, &set, &before) != 0)
    return errno_failure("cannot block signals");
  signals.before_.reset(new sigset_t(before));
  if (hangup == Hangup::Reopens) {
    sigdelset(&set, SIGHUP);
    const sigset_t other = only(SIGHUP);
    signals.hangup_fd_.reset(::signalfd(-1, &other, SFD_CLOEXEC | SFD_NONBLOCK));
  }
  signals.fd_.reset(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!signals.fd_ || (hangup == Hangup::Reopens && !signals.hangup_fd_))
    return errno_failure("cannot wait for signals");
  return signals;
}

void StopSignals::give_back()
{
  before_.reset();
  fd_.reset();
  hangup_fd_.reset();
}

void StopSignals::GiveBack::operator()(const sigset_t* before) const
{
  const sigset_t set = stop_signals();
  const timespec no_time{};
  while (::sigtimedwait(&set, nullptr, &no_time) > 0) {
  }
  ::sigprocmask(SIG_SETMASK, before, nullptr);
  delete before;
}

Result<LoopClock> LoopClock::start(const Options& options, int ring_fd, const StopSignals& signals)
{
  LoopClock clock;
  auto ticks = timer(std::chrono::nanoseconds(1), options.interval);
  if (!ticks)
    return tl::make_unexpected(ticks.error());
  clock.ticks_ = std::move(*ticks);
  if (options.duration) {
    auto end = timer(*options.duration, {});
    if (!end)
      return tl::make_unexpected(end.error());
    clock.end_ = std::move(*end);
  }
  clock.ring_fd_ = ring_fd;
  clock.stop_fd_ = signals.fd();
  clock.hangup_fd_ = signals.hangup_fd();
  return clock;
}

Result<LoopClock::Event> LoopClock::wait()
{
  for (;;) {
    std::array<pollfd, 5> fds = {pollfd{stop_fd_, POLLIN, 0}, pollfd{end_.get(), POLLIN, 0}, pollfd{ticks_.get(), POLLIN, 0},
                                 pollfd{ring_fd_, POLLIN, 0}, pollfd{hangup_fd_, POLLIN, 0}};
    if (::poll(fds.data(), fds.size(), -1) < 0) {
      if (errno == EINTR)
        continue;
      return errno_failure("cannot wait for the next tick");
    }
    if (fds[0].revents != 0)
      return Event::Interrupted;
    if (fds[1].revents != 0)
      return Event::DurationOver;
    if (fds[4].revents != 0) {
      signalfd_siginfo told{};
      if (::read(hangup_fd_, &told, sizeof told) == sizeof told)
        return Event::Hangup;
    }
    if (fds[2].revents != 0) {
      std::uint64_t expirations = 0;  // more than one: we were held up, and there is no use in catching up
      if (::read(ticks_.get(), &expirations, sizeof expirations) == sizeof expirations)
        return Event::Tick;
    }
    if (fds[3].revents != 0)
      return Event::Ring;
  }
}

}  // namespace laggard::cli
