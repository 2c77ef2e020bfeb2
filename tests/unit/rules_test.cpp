// SPDX-License-Identifier: MIT
// Each clause of DESIGN section 3, on scenes: what must be found, what must be left alone, and how early.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "support/scene.h"

namespace laggard::test {
namespace {

using detect::Finding;
using detect::Kind;
using detect::Phase;
using detect::Severity;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

// A scene with one process that has opened one connection.
struct OneConnection {
  explicit OneConnection(detect::DetectorOptions options = {}, Duration interval = 1s) : scene(std::move(options), interval) {}
  Scene scene;
  SceneProcess& process = scene.process(4121, "viewer");
  SceneSocket& socket = scene.tcp(process);

  bool silent_for(Duration duration)
  {
    scene.run(duration);
    return scene.findings().empty();
  }
};

// When, after the scene's start, the first finding was opened.
Duration opened_after(const Finding& finding, Duration started_at = {})
{
  return finding.time - WallTime{1'700'000'000s} - started_at;
}

// ---- slow-reader ----

// 100 kB/s come, 90 kB/s are taken, and there is room: the reader falls behind by 100 ms per second.
TEST(SlowReader, AStandingQueueWithASecondOfLagIsFound)
{
  OneConnection it;
  it.socket.window(16 << 20).arrives(100'000).reads(9'000, 10);
  it.scene.run(30s);
  const auto found = it.scene.opened(Kind::SlowReader);
  ASSERT_THAT(found, SizeIs(1));
  EXPECT_GE(opened_after(found[0]), 10s);  // 1 s behind as the median of 5 s
  EXPECT_LE(opened_after(found[0]), 16s);
  EXPECT_GE(evidence(found[0], "lag_seconds"), 1.0);
  EXPECT_EQ(evidence(found[0], "read_size_p50_bytes"), 9000);
  EXPECT_NEAR(evidence(found[0], "reads_per_second"), 10, 0.5);
  EXPECT_NEAR(evidence(found[0], "consumed_bytes_per_second"), 90'000, 5'000);
  EXPECT_NEAR(evidence(found[0], "arrival_bytes_per_second"), 100'000, 5'000);
  EXPECT_EQ(found[0].process.comm, "viewer");
  EXPECT_EQ(found[0].severity, Severity::Warning);
}

TEST(SlowReader, LagBelowTheThresholdIsSilent)
{
  OneConnection it;
  it.socket.window(16 << 20).arrives(100'000).reads(10'000, 10);
  it.scene.run(5s);
  it.socket.arrive(80'000);  // 0.8 s behind and no nearer
  it.socket.reads(9'990, 10);
  EXPECT_TRUE(it.silent_for(10s));
}

TEST(SlowReader, TheLagThresholdIsAnOption)
{
  detect::DetectorOptions options;
  options.thresholds.lag = 500ms;
  OneConnection it{options};
  it.socket.window(16 << 20).arrives(100'000).reads(10'000, 10);
  it.scene.run(5s);
  it.socket.arrive(150'000);
  it.scene.run(10s);
  const auto found = it.scene.opened(Kind::SlowReader);
  ASSERT_THAT(found, SizeIs(1));
  bool printed = false;
  for (const detect::Field& threshold : found[0].thresholds)
    if (threshold.name == "lag_seconds")
      printed = std::get<double>(threshold.value) == 0.5;
  EXPECT_TRUE(printed);
}

// Qt with a bounded buffer: 60 MB/s offered, 12 bytes per call, 5.4 MB/s taken, the window always shut.
TEST(SlowReader, SmallBitesFromAShutWindowAreFoundThoughTheLagIsMilliseconds)
{
  OneConnection it;
  it.socket.window(100'000).arrives(60e6).reads(12, 450'000);
  it.scene.run(15s);
  const auto found = it.scene.opened(Kind::SlowReader);
  ASSERT_THAT(found, SizeIs(1));
  EXPECT_GE(opened_after(found[0]), 5s);
  EXPECT_LE(opened_after(found[0]), 8s);  // the hold time and two intervals
  EXPECT_EQ(evidence(found[0], "read_size_p50_bytes"), 12);
  EXPECT_GE(evidence(found[0], "window_closed_ratio"), 0.97);
  EXPECT_LT(evidence(found[0], "lag_seconds"), 1.1);
  EXPECT_THAT(found[0].advice, HasSubstr("12 B per call"));
}

TEST(SlowReader, SmallBitesThatKeepTheWindowOpenAreSilent)
{
  OneConnection it;
  it.socket.window(1 << 20).arrives(1.2e6).reads(12, 100'000);  // a sender that it can just follow
  it.socket.arrive(20'000);
  EXPECT_TRUE(it.silent_for(60s));
  EXPECT_NEAR(it.socket.sample.unread_bytes, 20'000, 100);  // stands all the time
}

TEST(SlowReader, BitesAboveTheLimitAreSilent)
{
  OneConnection it;
  it.socket.window(100'000).arrives(60e6).reads(5'000, 1'000);
  EXPECT_TRUE(it.silent_for(60s));
}

TEST(SlowReader, BitesOfMoreThanAnEighthOfTheQueueAreSilent)
{
  OneConnection it;
  it.socket.window(16'000).arrives(60e6).reads(4'000, 1'000);
  EXPECT_TRUE(it.silent_for(60s));
}

TEST(SlowReader, ABulkReaderThatIsTheBottleneckIsSilent)
{
  for (const std::uint32_t window : {200'000U, 6'000'000U}) {
    OneConnection it;
    it.socket.window(window).arrives(1e9).reads(64 << 10, 1'000);
    EXPECT_TRUE(it.silent_for(60s)) << window;
  }
}

TEST(SlowReader, ABatchReaderThatDrainsWithinTheLagIsSilent)
{
  for (const double seconds_between : {0.1, 0.5, 0.7, 0.9}) {
    OneConnection it;
    it.socket.window(16 << 20).arrives(200'000).drains(4'096, 1 / seconds_between);
    EXPECT_TRUE(it.silent_for(120s)) << seconds_between;
  }
}

TEST(SlowReader, ABatchReaderThatPausesNowAndThenIsSilent)
{
  OneConnection it;
  it.socket.window(16 << 20).arrives(200'000);
  for (int i = 0; i < 12; i++) {
    it.socket.drains(4'096, 10);
    EXPECT_TRUE(it.silent_for(8s));
    it.socket.reads(0, 0);
    EXPECT_TRUE(it.silent_for(i % 2 == 0 ? 2s : 3s));
  }
}

TEST(SlowReader, ABatchReaderThatDrainsEveryFourSecondsIsLateForMostOfTheTime)
{
  OneConnection it;
  it.socket.window(16 << 20).arrives(200'000).drains(4'096, 0.25);
  it.scene.run(60s);
  const auto found = it.scene.opened(Kind::SlowReader);
  ASSERT_THAT(found, SizeIs(1));
  EXPECT_GE(evidence(found[0], "late_ratio"), 0.5);
  EXPECT_EQ(found[0].severity, Severity::Warning);
}

TEST(SlowReader, AReaderThatLeavesBytesBehindAtEachBatchStandsOnlyIfItLags)
{
  OneConnection it;  // takes all but the last few hundred bytes: never empty, never behind
  it.socket.window(16 << 20).arrives(100'000).reads(5'000, 20);
  it.scene.run(1s);
  it.socket.arrive(700);
  EXPECT_TRUE(it.silent_for(60s));
}

TEST(SlowReader, ALagThatEndsBeforeTheHoldTimeIsSilent)
{
  OneConnection it;
  it.socket.window(16 << 20).arrives(1e6).reads(100'000, 5);
  it.scene.run(4s);
  it.socket.drains(65'536, 100);
  EXPECT_TRUE(it.silent_for(20s));
}

// Its last reads are still in the window when the lag of what it does not read any more has filled half of it.
TEST(SlowReader, AReaderThatKeptUpAndStopsIsStalledAndNothingElse)
{
  for (const std::uint32_t standing : {0U, 1'000U, 30'000U}) {
    OneConnection it;
    it.socket.window(16 << 20).arrives(100'000).reads(5'000, 20);
    it.socket.arrive(standing);
    it.scene.run(20s);
    EXPECT_THAT(it.scene.findings(), IsEmpty()) << standing;
    it.socket.reads(0, 0);
    it.scene.run(30s);
    EXPECT_THAT(it.scene.opened(Kind::SlowReader), IsEmpty()) << standing;
    EXPECT_THAT(it.scene.opened(Kind::StalledReader), SizeIs(1)) << standing;
  }
}

TEST(SlowReader, AReaderThatStopsIsNotSlowForTheBacklogThatItsSenderGetsThen)
{
  Scene scene;
  SceneSocket& sender = scene.tcp(scene.process(19, "writer"));
  SceneSocket& receiver = scene.tcp(scene.process(17, "reader"));
  Scene::connect(sender, receiver);
  sender.sends(1e6);
  receiver.window(100'000).reads(10'000, 100);
  receiver.arrive(20'000);  // never empty, and 20 ms behind
  scene.run(20s);
  EXPECT_THAT(scene.findings(), IsEmpty());
  receiver.reads(0, 0);
  scene.run(30s);
  EXPECT_THAT(scene.opened(Kind::SlowReader), IsEmpty());
  EXPECT_THAT(scene.opened(Kind::StalledReader), SizeIs(1));
}

TEST(SlowReader, AReaderThatTakesSomethingNowAndThenIsFoundOnce)
{
  OneConnection it;
  it.socket.window(16 << 20).arrives(100'000).reads(600'000, 1 / 7.0);
  it.scene.run(120s);
  EXPECT_THAT(it.scene.opened(Kind::SlowReader), SizeIs(1));
  EXPECT_THAT(it.scene.lines(Phase::Resolved), IsEmpty());
  EXPECT_THAT(it.scene.opened(Kind::StalledReader), IsEmpty());
}

TEST(SlowReader, ASocketThatNobodyHoldsHasNoReader)
{
  OneConnection it;
  it.socket.window(16 << 20).arrives(100'000).reads(9'000, 10);
  it.socket.orphan();
  it.scene.walks_holders = false;
  EXPECT_TRUE(it.silent_for(40s));
}

TEST(SlowReader, ABacklogAtTheSenderOnThisHostCounts)
{
  Scene scene;
  SceneSocket& receiver = scene.tcp(scene.process(17, "reader"));
  SceneSocket& sender = scene.tcp(scene.process(19, "writer"));
  Scene::connect(sender, receiver);
  // 1 MB/s offered, 0.9 MB/s taken in large blocks: 0.1 s stand here, the rest of the backlog at the sender.
  sender.sends(1e6);
  receiver.window(100'000).reads(9'000, 100);
  scene.run(40s);
  const auto found = scene.opened(Kind::SlowReader);
  ASSERT_THAT(found, SizeIs(1));
  EXPECT_EQ(found[0].process.comm, "reader");
  EXPECT_GE(evidence(found[0], "sender_lag_seconds"), 0.7);
  EXPECT_GE(evidence(found[0], "lag_seconds"), evidence(found[0], "sender_lag_seconds"));
}

TEST(SlowReader, TenTimesTheLagIsCriticalWhereItGrows)
{
  OneConnection it;
  it.socket.window(256 << 20).arrives(1e6).reads(9'000, 10);
  it.scene.run(40s);
  ASSERT_THAT(it.scene.opened(Kind::SlowReader), SizeIs(1));
  EXPECT_EQ(it.scene.opened(Kind::SlowReader)[0].severity, Severity::Warning);
  const auto updates = it.scene.lines(Phase::Updated);
  const auto critical = std::ranges::find(updates, Severity::Critical, &Finding::severity);
  ASSERT_NE(critical, updates.end());
  EXPECT_GE(evidence(*critical, "lag_seconds"), 10);
  EXPECT_THAT(critical->advice, testing::Not(HasSubstr("deliberate limit")));
}

// wget --limit-rate: the window is shut after each read, and how much of it is unread at a look is where in its saw-tooth that was.
TEST(SlowReader, BehindAShutWindowNoMoreCanWait)
{
  OneConnection it;
  it.socket.window(131'072).arrives(1e6).reads(1'024, 6);
  for (int second = 0; second < 90; second++) {
    it.socket.window(90'000 + 1'000 * static_cast<std::uint32_t>(second % 45));
    it.scene.run(1s);
  }
  ASSERT_THAT(it.scene.opened(Kind::SlowReader), SizeIs(1));
  EXPECT_EQ(std::ranges::count(it.scene.findings(), Severity::Critical, &Finding::severity), 0);
}

// ---- stalled-reader ----

TEST(StalledReader, DataThatNobodyTakesIsFoundAfterTheStallTimeAndNotBefore)
{
  OneConnection it;
  it.scene.run(20s);
  it.socket.arrive(700);
  EXPECT_TRUE(it.silent_for(10s));
  it.scene.run(3s);
  const auto found = it.scene.opened(Kind::StalledReader);
  ASSERT_THAT(found, SizeIs(1));
  EXPECT_LE(opened_after(found[0]), 32s);
  EXPECT_EQ(found[0].severity, Severity::Warning);
  EXPECT_FALSE(found[0].start_is_lower_bound);
  EXPECT_EQ(evidence(found[0], "recv_queue_bytes"), 700);
  EXPECT_GE(evidence(found[0], "lag_seconds"), 10);
  EXPECT_THAT(found[0].message, HasSubstr("700 B unread"));
  EXPECT_THAT(found[0].message, HasSubstr("never read"));
  EXPECT_FALSE(has_evidence(found[0], "last_read_seconds"));
}

TEST(StalledReader, AReplyOnALongIdleConnectionIsNotStalled)
{
  OneConnection it;
  it.socket.arrive(100);
  it.socket.read(100);
  it.scene.run(3600s);
  it.socket.arrive(100);
  it.scene.run(5s);
  it.socket.read(100);
  EXPECT_TRUE(it.silent_for(60s));
}

TEST(StalledReader, ConsumptionOfAnyKindStartsTheTimeAgain)
{
  OneConnection it;
  it.socket.window(16 << 20).arrives(1'000).reads(0, 0);
  for (int i = 0; i < 20; i++) {
    it.scene.run(8s);
    it.socket.splice(17);  // no read at all
  }
  EXPECT_THAT(it.scene.opened(Kind::StalledReader), IsEmpty());
}

TEST(StalledReader, AContinuingSenderDoesNotStartItAgain)
{
  OneConnection it;
  it.socket.window(16 << 20).arrives(1'000);
  it.scene.run(13s);
  EXPECT_THAT(it.scene.opened(Kind::StalledReader), SizeIs(1));
}

TEST(StalledReader, WhatWaitedBeforeWeLookedIsALowerBound)
{
  OneConnection it;
  it.socket.sample.older_than_observer = true;
  it.socket.arrive(700);
  it.socket.sample.last_arrival = it.scene.now() - 47min;
  it.scene.run(13s);
  const auto found = it.scene.opened(Kind::StalledReader);
  ASSERT_THAT(found, SizeIs(1));
  EXPECT_TRUE(found[0].start_is_lower_bound);
  EXPECT_GE(found[0].duration, 47min);
  EXPECT_THAT(found[0].message, HasSubstr("at least 47 min"));
  EXPECT_THAT(found[0].message, HasSubstr("not read since laggard watches"));
}

TEST(StalledReader, AConnectionThatNobodyAcceptedYetIsTheListenersBusiness)
{
  OneConnection it;
  it.socket.sample.accepted = true;
  it.socket.sample.connected = false;
  it.socket.orphan();  // no file: it waits in the accept queue
  it.scene.walks_holders = false;
  it.socket.arrive(700);
  EXPECT_TRUE(it.silent_for(120s));
}

TEST(StalledReader, AUdpSocketThatNobodyReadsIsFound)
{
  Scene scene;
  SceneSocket& socket = scene.udp(scene.process(17, "resolver"));
  scene.run(5s);
  socket.arrive_datagrams(23, 100);
  scene.run(13s);
  const auto found = scene.opened(Kind::StalledReader);
  ASSERT_THAT(found, SizeIs(1));
  EXPECT_THAT(found[0].message, HasSubstr("23 datagrams"));
  EXPECT_EQ(evidence(found[0], "recv_queue_packets"), 23);
  EXPECT_EQ(found[0].severity, Severity::Warning);
  ASSERT_TRUE(found[0].socket);
  EXPECT_EQ(found[0].socket->transport, model::Transport::Udp);
}

TEST(StalledReader, AUdpSocketThatIsReadNowAndThenIsNot)
{
  Scene scene;
  SceneSocket& socket = scene.udp(scene.process(17, "resolver"));
  socket.arrives(0).reads(100, 0.2);
  for (int i = 0; i < 10; i++) {
    socket.arrive_datagrams(2, 100);
    scene.run(6s);
  }
  EXPECT_THAT(scene.findings(), IsEmpty());
}

TEST(StalledReader, DatagramsThatAreLostMeanwhileMakeItCritical)
{
  Scene scene;
  SceneSocket& socket = scene.udp(scene.process(17, "resolver"));
  scene.run(1s);
  for (int i = 0; i < 14; i++) {
    socket.arrive_datagrams(100, 1000);
    scene.run(1s);
  }
  const auto found = scene.opened(Kind::StalledReader);
  ASSERT_THAT(found, SizeIs(1));
  EXPECT_EQ(found[0].severity, Severity::Critical);
  EXPECT_GT(evidence(found[0], "drops_total"), 0);
}

TEST(StalledReader, TenTimesTheStallTimeIsCritical)
{
  OneConnection it;
  it.socket.arrive(700);
  it.scene.run(97s);
  for (const Finding& finding : it.scene.findings())
    EXPECT_EQ(finding.severity, Severity::Warning);
  it.scene.run(5s);
  EXPECT_EQ(it.scene.findings().back().severity, Severity::Critical);
}

TEST(StalledReader, AReaderThatStallsAfterBeingSlowSaysWhenItReadLast)
{
  OneConnection it;
  it.socket.window(1 << 20).arrives(100'000).reads(1'000, 100);
  it.scene.run(5s);
  it.socket.reads(1'000, 0);
  it.scene.run(14s);
  const auto found = it.scene.opened(Kind::StalledReader);
  ASSERT_THAT(found, SizeIs(1));
  EXPECT_THAT(found[0].message, HasSubstr("last read"));
  EXPECT_GE(evidence(found[0], "last_read_seconds"), 9);
}

// ---- user-space-buffering ----

// Reads 1 MB/s and keeps `kept` bytes of each byte.
struct Hoarder {
  explicit Hoarder(double kept)
  {
    socket.arrives(1e6).drains(16'384, 100);
    process.anon_bytes = [kept](double t) { return 50e6 + kept * 1e6 * t; };
  }
  Scene scene;
  SceneProcess& process = scene.process(17, "hoarder");
  SceneSocket& socket = scene.tcp(process);
};

TEST(UserSpaceBuffering, AProcessThatKeepsWhatItReadsIsFoundAfterTheWindowAndBlamesItsConnections)
{
  Hoarder it{1.0};
  SceneSocket& second = it.scene.tcp(it.process);
  second.arrives(1e5).drains(16'384, 100);
  it.scene.run(29s);
  EXPECT_THAT(it.scene.findings(), IsEmpty());
  it.scene.run(5s);
  const auto found = it.scene.opened(Kind::UserSpaceBuffering);
  ASSERT_THAT(found, SizeIs(1));
  EXPECT_EQ(found[0].process.comm, "hoarder");
  EXPECT_FALSE(found[0].socket);
  EXPECT_NEAR(evidence(found[0], "retained_ratio"), 1 / 1.1, 0.05);
  EXPECT_NEAR(evidence(found[0], "memory_growth_bytes_per_second"), 1e6, 1e4);
  ASSERT_THAT(found[0].examples, SizeIs(2));
  EXPECT_EQ(found[0].examples[0], it.socket.sample.tuple);  // the most first
  EXPECT_FALSE(found[0].quality.missing.empty());           // correlated, not attributed
  EXPECT_THAT(it.scene.findings(), SizeIs(1));
}

TEST(UserSpaceBuffering, OnlyAVisibleRelationToWhatIsReadIsReported)
{
  const std::pair<double, bool> cases[] = {{0.2, false}, {0.3, true}, {1.0, true}, {2.1, true}, {3.8, true}, {4.3, false}};
  for (const auto& [kept, expected] : cases) {
    Hoarder it{kept};
    it.socket.arrives(2e6);  // enough for 8 MiB at the lowest ratio
    it.process.anon_bytes = [kept = kept](double t) { return 50e6 + kept * 2e6 * t; };
    it.scene.run(60s);
    EXPECT_EQ(it.scene.opened(Kind::UserSpaceBuffering).size(), expected ? 1U : 0U) << kept;
  }
}

TEST(UserSpaceBuffering, AProcessThatDiscardsWhatItReadsIsSilent)
{
  Hoarder it{0};
  it.scene.run(120s);
  EXPECT_THAT(it.scene.findings(), IsEmpty());
}

TEST(UserSpaceBuffering, GrowthWithoutReadingIsAnotherFinding)
{
  Scene scene;
  SceneProcess& leaker = scene.process(17, "leaker");
  scene.tcp(leaker);
  leaker.anon_bytes = [](double t) { return 1e6 * t; };
  scene.run(90s);
  EXPECT_THAT(scene.opened(Kind::UserSpaceBuffering), IsEmpty());
  EXPECT_THAT(scene.opened(Kind::HeapGrowth), SizeIs(1));
}

TEST(UserSpaceBuffering, GrowthBelowTheThresholdIsSilent)
{
  Hoarder it{0.27};  // 7.7 MiB per window
  it.scene.run(85s);
  EXPECT_THAT(it.scene.findings(), IsEmpty());
  it.scene.run(10s);
  EXPECT_THAT(it.scene.opened(Kind::UserSpaceBuffering), SizeIs(1)) << "three windows show it";
}

TEST(UserSpaceBuffering, WarmUpAndCachesThatFillAndStopAreSilent)
{
  for (const double seconds_to_fill : {5.0, 10.0, 17.0}) {
    Hoarder it{0};
    it.process.anon_bytes = [=](double t) { return 50e6 + 20e6 * std::min(t / seconds_to_fill, 1.0); };
    it.scene.run(120s);
    EXPECT_THAT(it.scene.findings(), IsEmpty()) << seconds_to_fill;
  }
}

TEST(UserSpaceBuffering, AGarbageCollectorsSawToothIsSilent)
{
  for (const double period : {3.0, 7.0, 12.0}) {
    Hoarder it{0};
    it.process.anon_bytes = [=](double t) { return 50e6 + 1e6 * std::fmod(t, period); };
    it.scene.run(180s);
    EXPECT_THAT(it.scene.findings(), IsEmpty()) << period;
  }
}

TEST(UserSpaceBuffering, TenMinutesToTheHostsLimitAreCritical)
{
  Hoarder far{1.0};
  far.scene.host_available_bytes = 700'000'000;
  far.scene.run(40s);
  ASSERT_THAT(far.scene.opened(Kind::UserSpaceBuffering), SizeIs(1));
  EXPECT_EQ(far.scene.findings()[0].severity, Severity::Warning);
  Hoarder near{1.0};
  near.scene.host_available_bytes = 500'000'000;
  near.scene.run(40s);
  ASSERT_THAT(near.scene.opened(Kind::UserSpaceBuffering), SizeIs(1));
  EXPECT_EQ(near.scene.findings()[0].severity, Severity::Critical);
  EXPECT_NEAR(evidence(near.scene.findings()[0], "memory_limit_eta_seconds"), 500, 5);
}

TEST(UserSpaceBuffering, BytesOfConnectionsThatLivedBetweenTwoTicksCount)
{
  Scene scene;
  SceneProcess& process = scene.process(17, "fetcher");
  process.anon_bytes = [](double t) { return 50e6 + 1e6 * t; };
  for (int second = 0; second < 40; second++) {
    process.read_bytes += 1'000'000;  // by sockets that are gone again
    scene.run(1s);
  }
  EXPECT_THAT(scene.opened(Kind::UserSpaceBuffering), SizeIs(1));
}

// ---- close-wait ----

TEST(CloseWait, ASocketThatThePeerClosedIsFoundAfterItsTimeAndNotBefore)
{
  OneConnection it;
  it.scene.run(7s);
  it.socket.peer_closes();
  EXPECT_TRUE(it.silent_for(59s));
  it.scene.run(3s);
  const auto found = it.scene.opened(Kind::CloseWait);
  ASSERT_THAT(found, SizeIs(1));
  EXPECT_LE(opened_after(found[0]), 69s);
  EXPECT_FALSE(found[0].start_is_lower_bound);
  EXPECT_GE(evidence(found[0], "half_closed_seconds"), 60);
  EXPECT_THAT(it.scene.findings(), SizeIs(1));
}

TEST(CloseWait, SaysWhetherTheProgramSawTheEndOfFile)
{
  const auto found_after = [](const std::function<void(SceneSocket&)>& happens) {
    OneConnection it;
    it.scene.run(2s);
    happens(it.socket);
    it.scene.run(65s);
    const auto found = it.scene.opened(Kind::CloseWait);
    EXPECT_THAT(found, SizeIs(1));
    return found.at(0);
  };
  const Finding seen = found_after([](SceneSocket& socket) {
    socket.peer_closes();
    socket.read_eof();
  });
  EXPECT_EQ(evidence(seen, "eof_seen"), 1);
  const Finding never = found_after([](SceneSocket& socket) { socket.peer_closes(); });
  EXPECT_EQ(evidence(never, "eof_seen"), 0);
  const Finding eaten = found_after([](SceneSocket& socket) {
    socket.arrive(100);
    socket.peer_closes();
    socket.read(4096);
  });
  EXPECT_FALSE(has_evidence(eaten, "eof_seen"));
  EXPECT_THAT(eaten.message, HasSubstr("not known"));
  const Finding older = found_after([](SceneSocket& socket) {
    socket.peer_closes();
    socket.sample.peer_closed_at = {};
  });
  EXPECT_FALSE(has_evidence(older, "eof_seen"));
  EXPECT_TRUE(older.start_is_lower_bound);
}

TEST(CloseWait, APeerThatOnlyHalfClosedAndIsStillAnsweredIsAtWork)
{
  OneConnection it;
  it.scene.run(2s);
  it.socket.peer_closes();
  it.socket.sends(1'000);
  EXPECT_TRUE(it.silent_for(300s));
  it.socket.sends(0);
  EXPECT_TRUE(it.silent_for(58s));
  it.scene.run(5s);
  EXPECT_THAT(it.scene.opened(Kind::CloseWait), SizeIs(1));
}

TEST(CloseWait, BytesThatWereInFlightBeforeWeLookedAreNotAnAnswer)
{
  OneConnection it;
  it.scene.run(2s);
  it.socket.send(5'000, false);
  it.socket.peer_closes();
  it.scene.run(65s);
  EXPECT_THAT(it.scene.opened(Kind::CloseWait), SizeIs(1));
}

TEST(CloseWait, AnOrphanIsNobodysFault)
{
  OneConnection it;
  it.scene.walks_holders = false;  // which would say the same
  it.socket.peer_closes();
  it.socket.orphan();
  EXPECT_TRUE(it.silent_for(300s));
}

TEST(CloseWait, TenTimesItsTimeIsCritical)
{
  OneConnection it;
  it.socket.peer_closes();
  it.scene.run(590s);
  EXPECT_EQ(it.scene.findings().back().severity, Severity::Warning);
  it.scene.run(15s);
  EXPECT_EQ(it.scene.findings().back().severity, Severity::Critical);
}

TEST(CloseWait, UnreadBytesInFrontOfTheEndAreAStalledReaderToo)
{
  OneConnection it;
  it.socket.arrive(700);
  it.socket.peer_closes();
  it.scene.run(65s);
  EXPECT_THAT(it.scene.opened(Kind::CloseWait), SizeIs(1));
  EXPECT_THAT(it.scene.opened(Kind::StalledReader), SizeIs(1));
}

// ---- fin-wait-2 ----

TEST(FinWait2, ASocketWhosePeerNeverClosesIsFoundAfterItsTimeAndNotBefore)
{
  OneConnection it;
  it.scene.run(7s);
  it.socket.shut_down();
  EXPECT_TRUE(it.silent_for(59s));
  it.scene.run(3s);
  const auto found = it.scene.opened(Kind::FinWait2);
  ASSERT_THAT(found, SizeIs(1));
  EXPECT_GE(evidence(found[0], "half_closed_seconds"), 60);
  EXPECT_THAT(it.scene.findings(), SizeIs(1));
}

TEST(FinWait2, AnOrphanHasNoProcessThatWaits)
{
  OneConnection it;
  it.scene.walks_holders = false;
  it.socket.shut_down();
  it.socket.orphan();
  EXPECT_TRUE(it.silent_for(300s));
}

TEST(FinWait2, APeerThatStillSendsItsAnswerIsAtWork)
{
  OneConnection it;
  it.scene.run(2s);
  it.socket.shut_down();
  it.socket.arrives(1'000).drains(4'096, 10);
  EXPECT_TRUE(it.silent_for(300s));
  it.socket.arrives(0);
  EXPECT_TRUE(it.silent_for(58s));
  it.scene.run(5s);
  EXPECT_THAT(it.scene.opened(Kind::FinWait2), SizeIs(1));
}

TEST(FinWait2, AShutdownBeforeWeLookedIsALowerBound)
{
  OneConnection it;
  it.socket.shut_down();
  it.socket.sample.shutdown_at = {};
  it.scene.run(63s);
  const auto found = it.scene.opened(Kind::FinWait2);
  ASSERT_THAT(found, SizeIs(1));
  EXPECT_TRUE(found[0].start_is_lower_bound);
}

// ---- all of them ----

TEST(Rules, EveryKindHasItsRule)
{
#define LAGGARD_RULE_CHECK(name, text) EXPECT_EQ(detect::rule_of(Kind::name).kind, Kind::name);
  LAGGARD_FINDING_KINDS(LAGGARD_RULE_CHECK)
#undef LAGGARD_RULE_CHECK
}

TEST(Rules, AHealthyHostIsSilent)
{
  Scene scene;
  SceneProcess& server = scene.process(17, "server");
  for (int i = 0; i < 50; i++)
    scene.tcp(server).arrives(1'000.0 * i).drains(4'096, 1 + i);
  for (int i = 0; i < 50; i++)
    scene.tcp(server);  // an idle keep-alive pool
  scene.udp(server).reads(100, 200).arrives(10'000);
  SceneSocket& listener = scene.tcp(server);
  listener.sample.state = model::TcpState::Listen;
  listener.sample.connected = false;
  scene.run(120s);
  EXPECT_THAT(scene.findings(), IsEmpty());
}

TEST(Rules, TheIntervalDoesNotChangeWhatIsFound)
{
  for (const Duration interval : {Duration{100ms}, Duration{500ms}, Duration{1s}, Duration{2s}, Duration{5s}}) {
    OneConnection it{{}, interval};
    it.socket.window(100'000).arrives(60e6).reads(12, 450'000);
    it.scene.run(30s);
    EXPECT_THAT(it.scene.opened(Kind::SlowReader), SizeIs(1)) << seconds(interval);
    OneConnection healthy{{}, interval};
    healthy.socket.window(16 << 20).arrives(200'000).drains(4'096, 2);
    EXPECT_TRUE(healthy.silent_for(60s)) << seconds(interval);
  }
}

}  // namespace
}  // namespace laggard::test
