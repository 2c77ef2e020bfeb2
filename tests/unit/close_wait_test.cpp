// SPDX-License-Identifier: MIT
// close-wait beyond CLOSE_WAIT: sockets that were reset and are held, ends that are older than we are, groups that grow.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "support/scene.h"

namespace laggard::test {
namespace {

using detect::Finding;
using detect::Kind;
using detect::Phase;
using detect::Resolution;
using testing::Contains;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::SizeIs;

struct Program {
  Program() { scene.run(5s); }
  Scene scene;
  SceneProcess& process = scene.process(17, "program");
  SceneSocket& socket = scene.tcp(process);

  bool silent_for(Duration duration)
  {
    scene.run(duration);
    return scene.findings().empty();
  }
  std::vector<Finding> opened() const { return scene.opened(Kind::CloseWait); }
};

// ---- reset, and held ----

TEST(ResetButHeld, AfterAFinTheAgeCountsFromTheFin)
{
  Program it;
  it.socket.peer_closes();
  EXPECT_TRUE(it.silent_for(30s));
  it.socket.is_reset();
  EXPECT_TRUE(it.silent_for(29s));
  it.scene.run(3s);
  const auto found = it.opened();
  ASSERT_THAT(found, SizeIs(1));
  EXPECT_LE(evidence(found[0], "half_closed_seconds"), 62);
  EXPECT_FALSE(found[0].start_is_lower_bound);
  EXPECT_THAT(found[0].message, HasSubstr("the peer closed"));
  EXPECT_THAT(found[0].message, HasSubstr("closed (reset by peer) and still held"));
  ASSERT_TRUE(found[0].socket);
  EXPECT_EQ(found[0].socket->state, model::TcpState::Close);
  EXPECT_EQ(found[0].socket->tuple.peer.port, 80);
}

TEST(ResetButHeld, AFindingThatIsOpenGoesOnThroughTheReset)
{
  Program it;
  it.socket.peer_closes();
  it.scene.run(70s);
  ASSERT_THAT(it.opened(), SizeIs(1));
  it.socket.is_reset();
  it.scene.run(120s);
  EXPECT_THAT(it.opened(), SizeIs(1));
  EXPECT_THAT(it.scene.lines(Phase::Resolved), IsEmpty());
  EXPECT_THAT(it.scene.findings().back().message, HasSubstr("reset by peer"));
  it.scene.destroy(it.socket);
  it.scene.run(2s);
  const auto resolved = it.scene.lines(Phase::Resolved);
  ASSERT_THAT(resolved, SizeIs(1));
  EXPECT_EQ(resolved[0].resolution, Resolution::Closed);
}

TEST(ResetButHeld, WithoutAFinItCountsFromTheReset)
{
  Program it;
  it.scene.run(300s);
  it.socket.is_reset();
  EXPECT_TRUE(it.silent_for(59s));
  it.scene.run(3s);
  ASSERT_THAT(it.opened(), SizeIs(1));
  EXPECT_THAT(it.opened()[0].message, HasSubstr("the peer reset it"));
}

TEST(ResetButHeld, WhatWasSentBeforeIsNoAnswer)
{
  Program it;
  it.socket.peer_closes();
  it.scene.run(40s);
  it.socket.send(100, false);  // a keep-alive request, which meets the reset
  it.socket.is_reset();
  it.scene.run(23s);
  EXPECT_THAT(it.opened(), SizeIs(1));
}

TEST(ResetButHeld, AConnectionThatTimedOutIsSaidSo)
{
  Program it;
  it.socket.is_reset();
  it.socket.sample.reset = false;
  it.socket.sample.timed_out = true;
  it.scene.run(63s);
  ASSERT_THAT(it.opened(), SizeIs(1));
  EXPECT_THAT(it.opened()[0].message, HasSubstr("the connection ended"));
  EXPECT_THAT(it.opened()[0].message, HasSubstr("the peer did not answer any more"));
}

TEST(ResetButHeld, WhatEndedBeforeWeLookedIsALowerBound)
{
  Program it;
  it.socket.is_reset();
  it.socket.sample.ended_at = {};
  it.socket.sample.reset = false;
  it.socket.sample.older_than_observer = true;
  it.scene.run(64s);
  ASSERT_THAT(it.opened(), SizeIs(1));
  EXPECT_TRUE(it.opened()[0].start_is_lower_bound);
}

TEST(ResetButHeld, ASocketThatNeverWasConnectedIsSilent)
{
  Program it;
  for (const bool shows : {false, true}) {
    SceneSocket& fresh = it.scene.tcp(it.process);
    fresh.sample.state = model::TcpState::Close;
    fresh.sample.tuple = {};
    fresh.sample.connected = false;
    if (shows)
      fresh.arrive(1);  // however a sweep came to show it
  }
  it.scene.run(120s);
  EXPECT_THAT(it.opened(), IsEmpty());
}

TEST(ResetButHeld, OneThatNobodyHoldsIsSilent)
{
  Program it;
  it.scene.walks_holders = false;
  it.socket.peer_closes();
  it.socket.is_reset();
  it.socket.orphan();
  EXPECT_TRUE(it.silent_for(300s));
}

TEST(ResetButHeld, ClosedAndResetOnesOfOneEndpointAreOneFinding)
{
  Program it;
  for (int i = 0; i < 20; i++) {
    SceneSocket& socket = it.scene.tcp(it.process);
    socket.peer_closes();
    if (i % 2 == 0)
      socket.is_reset();
  }
  it.scene.run(63s);
  ASSERT_THAT(it.opened(), SizeIs(1));
  EXPECT_EQ(it.opened()[0].count, 20U);
}

// ---- is the end of file read? ----

TEST(EndOfFile, IsKnownOfSocketsThatAreOlderThanWeAre)
{
  for (const bool read : {false, true}) {
    Program it;
    it.socket.peer_closes();
    it.socket.sample.older_than_observer = true;
    it.socket.sample.peer_closed_at = {};
    (read ? it.socket.sample.fin_read : it.socket.sample.fin_unread) = true;
    it.scene.run(63s);
    ASSERT_THAT(it.opened(), SizeIs(1));
    EXPECT_TRUE(it.opened()[0].start_is_lower_bound);
    EXPECT_EQ(evidence(it.opened()[0], "eof_seen"), read ? 1 : 0);
    EXPECT_THAT(it.opened()[0].message, HasSubstr(read ? "has read the end of file" : "does not know"));
  }
}

TEST(EndOfFile, WhatNoReadHasPassedIsNotReadWhateverWeSaw)
{
  model::SocketSample sample;
  EXPECT_FALSE(sample.has_read_end());
  sample.peer_closed = true;
  EXPECT_FALSE(sample.has_read_end()) << "an old recording";
  sample.fin_unread = true;
  EXPECT_EQ(sample.has_read_end(), false);
  sample.fin_unread = false;
  sample.fin_read = true;
  EXPECT_EQ(sample.has_read_end(), true);
  sample.eof_eaten = true;
  EXPECT_FALSE(sample.has_read_end()) << "one read took the last bytes with it";
  sample.eof_seen = true;
  EXPECT_EQ(sample.has_read_end(), true);
}

// ---- growth ----

TEST(CloseWaitGroup, SaysHowItHasGrown)
{
  Program it;
  for (int i = 0; i < 18; i++)
    it.scene.tcp(it.process).peer_closes();
  it.scene.run(20s);
  for (int i = 0; i < 31; i++)
    it.scene.tcp(it.process).peer_closes();
  it.scene.run(70s);
  ASSERT_THAT(it.opened(), SizeIs(1));
  EXPECT_EQ(it.opened()[0].count, 18U);
  EXPECT_THAT(it.opened()[0].message, Not(HasSubstr("was")));
  const auto updates = it.scene.lines(Phase::Updated);
  ASSERT_THAT(updates, Contains(testing::Field(&Finding::message, HasSubstr("; was 18, now 49, +"))));
  for (const Finding& update : updates)
    if (update.message.find("was 18") != std::string::npos) {
      EXPECT_GT(evidence(update, "count_change_per_second"), 1);
    }
}

TEST(CloseWaitGroup, AGroupThatStaysAsItIsSaysNothingOfGrowth)
{
  Program it;
  for (int i = 0; i < 18; i++)
    it.scene.tcp(it.process).peer_closes();
  it.scene.run(200s);
  for (const Finding& finding : it.scene.findings())
    EXPECT_THAT(finding.message, Not(HasSubstr("; was ")));
}

}  // namespace
}  // namespace laggard::test
