// SPDX-License-Identifier: MIT
#include "output/queued_sink.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>

#include <future>
#include <nlohmann/json.hpp>

namespace laggard::output {
namespace {

using detect::Finding;
using detect::Phase;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using namespace std::chrono_literals;

constexpr auto kDeadline = 60s;

// What it was told, once it may take it.
class Log {
 public:
  explicit Log(std::size_t may_take) : may_take_(may_take) {}

  bool take(std::string line)
  {
    std::unique_lock lock{mutex_};
    met_++;
    changed_.notify_all();
    EXPECT_TRUE(changed_.wait_for(lock, kDeadline, [&] { return taken_.size() < may_take_; }));
    taken_.push_back(std::move(line));
    changed_.notify_all();
    return true;
  }
  void let(std::size_t all_in_all)
  {
    const std::lock_guard lock{mutex_};
    may_take_ = all_in_all;
    changed_.notify_all();
  }
  // Until that many lines were brought here, the one that must wait included.
  void wait_for(std::size_t met)
  {
    std::unique_lock lock{mutex_};
    ASSERT_TRUE(changed_.wait_for(lock, kDeadline, [&] { return met_ >= met; }));
  }
  std::vector<std::string> taken() const
  {
    const std::lock_guard lock{mutex_};
    return taken_;
  }

 private:
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::size_t may_take_;
  std::size_t met_ = 0;
  std::vector<std::string> taken_;
};

std::string words(const Dropped& dropped)
{
  return fmt::format("dropped {} {} {} {}", dropped.opened, dropped.updated, dropped.resolved, dropped.degraded);
}

class LoggingSink final : public Sink {
 public:
  explicit LoggingSink(Log& log) : log_(log) {}
  bool started(const Observer&, WallTime) override { return log_.take("started"); }
  bool finding(const Finding& finding) override
  {
    return log_.take(fmt::format("{} {}", to_string(finding.phase), finding.id));
  }
  bool socket(const SocketLine&) override { return log_.take("socket"); }
  bool explanation(const Explanation&) override { return log_.take("explanation"); }
  bool degraded(const Degraded& degraded) override
  {
    last_degraded = degraded;
    return log_.take(degraded.dropped.total() > 0 ? words(degraded.dropped) : degraded.message);
  }
  bool stopped(const Summary& summary) override { return log_.take("stopped, " + words(summary.dropped)); }

  Degraded last_degraded;

 private:
  Log& log_;
};

Finding finding(std::uint64_t id, Phase phase)
{
  Finding finding;
  finding.id = id;
  finding.phase = phase;
  finding.time = WallTime{std::chrono::seconds(id)};
  if (phase == Phase::Resolved)
    finding.resolution = detect::Resolution::Drained;
  return finding;
}

Finding opened(std::uint64_t id) { return finding(id, Phase::Opened); }
Finding updated(std::uint64_t id) { return finding(id, Phase::Updated); }
Finding resolved(std::uint64_t id) { return finding(id, Phase::Resolved); }

struct Queued {
  explicit Queued(std::size_t may_take, QueueLimits limits = {})
      : log(may_take), inner(new LoggingSink(log)), sink(std::unique_ptr<Sink>(inner), -1, 2, limits)
  {
  }
  ~Queued() { log.let(SIZE_MAX); }

  Log log;
  LoggingSink* inner;
  QueuedSink sink;
};

bool eventually(const std::function<bool()>& condition)
{
  const auto end = std::chrono::steady_clock::now() + kDeadline;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > end)
      return false;
    ::poll(nullptr, 0, 1);
  }
  return true;
}

TEST(QueuedSink, WhoReadsGetsEverythingInOrder)
{
  Queued queued{SIZE_MAX};
  EXPECT_TRUE(queued.sink.started({}, {}));
  EXPECT_TRUE(queued.sink.finding(opened(7)));
  EXPECT_TRUE(queued.sink.finding(updated(7)));
  EXPECT_TRUE(queued.sink.degraded({{}, "blind", {}}));
  EXPECT_TRUE(queued.sink.finding(resolved(7)));
  EXPECT_TRUE(queued.sink.stopped({}));
  EXPECT_THAT(queued.log.taken(),
              ElementsAre("started", "opened 7", "updated 7", "blind", "resolved 7", "stopped, dropped 0 0 0 0"));
  EXPECT_EQ(queued.sink.waiting(), 0U);
}

TEST(QueuedSink, WhoDoesNotReadHoldsUpNobodyAndMissesNothingThatThereIsRoomFor)
{
  Queued queued{0};
  for (std::uint64_t id = 1; id <= 211; id++)
    EXPECT_TRUE(queued.sink.finding(updated(id)));
  queued.log.wait_for(1);
  EXPECT_EQ(queued.sink.waiting(), 211U);
  EXPECT_TRUE(queued.sink.takes_more());
  queued.log.let(SIZE_MAX);
  EXPECT_TRUE(queued.sink.stopped({}));
  const auto taken = queued.log.taken();
  ASSERT_EQ(taken.size(), 212U);
  EXPECT_EQ(taken.front(), "updated 1");
  EXPECT_EQ(taken.back(), "stopped, dropped 0 0 0 0");
}

TEST(QueuedSink, WhatTellsLeastGoesFirstAndTheCountsAreSaidBeforeTheRest)
{
  Queued queued{0, {.events = 5}};
  queued.sink.started({}, {});
  queued.log.wait_for(1);  // from here on nothing leaves the queue
  queued.sink.finding(opened(1));
  queued.sink.finding(updated(1));
  queued.sink.degraded({{}, "blind", {.ring_full = 13}, {}, 17s});
  queued.sink.finding(opened(2));
  queued.sink.finding(opened(3));
  EXPECT_EQ(queued.sink.dropped(), Dropped{});
  const auto then = [&](const Finding& next) {
    queued.sink.finding(next);
    return words(queued.sink.dropped());
  };
  EXPECT_EQ(then(resolved(2)), "dropped 0 1 0 0");    // the update
  EXPECT_EQ(then(opened(4)), "dropped 0 1 0 1");    // the degraded line
  EXPECT_EQ(then(opened(5)), "dropped 1 1 0 1");    // the oldest opened
  EXPECT_EQ(then(resolved(1)), "dropped 1 1 1 1");  // itself: nobody knows that it was open
  EXPECT_EQ(then(opened(6)), "dropped 2 1 1 1");    // opened 2
  EXPECT_EQ(then(opened(7)), "dropped 2 1 2 1");    // resolved 2, which nobody knows any more
  EXPECT_EQ(then(updated(3)), "dropped 2 2 2 1");   // itself
  queued.log.let(SIZE_MAX);
  queued.sink.stopped({});
  EXPECT_THAT(queued.log.taken(), ElementsAre("started", "dropped 2 2 2 1", "opened 3", "opened 4", "opened 5",
                                              "opened 6", "opened 7", "stopped, dropped 2 2 2 1"));
  EXPECT_EQ(queued.inner->last_degraded.lost.ring_full, 13U);
  EXPECT_EQ(queued.inner->last_degraded.unobserved, 17s);
  EXPECT_EQ(queued.inner->last_degraded.time, WallTime{1s});  // of the first that is missing
  EXPECT_FALSE(queued.inner->last_degraded.message.empty());
}

TEST(QueuedSink, DropsAreSaidOnceEachTime)
{
  Queued queued{0, {.events = 1}};
  queued.sink.started({}, {});
  queued.log.wait_for(1);
  queued.sink.finding(updated(1));
  queued.sink.finding(updated(2));
  queued.log.let(2);  // the first line and the counts
  queued.log.wait_for(3);
  queued.sink.finding(updated(3));
  queued.sink.finding(updated(4));
  queued.sink.finding(updated(5));
  queued.log.let(SIZE_MAX);
  queued.sink.stopped({});
  EXPECT_THAT(queued.log.taken(), ElementsAre("started", "dropped 0 1 0 0", "updated 2", "dropped 0 2 0 0", "updated 5",
                                              "stopped, dropped 0 3 0 0"));
}

TEST(QueuedSink, ManyBytesFillItToo)
{
  Queued queued{0, {.bytes = 64 << 10}};
  queued.sink.started({}, {});
  queued.log.wait_for(1);
  for (std::uint64_t id = 1; id <= 31; id++) {
    Finding large = updated(id);
    large.details.assign(7, std::string(2000, 'x'));
    queued.sink.finding(large);
  }
  EXPECT_EQ(queued.sink.waiting(), 5U);  // one is being written
  EXPECT_EQ(queued.sink.dropped().updated, 27U);
}

TEST(QueuedSink, TheEndWaitsUntilAllIsWritten)
{
  Queued queued{0};
  queued.sink.finding(opened(7));
  queued.sink.finding(opened(11));
  auto ended = std::async(std::launch::async, [&] { return queued.sink.stopped({}); });
  queued.log.let(2);
  queued.log.wait_for(3);
  EXPECT_EQ(ended.wait_for(0s), std::future_status::timeout);
  queued.log.let(3);
  EXPECT_TRUE(ended.get());
  EXPECT_THAT(queued.log.taken(), ElementsAre("opened 7", "opened 11", "stopped, dropped 0 0 0 0"));
}

TEST(QueuedSink, WhatRunsBetweenLinesRunsOnceOnTheThreadThatTakesNoSignals)
{
  Queued queued{0};
  queued.sink.finding(opened(7));
  queued.sink.finding(opened(11));
  queued.log.wait_for(1);
  std::promise<std::vector<std::string>> ran;
  sigset_t blocked;
  std::thread::id thread;
  queued.sink.between_lines([] { ADD_FAILURE() << "it was replaced"; });
  queued.sink.between_lines([&] {
    ::pthread_sigmask(SIG_BLOCK, nullptr, &blocked);
    thread = std::this_thread::get_id();
    ran.set_value(queued.log.taken());
  });
  queued.log.let(SIZE_MAX);
  EXPECT_THAT(ran.get_future().get(), ElementsAre("opened 7"));
  EXPECT_NE(thread, std::this_thread::get_id());
  for (const int number : {SIGINT, SIGTERM, SIGHUP})
    EXPECT_EQ(sigismember(&blocked, number), 1);
  EXPECT_TRUE(queued.sink.stopped({}));
}

// A pipe of one page with a json sink at its end.
struct Piped {
  explicit Piped(int stop_fd = -1, QueueLimits limits = {})
  {
    int ends[2];
    EXPECT_EQ(::pipe2(ends, O_CLOEXEC), 0);
    reader.reset(ends[0]);
    writer.reset(ends[1]);
    EXPECT_GE(::fcntl(writer.get(), F_SETPIPE_SZ, 4096), 0);
    sink =
        std::make_unique<QueuedSink>(make_sink({.format = Format::Json, .fd = writer.get()}, {}), stop_fd, 2, limits);
  }
  // Until no more goes into the pipe and a line waits at its end.
  void fill()
  {
    std::uint64_t id = 1;
    const auto is_full = [&] {
      pollfd room{writer.get(), POLLOUT, 0};
      return ::poll(&room, 1, 0) == 0;
    };
    while (!is_full()) {
      const std::size_t waiting = 1;
      sink->finding(opened(id++));
      EXPECT_TRUE(eventually([&] { return sink->waiting() < waiting || is_full(); }));
    }
    sink->finding(opened(id++));
    said = id - 1;
  }

  Fd reader, writer;
  std::unique_ptr<QueuedSink> sink;
  std::uint64_t said = 0;
};

TEST(QueuedSink, AReaderThatComesBackIsToldFirstWhatItMissed)
{
  ::signal(SIGPIPE, SIG_IGN);
  Piped piped{-1, {.events = 3}};
  piped.fill();
  EXPECT_TRUE(eventually([&] { return piped.sink->waiting() == 1; }));
  for (int i = 0; i < 101; i++)
    EXPECT_TRUE(piped.sink->finding(updated(100'003)));
  EXPECT_TRUE(piped.sink->finding(opened(100'019)));
  EXPECT_GE(piped.sink->dropped().updated, 98U);
  auto all = std::async(std::launch::async, [&] {
    std::string text;
    char bytes[1013];
    for (ssize_t got = 0; (got = ::read(piped.reader.get(), bytes, sizeof bytes)) > 0;)
      text.append(bytes, static_cast<std::size_t>(got));
    return text;
  });
  EXPECT_TRUE(piped.sink->stopped({}));
  const auto dropped = piped.sink->dropped();
  piped.sink.reset();
  piped.writer.reset();
  std::vector<nlohmann::json> lines;
  std::istringstream text{all.get()};
  for (std::string line; std::getline(text, line);)
    lines.push_back(nlohmann::json::parse(line));
  ASSERT_GT(lines.size(), piped.said + 3);
  // After what was in the pipe, and the line that waited at its end if it was on its way by then.
  const bool was_on_its_way = lines[piped.said - 1]["event.name"] != "laggard.agent.degraded";
  const nlohmann::json& first = lines[was_on_its_way ? piped.said : piped.said - 1];
  EXPECT_EQ(first["event.name"], "laggard.agent.degraded");
  EXPECT_EQ(first["laggard.output.dropped_opened"], 0);
  EXPECT_THAT(first["message"].get<std::string>(), HasSubstr(" of output dropped ("));
  // The thread may have begun to say it while more was dropped: the rest is said next.
  std::uint64_t said_dropped = 0, said_so = 0;
  for (const nlohmann::json& line : lines)
    if (line["event.name"] == "laggard.agent.degraded") {
      said_dropped += line["laggard.output.dropped_updated"].get<std::uint64_t>();
      said_so++;
    }
  EXPECT_EQ(said_dropped, dropped.updated);
  EXPECT_EQ(lines.size(), piped.said + said_so + 101 - dropped.updated + 1 + 1);
  EXPECT_EQ(lines[lines.size() - 2]["laggard.finding.id"], "00000000000186b3");
  EXPECT_EQ(lines.back()["laggard.output.dropped_updated"], dropped.updated);
}

TEST(QueuedSink, AReaderThatDoesNotReadIsWaitedForASecondAtTheEnd)
{
  const Fd stop{::eventfd(0, EFD_CLOEXEC)};
  Piped piped{stop.get()};
  piped.fill();
  for (std::uint64_t id = 1; id <= 13; id++)
    piped.sink->finding(updated(id));
  const auto before = std::chrono::steady_clock::now();
  ::eventfd_write(stop.get(), 1);
  EXPECT_FALSE(piped.sink->stopped({}));
  EXPECT_EQ(piped.sink->error(), std::errc::interrupted);
  const auto took = std::chrono::steady_clock::now() - before;
  EXPECT_GE(took, 900ms);
  EXPECT_LT(took, 10s);
}

TEST(QueuedSink, ItsOwnEndWaitsForNobodyEither)
{
  Piped piped;
  piped.fill();
  auto ended = std::async(std::launch::async, [&] { piped.sink.reset(); });
  EXPECT_EQ(ended.wait_for(kDeadline), std::future_status::ready);
  piped.reader.reset();
}

TEST(QueuedSink, AReaderThatLeftIsKnownWithoutAnotherLine)
{
  ::signal(SIGPIPE, SIG_IGN);
  Piped piped;
  piped.fill();
  EXPECT_TRUE(piped.sink->takes_more());
  piped.reader.reset();
  EXPECT_TRUE(eventually([&] { return !piped.sink->takes_more(); }));
  EXPECT_EQ(piped.sink->error(), std::errc::broken_pipe);
  EXPECT_FALSE(piped.sink->finding(opened(7)));
  EXPECT_FALSE(piped.sink->stopped({}));
}

TEST(QueuedSink, AFullDiskIsAnError)
{
  const Fd full{::open("/dev/full", O_WRONLY | O_CLOEXEC)};
  QueuedSink sink{make_sink({.format = Format::Json, .fd = full.get()}, {})};
  sink.started({}, {});
  EXPECT_TRUE(eventually([&] { return !sink.takes_more(); }));
  EXPECT_EQ(sink.error(), std::errc::no_space_on_device);
}

TEST(QueuedSink, DiagnosticsThatNobodyReadsHoldUpNobodyAndCostASecondInAll)
{
  int ends[2];
  ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
  const Fd reader{ends[0]}, errors{ends[1]}, stop{::eventfd(0, EFD_CLOEXEC)},
      out{::open("/dev/null", O_WRONLY | O_CLOEXEC)};
  ASSERT_GE(::fcntl(errors.get(), F_SETPIPE_SZ, 4096), 0);
  QueuedSink sink{make_sink({.format = Format::Text, .fd = out.get(), .diagnostics_fd = errors.get()}, {}), stop.get(),
                  errors.get()};
  for (int i = 0; i < 101; i++) {
    EXPECT_TRUE(sink.degraded({{}, std::string(301, 'x'), {}}));
    sink.diagnose("a line\n");
  }
  EXPECT_TRUE(eventually([&] {
    pollfd room{errors.get(), POLLOUT, 0};
    return ::poll(&room, 1, 0) == 0;
  }));
  EXPECT_GT(sink.waiting(), 100U);
  ::eventfd_write(stop.get(), 1);
  const auto before = std::chrono::steady_clock::now();
  EXPECT_TRUE(sink.stopped({}));
  EXPECT_LT(std::chrono::steady_clock::now() - before, 10s);
}

}  // namespace
}  // namespace laggard::output
