// SPDX-License-Identifier: MIT
#include "model/connection.h"

#include <gtest/gtest.h>

namespace laggard::model {
namespace {

using namespace std::chrono_literals;

constexpr MonoTime at(Duration since_start) { return MonoTime{1000s + since_start}; }
const ModelOptions kOptions{.window = 5s, .memory_window = 30s};

FullSample look(Duration when, std::uint32_t unread)
{
  FullSample sample;
  sample.cookie = 1;
  sample.time = at(when);
  sample.state = TcpState::Established;
  sample.rcv_nxt = 5000 + static_cast<std::uint32_t>(when / 1s) * 100;
  sample.unread_bytes = unread;
  sample.copied_seq = sample.rcv_nxt - unread;
  sample.rcv_window_left = 65536;
  sample.rcv_mss = 1448;
  return sample;
}

FullSample look_with_minimum(Duration when, std::uint32_t unread, std::uint32_t epoch, std::uint32_t minimum)
{
  FullSample sample = look(when, unread);
  sample.read_epoch = epoch;
  sample.min_unread_bytes = minimum;
  return sample;
}

TEST(Connection, AQueueStandsFromTheFirstUnreadBytesOn)
{
  Connection connection;
  connection.observe(look(0s, 0), kOptions);
  EXPECT_FALSE(known(connection.standing_since()));
  connection.observe(look(1s, 7), kOptions);
  connection.observe(look(2s, 70), kOptions);
  EXPECT_EQ(connection.standing_since(), at(1s));
  EXPECT_EQ(connection.first_seen(), at(0s));
  EXPECT_EQ(connection.history().size(), 2U);
}

TEST(Connection, AnEmptySampleEndsTheStandingQueue)
{
  Connection connection;
  connection.observe(look(1s, 7), kOptions);
  connection.observe(look(2s, 0), kOptions);
  EXPECT_FALSE(known(connection.standing_since()));
  EXPECT_TRUE(connection.history().empty());
}

TEST(Connection, AMinimumOfZeroWithinAnEpochEndsTheStandingQueueThoughEachSampleShowsBytes)
{
  Connection connection;
  connection.observe(look_with_minimum(1s, 500, 1, 400), kOptions);
  connection.observe(look_with_minimum(2s, 500, 2, 400), kOptions);
  EXPECT_EQ(connection.standing_since(), at(1s));
  connection.observe(look_with_minimum(3s, 500, 3, 0), kOptions);
  EXPECT_EQ(connection.standing_since(), at(3s));
  EXPECT_EQ(connection.history().size(), 1U);
  connection.observe(look_with_minimum(4s, 500, 4, 1), kOptions);
  EXPECT_EQ(connection.standing_since(), at(3s));
}

TEST(Connection, TheZeroOfOneEpochCountsOnceHoweverOftenItIsReported)
{
  Connection connection;
  connection.observe(look_with_minimum(1s, 500, 7, 0), kOptions);
  for (int second = 2; second < 20; second++)  // nobody reads any more: every sweep repeats the old epoch
    connection.observe(look_with_minimum(second * 1s, 500, 7, 0), kOptions);
  EXPECT_EQ(connection.standing_since(), at(1s));
  connection.observe(look_with_minimum(20s, 500, 8, 0), kOptions);
  EXPECT_EQ(connection.standing_since(), at(20s));
}

TEST(Connection, EmptinessUnderAClosedWindowIsNotADrain)
{
  Connection connection;
  connection.observe(look(1s, 90'000), kOptions);
  FullSample shut = look(2s, 0);
  shut.rcv_window_left = 1447;
  connection.observe(shut, kOptions);
  EXPECT_EQ(connection.standing_since(), at(1s));
  shut.time = at(3s);
  shut.rcv_window_left = 1448;
  connection.observe(shut, kOptions);
  EXPECT_FALSE(known(connection.standing_since()));
}

// curl --limit-rate takes all there is, which is what its window had let in, and pauses: the rest waits at the sender.
TEST(Connection, NorIsAMinimumOfZeroInAnEpochAtWhoseEndTheWindowIsShut)
{
  Connection connection;
  connection.observe(look(1s, 90'000), kOptions);
  FullSample again = look_with_minimum(2s, 90'000, 2, 0);
  again.rcv_window_left = 1447;
  connection.observe(again, kOptions);
  EXPECT_EQ(connection.standing_since(), at(1s));
  EXPECT_EQ(connection.history().size(), 2U);
  again.time = at(3s);
  again.rcv_window_left = 1448;
  connection.observe(again, kOptions);  // the same epoch, which was judged
  EXPECT_EQ(connection.standing_since(), at(1s));
  connection.observe(look_with_minimum(4s, 90'000, 3, 0), kOptions);
  EXPECT_EQ(connection.standing_since(), at(4s));
}

// The kernel side reports the minimum of a closed window only where it proves something; a read that found nothing does.
TEST(Connection, AReadThatFoundNothingProvesEmptinessEvenUnderAClosedWindow)
{
  Connection connection;
  connection.observe(look(1s, 90'000), kOptions);
  FullSample again = look_with_minimum(2s, 90'000, 2, 0);
  again.rcv_window_left = 0;
  again.empty_reads = 1;
  connection.observe(again, kOptions);
  EXPECT_EQ(connection.standing_since(), at(2s));
}

TEST(Connection, AMinimumThatNobodyMeasuredProvesNothing)
{
  Connection connection;
  connection.observe(look(1s, 500), kOptions);
  FullSample sample = look(2s, 500);
  sample.read_epoch = 2;
  connection.observe(sample, kOptions);
  EXPECT_EQ(connection.standing_since(), at(1s));
}

TEST(Connection, AUdpQueueThatIsEmptyIsADrainForItHasNoWindow)
{
  Connection connection;
  FullSample sample = look(1s, 800);
  sample.transport = Transport::Udp;
  sample.rcv_window_left = 0;
  connection.observe(sample, kOptions);
  sample.time = at(2s);
  sample.unread_bytes = 0;
  connection.observe(sample, kOptions);
  EXPECT_FALSE(known(connection.standing_since()));
}

TEST(Connection, HistoryKeepsTheWindowAndOneLookBeforeIt)
{
  Connection connection;
  for (int second = 0; second <= 60; second++)
    connection.observe(look(second * 1s, 500), kOptions);
  EXPECT_EQ(connection.history().front().time, at(55s));
  EXPECT_EQ(connection.history().back().time, at(60s));
}

TEST(Connection, ShortIntervalsAreThinnedAndTheNewestLookIsAlwaysThere)
{
  Connection connection;
  for (int i = 0; i <= 1000; i++) {
    connection.observe(look(i * 50ms, 500), kOptions);
    ASSERT_EQ(connection.history().back().time, at(i * 50ms));
    ASSERT_LE(connection.history().size(), 13U);
  }
  EXPECT_LE(connection.history().front().time, at(45s));
  EXPECT_GE(connection.history().front().time, at(44s));
}

TEST(Connection, RecentBytesCoverHalfToAWholeMemoryWindow)
{
  Connection connection;
  for (int second = 0; second <= 100; second++) {
    FullSample sample = look(second * 1s, 0);
    sample.read_bytes = 1000U * static_cast<std::uint64_t>(second);
    sample.drops = static_cast<std::uint64_t>(second);
    connection.observe(sample, kOptions);
    if (second >= 30) {
      ASSERT_GE(connection.recent_read_bytes(), 15'000U);
      ASSERT_LE(connection.recent_read_bytes(), 30'000U);
      ASSERT_EQ(connection.recent_drops() * 1000, connection.recent_read_bytes());
    }
  }
}

TEST(Connection, WhatWasReadBeforeTheFirstLookIsNotRecent)
{
  Connection connection;
  FullSample sample = look(0s, 0);
  sample.read_bytes = 1'000'000'007;
  connection.observe(sample, kOptions);
  EXPECT_EQ(connection.recent_read_bytes(), 0U);
}

TEST(Connection, NamesTheFirstHolderElseTheOwner)
{
  Connection connection;
  FullSample sample = look(0s, 1);
  sample.owner = {17, 1};
  connection.observe(sample, kOptions);
  EXPECT_EQ(connection.process(), (ProcessId{17, 1}));
  EXPECT_FALSE(known(connection.holders_checked()));
  connection.set_holders({{19, 2}, {23, 3}}, true, at(1s));
  EXPECT_EQ(connection.process(), (ProcessId{19, 2}));
  connection.set_holders({}, false, at(2s));
  EXPECT_EQ(connection.process(), (ProcessId{17, 1}));
  EXPECT_EQ(connection.holders_checked(), at(2s));
}

}  // namespace
}  // namespace laggard::model
