// SPDX-License-Identifier: MIT
// slow-reader by share of time: the measure (model/lateness.h) and the rule, for readers that are late in bursts.
#include "model/lateness.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "support/scene.h"

namespace laggard::test {
namespace {

using detect::Finding;
using detect::Kind;
using detect::Phase;
using detect::Severity;
using model::Lateness;
using model::QueueStep;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

constexpr MonoTime at(Duration since_start) { return MonoTime{1000s + since_start}; }
constexpr Duration kLag = 1s, kWindow = 30s;

// ---- the measure ----

TEST(Lateness, WhoWasNeverLatePaysNothing)
{
  Lateness lateness;
  for (int i = 0; i < 100; i++)
    lateness.observe({.begin = at(i * 1s), .end = at((i + 1) * 1s), .oldest_before = at(i * 1s)}, kLag, kWindow);
  EXPECT_EQ(lateness.looks().capacity(), 0U);
  EXPECT_EQ(lateness.share(at(100s), kWindow), 0);
  EXPECT_EQ(lateness.spells(), 0U);
}

TEST(Lateness, CountsFromTheLagOnAndUntilSomethingIsTaken)
{
  Lateness lateness;
  lateness.observe({.begin = at(0s), .end = at(4s), .oldest_before = at(0s), .consumed = at(3s)}, kLag, kWindow);
  EXPECT_DOUBLE_EQ(lateness.share(at(4s), kWindow), 2.0 / 30);
}

TEST(Lateness, WhatIsLeftAfterwardsCountsByItsOwnAge)
{
  Lateness lateness;
  lateness.observe({.begin = at(0s), .end = at(4s), .oldest_before = at(0s), .consumed = at(2s), .oldest_after = at(1500ms)},
                   kLag, kWindow);
  EXPECT_DOUBLE_EQ(lateness.share(at(4s), kWindow), (1 + 1.5) / 30);
}

TEST(Lateness, WhatCameWithinTheStepCounts)
{
  Lateness lateness;
  lateness.observe({.begin = at(0s), .end = at(5s), .oldest_after = at(1s)}, kLag, kWindow);
  EXPECT_DOUBLE_EQ(lateness.share(at(5s), kWindow), 3.0 / 30);
}

TEST(Lateness, OneThatIsLateAllTheTimeHasAShareOfOne)
{
  Lateness lateness;
  for (int i = 0; i < 60; i++)
    lateness.observe({.begin = at(i * 1s), .end = at((i + 1) * 1s), .oldest_before = at(-10s), .oldest_after = at(-10s)}, kLag,
                     kWindow);
  EXPECT_DOUBLE_EQ(lateness.share(at(60s), kWindow), 1);
  EXPECT_EQ(lateness.spells(), 0U) << "it has not ended";
  EXPECT_LE(lateness.looks().size(), 13U);
}

TEST(Lateness, OfTheTimeBeforeTheFirstLookNothingIsKnown)
{
  Lateness lateness;
  for (int i = 0; i < 15; i++)
    lateness.observe({.begin = at(i * 1s), .end = at((i + 1) * 1s), .oldest_before = at(-10s), .oldest_after = at(-10s)}, kLag,
                     kWindow);
  EXPECT_DOUBLE_EQ(lateness.share(at(15s), kWindow), 0.5);
}

TEST(Lateness, SpellsThatEndedAreCountedAndForgottenWithTheirWindow)
{
  Lateness lateness;
  Duration now{};
  const auto spell = [&] {
    lateness.observe({.begin = at(now), .end = at(now + 4s), .oldest_before = at(now), .oldest_after = at(now)}, kLag, kWindow);
    lateness.observe({.begin = at(now + 4s), .end = at(now + 5s), .oldest_before = at(now), .consumed = at(now + 4s)}, kLag, kWindow);
    now += 5s;
  };
  spell();
  EXPECT_EQ(lateness.spells(), 1U);
  spell(), spell();
  EXPECT_EQ(lateness.spells(), 3U);
  EXPECT_NEAR(lateness.share(at(now), kWindow), 9.0 / 30, 0.01);
  for (int i = 0; i < 60; i++, now += 1s)
    lateness.observe({.begin = at(now), .end = at(now + 1s)}, kLag, kWindow);
  EXPECT_EQ(lateness.spells(), 0U);
  EXPECT_EQ(lateness.share(at(now), kWindow), 0);
  EXPECT_EQ(lateness.looks().capacity(), 0U);
}

// ---- the rule ----

// A loop that works through everything for some time, blocks for some time, and so on.
struct Loop {
  explicit Loop(detect::DetectorOptions options = {}, Duration interval = 250ms) : scene(std::move(options), interval)
  {
    add_connection();
  }
  Scene scene;
  SceneProcess& process = scene.process(17, "loop");
  std::vector<SceneSocket*> sockets;

  SceneSocket& add_connection()
  {
    sockets.push_back(&scene.tcp(process));
    return sockets.back()->window(4 << 20).arrives(20'000);
  }
  void go(Duration blocks, Duration works, Duration total)
  {
    for (const MonoTime end = scene.now() + total; scene.now() < end;) {
      for (SceneSocket* socket : sockets)
        socket->reads(0, 0);
      scene.run(blocks);
      for (SceneSocket* socket : sockets)
        socket->drains(4'096, 100);
      scene.run(works);
    }
  }
  std::vector<Finding> opened() const { return scene.opened(Kind::SlowReader); }
};

double threshold(const Finding& finding, std::string_view name)
{
  for (const detect::Field& field : finding.thresholds)
    if (field.name == name)
      return std::get<double>(field.value);
  ADD_FAILURE() << "no threshold '" << name << "'";
  return 0;
}

TEST(LateInBursts, ALoopThatBlocksForFourSecondsOfFourAndAHalfIsFound)
{
  Loop it;
  it.go(4s, 500ms, 60s);
  const auto found = it.opened();
  ASSERT_THAT(found, SizeIs(1));
  EXPECT_THAT(it.scene.lines(Phase::Resolved), IsEmpty());
  EXPECT_EQ(found[0].severity, Severity::Warning);
  EXPECT_EQ(found[0].process.comm, "loop");
  EXPECT_THAT(found[0].message, HasSubstr("reads in bursts"));
  EXPECT_GE(evidence(found[0], "late_ratio"), 0.5);
  EXPECT_LE(evidence(found[0], "late_ratio"), 0.67);
  EXPECT_EQ(threshold(found[0], "late_share_ratio"), 0.5);
  EXPECT_EQ(threshold(found[0], "late_window_seconds"), 30);
  EXPECT_EQ(threshold(found[0], "lag_seconds"), 1);
}

TEST(LateInBursts, ItTakesHalfOfTheWindow)
{
  Loop it;
  it.go(4s, 500ms, 18s);
  EXPECT_THAT(it.scene.findings(), IsEmpty());
  it.go(4s, 500ms, 18s);
  EXPECT_THAT(it.opened(), SizeIs(1));
}

TEST(LateInBursts, ItResolvesOnceTheLoopKeepsUp)
{
  Loop it;
  it.go(4s, 500ms, 60s);
  ASSERT_THAT(it.opened(), SizeIs(1));
  it.scene.run(45s);
  EXPECT_THAT(it.scene.lines(Phase::Resolved), SizeIs(1));
  EXPECT_THAT(it.scene.findings(), testing::Each(testing::Field(&Finding::kind, Kind::SlowReader)));
}

TEST(LateInBursts, PausesNowAndThenAreSilent)
{
  for (const Duration interval : {Duration{250ms}, Duration{500ms}, Duration{1s}}) {
    Loop it{{}, interval};
    double most = 0;
    for (int i = 0; i < 15; i++) {
      it.go(3s, 8s, 11s);  // late for 2 s of 11: 18 %
      if (const model::Connection* connection = it.scene.model().find(it.sockets[0]->sample.cookie))
        most = std::max(most, connection->lateness().share(it.scene.now(), 30s));
    }
    EXPECT_THAT(it.scene.findings(), IsEmpty()) << seconds(interval);
    EXPECT_LE(most, 0.3) << seconds(interval);
  }
}

TEST(LateInBursts, BatchesWithinTheLagAreSilentHoweverTheLooksFall)
{
  for (const Duration interval : {Duration{250ms}, Duration{1s}, Duration{2s}, Duration{5s}})
    for (const std::uint32_t bytes : {1'000U, 65'536U}) {
      Scene scene{{}, interval};
      SceneSocket& socket = scene.tcp(scene.process(17, "batch"));
      socket.window(4 << 20).arrives(20'000).drains(bytes, 1 / 0.9);
      double most = 0;
      for (int i = 0; i < 36; i++) {
        scene.run(5s);
        most = std::max(most, scene.model().find(socket.sample.cookie)->lateness().share(scene.now(), 30s));
      }
      EXPECT_THAT(scene.findings(), IsEmpty()) << seconds(interval) << ' ' << bytes;
      EXPECT_LE(most, 0.25) << "looks " << seconds(interval) << " s apart, reads of " << bytes;
    }
}

TEST(LateInBursts, ARequestNowAndThenThatIsReadAtOnceIsSilent)
{
  Loop it{{}, 1s};
  it.sockets[0]->arrives(0).drains(4'096, 100);
  for (int i = 0; i < 30; i++) {
    it.sockets[0]->arrive(100);
    it.scene.run(7s);
  }
  EXPECT_THAT(it.scene.findings(), IsEmpty());
}

TEST(LateInBursts, OneStallThatEndsIsNoSecondFinding)
{
  Loop it;
  it.go(25s, 60s, 85s);
  EXPECT_THAT(it.scene.opened(Kind::StalledReader), SizeIs(1));
  EXPECT_THAT(it.opened(), IsEmpty());
}

TEST(LateInBursts, ThreeConnectionsTogetherNeedLess)
{
  // Late for 1.5 s of 3.25: 46 %, which is more than four fifths of a half.
  Loop alone;
  alone.go(2500ms, 750ms, 90s);
  EXPECT_THAT(alone.scene.findings(), IsEmpty());
  Loop two;
  two.add_connection();
  two.go(2500ms, 750ms, 90s);
  EXPECT_THAT(two.scene.findings(), IsEmpty());
  Loop three;
  three.add_connection(), three.add_connection();
  three.go(2500ms, 750ms, 90s);
  ASSERT_THAT(three.opened(), SizeIs(1));
  EXPECT_THAT(three.scene.findings().back().message, HasSubstr("on 3 connections alike"));
}

TEST(LateInBursts, ConnectionsOfOthersDoNotAddUp)
{
  Loop it;
  for (std::uint32_t tgid : {18U, 19U}) {
    it.sockets.push_back(&it.scene.tcp(it.scene.process(tgid, "other")));
    it.sockets.back()->window(4 << 20).arrives(20'000);
  }
  it.go(2500ms, 750ms, 90s);
  EXPECT_THAT(it.scene.findings(), IsEmpty());
}

TEST(LateInBursts, TimeInAnAcceptQueueDoesNotCount)
{
  Loop it{{}, 1s};
  SceneSocket& socket = *it.sockets[0];
  socket.arrives(0);
  for (int i = 0; i < 10; i++) {  // a child each time, accepted after 4 s and read at once
    it.scene.destroy(*it.sockets[0]);
    SceneSocket& child = it.scene.tcp(it.process);
    it.sockets = {&child};
    child.sample.accepted = child.sample.unaccepted = true;
    child.sample.connected = child.sample.has_file = false;
    child.arrive(700);
    it.scene.run(4s);
    child.sample.unaccepted = false;
    child.sample.has_file = true;
    it.scene.run(1s);
    child.read(4'096);
    const model::Connection* connection = it.scene.model().find(child.sample.cookie);
    ASSERT_NE(connection, nullptr);
    EXPECT_EQ(connection->lateness().share(it.scene.now(), 30s), 0);
  }
  EXPECT_THAT(it.opened(), IsEmpty());
}

TEST(LateInBursts, LeftoversDoNotCount)
{
  Loop it{{}, 1s};
  SceneSocket& socket = *it.sockets[0];
  socket.arrives(0);
  for (int i = 0; i < 12; i++) {  // php-fpm: all but 8 bytes of a request, and the rest when the page is done
    socket.arrive(700);
    socket.read(692);
    it.scene.run(9s);
    socket.read(8);
    it.scene.run(1s);
    const model::Connection* connection = it.scene.model().find(socket.sample.cookie);
    EXPECT_TRUE(connection == nullptr || connection->lateness().looks().empty());
  }
  EXPECT_THAT(it.scene.findings(), IsEmpty());
}

// A burst now and then: a sweep shows the connection while something waits, and not in between.
TEST(LateInBursts, ItSurvivesSweepsThatDoNotShowIt)
{
  Scene scene;
  SceneSocket& socket = scene.tcp(scene.process(17, "loop"));
  for (int i = 0; i < 15; i++) {
    socket.arrive(5'000);
    scene.run(6s);
    socket.read(65'536);
    scene.run(3s);  // nothing comes, nothing is read: two sweeps without it
    ASSERT_NE(scene.model().find(socket.sample.cookie), nullptr);
  }
  ASSERT_THAT(scene.opened(Kind::SlowReader), SizeIs(1));
  EXPECT_THAT(scene.lines(Phase::Resolved), IsEmpty());
  scene.run(60s);
  EXPECT_THAT(scene.lines(Phase::Resolved), SizeIs(1));
  EXPECT_EQ(scene.model().find(socket.sample.cookie), nullptr) << "idle: nothing to remember";
}

TEST(LateInBursts, HoweverOftenWeLookItIsTheSame)
{
  for (const Duration interval : {Duration{250ms}, Duration{500ms}, Duration{1s}, Duration{2s}, Duration{5s}}) {
    Scene scene{{}, interval};
    SceneSocket& socket = scene.tcp(scene.process(17, "loop"));
    socket.window(4 << 20).arrives(20'000).drains(65'536, 1 / 6.7);  // late for 5.7 s of 6.7: 85 %
    scene.run(120s);
    ASSERT_THAT(scene.opened(Kind::SlowReader), SizeIs(1)) << seconds(interval);
    EXPECT_THAT(scene.lines(Phase::Resolved), IsEmpty()) << seconds(interval);
    EXPECT_NEAR(evidence(scene.findings().back(), "late_ratio"), 0.85, 0.16) << seconds(interval);
  }
}

TEST(LateInBursts, TheNamedExampleIsFoundHoweverOftenWeLook)
{
  for (const Duration interval : {Duration{250ms}, Duration{500ms}, Duration{1s}, Duration{2s}, Duration{5s}}) {
    Scene scene{{}, interval};
    SceneSocket& socket = scene.tcp(scene.process(17, "loop"));
    socket.window(4 << 20).arrives(20'000).drains(4'096, 1 / 4.5);  // late for 3.5 s of 4.5: 78 %
    scene.run(180s);
    EXPECT_THAT(scene.opened(Kind::SlowReader), SizeIs(1)) << seconds(interval);
    EXPECT_THAT(scene.lines(Phase::Resolved), IsEmpty()) << seconds(interval);
  }
}

TEST(LateInBursts, ShareWindowAndLagAreOptions)
{
  detect::DetectorOptions options;
  options.thresholds.late_share = 0.8;
  Loop strict{options};
  strict.go(4s, 500ms, 90s);
  EXPECT_THAT(strict.scene.findings(), IsEmpty());

  options.thresholds.late_share = 0.15;
  Loop lenient{options};
  lenient.go(3s, 7500ms, 84s);
  ASSERT_THAT(lenient.opened(), SizeIs(1));

  options.thresholds.late_share = 0.5;
  options.thresholds.late_window = 10s;
  Loop quick{options};
  quick.go(4s, 500ms, 18s);
  ASSERT_THAT(quick.opened(), SizeIs(1));

  options.thresholds.late_window = 30s;
  options.thresholds.lag = 3s;
  Loop patient{options};
  patient.go(4s, 500ms, 90s);
  EXPECT_THAT(patient.scene.findings(), IsEmpty());
}

// ---- readers that pace a bulk source ----

// 4 MB wait, 100 kB/s are taken: 40 s behind, for ever.
TEST(PacedReader, ASteadyRateFromASourceThatCouldSendMoreStaysAWarning)
{
  Scene scene;
  SceneSocket& socket = scene.tcp(scene.process(17, "player"));
  socket.window(4 << 20).arrives(10e6).reads(10'000, 10);
  scene.run(600s);
  ASSERT_THAT(scene.opened(Kind::SlowReader), SizeIs(1));
  EXPECT_THAT(scene.findings(), testing::Each(testing::Field(&Finding::severity, Severity::Warning)));
  EXPECT_GE(evidence(scene.findings().back(), "lag_seconds"), 30);
  EXPECT_THAT(scene.findings().back().advice, HasSubstr("--limit-rate"));
}

TEST(PacedReader, AChunkEveryFewSecondsIsPacedAsWell)
{
  for (const double every : {0.5, 2.0, 5.0}) {
    Scene scene;
    SceneSocket& socket = scene.tcp(scene.process(17, "player"));
    socket.window(4 << 20).arrives(10e6).reads(static_cast<std::uint32_t>(100'000 * every), 1 / every);
    scene.run(400s);
    EXPECT_THAT(scene.findings(), testing::Each(testing::Field(&Finding::severity, Severity::Warning))) << every;
  }
}

struct BothEnds {
  BothEnds()
  {
    Scene::connect(sender, receiver);
    sender.sends(1e6);
    receiver.window(2 << 20).reads(10'000, 10);
  }
  // What a program can have in the send buffer: it waits for room.
  void offer(Duration duration)
  {
    sender.sends(0);
    for (const MonoTime end = scene.now() + duration; scene.now() < end; scene.run(1s)) {
      const std::uint32_t queued = sender.sample.write_seq - sender.sample.snd_una;
      sender.send((4U << 20) - std::min(queued, 4U << 20), false);
    }
  }
  Scene scene;
  SceneProcess& source = scene.process(19, "source");
  SceneSocket& sender = scene.tcp(source);
  SceneSocket& receiver = scene.tcp(scene.process(17, "player"));
};

TEST(PacedReader, BothEndsStayAWarning)
{
  BothEnds it;
  it.offer(600s);
  EXPECT_THAT(it.scene.opened(Kind::SlowReader), SizeIs(1));
  EXPECT_THAT(it.scene.opened(Kind::RemoteSlowReader), SizeIs(1));
  for (const Finding& finding : it.scene.findings())
    EXPECT_EQ(finding.severity, Severity::Warning) << testing::PrintToString(finding);
}

TEST(PacedReader, ASenderHereWhoseMemoryGrowsMakesItCriticalAtBothEnds)
{
  BothEnds it;
  it.source.anon_bytes = [](double t) { return 50e6 + 1e6 * t; };
  it.offer(120s);
  for (const Kind kind : {Kind::SlowReader, Kind::RemoteSlowReader}) {
    auto worst = Severity::Warning;
    for (const Finding& finding : it.scene.findings())
      if (finding.kind == kind)
        worst = std::max(worst, finding.severity);
    EXPECT_EQ(worst, Severity::Critical) << detect::to_string(kind);
  }
}

TEST(PacedReader, ARateThatFallsMakesItCritical)
{
  Scene scene;
  SceneSocket& socket = scene.tcp(scene.process(17, "player"));
  socket.window(4 << 20).arrives(10e6).reads(10'000, 20);
  scene.run(120s);
  EXPECT_EQ(scene.findings().back().severity, Severity::Warning);
  socket.reads(10'000, 5);  // what waits takes four times as long
  scene.run(60s);
  EXPECT_EQ(scene.findings().back().severity, Severity::Critical);
}

// 100 kB/s come, 90 kB/s are taken: after 100 s it is 10 s behind, and gets no better.
TEST(PacedReader, ALagThatGrowsForMinutesBecomesCritical)
{
  Scene scene;
  SceneSocket& socket = scene.tcp(scene.process(17, "reader"));
  socket.window(64 << 20).arrives(100'000).reads(9'000, 10);
  scene.run(90s);
  ASSERT_THAT(scene.opened(Kind::SlowReader), SizeIs(1));
  EXPECT_THAT(scene.findings(), testing::Each(testing::Field(&Finding::severity, Severity::Warning)));
  scene.run(300s);
  EXPECT_EQ(scene.findings().back().severity, Severity::Critical);
}

TEST(PacedReader, ARemotePeerThatTakesNothingForTenTimesTheLagIsCritical)
{
  Scene scene;
  SceneSocket& socket = scene.tcp(scene.process(17, "uploader"));
  const auto upload = [&](Duration duration, std::uint32_t taken) {
    for (const MonoTime end = scene.now() + duration; scene.now() < end;) {
      socket.send(taken + 100, false);  // as much as there is room again, and nearly the same every time
      socket.sample.snd_una += taken;
      socket.sample.rwnd_limited += 1s;
      scene.run(1s);
    }
  };
  socket.send(2'000'000, false);
  upload(300s, 100'000);
  EXPECT_THAT(scene.opened(Kind::RemoteSlowReader), SizeIs(1));
  EXPECT_THAT(scene.findings(), testing::Each(testing::Field(&Finding::severity, Severity::Warning)));
  upload(15s, 0);
  EXPECT_EQ(scene.findings().back().severity, Severity::Critical);
}

}  // namespace
}  // namespace laggard::test
