// SPDX-License-Identifier: MIT
// What a read left behind, and what waited before anybody had accepted it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "support/scene.h"

namespace laggard::test {
namespace {

using detect::Finding;
using detect::Kind;
using detect::Phase;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

// A worker that reads all but 8 bytes of a request and is at work on it.
struct Worker {
  explicit Worker(detect::DetectorOptions options = {}, Duration interval = 1s) : scene(std::move(options), interval)
  {
    socket.sample.accepted = true;
    socket.sample.connected = false;
    socket.sample.in_epoll = true;
    process.threads = 1;
    scene.run(3s);
  }
  Scene scene;
  SceneProcess& process = scene.process(17, "worker");
  SceneSocket& socket = scene.tcp(process);

  void leave_8_bytes()
  {
    socket.arrive(700);
    socket.read(692);
  }
  bool silent_for(Duration duration)
  {
    scene.run(duration);
    return scene.findings().empty();
  }
  std::vector<Finding> stalled() const { return scene.opened(Kind::StalledReader); }
};

TEST(Leftover, EightBytesAreSilentForAMinuteAndFoundThen)
{
  Worker it;
  it.leave_8_bytes();
  EXPECT_TRUE(it.silent_for(59s));
  it.scene.run(4s);
  const auto found = it.stalled();
  ASSERT_THAT(found, SizeIs(1));
  EXPECT_EQ(evidence(found[0], "recv_queue_bytes"), 8);
  EXPECT_THAT(found[0].advice, HasSubstr("did not take all that was there"));
  ASSERT_THAT(found[0].thresholds, SizeIs(2));
  EXPECT_EQ(found[0].thresholds[0].name, "leftover_seconds");
  EXPECT_EQ(std::get<double>(found[0].thresholds[0].value), 60);
  EXPECT_THAT(it.scene.opened(Kind::SlowReader), IsEmpty());
}

TEST(Leftover, TheTimeIsAnOption)
{
  detect::DetectorOptions options;
  options.thresholds.leftover = 25s;
  Worker it{options};
  it.leave_8_bytes();
  EXPECT_TRUE(it.silent_for(24s));
  it.scene.run(4s);
  EXPECT_THAT(it.stalled(), SizeIs(1));
  options.thresholds.leftover = 3s;  // never sooner than anything else stalls
  Worker brief{options};
  brief.leave_8_bytes();
  EXPECT_TRUE(brief.silent_for(9s));
}

TEST(Leftover, PagesOfTwentyFiveSecondsAreSilentForEver)
{
  for (const Duration interval : {Duration{250ms}, Duration{1s}, Duration{5s}}) {
    Worker it{{}, interval};
    for (int i = 0; i < 10; i++) {
      it.leave_8_bytes();
      it.scene.run(25s);
      it.socket.read(8);
      it.scene.run(5s);
    }
    EXPECT_THAT(it.scene.findings(), IsEmpty()) << seconds(interval);
  }
}

TEST(Leftover, AnEdgeTriggeredReaderThatForgotThemIsFoundAfterTheStallTime)
{
  Worker it;
  it.process.waits_in_epoll = true;
  it.leave_8_bytes();
  EXPECT_TRUE(it.silent_for(9s));
  it.scene.run(4s);
  ASSERT_THAT(it.stalled(), SizeIs(1));
  EXPECT_THAT(it.stalled()[0].details, testing::Contains(HasSubstr("sleeps in epoll_wait")));
}

TEST(Leftover, OnlyAReaderOfOneThreadThatSleepsOnAnEpollSetWithThisSocketIsIdle)
{
  const auto silent = [](const std::function<void(Worker&)>& change) {
    Worker it;
    it.process.waits_in_epoll = true;
    change(it);
    it.leave_8_bytes();
    return it.silent_for(40s);
  };
  EXPECT_FALSE(silent([](Worker&) {}));
  EXPECT_TRUE(silent([](Worker& it) { it.process.waits_in_epoll = false; }));
  EXPECT_TRUE(silent([](Worker& it) { it.process.threads = 2; }));
  EXPECT_TRUE(silent([](Worker& it) { it.process.threads = 0; }));  // an old recording
  EXPECT_TRUE(silent([](Worker& it) { it.socket.sample.in_epoll = false; }));
  EXPECT_TRUE(silent([](Worker& it) { it.scene.walks_processes = false; }));
}

TEST(Leftover, AReaderThatWakesUpNowAndThenIsNotIdle)
{
  Worker it;
  it.leave_8_bytes();
  for (int i = 0; i < 8; i++) {
    it.process.waits_in_epoll = true;
    it.scene.run(6s);
    it.process.waits_in_epoll = false;
    it.scene.run(1s);
  }
  EXPECT_THAT(it.scene.findings(), IsEmpty());
}

TEST(Leftover, WhatComesLaterAsksForTheReaderFromThenOn)
{
  Worker it;
  it.leave_8_bytes();
  EXPECT_TRUE(it.silent_for(30s));
  it.socket.arrive(100);
  EXPECT_TRUE(it.silent_for(9s));
  it.scene.run(4s);
  ASSERT_THAT(it.stalled(), SizeIs(1));
  EXPECT_LE(evidence(it.stalled()[0], "lag_seconds"), 13);
  EXPECT_GE(evidence(it.stalled()[0], "lag_seconds"), 10);
  EXPECT_EQ(evidence(it.stalled()[0], "recv_queue_bytes"), 108);
}

TEST(Leftover, AShutWindowLeavesNothingToThePeersChoice)
{
  Worker it;
  it.socket.window(50'000);
  it.socket.arrive(50'000);
  it.socket.read(500);
  EXPECT_TRUE(it.silent_for(9s));
  it.scene.run(4s);
  EXPECT_THAT(it.stalled(), SizeIs(1));
}

TEST(Leftover, WhatWasNeverReadIsNone)
{
  Worker it;
  it.socket.arrive(8);
  it.scene.run(13s);
  EXPECT_THAT(it.stalled(), SizeIs(1));
}

TEST(Leftover, TheEndOfTheStreamIsSomethingNew)
{
  Worker it;
  it.leave_8_bytes();
  EXPECT_TRUE(it.silent_for(20s));
  it.socket.peer_closes();
  it.scene.run(13s);
  EXPECT_THAT(it.stalled(), SizeIs(1)) << "the peer does not wait for an answer any more";
}

TEST(Leftover, IsNeverASlowReaders)
{
  for (const Duration interval : {Duration{250ms}, Duration{1s}}) {
    Worker it{{}, interval};
    it.leave_8_bytes();
    for (int i = 0; i < 40; i++) {  // takes the rest with the next request, and leaves its 8 bytes
      it.scene.run(7s);
      it.socket.arrive(700);
      it.socket.read(700);
    }
    EXPECT_THAT(it.scene.findings(), IsEmpty()) << seconds(interval);
  }
}

TEST(Leftover, AReaderThatGoesOnTakingALittleOfALargeBurstIsSlow)
{
  Worker it;
  it.socket.window(4 << 20);
  it.socket.arrive(2'000'000);
  it.socket.reads(2'000, 5);
  it.scene.run(30s);
  EXPECT_THAT(it.scene.opened(Kind::SlowReader), SizeIs(1));
}

// ---- the wait in the accept queue ----

struct Queued : Worker {
  Queued()
  {
    socket.sample.unaccepted = true;
    socket.sample.has_file = false;
    socket.holders.clear();
    socket.arrive(700);
    scene.run(24s);
  }
  void accept()
  {
    socket.sample.unaccepted = false;
    socket.sample.has_file = true;
    socket.holders = {process.id};
  }
};

TEST(Accepted, AgeCountsFromAccept)
{
  Queued it;
  it.accept();
  EXPECT_TRUE(it.silent_for(9s));
  it.scene.run(4s);
  ASSERT_THAT(it.stalled(), SizeIs(1));
  EXPECT_LE(evidence(it.stalled()[0], "lag_seconds"), 13);
  EXPECT_LE(it.stalled()[0].duration, 13s);
}

TEST(Accepted, WhatIsLeftAfterAWaitInTheBacklogIsALeftover)
{
  Queued it;
  it.accept();
  it.socket.read(692);
  EXPECT_TRUE(it.silent_for(25s));
  it.socket.read(8);
  EXPECT_TRUE(it.silent_for(30s));
}

TEST(Accepted, WhatIsReadAtOnceIsNotLate)
{
  Queued it;
  it.accept();
  it.scene.run(1s);
  it.socket.drains(4'096, 100);
  it.socket.arrives(10'000);
  EXPECT_TRUE(it.silent_for(60s));
}

}  // namespace
}  // namespace laggard::test
